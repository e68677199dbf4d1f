"""The page of verdicts, from a hand-made ledger; and the hand-written pages."""

import json
import re
import shutil
import subprocess
import sys

import checks
import pipeline
import pytest
import staging
import summary
import verdict_table
import verdicts
import yaml
from page_parts import escape, finder, show
from places import Places

from xai_lib.study import (
    Claim,
    Criterion,
    Revision,
    decide,
    load_claims,
    load_papers,
    record,
)

PAPERS = {
    "P1": {"id": "P1", "key": "ancona2018", "short": "A & B", "title": "First"},
    "P4": {"id": "P4", "key": "muzellec2024", "short": "C et al.", "title": "Second"},
}
FIGURE = {"name": "fig-ratio", "caption": "High over low. Bars: 95% intervals."}
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
            "metadata": {"mystnb": {"figure": FIGURE}},
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


def overview(text):
    """Return the rows of the table on top: the cells' texts, by claim."""
    rows = re.findall(r"<tr .*?data-verdict=.*?</tr>", text)
    cells = [re.findall(r"<(?:th|td)[^>]*><div>(.*?)</div>", row) for row in rows]
    plain = [[re.sub("<[^>]+>", " ", cell).split() for cell in row] for row in cells]
    return {row[0][0]: [" ".join(cell) for cell in row] for row in plain}


# ---- the table on top --------------------------------------------------------------


def test_one_table_has_every_claim_with_its_verdict_numbers_and_places(book):
    rows = overview(page(book))
    assert list(rows) == ["P1-1", "P1-2", "P4-1", "P4-2", "P4-3"]
    gain = "gain , required: above 0"
    gap = "gap , required: between -1 and 1"
    assert rows["P4-2"] == [
        *("P4-2 Title of P4-2", "P4", "holds", "2 of 2"),
        *(f"1.5 [1, 2] {gain} and 1 more condition", "not stated", "02 , cell"),
    ]
    assert rows["P4-1"][3:5] == [
        "2 of 3",
        f"0 to 1.5 {gain} and 1 more condition",
    ]
    assert rows["P4-3"][4] == f"-1.5 [-2, -1] {gain} and 1 more condition"
    assert rows["P1-1"][2:5] == ["not yet run", "–", "–"]
    first_passes = entry(claim("P4-1"), row("gain", 1, 2), row("gap", 2, 3))
    assert overview(page(book, [first_passes]))["P4-1"][4] == (
        f"1.5 [1, 2] {gain} 2.5 [2, 3] {gap}"
    )


def test_what_is_missing_counts_against_the_share_that_passes(book):
    text = page(book, [entry(claim("P4-1"), row("gain", 1, 2))])
    assert overview(text)["P4-1"][3] == "1 of 1 1 not yet run"
    assert 'data-label="Checks passed" data-sort="0.5000"' in text


def test_the_table_stands_once_and_before_the_claims(book):
    top, below = page(book).split("\n## P1")
    assert top.count("<table") == 1 and "P4-3" in top
    assert "not stated" in below and "| Claim |" not in below


def test_a_row_links_to_its_claim_and_to_the_cell(book):
    text = page(book)
    (line,) = [
        one for one in text.splitlines() if one.startswith("<tr") and "P4-2" in one
    ]
    links = re.findall(r'href="([^"]+)"', line)
    chapter = "../notebooks/02_spectra.html"
    assert links == ["#claim-p4-2", chapter, f"{chapter}#fig-ratio"]
    assert 'data-paper="P4 C et al." data-verdict="holds"' in line


def test_every_cell_has_its_column_and_something_to_sort_by(book):
    for line in page(book).splitlines():
        if line.startswith("<tr") and "data-paper" in line:
            labels = re.findall(r'data-label="([^"]+)" data-sort="', line)
            assert tuple(labels) == verdict_table.COLUMNS
    keys = re.findall(r'data-label="Verdict" data-sort="(\d)"', page(book))
    assert keys == ["4", "3", "1", "0", "2"]


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("not stated (a theorem)", "not stated"),
        ("not stated; elsewhere .4 (Moller)", "not stated"),
        (".34 to .80 of R&D", ".34 to .80 of R&amp;D"),
    ],
)
def test_the_papers_number_is_shortened_in_the_table_only(book, said, short):
    text = page(book, [entry(claim("P4-1", paper_number=said))])
    top, below = text.split("\n## P4")
    assert f'data-sort="{short}"><div>{short}</div>' in top
    assert escape(said) in below


# ---- the summary on the front page -------------------------------------------------


def test_the_summary_counts_and_sorts_the_claims_of_each_paper(book):
    path = book / "book" / "_generated" / "summary.md"
    summary.write_summary(path, hand_made(), PAPERS)
    text = path.read_text()
    assert text.startswith(
        "**5 claims: 1 holds, 1 holds in part, 1 does not hold, 1 not testable here, "
        "1 not yet run.**"
    )
    untested, not_run = "[P1-2](#claim-p1-2)", "[P1-1](#claim-p1-1)"
    assert f"| P1 A \\& B |  |  |  | {untested} | {not_run} |" in text
    decided = [f"[{name}](#claim-{name.lower()})" for name in ("P4-2", "P4-1", "P4-3")]
    assert f"| P4 C et al. | {' | '.join(decided)} |  |  |" in text


