"""Every notebook keeps the form of a chapter: see CONTRIBUTING.md."""

import ast
import inspect
import re
from pathlib import Path

import address
import bootstrap
import nbformat
import pytest
import yaml
from matplotlib.figure import Figure

from xai_lib import show

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETER = re.compile(r"[a-z_]\w*: [\w\[\], ]+ = .*\S  # \S.*")
MYST = re.compile(r"^(`{3,}|:{3,})\{|\{[a-z:]+\}`", re.MULTILINE)
ABSOLUTE = re.compile(r"""["'](/(?:home|root|work|tmp|Users|mnt)/|[A-Z]:\\)""")


def problems(notebook):
    """Return what is wrong with a notebook's form, one line each."""
    found = []
    for number, cell in enumerate(notebook.cells):
        check = code_problems if cell.cell_type == "code" else text_problems
        found += [f"cell {number}: {line}" for line in check(cell)]
    return found + list(notebook_problems(notebook))


def notebook_problems(notebook):
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.source != bootstrap.text(
        address.address(), address.tag()
    ):
        yield "the first cell is not the bootstrap cell: make address writes it"
    elif first.metadata.get("tags") != bootstrap.TAGS:
        yield f"the first cell has tags {first.metadata.get('tags')}"
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells tagged parameters, wanted one"
    for line in (line for c in tagged for line in c.source.splitlines()):
        if not PARAMETER.fullmatch(line):
            yield f"parameters: not `name: type = value  # meaning`: {line}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec is not python3"
    if notebook.metadata.get("language_info", {}).get("name") != "python":
        yield "no language_info"
    if "widgets" in notebook.metadata:
        yield "widget state left in the metadata"


def code_problems(cell):
    lines = cell.source.splitlines()
    if len(lines) > 25:
        yield f"{len(lines)} lines, more than 25"
    yield from (f"line longer than 88: {line}" for line in lines if len(line) > 88)
    if cell.outputs or cell.execution_count:
        yield "outputs not stripped"
    if ABSOLUTE.search(cell.source):
        yield "an absolute path"
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        yield f"not plain Python: {error}"
        return
    if draws(tree) and "remove-cell" not in cell.metadata.get("tags", []):
        yield from missing_words(cell.metadata.get("mystnb", {}))


FIGURES = {
    name
    for name in show.__all__
    if inspect.isfunction(getattr(show, name))
    and inspect.signature(getattr(show, name)).return_annotation in (Figure, "Figure")
} | {"subplots", "figure"}


