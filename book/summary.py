"""Write the summary of the verdicts that the front page includes.

python book/summary.py PATH
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from page_parts import anchor, badge, escape, table

from xai_lib.study import ledger, load_papers
from xai_lib.study.verdicts import STATUSES

DECIDED = STATUSES[:3]
PLURAL = {"holds": "hold", "holds in part": "hold in part"}
PLURAL |= {"does not hold": "do not hold"}


def write_summary(path: Path, entries=None, papers=None) -> None:
    """Write the summary; the arguments are those of `verdicts.write_page`."""
    entries = ledger() if entries is None else entries
    papers = load_papers() if papers is None else papers
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(summary(entries, papers), encoding="utf-8")


def summary(entries: Sequence[dict], papers: dict) -> str:
    """Return the counts in a sentence, and every claim under its verdict, by paper."""
    columns = shown(entries)
    lines = []
    for key, paper in papers.items():
        mine = [entry for entry in entries if entry["claim"].paper == key]
        cells = [links(entry for entry in mine if status(entry) == s) for s in columns]
        lines.append([f"{key} {escape(paper['short'])}", *cells])
    heads = ["Paper", *map(badge, columns)]
    counted = f":::{{div}} xai-summary\n{table(heads, lines)}\n:::"
    return f"{counts(entries)}\n\n{counted}\n"


def counts(entries: Sequence[dict]) -> str:
    """Return how many claims there are, and how many of each verdict."""
    found = [status(entry) for entry in entries]
    numbers = {s: found.count(s) for s in shown(entries)}
    parts = [f"{n} {s if n == 1 else PLURAL.get(s, s)}" for s, n in numbers.items()]
    return f"**{len(entries)} claims: {', '.join(parts)}.**"


def shown(entries: Sequence[dict]) -> list[str]:
    """Return the three verdicts, and of the other two states those that occur."""
    found = {status(entry) for entry in entries}
    return [s for s in STATUSES if s in DECIDED or s in found]


def status(entry: dict) -> str:
    """Return the verdict on a claim, as one of STATUSES."""
    return entry["verdict"].status


def links(entries) -> str:
    """Return the ids of claims, each linked to its place on the page of verdicts."""
    claims = [entry["claim"] for entry in entries]
    return " ".join(f"[{claim.id}](#{anchor(claim)})" for claim in claims)


if __name__ == "__main__":
    write_summary(Path(sys.argv[1]))