def test_the_summary_follows_the_ledger():
    before = summary.counts([entry(claim("P4-1")), entry(claim("P4-2"))])
    assert (
        before == "**2 claims: 0 hold, 0 hold in part, 0 do not hold, 2 not yet run.**"
    )
    run = [row("gain", 1, 2), row("gap", 0, 1)]
    after = summary.counts([entry(claim("P4-1"), *run), entry(claim("P4-2"), *run)])
    assert after == "**2 claims: 2 hold, 0 hold in part, 0 do not hold.**"


def test_the_front_page_includes_the_summary_that_the_pipeline_writes(root):
    front = (root / "book" / "intro.md").read_text()
    (included,) = re.findall(r"```\{include\} (\S+)", front)
    assert f"book/{included}" == staging.SUMMARY
    assert staging.SUMMARY in staging.GENERATED
    assert not re.search(r"\b\d+ claims", front), "a count that is typed by hand"


# ---- a claim's block ---------------------------------------------------------------


def test_a_claim_without_a_run_says_so_with_its_rule(book):
    text = block(page(book), "P1-1")
    assert "{bdg-light}`not yet run`" in text
    assert "More \\| less." in text
    assert "Ours" not in text


def test_a_claim_with_a_run_shows_every_number_and_its_check(book):
    text = block(page(book), "P4-1")
    assert "{bdg-warning}`holds in part`" in text
    assert "2 of 3 checks passed; the *recorded* run decided." in text
    assert "| resnet18 | 1.5 [1, 2] | passes | 50 | none |" in text
    assert "| mobilenet\\_v2 | 0 [-1, 1] | undecided | 50 | none |" in text
    assert "`gain`, required: above 0 (recorded run)" in text
    assert "`gap`, required: between -1 and 1" in text


def test_the_outcome_names_what_is_missing_or_out_of_reach(book):
    text = page(book, [entry(claim("P4-1"), row("gain", 1, 2))])
    assert (
        "1 of 1 check passed; the *recorded* run decided. Not yet run: `gap`." in text
    )
    out_of_reach = block(page(book), "P1-2")
    assert "`not testable here` the code was never published." in out_of_reach


def test_the_block_names_the_run_that_decided(book):
    alive = row("gap", 0, 1, scale="live")
    live = entry(claim("P4-1"), row("gain", 1, 2, scale="live"), alive)
    assert "2 of 2 checks passed; the *live* run decided." in page(book, [live])
    both = entry(claim("P4-1"), row("gain", 1, 2), alive)
    said = "the *recorded* run decided, and the *live* run on `gap`."
    assert said in block(page(book, [both]), "P4-1")


def test_a_long_table_is_folded_and_summed_up(book):
    rows = [row("gain", k - 0.5, k + 0.5, f"net {k}") for k in range(13)]
    text = block(page(book, [entry(claim("P4-1"), *rows)]), "P4-1")
    assert "(recorded run): 12 of 13 pass, values 0 to 12" in text
    folded = text.split(":::{dropdown} All 13 parts")[1].split(":::")[0]
    assert folded.count("| net ") == 13


def test_an_earlier_rule_is_shown_with_the_reason(book):
    text = block(page(book), "P4-1")
    assert "More than 5. Changed 2026-01-02: 5 was a typing error." in text


def test_the_live_run_stands_beside_the_recorded_one(book):
    decided, folded = block(page(book), "P4-2").split(":::{dropdown}")
    assert (
        "| `gap` | resnet18 | 0.5 [0, 1] | 50 | 0.5 [0, 1] | 50 | overlap |" in decided
    )
    assert "Also recorded" not in folded
    far = row("gap", 2, 3, scale="live", n=4)
    text = page(book, [entry(claim("P4-2"), row("gap", 0, 1), far)])
    assert "| 2.5 [2, 3] | 4 | 0.5 [0, 1] | 50 | apart |" in text


def test_rows_that_decide_nothing_are_kept_apart(book):
    other = row("gap", 0, 1, "mobilenet_v2", scale="live", note="twelve photographs")
    control = {"random scores": 0.25, "kind": "white | pink"}
    rows = [row("gain", 1, 2, control=control), row("gap", 0, 1), other]
    text = block(page(book, [entry(claim("P4-2"), *rows)]), "P4-2")
    decided, folded = text.split(":::{dropdown}")
    assert "live" not in decided
    assert "| `gap` | live | mobilenet\\_v2 | 0.5 [0, 1] | 50 | none |" in folded
    assert "twelve photographs" in folded and "seeds 0, 1" in folded
    assert "random scores: 0.25; kind: white \\| pink" in decided


