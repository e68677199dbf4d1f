"""The benchmark's table, as Markdown that also reads well in a terminal."""

EXACT = 1e-5  # largest difference that still counts as the same values
HEADER = [
    "method",
    "raw passes",
    "seconds",
    "turns",
    "ours / raw",
    "mark",
    "met",
    "ours, in passes",
    "peer, in passes",
    "peer / ours",
    "largest difference",
    f"below {EXACT:g}",
]


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "NO"


def cells(row) -> list[str]:
    """Return one row of the table as text."""
    case, passes, mark = row.case, row.case.passes, row.case.mark
    peer, gap = row.peer_to_raw, row.difference
    no_gap = "definitions differ" if peer else ""
    return [
        case.name,
        str(passes),
        f"{row.seconds:.2f}",
        str(row.turns),
        f"{row.ours_to_raw:.3f}",
        f"{mark:.2f}" if mark else "",
        _yes(row.ours_to_raw <= mark if mark else None),
        f"{passes * row.ours_to_raw:.1f}",
        f"{passes * peer:.1f}" if peer else "",
        f"{peer / row.ours_to_raw:.2f}" if peer else "",
        no_gap if gap is None else f"{gap:.1e}",
        _yes(None if gap is None else gap <= EXACT),
    ]


def table(rows) -> str:
    """Return rows as a Markdown table with aligned columns."""
    lines = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]

    def text(line) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([text(lines[0]), text(rule), *map(text, lines[1:])])
