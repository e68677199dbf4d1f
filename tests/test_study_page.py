"""The page of verdicts, from a hand-made ledger; and the hand-written pages."""

import json
import re
import subprocess
import sys

import pytest
import verdicts
import yaml
from page_parts import escape

from xai_lib.study import Claim, Criterion, Revision, decide, load_claims, load_papers

PAPERS = {
    "P1": {"id": "P1", "key": "ancona2018", "short": "A & B", "title": "First"},
    "P4": {"id": "P4", "key": "muzellec2024", "short": "C et al.", "title": "Second"},
}
PIPES = "Share of |grad - LP(grad)|, $x_i$ <b> [0, 1] *all*. Per model."


def claim(name, **other):
    texts = {
        "title": f"Title of {name}",
        "claim": "It is _so_.",
        "rule": "More | less.",
    }
    texts |= {"paper_number": "not stated", "control": "Random maps.", "note": ""}
    texts |= {"id": name, "paper": name[:2], "chapter": "02_spectra"} | other
    above = Criterion("gain", ">", 0.0, PIPES)
    near = Criterion("gap", "within", (-1.0, 1.0), "Per model.")
    return Claim(**texts, criteria=(above, near))


def row(quantity, low, high, part="resnet18", **other):
    row = {"quantity": quantity, "part": part, "scale": "recorded", "control": None}
    row |= {"value": (low + high) / 2, "interval": [low, high], "n": 50, "where": None}
    return row | {"models": [part], "seeds": [0, 1], "note": ""} | other


def entry(claim, *rows):
    return {"id": claim.id, "claim": claim, "verdict": decide(claim, rows)} | {
        "rows": list(rows)
    }


def hand_made():
    old = Revision("More than 5.", "2026-01-02", "5 was a typing error.")
    part = [row("gain", 1, 2), row("gain", -1, 1, "mobilenet_v2"), row("gap", 0, 0.5)]
    control = {"random scores": 0.25, "kind": "white | pink"}
    live = row("gap", 0, 1, scale="live", note="twelve photographs")
    where = "02_spectra#fig-ratio"
    held = [row("gain", 1, 2, where=where, control=control), row("gap", 0, 1), live]
    return [
        entry(claim("P1-1")),
        entry(claim("P1-2", not_testable="the code was never published")),
        entry(claim("P4-1", history=(old,), note="With *stars*."), *part),
        entry(claim("P4-2", reported=(("slope", "Beside."),)), *held),
        entry(claim("P4-3"), row("gain", -2, -1), row("gap", 2, 3)),
    ]


