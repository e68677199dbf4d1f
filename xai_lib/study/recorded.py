"""The published tables: what was computed once, at full size, and committed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xai_lib._paths import DATA

if TYPE_CHECKING:
    from pandas import DataFrame


def recorded(name: str) -> DataFrame:
    """Return a published table of ``data/results``.

    Parameters
    ----------
    name : str
        The table's name, without ``.csv``.

    Returns
    -------
    pandas DataFrame
        Its ``attrs`` hold the provenance: script, commit, date, versions, device,
        seconds, settings.

    Raises
    ------
    ValueError
        For a table that is not there; the message lists those that are.

    Examples
    --------
    >>> recorded("spectra").attrs["script"]
    'data/results/spectra.py'
    """
    folder = DATA / "results"
    path = folder / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.csv"))) or "none"
        raise ValueError(f"name must be a table of {folder} ({there}), got {name!r}")
    return read_table(path)


def read_table(path: str | Path) -> DataFrame:
    """Return a table, and in its ``attrs`` what stands above it.

    Parameters
    ----------
    path : a CSV file that begins with lines ``# key: value``

    Returns
    -------
    pandas DataFrame
    """
    import pandas

    lines = Path(path).read_text(encoding="utf-8").splitlines()
    notes = [line[2:].split(": ", 1) for line in lines if line.startswith("# ")]
    table = pandas.read_csv(path, skiprows=len(notes))
    table.attrs.update({key: value for key, value in notes})
    return table
