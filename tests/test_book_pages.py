"""The library's pages and the index of figures, made from what they show."""

import base64
import importlib
import io
import re
from hashlib import sha256

import figures
import library_docs
import library_pages
import nbformat
import pytest
import staging
import yaml
from docutils import nodes
from matplotlib.figure import Figure
from PIL import Image

from xai_lib.attribute import METHODS, NEED_PATTERNS
from xai_lib.show import Frames
from xai_lib.study import METRICS

each_room = pytest.mark.parametrize("room", staging.ROOMS)
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|data):: (\S+)$", re.MULTILINE)
LISTED = re.compile(r"^ {3}(\w+)$", re.MULTILINE)


# ---- the library's pages -----------------------------------------------------------


@each_room
def test_a_room_describes_each_of_its_names_once_and_lists_it_once(room):
    module, page = importlib.import_module(f"xai_lib.{room}"), library_pages.room(room)
    wanted = sorted(module.__all__)
    assert sorted(DIRECTIVE.findall(page)) == [f"xai_lib.{room}.{n}" for n in wanted]
    assert sorted(LISTED.findall(page)) == wanted


def test_the_rooms_are_those_of_the_library(root):
    rooms = {path.parent.name for path in (root / "xai_lib").glob("*/__init__.py")}
    assert set(staging.ROOMS) == rooms == set(library_docs.public().values())


def test_every_page_stands_in_the_table_of_contents(root):
    generated = {name.removesuffix(".md") for name in staging.ROOM_PAGES}
    more = {"book/api/index", "book/figures"}
    assert generated | more <= set(staging.toc_files(root))