@pytest.fixture
def book(tmp_path):
    """A staged book: one chapter with a heading and a named figure."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Spectra\n\ntext"]},
        {
            "cell_type": "code",
            "metadata": {"mystnb": {"figure": {"name": "fig-ratio", "caption": "c"}}},
            "source": ["1"],
            "outputs": [],
            "execution_count": None,
        },
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    for number, each in enumerate(cells):
        each["id"] = f"cell-{number}"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_spectra.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        "  - file: notebooks/02_spectra\n  - file: book/verdicts\n"
        "  - file: book/bibliography\n"
    )
    return tmp_path


def page(book, entries=None, papers=PAPERS):
    path = book / "book" / "verdicts.md"
    verdicts.write_page(path, hand_made() if entries is None else entries, papers)
    return path.read_text()


def block(text, name):
    return text.split(f"(claim-{name.lower()})=")[1].split("\n(claim-")[0]


def test_verdicts_are_counted_by_paper(book):
    text = page(book)
    assert "| P1 | 0 | 0 | 0 | 1 | 1 |" in text
    assert "| P4 | 1 | 1 | 1 | 0 | 0 |" in text
    assert "| all | 1 | 1 | 1 | 1 | 1 |" in text


def test_a_claim_without_a_run_says_so_with_its_rule(book):
    text = block(page(book), "P1-1")
    assert "{bdg-light}`not yet run`" in text
    assert "More \\| less." in text
    assert "Ours" not in text


def test_a_claim_with_a_run_shows_every_number_and_its_check(book):
    text = block(page(book), "P4-1")
    assert "{bdg-warning}`holds in part`" in text
    assert "2 of 3 checks passed." in text
    assert "| resnet18 | 1.5 [1, 2] | passes | 50 | none |" in text
    assert "| mobilenet\\_v2 | 0 [-1, 1] | undecided | 50 | none |" in text
    assert "`gain`, required: above 0 (recorded run)" in text
    assert "`gap`, required: between -1 and 1" in text


def test_the_outcome_names_what_is_missing_or_out_of_reach(book):
    text = page(book, [entry(claim("P4-1"), row("gain", 1, 2))])
    assert "1 of 1 check passed. Not yet run: `gap`." in text
    out_of_reach = block(page(book), "P1-2")
    assert "`not testable here` the code was never published." in out_of_reach


def test_decided_claims_come_first(book):
    text = page(book).split("## P1")[0]
    assert "4 decided so far" in text
    assert "[P4-1](#claim-p4-1)" in text and "P1-1" not in text


def test_an_earlier_rule_is_shown_with_the_reason(book):
    text = block(page(book), "P4-1")
    assert "More than 5. Changed 2026-01-02: 5 was a typing error." in text


def test_rows_that_decide_nothing_are_kept_apart(book):
    text = block(page(book), "P4-2")
    decided, folded = text.split(":::{dropdown}")
    assert "live" not in decided
    assert "| `gap` | live | resnet18 | 0.5 [0, 1] | 50 | none |" in folded
    assert "twelve photographs" in folded and "seeds 0, 1" in folded
    assert "random scores: 0.25; kind: white \\| pink" in decided


def test_the_cell_that_decided_is_linked(book):
    link = (
        '<a class="reference internal" href="../notebooks/02_spectra.html#fig-ratio">'
    )
    assert link in block(page(book), "P4-2")
    assert "[chapter 02](../notebooks/02_spectra.ipynb)" in block(page(book), "P4-3")


def test_an_unknown_place_or_chapter_gives_no_dead_link(book):
    one = entry(claim("P4-1"), row("gain", 1, 2, where="02_spectra#gone"))
    text = page(book, [one, entry(claim("P4-2", chapter="03_aliasing"))])
    assert "[chapter 02](../notebooks/02_spectra.ipynb)" in text
    assert "chapter 03 (to come)" in text
    assert "gone" not in text and "03_aliasing" not in text


def test_a_chapter_left_out_of_the_contents_is_not_linked(book):
    (book / "_toc.yml").write_text("root: book/intro\n")
    assert "../notebooks" not in page(book)


def test_every_table_row_has_the_cells_of_its_head(book):
    width = None
    for line in page(book).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert width is None or cells in (None, width), line
        width = cells


def test_the_same_ledger_leaves_the_file_untouched(book):
    page(book)
    path = book / "book" / "verdicts.md"
    before = path.stat().st_mtime_ns
    page(book)
    assert path.stat().st_mtime_ns == before


def test_the_real_claims_make_a_page(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_LIB_LEDGER", str(tmp_path / "none"))
    path = tmp_path / "book" / "verdicts.md"
    verdicts.write_page(path)
    text = path.read_text()
    for name in load_claims():
        assert f"### {name}: " in text
    assert text.count("{bdg-light}`not yet run`") == 2 * len(load_claims())
    assert "No claim has been run yet." in text


def test_markdown_in_a_text_is_shown_as_it_is():
    assert escape("a_b | $x$ <i> [c](d)\n e*") == (r"a\_b \| \$x\$ \<i\> \[c\](d) e\*")


def test_the_front_page_knows_the_claims_and_the_chapters(root):
    front = (root / "book" / "intro.md").read_text()
    assert f"All {len(load_claims())} claims" in front
    listed = re.findall(r"notebooks/(\w+)", (root / "_toc.yml").read_text())
    published = re.findall(
        r"^\| \d\d \| .*notebooks/(\w+).* published \|$", front, re.M
    )
    assert published == listed


def test_the_code_on_the_front_page_names_what_exists(root):
    front = (root / "book" / "intro.md").read_text()
    code = re.search(r"```python\n(.*?)```", front, re.DOTALL)[1]
    names = {}
    exec("\n".join(re.findall(r"^from .*$", code, re.M)), names)
    assert re.search(r'METHODS\["(\w+)"\]', code)[1] in names["METHODS"]


def bibliography(root):
    text = (root / "book" / "references.bib").read_text()
    return dict(re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", text, re.DOTALL))


def test_every_reference_of_the_library_is_in_the_bibliography(root):
    known = bibliography(root)
    used = {paper["key"] for paper in load_papers().values()}
    for path in (root / "xai_lib").rglob("*.py"):
        used |= set(re.findall(r"\[([a-z]+(?:19|20)\d\d[a-z]*)\]", path.read_text()))
    assert not used - known.keys()


def test_every_reference_has_a_doi_or_an_arxiv_number(root):
    neither = ("institution = {", "url = {https://aclanthology.org/")  # old reports
    for key, fields in bibliography(root).items():
        number = "doi = {10." in fields or re.search(r"eprint = \{\d{4}\.\d", fields)
        assert number or any(one in fields for one in neither), key
        assert re.fullmatch(r"[a-z]+(19|20)\d\d[a-z]*", key), key


@pytest.mark.slow
def test_the_pages_build_without_a_warning(root, book):
    config = yaml.safe_load((root / "_config.yml").read_text())
    config["html"].pop("favicon", None)
    config["sphinx"].pop("local_extensions")
    config["sphinx"]["config"] = {"bibtex_reference_style": "author_year"}
    (book / "_config.yml").write_text(yaml.safe_dump(config))
    page(book)
    for name in ("references.bib", "bibliography.md"):
        (book / "book" / name).write_text((root / "book" / name).read_text())
    (book / "book" / "intro.md").write_text("# Front\n")
    command = "from jupyter_book.cli.main import main; main()"
    options = ["build", str(book), "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [sys.executable, "-c", command, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = (book / "_build" / "html" / "book" / "verdicts.html").read_text()
    assert html.count("<section") >= 7
    for name in ("claim-p1-1", "claim-p4-3"):
        assert f'id="{name}"' in html
    assert "|grad - LP(grad)|, $x_i$ &lt;b&gt; [0, 1] *all*" in html
