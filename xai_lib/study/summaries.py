"""Verdicts as rows and lines, for the end of a chapter."""

import re
from collections.abc import Sequence

from xai_lib.study.claims import load_claims
from xai_lib.study.ledger import verdict


def markdown_table(rows: Sequence[Sequence]) -> str:
    """Return rows of cells as a table in Markdown; the first is its head.

    A bar in a cell is escaped, as it would end the cell.

    Examples
    --------
    >>> markdown_table([("a", "b"), (1, 2)])
    '| a | b |\\n| --- | --- |\\n| 1 | 2 |'
    >>> print(markdown_table([("|g|",)]).splitlines()[0])
    | \\|g\\| |
    """
    rows = [[re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in row] for row in rows]
    if not rows or {len(row) for row in rows} != {len(rows[0])}:
        lengths = sorted({len(row) for row in rows})
        raise ValueError(f"rows must have one length, got {lengths}")
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def check_table(claim_id: str) -> str:
    """Return a claim's verdict, and how many checks of each criterion passed.

    Returns
    -------
    str, Markdown

    Examples
    --------
    >>> check_table("P3-2").splitlines()[2]
    '| quantity | rule | values | passed | failed | undecided |'
    """
    found, rows = verdict(claim_id), []  # it refuses what is no claim
    claim = load_claims()[claim_id]
    for criterion in claim.criteria:
        mine = [c for c in found.checks if c.quantity == criterion.quantity]
        values = [c.row["value"] for c in mine if c.row]
        span = f"{min(values):.3g} to {max(values):.3g}" if values else "not run"
        told = [c.result for c in mine]
        count = [told.count(k) for k in ("pass", "fail", "undecided")]
        rows.append((criterion.quantity, criterion.condition, span, *count))
    head = ("quantity", "rule", "values", "passed", "failed", "undecided")
    return f"**{claim_id}: {found.status}.**\n\n{markdown_table([head, *rows])}"


def summary(claim_ids: Sequence[str]) -> str:
    """Return one line per claim, in Markdown: its title, its verdict, the count.

    Examples
    --------
    >>> summary(["P3-2"]).startswith("- **P3-2, DiPart is close to DiFull: ")
    True
    """
    lines = []
    for claim_id in claim_ids:
        found = verdict(claim_id)
        claim = load_claims()[claim_id]
        done = [c.result for c in found.checks if c.result != "not yet run"]
        count = f"{done.count('pass')} of {len(done)} checks pass"
        lines.append(f"- **{claim_id}, {claim.title}: {found.status}** ({count}).")
    return "\n".join(lines)
