"""The grid on disk: a small file for every finished unit, joined into one table."""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from xai_lib.study._files import write_atomically
from xai_lib.study.units import Unit

PROVENANCE = ("seconds", "commit", "versions", "device", "date")
"""Columns that tell of the run; all others are the same whenever the grid is."""


def part_of(out: Path, key: str) -> Path:
    """Return where the rows of a unit lie: in ``OUT.parts``, named by its key."""
    return out.with_name(f"{out.name}.parts") / f"{key}.csv"


def save(path: Path, rows: Iterable[dict], head: dict[str, str] | None = None) -> None:
    """Write rows as CSV, whole or not at all, with lines ``# key: value`` before."""
    lines = [f"# {key}: {value}\n" for key, value in (head or {}).items()]
    write_atomically(path, "".join(lines) + _csv(rows))


def join(out: Path, keys: Iterable[str], failed: dict[str, list[dict]]) -> list[dict]:
    """Return the rows of all units in their order, those of failed ones as given."""
    rows = []
    for key in keys:
        rows += failed[key] if key in failed else _read(part_of(out, key))
    return rows


def is_whole(out: Path, unit: Unit) -> bool:
    """Return whether a unit's file is there with all of its rows, not cut short."""
    path = part_of(out, unit.key)
    try:
        rows, ends = _read(path), path.read_bytes().endswith(b"\n")
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    wanted = len(unit.names) * len(unit.cutoffs)
    mine = [row for row in rows if row.get("key") == unit.key]
    return ends and len(rows) == len(mine) == wanted


def _read(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def _csv(rows: Iterable[dict]) -> str:
    rows, text = list(rows), io.StringIO()
    table, columns = csv.writer(text, lineterminator="\n"), list(rows[0])
    table.writerow(columns)
    table.writerows([cell(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def cell(value) -> str:
    """Return a value as it is written: floats with 6 decimals, NaN and None as nothing.

    Examples
    --------
    >>> [cell(v) for v in (0.25, -1e-9, math.nan, None, 3, "a", math.inf)]
    ['0.250000', '0.000000', '', '', '3', 'a', 'inf']
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float) and math.isfinite(value):
        return f"{round(value, 6) + 0.0:.6f}"
    return str(value)