def calls(node):
    """Yield the names that run when a cell runs: not those inside its functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield getattr(child.func, "attr", getattr(child.func, "id", ""))
        yield from calls(child)


def draws(tree):
    """Tell whether a cell draws a figure; Frames carry their own words."""
    names = set(calls(tree))
    return bool(names & FIGURES) and "Frames" not in names


def missing_words(mystnb):
    if not mystnb.get("figure", {}).get("caption", "").strip():
        yield "draws a figure and has no mystnb.figure.caption"
    if not mystnb.get("image", {}).get("alt", "").strip():
        yield "draws a figure and has no mystnb.image.alt"


def text_problems(cell):
    myst = MYST.search(cell.source)
    if myst:
        yield f"MyST markup, which Colab shows raw: {myst[0]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_form(path):
    found = problems(nbformat.read(path, 4))
    assert not found, "\n".join([path.name, *found])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_profiles_name_only_parameters_of_the_chapter(path, root):
    import tomllib

    import chapters

    names = set(chapters.parameter_names(nbformat.read(path, 4)))
    profiles = tomllib.loads((root / "notebooks/profiles.toml").read_text())
    for profile, by_chapter in profiles.items():
        unknown = set(by_chapter.get(path.stem, {})) - names
        assert not unknown, f"{profile} sets {unknown}, not in the parameters cell"


def functions_of(code):
    """Return the source of each function, without comments."""
    tree = ast.parse(code.replace(", strict=True", ""))
    made = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse(node) for node in made}


def unlike_its_copy(solution, copy):
    """Return the functions of a shown solution that its hidden copy does not hold."""
    ran = functions_of(copy)
    blocks = re.findall(r"```python\n(.*?)```", solution, re.DOTALL)
    shown = functions_of("\n".join(blocks))
    return [name for name, code in shown.items() if ran.get(name) != code]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_solution_that_is_shown_is_the_one_that_runs(path):
    cells = nbformat.read(path, 4).cells
    places = [i for i, c in enumerate(cells) if "<summary>Solution" in c.source]
    assert len(places) >= 3
    for i in places:
        hidden = cells[i + 1]
        assert "solution" in hidden.metadata.get("tags", []), cells[i].id
        assert unlike_its_copy(cells[i].source, hidden.source) == [], cells[i].id


def test_a_changed_copy_of_a_solution_is_seen():
    shown = "```python\ndef f(x):\n    return x + 1  # one\n```"
    assert unlike_its_copy(shown, "def f(x):\n    return x + 1\n\n\nf(2)") == []
    assert unlike_its_copy(shown, "def f(x):\n    return x + 2") == ["f"]


def test_the_address_is_the_same_everywhere(root):
    config = yaml.safe_load((root / "_config.yml").read_text())
    assert config["repository"]["url"] == address.address()


# ---- the lint itself must be able to fail -----------------------------------------


def a_notebook():
    """Return a small notebook that keeps the form."""
    new, code = nbformat.v4.new_notebook(), nbformat.v4.new_code_cell
    new.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    )
    new.cells = [
        code("n: int = 3  # how many", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_markdown_cell("# A title\n\nText with $x^2$ and `code`."),
        code("x = n + 1"),
    ]
    bootstrap.put(new, address.address(), address.tag())
    return new


def test_a_notebook_in_form_has_no_problems():
    assert problems(a_notebook()) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n" * 26, "26 lines"),
        ("x = '" + "a" * 90 + "'", "longer than 88"),
        ("open('/home/me/x.png')", "absolute path"),
        ("curve_plot(x, y)", "no mystnb.figure.caption"),
        ("curve_plot(x, y)", "no mystnb.image.alt"),
        ("fig, ax = plt.subplots()", "no mystnb.figure.caption"),
        ("!pip install torch", "not plain Python"),
    ],
)
def test_the_lint_sees_a_code_cell_out_of_form(source, message):
    notebook = a_notebook()
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    assert any(message in line for line in problems(notebook))


def test_a_function_that_draws_is_not_yet_a_figure():
    cell = nbformat.v4.new_code_cell("def draw(c):\n    return curve_plot(c, c)")
    assert list(code_problems(cell)) == []


@pytest.mark.parametrize("text", ["```{note}\nx\n```", "see {cite:p}`a`", ":::{tip}"])
def test_the_lint_sees_myst(text):
    notebook = a_notebook()
    notebook.cells.append(nbformat.v4.new_markdown_cell(text))
    assert any("MyST" in line for line in problems(notebook))


@pytest.mark.parametrize(
    "line", ["a, b = 1, 2", "n = 3", "n: int = 3", "n: int=3  # x"]
)
def test_the_lint_sees_a_parameter_out_of_form(line):
    notebook = a_notebook()
    notebook.cells[1].source = line
    assert any("parameters:" in found for found in problems(notebook))


def test_the_lint_sees_outputs_and_a_changed_bootstrap():
    notebook = a_notebook()
    notebook.cells[0].source += "\n"
    notebook.cells[3].execution_count = 1
    found = "\n".join(problems(notebook))
    assert "not the bootstrap cell" in found
    assert "outputs not stripped" in found


def test_no_figure_is_named_twice_in_the_book():
    pages = [nbformat.read(path, 4) for path in NOTEBOOKS]
    figures = [
        c.metadata.get("mystnb", {}).get("figure") for p in pages for c in p.cells
    ]
    names = [figure["name"] for figure in figures if figure]
    assert len(names) > 50
    assert [name for name in set(names) if names.count(name) > 1] == []
