"""The table of all claims at the top of the page of verdicts, as HTML.

Complete and readable without a script; that of `show.sortable_table` makes it sort and
filter by what stands in `data-sort`, `data-paper` and `data-verdict`. The roles keep it
a table for screen readers where a phone shows its rows as cards.
"""

import json
import re
from collections.abc import Sequence
from html import escape

from page_parts import COLOURS, Find, anchor, estimate, show

from xai_lib.show.sortable import BEHAVIOUR
from xai_lib.study import Check
from xai_lib.study.verdicts import STATUSES

COLUMNS = (
    *("Claim", "Paper", "Verdict", "Checks passed"),
    *("Our number", "The paper’s number", "Decided in"),
)
FILTERS = escape(json.dumps({"Paper": "", "Verdict": ""}))  # all is shown at first


def overview(entries: Sequence[dict], papers: dict, find: Find) -> str:
    """Return the table, one row per claim, and the script that sorts and filters it."""
    heads = (f'<th role="columnheader" scope="col">{name}</th>' for name in COLUMNS)
    order = {key: place for place, key in enumerate(papers)}
    lines = [
        '<div class="pst-scrollable-table-container">',
        '<table class="table xai-sortable xai-verdicts" role="table" '
        f'aria-label="All claims" data-filters="{FILTERS}" data-noun="claims">',
        '<thead role="rowgroup">',
        f'<tr role="row">{"".join(heads)}</tr></thead>',
        '<tbody role="rowgroup">',
        *(_row(i, entry, papers, order, find) for i, entry in enumerate(entries)),
        "</tbody></table></div>",
        "",  # ends the block of HTML: style and script are blocks of their own
        BEHAVIOUR,
    ]
    return "\n".join(lines)


def _row(i: int, entry: dict, papers: dict, order: dict, find: Find) -> str:
    claim, verdict = entry["claim"], entry["verdict"]
    paper, status = claim.paper, verdict.status
    name = f'<a href="#{anchor(claim)}">{claim.id} {escape(claim.title)}</a>'
    kind = "sd-sphinx-override sd-badge sd-bg-{0} sd-bg-text-{0}"
    badge = f'<span class="{kind.format(COLOURS[status])}">{status}</span>'
    said = brief(claim.paper_number)
    cells = (
        (name, i),
        (paper, order[paper]),
        (badge, STATUSES.index(status)),
        _passed(verdict.checks),
        _ours(verdict.checks),
        (escape(said), escape(said)),
        _decided_in(entry, find),
    )
    full = escape(f"{paper} {papers[paper]['short']}")
    row = f'<tr role="row" data-paper="{full}" data-verdict="{status}">'
    return row + "".join(map(_cell, COLUMNS, cells)) + "</tr>"


def _cell(column: str, content: tuple) -> str:
    html, key = content
    tag, role = ("th", "rowheader") if column == COLUMNS[0] else ("td", "cell")
    scope = ' scope="row"' if tag == "th" else ""
    about = f'role="{role}" data-label="{column}" data-sort="{key}"'
    return f"<{tag}{scope} {about}><div>{html}</div></{tag}>"


def _passed(checks: Sequence[Check]) -> tuple:
    """Return how many checks passed, and the share to sort by."""
    done = [check for check in checks if check.row]
    if not done:
        return "–", ""
    passed, missing = sum(c.result == "pass" for c in done), len(checks) - len(done)
    more = f"<small>{missing} not yet run</small>" if missing else ""
    return f"{passed} of {len(done)}{more}", f"{passed / len(checks):.4f}"


def _ours(checks: Sequence[Check]) -> tuple:
    """Return the numbers in short, and the first one's middle to sort by."""
    chosen = headline(checks)
    if not chosen:
        return "–", ""
    parts = [f"<b>{spread(group)}</b>{_condition(group[0])}" for group in chosen]
    left = len({check.quantity for check in checks}) - len(chosen)
    if left:
        parts.append(f"<small>and {left} more condition{'s' * (left > 1)}</small>")
    values = sorted(check.row["value"] for check in chosen[0])
    return "".join(parts), values[len(values) // 2]


def _condition(check: Check) -> str:
    """Return what is required of a check; long names may break at an underscore."""
    name = check.quantity.replace("_", "_<wbr>")
    return f"<small><code>{name}</code>, required: {check.criterion.condition}</small>"


def headline(checks: Sequence[Check]) -> list[list[Check]]:
    """Return the checks of the first condition, and of the one that passes least.

    The second is left out where no condition passes a smaller share than the first.
    """
    quantities = dict.fromkeys(check.quantity for check in checks if check.row)
    groups = [[c for c in checks if c.quantity == q] for q in quantities]
    if not groups:
        return []
    worst = min(groups, key=_share)
    return [groups[0]] + [worst] * (_share(worst) < _share(groups[0]))


def _share(checks: Sequence[Check]) -> float:
    return sum(check.result == "pass" for check in checks) / len(checks)


def spread(checks: Sequence[Check]) -> str:
    """Return the value of one part with its interval, or the range over the parts."""
    if len(checks) == 1:
        return estimate(checks[0].row)
    values = [check.row["value"] for check in checks]
    return " to ".join(dict.fromkeys((show(min(values)), show(max(values)))))


def brief(paper_number: str) -> str:
    """Return the paper's number without what is said about it."""
    return re.split(r" \(|; ", paper_number)[0]


def _decided_in(entry: dict, find: Find) -> tuple:
    """Return the chapter and the cells in it that decided."""
    claim = entry["claim"]
    rows = [check.row for check in entry["verdict"].checks if check.row]
    chapter = find(claim.chapter, None)
    if chapter.page is None:
        return f"{chapter.chapter} (to come)", chapter.chapter
    links = [f'<a href="{chapter.page}">{chapter.chapter}</a>']
    for where in dict.fromkeys(row["where"] for row in rows if row["where"]):
        place = find(claim.chapter, where)
        if place.address:
            label = f"{claim.id}: cell in chapter {place.chapter}"
            links.append(f'<a href="{place.address}" aria-label="{label}">cell</a>')
    return ", ".join(links), chapter.chapter
