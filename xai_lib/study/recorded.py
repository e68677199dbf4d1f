"""The published tables: what was computed once, at full size, and committed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xai_lib._check import check_choice
from xai_lib._paths import DATA

if TYPE_CHECKING:
    from pandas import DataFrame

FIRST = 100  # images that are divided in two halves; all further ones judge
HALVES = {
    "all": slice(FIRST),
    "even": slice(0, FIRST, 2),
    "odd": slice(1, FIRST, 2),
    "more": slice(FIRST, None),
}
"""Which images the scores of a row belong to, by its column ``half``."""
TEXTS = dict.fromkeys(("commit", "key", "versions", "device", "date"), str)
"""Columns of texts, which may look like numbers: a commit 5335011e6732 is one."""


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
    table = pandas.read_csv(path, skiprows=len(notes), dtype=TEXTS)
    table.attrs.update({key: value for key, value in notes})
    return table


def scores_by_cutoff(
    rows: DataFrame, column: str = "faithfulness", size: int | None = None
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Return the scores of one map, image by image, from a recorded table.

    Parameters
    ----------
    rows : DataFrame
        With ``cutoff``, a column of scores in 1/10000, spaces between, and ``half``,
        one of `HALVES`.
    column : str
        Where the scores are.
    size : int, optional
        The number of images; by default as many as there are scores for.

    Returns
    -------
    cutoffs : list of float, length K, ascending; ``math.inf`` is no filter
    scores : array, shape (K, images), NaN where there is no score
    choosing : array of bool, shape (images,): the images to choose a cutoff on

    Raises
    ------
    ValueError
        if a column is missing, or a row's scores do not fit its half

    Examples
    --------
    >>> table = recorded("low_pass")
    >>> mine = (table.model == "cifar_cnn") & (table.method == "gradient")
    >>> mine &= (table.reading == "rectified") & (table.kind == "disc")
    >>> cutoffs, scores, choosing = scores_by_cutoff(table[mine])
    >>> scores.shape, int(choosing.sum())
    ((8, 400), 50)
    """
    for name in ("cutoff", "half", column):
        check_choice("column", name, list(rows.columns))
    found = [_floats(text) for text in rows[column]]
    further = [
        len(v) for v, half in zip(found, rows["half"], strict=True) if half == "more"
    ]
    size = FIRST + max(further, default=0) if size is None else size
    cutoffs = sorted(set(rows["cutoff"]))
    scores = np.full((len(cutoffs), size), math.nan)  # (K, images)
    for cutoff, half, values in zip(rows["cutoff"], rows["half"], found, strict=True):
        check_choice("half", half, HALVES)
        place = scores[cutoffs.index(cutoff), HALVES[half]]
        if place.shape != values.shape:
            wanted = f"a row of half {half!r} must have {len(place)} scores"
            raise ValueError(
                f"{wanted} where there are {size} images, got {len(values)}"
            )
        place[:] = values
    choosing = np.zeros(size, dtype=bool)
    choosing[HALVES["even"]] = True
    return cutoffs, scores, choosing


def thousandths(text: str) -> np.ndarray:
    """Return the scores of a row of ``localisation``, grid by grid and head by head.

    Parameters
    ----------
    text : str
        Whole numbers with spaces between, in 1/1000; "1000*80" is eighty times 1.

    Returns
    -------
    array, shape (scores,)

    Examples
    --------
    >>> thousandths("250 1000").tolist(), thousandths("1000*3").tolist()
    ([0.25, 1.0], [1.0, 1.0, 1.0])
    """
    number, _, times = str(text).partition("*")
    whole = [number] * int(times) if times else number.split()
    return np.array(whole, dtype=float) / 1000


def _floats(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=float) / 1e4
