"""Write the page of verdicts from the ledger. Called by the pipeline.

python book/verdicts.py PATH
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from page_parts import Find, anchor, badge, control, escape, estimate, finder, table
from summary import counts
from verdict_table import overview, spread

from xai_lib.study import Check, ledger, load_papers

RESULTS = {"pass": "passes", "fail": "fails", "undecided": "undecided"}
LONG = 12  # rows; a longer table is folded away
HEAD = """---
html_theme.sidebar_secondary.remove: true
generated: true
---

# Verdicts

Every claim on trial, the number behind it, and what follows. This page is written by a
program from the claims file (`data/claims.toml`) and from the numbers that the chapters
recorded; no verdict is typed by hand.
"""
LEGEND = """*Our number* is the range over models and methods: for the claim's first
condition and, below it, for the one with the smallest share of passed checks, if that
is another. A number with brackets is a single one with its interval."""
RULES = """:::{dropdown} How a verdict is computed
Each claim has one or more conditions: a quantity, a threshold, and the statement of
what is measured, for which kind of network. They were written before the experiment
was run. The networks and the number of images stand beside each number. A condition
is checked for every part (a model, or a model and a method):

- the check **passes** if the whole 95% interval lies on the required side,
- it **fails** if the whole interval lies on the other side,
- it is **undecided** if the interval contains the threshold. Undecided does not pass.

The claim **holds** if every check passes, **holds in part** if some do, and **does
not hold** if none does and one at least fails. The intervals are not widened for the
number of checks: among many, one may pass by luck, so the count stands beside the
verdict. A condition without a number has not passed yet. A claim that we have no
means to test, or whose every check is undecided, is **not testable here**.

