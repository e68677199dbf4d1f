"""Numbers of a trial by method: values, intervals, and which sentence they allow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xai_lib.study.statistics import bootstrap
from xai_lib.study.trial import Trial
from xai_lib.study.units import CONTROLS

if TYPE_CHECKING:
    from pandas import DataFrame, Series

FEWEST = 4  # on fewer images, or grids, all lie on one side too often by luck, 2 / 2^n


def unfiltered(found: Trial) -> DataFrame:
    """Return the rows of the grid without the filter."""
    table = found.tables["maps"]
    return table[table["cutoff"] == math.inf]


def low_passed(found: Trial) -> DataFrame:
    """Return the rows of the grid with the filter."""
    table = found.tables["maps"]
    return table[table["cutoff"] < math.inf]


def values_of(table: DataFrame, method: str, column: str) -> Series:
    """Return a method's values by image."""
    return table[table["method"] == method].set_index("image")[column]


def by_method(found: Trial, table: DataFrame, column: str):
    """Yield methods in their order, then controls, each with its rows that have one."""
    if column not in table:
        return
    for name in [*found.methods["method"], *CONTROLS]:
        rows = table[(table["method"] == name) & table[column].notna()]
        if len(rows):
            yield name, rows


def row_of(test, quantity, method, values, statistic="mean", groups=None) -> dict:
    """Return a row whose sentence is "undecided" until someone has a better one."""
    low, high = interval_of(values, statistic, groups)
    value = float(getattr(values.dropna(), statistic)())
    unit = "image" if groups is None else "grid"
    n = int(values.notna().sum()) if groups is None else groups.nunique()
    told = f"Undecided on {n} {unit}{'s' * (n != 1)}."
    row = {"test": test, "quantity": quantity, "method": method, "value": value}
    return row | {"low": low, "high": high, "n": n, "control": "", "told": told}


def interval_of(values: Series, statistic="mean", groups=None) -> tuple[float, float]:
    """Return the bootstrap interval over images or groups; NaN if they are too few."""
    kept = values.notna()
    groups = None if groups is None else groups[kept].tolist()
    values = values[kept].tolist()
    if len(set(groups) if groups else values) < FEWEST:
        return math.nan, math.nan
    return bootstrap(values, statistic, groups=groups)


def sentence(
    interval: tuple[float, float], above: str, below: str, neither: str
) -> str:
    """Choose a sentence by the side of 0 on which the whole interval lies."""
    low, high = interval
    if math.isnan(low):
        return f"Undecided: fewer than {FEWEST} images."
    return above if low > 0 else below if high < 0 else neither