def test_the_cell_that_decided_is_linked_and_named(book):
    text = block(page(book), "P4-2")
    assert 'href="../notebooks/02_spectra.html#fig-ratio"' in text
    assert ">chapter 02, figure: High over low</a>" in text
    whole = 'href="../notebooks/02_spectra.html">chapter 02</a>'
    assert whole in block(page(book), "P4-3")
    heading = row("gain", 1, 2, where="02_spectra#spectra")
    text = page(book, [entry(claim("P4-1"), heading)])
    assert '02_spectra.html#spectra">chapter 02, Spectra</a>' in text


def test_a_place_that_is_not_there_is_left_for_the_check_of_the_site(book):
    place = finder(book)("02_spectra", "02_spectra#gone")
    assert place.address == "../notebooks/02_spectra.html#gone"
    notebooks = book / "notebooks"
    (notebooks / "02_spectra.html").write_text('<p id="fig-ratio">x</p>')
    (notebooks / "verdicts.html").write_text(f'<a href="{place.address}">x</a>')
    assert "no anchor" in "".join(checks.check_site(book))
    there = finder(book)("02_spectra", "02_spectra#fig-ratio").address
    (notebooks / "verdicts.html").write_text(f'<a href="{there}">x</a>')
    assert not checks.check_site(book)


def test_a_chapter_to_come_gives_no_link(book):
    text = page(book, [entry(claim("P4-2", chapter="03_aliasing"))])
    assert "chapter 03 (to come)" in text and "03 (to come)</div>" in text
    assert "03_aliasing" not in text


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
    assert text.count("{bdg-light}`not yet run`") == len(load_claims())
    assert list(overview(text)) == list(load_claims())


def test_markdown_in_a_text_is_shown_as_it_is():
    assert escape("a_b | $x$ <i> [c](d)\n e*") == (r"a\_b \| \$x\$ \<i\> \[c\](d) e\*")


def test_no_minus_before_a_zero():
    assert show(-0.0) == "0" and show(-1e-9) == "-1e-09"


def test_the_front_page_knows_the_chapters(root):
    front = (root / "book" / "intro.md").read_text()
    listed = re.findall(r"notebooks/(\w+)", (root / "_toc.yml").read_text())
    rows = re.findall(r"^\| \d\d \| .*notebooks/(\w+).* \| (\d+) \|$", front, re.M)
    assert [chapter for chapter, _ in rows] == listed
    for chapter, minutes in rows:
        text = (root / "notebooks" / f"{chapter}.ipynb").read_text()
        assert f"Reading time: {minutes} minutes" in text, chapter


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
def test_the_summary_follows_a_changed_ledger(root, tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    for name in ("summary.py", "page_parts.py"):
        shutil.copy(root / "book" / name, tmp_path / "book")
    places, count = Places(tmp_path, "quick"), len(load_claims())
    pipeline.pages(places)
    written = places.site / staging.SUMMARY
    before = written.stat().st_mtime_ns
    assert f"0 do not hold, {count} not yet run" in written.read_text()
    pipeline.pages(places)
    assert written.stat().st_mtime_ns == before
    monkeypatch.setenv("XAI_LIB_LEDGER", str(places.ledger))
    record("P4-1", "hfr_ratio", "resnet18", 8, (7, 9), n=50, models="resnet18")
    pipeline.pages(places)
    said = f"1 holds, 0 hold in part, 0 do not hold, {count - 1} not yet run"
    assert said in written.read_text()


@pytest.mark.slow
def test_the_pages_build_without_a_warning(root, book):
    config = yaml.safe_load((root / "_config.yml").read_text())
    config["html"].pop("favicon", None)
    config["sphinx"].pop("local_extensions")
    style, static = {"bibtex_reference_style": "author_year"}, ["book/_static"]
    config["sphinx"]["config"] = style | {"html_static_path": static}
    (book / "_config.yml").write_text(yaml.safe_dump(config))
    page(book)
    for name in ("references.bib", "bibliography.md"):
        (book / "book" / name).write_text((root / "book" / name).read_text())
    summary.write_summary(book / staging.SUMMARY, hand_made(), PAPERS)
    front = "# Front\n\n```{include} _generated/summary.md\n```\n"
    (book / "book" / "intro.md").write_text(front)
    (book / "book" / "_static").mkdir()
    sheet = "book/_static/book.css"
    (book / sheet).write_text((root / sheet).read_text())
    command = "from jupyter_book.cli.main import main; main()"
    options = ["build", str(book), "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [sys.executable, "-c", command, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = (book / "_build" / "html" / "book" / "verdicts.html").read_text()
    assert html.count("<section") >= 7
    front = (book / "_build" / "html" / "book" / "intro.html").read_text()
    for name in ("claim-p1-1", "claim-p4-3"):
        assert f'id="{name}"' in html
        assert f'href="verdicts.html#{name}"' in front
    chapter = (book / "_build" / "html" / "notebooks" / "02_spectra.html").read_text()
    assert re.search(r'id="(fig-ratio|spectra)"', chapter)
    assert "|grad - LP(grad)|, $x_i$ &lt;b&gt; [0, 1] *all*" in html
