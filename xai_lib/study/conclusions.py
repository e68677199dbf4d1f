"""What the numbers of a trial allow to say, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from xai_lib.attribute import METHODS
from xai_lib.study.trial import Trial
from xai_lib.study.trial_numbers import (
    by_method,
    interval_of,
    low_passed,
    row_of,
    sentence,
    unfiltered,
    values_of,
)
from xai_lib.study.units import CONTROLS

if TYPE_CHECKING:
    from pandas import DataFrame

SAME_CLASS = 0.95  # pass rules of claims P2-2, P2-1, P2-3 and P3-1
SAME_WEIGHTS = 0.9
RANK_ONE = 0.99
INSIDE = 0.995
OTHER = "other_image"
_THAN = (
    ", less than with the photograph",
    ", more than with the photograph",
    "; not told from the change with the photograph",
)
UNIFORM = 0.25


def conclusions(found: Trial) -> DataFrame:
    """Return every number of a trial with its interval, its control and what it says.

    Parameters
    ----------
    found : of `trial`

    Returns
    -------
    pandas DataFrame
        A row for each test, quantity and method (or control "random", "edges"):
        ``test`` (a name in QUESTIONS), ``quantity``, ``method``, ``value`` (mean over
        images; the median of SSIM, cosines and shares), ``low`` and ``high`` (95%
        bootstrap interval over images, or grids; NaN for less than 4 images), ``n``,
        ``control``, ``told`` (a sentence; empty for the controls themselves)

    Notes
    -----
    Thresholds are those of the book's claims: SSIM 0.95 for another class and 0.9 for
    random weights, |cosine| 0.99, DiFull 0.995. A sentence needs the whole interval on
    one side; a comparison with random numbers is made image by image.

    References
    ----------
    [sixt2020]_, [muzellec2024]_, [rao2022]_

    Examples
    --------
    >>> from xai_lib.assets import load_model
    >>> from xai_lib.study import trial
    >>> net = load_model("cifar_cnn")
    >>> found = trial(net, "cifar10", ["gradient"], n=1, progress=False)
    >>> told = conclusions(found).set_index(["method", "quantity"])["told"]
    >>> told["gradient", "faithfulness"]
    'Undecided: fewer than 4 images.'
    """
    import pandas

    rows = [row for read in _READERS for row in read(found)]
    rows = [row | {"told": row["told"] * (row["method"] in METHODS)} for row in rows]
    columns = ["test", "quantity", "method", "value", "low", "high", "n"]
    return pandas.DataFrame(rows, columns=[*columns, "control", "told"])


def overview(found: Trial) -> DataFrame:
    """Return one row for each method and control: its numbers, or why there are none.

    Parameters
    ----------
    found : of `trial`

    Returns
    -------
    pandas DataFrame
        ``method``, ``seconds`` for a map, a column for each quantity of `conclusions`,
        ``note``

    Examples
    --------
    >>> from xai_lib.assets import load_model
    >>> from xai_lib.study import trial
    >>> net = load_model("cifar_cnn")
    >>> found = trial(net, "cifar10", ["gradient"], n=1, progress=False)
    >>> overview(found)["method"].tolist()
    ['gradient', 'random', 'edges']
    """
    told = conclusions(found)
    wide = told.pivot(index="method", columns="quantity", values="value")
    names = [*found.methods["method"], *CONTROLS]
    wide = wide.reindex(index=names, columns=list(dict.fromkeys(told["quantity"])))
    about = found.methods.set_index("method").reindex(names)
    wide.insert(0, "seconds", about["seconds"])
    wide["note"] = about["note"].fillna("a control: knows nothing of the network")
    return wide.rename_axis(columns=None).reset_index()


def _class(found: Trial) -> Iterator[dict]:
    table = found.tables["class"]
    yield from _alike(found, table, "class", "other_class", SAME_CLASS, "another class")


def _weights(found: Trial) -> Iterator[dict]:
    table = found.tables["weights"].merge(found.tables["class"], "left")
    for quantity, what in (
        ("top_random", "a random last layer"),
        ("all_random", "random weights throughout"),
    ):
        yield from _alike(found, table, "weights", quantity, SAME_WEIGHTS, what)


def _alike(found, table, test: str, quantity: str, same: float, what: str):
    """Yield SSIM by method: is it the same map, and less so than for two images?"""
    for name, rows in by_method(found, table, quantity):
        row, two = row_of(test, quantity, name, rows[quantity], "median"), rows[OTHER]
        known = two.notna().all()
        row["control"] = f"two photographs {two.median():.2f}" if known else "none"
        low, high = interval_of(rows[quantity] - two, "median")
        if row["low"] > same:
            row["told"] = f"Nearly the same map with {what}."
        elif row["high"] < same:
            row["told"] = f"Changes with {what}."
            if known:
                photo = sentence((low, high), *_THAN)
                row["told"] = f"Changes with {what}{photo}."
        yield row


def _convergence(found: Trial) -> Iterator[dict]:
    table = found.tables["convergence"]
    own = {name: rows["csc"].median() for name, rows in by_method(found, table, "csc")}
    for name, rows in by_method(found, table, "csc"):
        row = row_of("convergence", "csc", name, rows["csc"], "median")
        plain = f", gradient {own['gradient']:.2f}" if "gradient" in own else ""
        row["control"] = f"chance {found.about['chance']}{plain}"
        if row["low"] > RANK_ONE:
            row["told"] = "Rank one: at each position all that comes down is alike."
        elif row["high"] < RANK_ONE:
            row["told"] = "Not rank one: what lies above can reach the pixels."
        yield row


def _spectrum(found: Trial) -> Iterator[dict]:
    table, name = unfiltered(found), "high_frequency_ratio"
    noise = table[table["method"] == "random"][name].mean()
    for method, rows in by_method(found, table, name):
        row = row_of("spectrum", name, method, rows[name])
        row["control"] = f"random numbers {noise:.2f}"
        if row["high"] < noise / 2:
            row["told"] = "Smooth: less than half the share of random numbers."
        elif row["low"] >= noise / 2:
            row["told"] = "Grainy: more than half the share of random numbers."
        yield row


def _faithfulness(found: Trial) -> Iterator[dict]:
    name, whole, filtered = "faithfulness", unfiltered(found), low_passed(found)
    for quantity, table in ((name, whole), (f"{name}_filtered", filtered)):
        for row, beyond in _beyond_noise(found, table, name, quantity):
            row["told"] = sentence(
                beyond,
                "More faithful than random numbers.",
                "Less faithful than random numbers.",
                "Not told from random numbers.",
            )
            yield row
    gain = whole.assign(gain=filtered[name].values - whole[name].values)
    for row, beyond in _beyond_noise(found, gain, "gain", "gain", "+.2f"):
        row["told"] = sentence(
            beyond,
            "The filter helps this map more than it helps random numbers.",
            "The filter helps random numbers more than this map.",
            "The filter helps this map no more than random numbers, as far as seen.",
        )
        yield row


def _mu_fidelity(found: Trial) -> Iterator[dict]:
    name = "mu_fidelity"
    for row, beyond in _beyond_noise(found, unfiltered(found), name, name):
        row["told"] = sentence(
            beyond,
            "More attribution means more influence, beyond random numbers.",
            "Less so than for random numbers.",
            "Not told from random numbers.",
        )
        yield row


def _beyond_noise(found: Trial, table, column: str, quantity: str, form=".2f"):
    """Yield a row by method, and the interval of its differences to random numbers."""
    noise = values_of(table, "random", column)
    test = "mu_fidelity" if column == "mu_fidelity" else "faithfulness"
    for method, rows in by_method(found, table, column):
        row = row_of(test, quantity, method, rows[column])
        row["control"] = f"random numbers {noise.mean():{form}}"
        yield row, interval_of(values_of(table, method, column) - noise)


def _localisation(found: Trial) -> Iterator[dict]:
    table, test = found.tables["localisation"], found.about["localisation"]
    for name, rows in by_method(found, table, "share"):
        statistic = "median" if test == "di_full" else "mean"  # chance is a mean
        row = row_of(test, test, name, rows["share"], statistic, rows["grid"])
        row["control"] = f"uniform map {UNIFORM}"
        row["told"] = (_places if test == "di_full" else _points)(row, name)
        yield row


def _places(row: dict, name: str) -> str:
    if row["high"] < INSIDE:
        return f"Puts {1 - row['value']:.0%} where the output has not looked."
    if not row["low"] >= INSIDE:
        return row["told"]
    backward = name in METHODS and METHODS[name].family in ("gradient", "modified")
    must = ", as it must be for a method of backpropagation"
    return f"All in its cell{must * backward}."


def _points(row: dict, name: str) -> str:
    if math.isnan(row["low"]):
        return row["told"]
    return sentence(
        (row["low"] - UNIFORM, row["high"] - UNIFORM),
        "Points at the photograph of its class, more than a uniform map.",
        "Points away from the photograph of its class.",
        row["told"],
    )


_READERS: tuple[Callable[[Trial], Iterator[dict]], ...] = (
    _class,
    _weights,
    _convergence,
    _spectrum,
    _faithfulness,
    _mu_fidelity,
    _localisation,
)