Intervals are bootstrap intervals over images unless the condition says otherwise.
They are too narrow for few images: that of a mean misses 16 times in 100, not 5, with
five images, 10 times with ten, 7 with 25 or 50. A *recorded* number comes from the
larger run whose table lies in `data/results`, a *live* one from the run inside the
chapter; recorded numbers decide where there are any. A rule that was changed keeps
its old wording and the reason beside it. A claim that does not hold here is a
statement about our models, images and settings.
:::
"""


def write_page(path: Path, entries=None, papers=None) -> None:
    """Write the page of verdicts.

    Parameters
    ----------
    path : Path
        The Markdown file; chapters are linked if they stand in `../notebooks` and in
        `../_toc.yml` (the staged book).
    entries, papers : optional
        What `ledger()` and `load_papers()` return, which is the default.
    """
    path = Path(path)
    entries = ledger() if entries is None else entries
    papers = load_papers() if papers is None else papers
    text = page(entries, papers, finder(path.parent.parent))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def page(entries: Sequence[dict], papers: dict, find: Find) -> str:
    """Return the page as Markdown."""
    blocks = [HEAD, f"{counts(entries)} {LEGEND}"]
    blocks += [overview(entries, papers, find), RULES]
    for key, paper in papers.items():
        mine = [entry for entry in entries if entry["claim"].paper == key]
        if not mine:
            continue
        source = f"*{paper['title']}*, " + "{cite:t}`" + paper["key"] + "`."
        blocks += [f"## {key}: {escape(paper['short'])}", source]
        blocks += [block(entry, find) for entry in mine]
    return "\n\n".join(part.strip() for part in blocks) + "\n"


def block(entry: dict, find: Find) -> str:
    """Return everything about one claim."""
    claim, verdict = entry["claim"], entry["verdict"]
    rows = [check.row for check in verdict.checks if check.row]
    wheres = dict.fromkeys(row["where"] for row in rows) or {None: None}
    links = dict.fromkeys(find(claim.chapter, where).link for where in wheres)
    terms = {
        "The paper's number": escape(claim.paper_number),
        "Pass rule": escape(claim.rule),
        "Decided in": "; ".join(links),
    }
    reason = f" {outcome(entry)}" if verdict.status != "not yet run" else ""
    return "\n\n".join(
        [
            f"({anchor(claim)})=\n### {claim.id}: {escape(claim.title)}",
            badge(verdict.status) + reason,
            escape(claim.claim),
            *numbers(verdict.checks),
            *beside(pairs(entry["rows"])),
            "\n\n".join(f"{term}\n: {text}" for term, text in terms.items() if text),
            details(entry),
        ]
    )


def outcome(entry: dict) -> str:
    """Return how many checks pass, which run decided, and what is missing."""
    verdict = entry["verdict"]
    if not verdict.checks:
        return f"{escape(verdict.reason.rstrip('.'))}."
    done = [check for check in verdict.checks if check.row]
    passed = sum(check.result == "pass" for check in done)
    missing = [f"`{check.quantity}`" for check in verdict.checks if not check.row]
    text = f"{passed} of {len(done)} check{'s' * (len(done) > 1)} passed; {runs(done)}."
    return text + (f" Not yet run: {', '.join(missing)}." if missing else "")


def runs(checks: Sequence[Check]) -> str:
    """Return which run decided; where both did, which quantities the live one."""
    scales = {check.quantity: check.row["scale"] for check in checks}
    if len(set(scales.values())) == 1:
        return f"the *{checks[0].row['scale']}* run decided"
    live = ", ".join(f"`{name}`" for name, scale in scales.items() if scale == "live")
    return f"the *recorded* run decided, and the *live* run on {live}"


def numbers(checks: Sequence[Check]) -> list[str]:
    """Return one table per condition that has numbers; a long one is folded away."""
    parts = []
    for criterion in dict.fromkeys(check.criterion for check in checks if check.row):
        mine = [c for c in checks if c.criterion == criterion]
        lines = [cells(c.row, RESULTS[c.result]) for c in mine]
        text = f"`{criterion.quantity}`, required: {criterion.condition} "
        text += f"({mine[0].row['scale']} run)"
        rows = table([*HEADINGS[:2], "Check", *HEADINGS[2:]], lines)
        if len(mine) > LONG:
            passed = sum(check.result == "pass" for check in mine)
            text += f": {passed} of {len(mine)} pass, values {spread(mine)}"
            rows = f":::{{dropdown}} All {len(mine)} parts\n{rows}\n:::"
        parts += [text, rows]
    return parts


HEADINGS = ["Part", "Ours [95% interval]", "n", "Control"]


def cells(row: dict, *result: str) -> list:
    """Return the cells of one recorded number."""
    return [
        escape(row["part"]),
        estimate(row),
        *result,
        row["n"],
        control(row["control"]),
    ]


def pairs(rows: Sequence[dict]) -> list[tuple[dict, dict]]:
    """Return the recorded and the live row of what has both."""
    live = {(r["quantity"], r["part"]): r for r in rows if r["scale"] == "live"}
    keys = [(r, (r["quantity"], r["part"])) for r in rows if r["scale"] != "live"]
    return [(recorded, live[key]) for recorded, key in keys if key in live]


def beside(both: Sequence[tuple[dict, dict]]) -> list[str]:
    """Return the table that sets the live run beside the recorded one."""
    if not both:
        return []
    head = ["Quantity", "Part", "Live, in the chapter", "n", "Recorded", "n"]
    lines = []
    for recorded, live in both:
        (low, high), (floor, ceiling) = recorded["interval"], live["interval"]
        met = "overlap" if low <= ceiling and floor <= high else "apart"
        name = [f"`{live['quantity']}`", escape(live["part"])]
        numbers = [estimate(live), live["n"], estimate(recorded), recorded["n"]]
        lines.append([*name, *numbers, met])
    text = "What the recorded run adds to the live one, where both measured the same:"
    return [text, table([*head, "Intervals"], lines)]


def details(entry: dict) -> str:
    """Return what is folded away: conditions, settings, other runs, history."""
    claim, verdict = entry["claim"], entry["verdict"]
    used = [check.row for check in verdict.checks if check.row]
    used += [row for both in pairs(entry["rows"]) for row in both]
    others = [row for row in entry["rows"] if row not in used]
    lines = [f"Control\n: {escape(claim.control)}"]
    lines += [f"Note\n: {escape(claim.note)}"] * bool(claim.note)
    for c in claim.criteria:
        lines.append(f"`{c.quantity}`, {c.condition}\n: {escape(c.meaning)}")
    for quantity, meaning in claim.reported:
        lines.append(f"`{quantity}`, decides nothing\n: {escape(meaning)}")
    if entry["rows"]:
        lines.append(settings(entry["rows"]))
    if others:
        lists = [[f"`{row['quantity']}`", row["scale"], *cells(row)] for row in others]
        lines.append("Also recorded, without a say in the verdict:")
        lines.append(table(["Quantity", "Run", *HEADINGS], lists))
    for old in claim.history:
        when = f"Changed {escape(old.changed)}: {escape(old.reason)}"
        lines.append(f"Earlier rule\n: {escape(old.rule)} {when}")
    title = "What is measured, control" + (", earlier rules" if claim.history else "")
    return f":::{{dropdown}} {title}\n" + "\n\n".join(lines) + "\n:::"


def settings(rows: Sequence[dict]) -> str:
    """Return models, seeds and notes of all rows."""
    models = dict.fromkeys(name for row in rows for name in row["models"])
    seeds = dict.fromkeys(str(seed) for row in rows for seed in row["seeds"])
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    text = f"models {', '.join(map(escape, models))}; seeds {', '.join(seeds)}"
    return f"Settings\n: {'; '.join([text, *map(escape, notes)])}"


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
