"""The pipeline on a book of one page and one chapter; and what it must refuse."""

import json
import os
import re
import shutil

import building
import chapters
import checks
import nbformat
import numpy as np
import pipeline
import pytest
import staging
from PIL import Image
from places import KEEP_MEMORY, Places, StepError, environment

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
TOC = """
format: jb-book
root: book/intro
parts:
  - caption: Chapters
    chapters:
      - file: notebooks/01_tiny
"""


def code(source, **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def notebook(*cells):
    language = {"language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=list(cells), metadata=KERNEL | language)


def tiny_chapter():
    return notebook(
        code("n: int = 3  # how many", tags=["parameters"]),
        nbformat.v4.new_markdown_cell("# Tiny\n\nThe square is $n^2$."),
        code("print(n)"),
    )


@pytest.fixture
def book(tmp_path, root, monkeypatch):
    """Return the places of a small book with this repository's configuration."""
    for name in ("book", "notebooks", "xai_lib", "data"):
        (tmp_path / name).mkdir()
    for name in ("_config.yml", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "book/intro.md").write_text("# Hello\n\nA page.\n")
    (tmp_path / "book/references.bib").touch()
    (tmp_path / "notebooks/profiles.toml").write_text(
        '[quick."01_tiny"]\nn = 2\n[laptop]\n'
    )
    nbformat.write(tiny_chapter(), tmp_path / "notebooks/01_tiny.ipynb")
    places = Places(tmp_path, "quick")
    for name, value in environment(places).items():  # put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, value))
    return places


def run(book, parameters=None):
    return chapters.run(book.root / "notebooks/01_tiny.ipynb", book, parameters or {})


# ---- running -----------------------------------------------------------------------


def test_what_a_chapter_writes_beside_itself_is_no_part_of_the_book(book):
    chapter = tiny_chapter()
    chapter.cells.append(code("open('left.html', 'w').close()"))
    nbformat.write(chapter, book.root / "notebooks/01_tiny.ipynb")
    pipeline.stage(book)
    pipeline.run_chapters(book)
    there = sorted(path.name for path in (book.site / "notebooks").iterdir())
    assert there == ["01_tiny.ipynb", "profiles.toml"]


def test_a_chapter_runs_with_the_library_of_its_own_book(book):
    (book.root / "xai_lib/__init__.py").touch()
    chapter = tiny_chapter()
    chapter.cells.append(code("import xai_lib; print(xai_lib.__file__)"))
    nbformat.write(chapter, book.root / "notebooks/01_tiny.ipynb")
    shown = nbformat.read(run(book), 4).cells[3].outputs[0].text.strip()
    assert shown == str(book.root / "xai_lib/__init__.py")


def test_memory_is_kept_between_passes_unless_the_reader_says_otherwise(
    book, monkeypatch
):
    for name in KEEP_MEMORY:
        monkeypatch.delenv(name)
    assert KEEP_MEMORY.items() <= environment(book).items()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    assert environment(book)["MALLOC_TRIM_THRESHOLD_"] == "7"


def test_a_chapter_runs_once_and_again_when_what_it_depends_on_changes(book, capsys):
    done = run(book, {"n": 2})
    first = done.stat().st_mtime_ns
    assert nbformat.read(done, 4).cells[2].outputs[0].text == "2\n"
    run(book, {"n": 2})
    assert done.stat().st_mtime_ns == first
    assert "unchanged" in capsys.readouterr().out
    run(book, {"n": 4})
    assert nbformat.read(done, 4).cells[2].outputs[0].text == "4\n"


WAIT = """
import os, pathlib, time
here = pathlib.Path.cwd()
(here / "{own}").touch()
for _ in range(600):
    if (here / "{other}").exists():
        break
    time.sleep(0.1)
else:
    raise TimeoutError("the other chapter did not begin")
print(os.environ["OMP_NUM_THREADS"])
"""


def test_two_chapters_run_at_the_same_time_and_share_the_processor(book, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(chapters.os, "cpu_count", lambda: 6)
    jobs = []
    for own, other in (("a", "b"), ("b", "a")):
        jobs.append((book.root / f"notebooks/{own}.ipynb", {}))
        waiting = code(WAIT.format(own=own, other=other))
        nbformat.write(notebook(waiting), jobs[-1][0])
    for done in chapters.run_all(jobs, book):
        assert nbformat.read(done, 4).cells[0].outputs[0].text == "3\n"


AFTER = """
import pathlib, time
while not pathlib.Path('failing').exists():
    time.sleep(0.1)
time.sleep(5)
"""


def test_if_one_chapter_fails_the_others_end_and_no_further_one_begins(book):
    jobs = []
    for name in "abcd":
        jobs.append((book.root / f"notebooks/{name}.ipynb", {}))
        lines = {"a": "open('failing', 'w').close(); 1 / 0", "b": AFTER}.get(name, "1")
        nbformat.write(notebook(code(lines)), jobs[-1][0])
    with pytest.raises(StepError, match="a failed in cell 0: ZeroDivisionError"):
        chapters.run_all(jobs, book)
    assert [path.name for path in sorted(book.executed.glob("?.ipynb"))] == ["b.ipynb"]


def test_a_chapter_that_runs_again_records_all_of_its_claims_anew(book):
    claims = '[[claim]]\nid = "A"\nchapter = "a"\n[[claim]]\nid = "B"\nchapter = "b"\n'
    (book.root / "data/claims.toml").write_text(claims)
    book.ledger.mkdir(parents=True)
    for name in "AB":
        (book.ledger / f"{name}.json").write_text("[]")
    source = book.root / "notebooks/a.ipynb"
    write = "import os, pathlib; here = pathlib.Path(os.environ['XAI_LIB_LEDGER'])"
    cells = [code(write), code("print([p.name for p in here.glob('*.json')])")]
    nbformat.write(
        notebook(*cells, code("(here / 'A.json').write_text('[1]')")), source
    )
    ((done),) = chapters.run_all([(source, {})], book)
    assert nbformat.read(done, 4).cells[1].outputs[0].text == "['B.json']\n"
    assert chapters.unchanged(source, book, {})
    (book.ledger / "A.json").unlink()  # as the advice beside a damaged one says
    assert not chapters.unchanged(source, book, {})


@pytest.mark.parametrize(
    "name", ["xai_lib/new.py", "data/new.toml", "data/results/a.csv"]
)
def test_the_key_follows_the_library_and_the_data(book, name):
    source = book.root / "notebooks/01_tiny.ipynb"
    before = chapters.key_of(source, book.root, {})
    path = book.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    assert chapters.key_of(source, book.root, {}) != before


def test_the_key_does_not_follow_a_page_of_prose(book):
    source = book.root / "notebooks/01_tiny.ipynb"
    before = chapters.key_of(source, book.root, {})
    (book.root / "book/intro.md").write_text("# Hello\n\nAnother word.\n")
    (book.root / "data/README.md").write_text("a datasheet\n")
    assert chapters.key_of(source, book.root, {}) == before


@pytest.mark.slow
def test_a_live_widget_with_much_output_does_not_hang(book):
    chapter = tiny_chapter()
    live = "ipywidgets.interactive(lambda k: print('x' * 200_000), k=(0, 1))"
    chapter.cells.append(code(f"import ipywidgets\n{live}"))
    nbformat.write(chapter, book.root / "notebooks/01_tiny.ipynb")
    assert run(book).exists()


def test_a_failing_chapter_names_the_cell_its_source_and_the_error(book, capsys):
    path = book.root / "notebooks/01_tiny.ipynb"
    chapter = tiny_chapter()
    chapter.cells.append(code("x = 0\n1 / x"))
    nbformat.write(chapter, path)
    arguments = ["chapters", "--profile", "quick", "--root", str(book.root)]
    assert pipeline.main(arguments) == 1
    said = capsys.readouterr().err
    assert "01_tiny failed in cell 3: ZeroDivisionError" in said
    assert "    1 / x" in said
    assert "Traceback" in said
    assert not (book.executed / "01_tiny.ipynb").exists()


@pytest.mark.slow
def test_a_dead_kernel_is_said_in_one_line(book):
    chapter = tiny_chapter()
    chapter.cells.append(
        code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    )
    nbformat.write(chapter, book.root / "notebooks/01_tiny.ipynb")
    with pytest.raises(StepError, match="^01_tiny: the kernel died.*running.ipynb$"):
        run(book)


def test_a_profile_may_only_set_what_the_chapter_declares(book):
    with pytest.raises(StepError, match="sets m, the parameters cell has n"):
        run(book, {"m": 1})


def test_an_unknown_profile_is_refused_with_the_known_ones(book, capsys):
    arguments = ["chapters", "--profile", "fast", "--root", str(book.root)]
    assert pipeline.main(arguments) == 1
    assert "one of quick, laptop, got fast" in capsys.readouterr().err


def test_a_page_that_the_toc_names_must_exist(book, capsys):
    (book.root / "book/intro.md").unlink()
    assert pipeline.main(["stage", "--root", str(book.root)]) == 1
    assert "does not exist: book/intro" in capsys.readouterr().err


# ---- what a page does not keep -----------------------------------------------------


def test_values_are_written_beside_their_meanings():
    chapter = notebook(
        code(
            'n: int = 3  # how many\nnames: str = "a,b"  # which, # and all',
            tags=["parameters"],
        )
    )
    chapters.set_parameters(chapter, {"n": 5, "names": "c"}, "01_tiny")
    assert chapter.cells[0].source == (
        'n: int = 5  # how many\nnames: str = "c"  # which, # and all'
    )


def test_cleaning_leaves_no_trace_of_the_run():
    new_output = nbformat.v4.new_output
    cell = code("x", papermill={"duration": 1}, tags=["keep"])
    cell.outputs = [
        new_output("stream", name="stderr", text="a warning"),
        new_output("stream", name="stdout", text="a result"),
    ]
    run_one = notebook(code("n = 1", tags=["injected-parameters"]), cell)
    run_one.metadata |= {"papermill": {}, "widgets": {"state": "large"}}
    page = chapters.clean(run_one)
    assert [c.source for c in page.cells] == ["x"]
    assert page.cells[0].metadata == {"tags": ["keep"]}
    assert [o.text for o in page.cells[0].outputs] == ["a result"]
    assert set(page.metadata) == {"kernelspec", "language_info"}
    assert chapters.complaints(run_one) == ["cell 1 wrote to stderr: a warning"]


# ---- staging -----------------------------------------------------------------------


def test_staging_copies_and_removes_and_keeps_what_did_not_change(book):
    staging.stage(book)
    page = book.site / "book/intro.md"
    before = page.stat().st_mtime_ns
    extra = book.root / "book/extra.md"
    extra.write_text("# Extra\n")
    staging.stage(book)
    assert (book.site / "book/extra.md").exists()
    extra.unlink()
    staging.stage(book)
    assert not (book.site / "book/extra.md").exists()
    assert page.stat().st_mtime_ns == before


def test_an_example_address_shows_no_buttons_a_real_one_does(book, monkeypatch):
    monkeypatch.setenv("XAI_LIB_REPOSITORY", "https://github.com/OWNER/book")
    assert "colab" not in staging.staged_config(book.root)
    monkeypatch.setenv("XAI_LIB_REPOSITORY", "https://github.com/someone/fork/")
    config = staging.staged_config(book.root)
    assert "colab" in config
    assert "url: https://github.com/someone/fork\n" in config


@pytest.mark.slow
def test_a_picture_shrinks_and_keeps_its_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (40, 40, 4), dtype=np.uint8)
    clear = tmp_path / "clear.png"
    Image.fromarray(values).save(clear)
    values[..., 3] = 255
    opaque = tmp_path / "opaque.png"
    Image.fromarray(values).save(opaque)
    before = opaque.stat().st_size
    for path in (opaque, clear):
        kept = np.asarray(Image.open(path).convert("RGBA"))
        building.shrink_picture(path)
        assert (np.asarray(Image.open(path).convert("RGBA")) == kept).all()
    assert opaque.stat().st_size < before
    again = opaque.read_bytes()
    building.shrink_picture(opaque)
    assert opaque.read_bytes() == again


def test_the_whole_way_publishes_once_and_then_has_nothing_to_do(book, capfd, root):
    shutil.copytree(root / "book/_static", book.root / "book/_static")
    shutil.copytree(root / "book/_ext", book.root / "book/_ext")
    arguments = ["all", "--profile", "quick", "--root", str(book.root)]
    assert pipeline.main(arguments) == 0
    page = (book.html / "notebooks/01_tiny.html").read_text()
    assert re.search(r'n</span><span class="p">:</span>.*>2</span>', page)
    assert "THEBE" not in page
    capfd.readouterr()
    assert pipeline.main(arguments) == 0
    assert "nothing changed" in capfd.readouterr().out
    (book.root / "book/intro.md").write_text("# Hello\n\n[gone](nowhere.md)\n")
    assert pipeline.main(arguments) == 1
    assert "A page." in (book.html / "book/intro.html").read_text()
    assert [p.parent for p in book.root.rglob("index.html")] == [book.html]


# ---- checks ------------------------------------------------------------------------

FIGURE = '<figure><img src="a.png" alt="a line"><figcaption>A.</figcaption></figure>'


@pytest.fixture
def site(tmp_path):
    """Return a function that writes a page's body and lists the site's problems."""
    (tmp_path / "a.png").write_bytes(b"png")
    (tmp_path / "other.html").write_text('<main><h1 id="top">Other</h1></main>')

    def problems(body):
        text = f'<html><body><main><div class="cell_output">{body}</div></main></body>'
        (tmp_path / "index.html").write_text(text)
        return checks.check_site(tmp_path)

    return problems


@pytest.mark.parametrize(
    "body",
    [
        FIGURE,
        '<a href="other.html#top">there</a> <a href="#">here</a>',
        '<a href="https://example.org/">outside</a>',
        f"<xai-frames>{FIGURE}</xai-frames>",
        '<figure><xai-frames><img src="a.png" alt="x"></xai-frames>'
        "<figcaption>A.</figcaption></figure>",
    ],
)
def test_a_sound_page_passes(site, body):
    assert site(body) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "from outside"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "from outside"),
        ('<iframe src="http://example.org"></iframe>', "from outside"),
        ('<img src="https://example.org/a.png" alt="a">', "from outside"),
        ('<img srcset="a.png 1x, https://example.org/a.png 2x" alt="a">', "outside"),
        ("<style>a { background: url(https://example.org/b.png) }</style>", "style"),
        ('<a href="gone.html">x</a>', "dead link gone.html"),
        (
            '<div class="output"><pre>&lt;a.b.Markdown object&gt;</pre></div>',
            "an object's name as output: <a.b.Markdown object>",
        ),
        ('<a href="../../etc/passwd">x</a>', "dead link"),
        ('<a href="other.html#nowhere">x</a>', "no anchor for other.html#nowhere"),
        ('<a href="#nowhere">x</a>', "no anchor for #nowhere"),
        (FIGURE.replace(' alt="a line"', ""), "without alt text"),
        (FIGURE.replace("a line", " "), "without alt text"),
        (FIGURE.replace("<figcaption>A.</figcaption>", ""), "without caption"),
        ('<img src="a.png" alt="bare">', "without caption"),
        ('<xai-frames><img src="a.png" alt="x"></xai-frames>', "without caption"),
        ("x" * 1_600_000, "more than 1,500,000"),
    ],
)
def test_each_fault_is_found_and_named_with_its_page(site, body, message):
    found = site(body)
    assert any(message in line for line in found), found
    assert all(line.startswith("index.html: ") for line in found)


def test_faults_of_the_whole_site_are_found(site, tmp_path):
    (tmp_path / "x.css").write_text("@import 'https://example.org/y.css';")
    (tmp_path / "x.js.map").write_text(json.dumps({}))
    (tmp_path / "big.bin").write_bytes(bytes(checks.SITE_LIMIT + 1))
    found = "\n".join(site(FIGURE))
    assert "x.css: loads https://example.org/y.css" in found
    assert "source map left: x.js.map" in found
    assert f"bytes, more than {checks.SITE_LIMIT:,}" in found