def rows(page):
    """Return the cells of every table of a page by their first one, without markup."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines()]
    names = [re.search(r"`([\w]+)( <\w+>)?`", cells[0]) for cells in lines]
    return {m[1]: c for m, c in zip(names, lines, strict=True) if m and len(c) > 2}


def test_every_method_stands_in_the_table_with_its_settings():
    table = rows(library_pages.methods())
    assert list(table) == [*METHODS, *NEED_PATTERNS]
    for name, method in {**METHODS, **NEED_PATTERNS}.items():
        first, label, family, settings = table[name]
        assert f"<{method.function.__name__}>`" in first
        assert method.colour in first
        assert label.replace("\\", "") == method.label
        assert family == method.family
        for key, value in {**method.settings, **method.inside}.items():
            assert f"`{key}={value!r}`" in settings


def test_every_metric_stands_in_the_table():
    table = rows(library_pages.metrics())
    assert list(table) == list(METRICS)
    assert [cells[2] for cells in table.values()] == [
        m.better for m in METRICS.values()
    ]


def test_pages_are_written_beside_each_other(tmp_path):
    library_pages.write_pages(tmp_path / "api/index.md")
    wanted = {"index.md", *(f"{room}.md" for room in staging.ROOMS)}
    assert {path.name for path in (tmp_path / "api").iterdir()} == wanted


# ---- docstrings --------------------------------------------------------------------


def converted(text):
    return "\n".join(library_docs.numpydoc_lines(text.strip("\n").splitlines()))


def test_a_parameter_keeps_its_text_in_one_piece():
    text = (
        "Do.\n\nParameters\n----------\nx, y : two numbers, of\n    any size\nz : more"
    )
    wanted = "x, y\n    two numbers, of any size\nz\n    more"
    assert wanted in converted(text)


def test_parameters_that_are_a_sentence_become_one():
    text = "Do.\n\nParameters\n----------\nAs `csc`.\n\nNotes\n-----\nNone.\n"
    wanted = "Do.\n\nParameters as `csc`.\n\nNotes\n-----\nNone."
    assert converted(text) == wanted


def test_a_type_at_the_head_stays_there():
    text = "Do.\n\nParameters\n----------\nx : float\n    The number.\ny : int\n"
    assert "x : float\n    The number.\ny : int" in converted(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "Tensor, signed; its sum is\nthe logit",
            "Tensor, signed; its sum is the logit",
        ),
        ("Path\n    The file.", "Path\n    The file."),
        ("a : Tensor\nb : Tensor, shape\n    (B,)", "**a**\n    Tensor\n**b**"),
    ],
)
def test_what_is_returned_is_one_text_or_a_list(before, after):
    assert after in converted(f"Do.\n\nReturns\n-------\n{before}\n")


def test_a_text_that_wraps_at_a_full_line_is_no_type():
    head = "x : " + "w" * (library_docs.WIDTH - 8)
    assert not library_docs.is_typed(head, ["Word that had no room above"])
    assert library_docs.is_typed(head[:-8], ["Word that had room above"])


def test_citations_bars_and_values_are_marked_but_never_in_code():
    line = 'As [sixt2020]_ |x| with "zplus", in ``a | b "c"``.'
    wanted = 'As :cite:t:`sixt2020` \\|x\\| with ``"zplus"``, in ``a | b "c"``.'
    assert converted(line) == wanted
    example = '>>> f("a") | g  # [sixt2020]_'
    assert example in converted(f"Do.\n\nExamples\n--------\n{example}\n")


def test_every_citation_of_the_docstrings_is_in_the_bibliography(root):
    bibliography = (root / "book/references.bib").read_text()
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    texts = [path.read_text() for path in (root / "xai_lib").rglob("*.py")]
    cited = {key for text in texts for key in library_docs.CITATION.findall(text)}
    assert len(cited) > 20
    assert cited <= keys


def test_every_constant_has_its_text_and_its_keys():
    names = [name for name in library_docs.public() if library_docs.is_constant(name)]
    assert "METHODS" in names and "lrp" not in names
    for name in names:
        assert library_docs.constant_lines(name)[0].strip(), name
    assert "``smoothgrad``" in library_docs.constant_lines("METHODS")[-2]


# ---- links -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "owner", "sound"),
    [
        ("n_samples", "smoothgrad", True),  # a parameter
        ("COMPOSITES", "lrp", True),  # inside the library
        ("dask.distributed", "run", True),
        ("data/claims.toml", "decide", True),
        ("n_sample", "smoothgrad", False),
        ("smoothgrade", None, False),
        ("xai_lib.attribute.smoothgrade", None, False),
    ],
)
def test_a_word_in_backticks_must_name_something(word, owner, sound):
    thing = owner and library_docs.public_object(owner)
    assert library_docs.is_code(word, thing) == sound


def test_a_source_link_points_at_the_function(root):
    link = library_docs.source_link("https://github.com/someone/fork", "main")
    found = link("py", {"module": "xai_lib.attribute", "fullname": "smoothgrad"})
    path, first = re.fullmatch(
        r"https://github\.com/someone/fork/blob/main/(.+)#L(\d+)-L\d+", found
    ).groups()
    line = (root / path).read_text().splitlines()[int(first) - 1]
    assert line.startswith("def smoothgrad(")
    assert link("py", {"module": "xai_lib.attribute", "fullname": "METHODS"}) is None


@pytest.mark.parametrize("owner", ["OWNER", "someone"])
def test_sources_are_linked_only_when_the_address_is_set(root, monkeypatch, owner):
    monkeypatch.setenv("XAI_LIB_REPOSITORY", f"https://github.com/{owner}/book")
    staged = yaml.safe_load(staging.staged_config(root))
    options = {"repository_url": staged["repository"]["url"]}
    options["use_repository_button"] = staged["html"]["use_repository_button"]
    config = type("Config", (), {"html_theme_options": options})
    library_docs.set_source_links(None, config)
    info = {"module": "xai_lib.attribute", "fullname": "lrp"}
    assert bool(config.linkcode_resolve("py", info)) == (owner != "OWNER")


def test_an_inner_name_is_shown_as_plain_code():
    node = nodes.reference(refdomain="py", reftype="obj", reftarget="COMPOSITES")
    text = nodes.literal("COMPOSITES", "COMPOSITES", classes=["xref"])
    shown = library_docs.resolve(None, None, node, text)
    assert shown.astext() == "COMPOSITES" and not shown["classes"]
    node["reftarget"] = "COMPOSITE"
    assert library_docs.resolve(None, None, node, text) is None


# ---- the index of figures ----------------------------------------------------------


def png(colour):
    raw = io.BytesIO()
    Image.new("RGB", (40, 20), colour).save(raw, "PNG")
    return raw.getvalue()


def cell(data, **metadata):
    output = nbformat.v4.new_output("display_data", data=data)
    return nbformat.v4.new_code_cell("x", outputs=[output], metadata=metadata)


def captioned(raw, name, caption):
    about = {"figure": {"name": name, "caption": caption}, "image": {"alt": 'A "dot"'}}
    data = {"image/png": base64.b64encode(raw).decode(), "text/plain": "Figure"}
    return cell(data, mystnb=about)


def slider(caption):
    def draw(value):
        return Figure((4, 2))

    frames = Frames("k", [1, 2], draw, alt="At {value} & more", caption=caption)
    return cell({"text/html": frames._repr_html_(), "text/plain": "Frames"})


@pytest.fixture
def site(tmp_path):
    """Return a staged book of one chapter: two figures, two sliders, a bare picture."""
    bare = {"image/png": base64.b64encode(png("red")).decode()}
    cells = [
        nbformat.v4.new_markdown_cell("# 01 · A title\n\n## First part"),
        captioned(png("red"), "fig-red", "A red dot, $x^2$."),
        slider("Moves *k*"),
        nbformat.v4.new_markdown_cell("## Second part"),
        captioned(png("blue"), "fig-blue", "A blue dot."),
        slider(None),
        cell(bare),
    ]
    toc = {"root": "book/intro", "chapters": [{"file": "notebooks/01_a"}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    for folder in ("book", "notebooks"):
        (tmp_path / folder).mkdir()
    chapter = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(chapter, tmp_path / "notebooks/01_a.ipynb")
    nbformat.write(chapter, tmp_path / "notebooks/02_not_in_the_book.ipynb")
    return tmp_path


def test_every_figure_and_slider_is_shown_in_order_at_its_place(site):
    page = figures.page(site)
    places = re.findall(r'class="figure-link" href="(.+?)"', page)
    base = "../notebooks/01_a.html#"
    names = ["fig-red", "first-part", "fig-blue", "second-part"]
    assert places == [base + name for name in names]
    assert page.count("## 01 · A title") == 1
    assert "{numref}`fig-red`. A red dot, $x^2$." in page
    assert r"Moves \*k\*" in page
    assert "At 2 &amp; more" in page and r"At 2 \& more" in page


def test_a_figure_is_the_chapters_own_file_and_a_slider_a_small_picture(site):
    page = figures.page(site)
    files = re.findall(r'src="\.\./_images/(\w+)\.png"', page)
    assert files == [sha256(png(colour)).hexdigest() for colour in ("red", "blue")]
    small = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(text))).size for text in small]
    assert sizes == [(360, 180)] * 2 and max(map(len, small)) < 20_000
    images = re.findall(r"<img .+?>", page)
    assert all('loading="lazy"' in image for image in images)
    assert 'alt="A &quot;dot&quot;" width="40" height="20"' in images[0]


def test_the_index_follows_the_chapters(site):
    figures.write_page(site / "book/figures.md")
    before = (site / "book/figures.md").read_text()
    path = site / "notebooks/01_a.ipynb"
    chapter = nbformat.read(path, 4)
    chapter.cells.append(captioned(png("green"), "fig-green", "A green dot."))
    nbformat.write(chapter, path)
    figures.write_page(site / "book/figures.md")
    after = (site / "book/figures.md").read_text()
    assert "A green dot." in after and "A green dot." not in before


def test_a_chapter_without_a_title_is_refused(site):
    chapter = nbformat.v4.new_notebook(cells=[captioned(png("red"), "fig-a", "A.")])
    nbformat.write(chapter, site / "notebooks/01_a.ipynb")
    with pytest.raises(ValueError, match="must have a title"):
        figures.page(site)
