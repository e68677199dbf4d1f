"""Curves and intervals by method: one colour per method, dashes by family."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, ScalarFormatter

from xai_lib.show._data import as_array, as_bands, as_curves, as_named, as_triple
from xai_lib.show._labels import label_ends
from xai_lib.show.style import (
    INK,
    SOFT,
    WIDTH,
    house_style,
    line_style,
    method_colour,
    method_label,
    new_figure,
    readable,
)


def _labels(labels, names) -> dict[str, str]:
    return {name: (labels or {}).get(name, method_label(name)) for name in names}


def _marks(axis, marks) -> None:
    """Draw named vertical rulers."""
    for label, x in (marks or {}).items():
        axis.axvline(x, color=SOFT, linewidth=1, linestyle=(0, (2, 2)), zorder=0.5)
        axis.annotate(
            label,
            (x, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=10,
            color=SOFT,
        )


def _references(axis, x, references) -> list:
    """Draw grey reference lines; a number is drawn across."""
    ends = []
    dashes = ["--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))]
    for i, (label, values) in enumerate((references or {}).items()):
        values = as_array(values, f"references[{label!r}]")
        values = np.full(len(x), values) if values.ndim == 0 else values
        values = as_curves({label: values}, len(x), "references")[label]
        style = dashes[i % len(dashes)]
        axis.plot(x, values, color=SOFT, linestyle=style, linewidth=1.4, zorder=1.5)
        ends.append((label, x, values, SOFT))
    return ends


def _curves(axis, x, curves, bands, labels, references) -> None:
    ends = _references(axis, x, references)
    for i, (name, values) in enumerate(curves.items()):
        colour = method_colour(name, i)
        if name in bands:
            axis.fill_between(x, *bands[name], color=colour, alpha=0.2, linewidth=0)
        axis.plot(x, values, color=colour, linestyle=line_style(name))
        ends.append((labels[name], x, values, readable(colour)))
    label_ends(axis, ends)


@house_style
def curve_plot(
    x,
    curves,
    *,
    bands=None,
    xlabel: str,
    ylabel: str,
    references=None,
    labels=None,
    marks=None,
    log: str = "",
) -> Figure:
    """Draw named curves over one x axis, each labelled at its end.

    Parameters
    ----------
    x : (K,)
    curves : dict of name to (K,)
        A name in ``METHODS`` gets its colour, its dashes (by family) and its label.
    bands : dict of name to (low, high), each (K,), optional
        Intervals, shaded.
    xlabel, ylabel : str
        With units.
    references : dict of label to a number or (K,), optional
        Grey dashed lines, for instance a control.
    labels : dict of name to str, optional
        Printed names, where they differ from the methods' own.
    marks : dict of label to x, optional
        Vertical rulers.
    log : str
        The axes on a log scale: "", "x", "y" or "xy".

    Returns
    -------
    Figure, not known to pyplot: let it be the last expression of a cell.

    Examples
    --------
    >>> figure = curve_plot([1, 2], {"a": [0.1, 0.3]}, xlabel="cutoff", ylabel="r")
    >>> figure.axes[0].get_xlabel()
    'cutoff'
    """
    x = as_array(x, "x", 1)
    curves = as_curves(as_named(curves, "curves"), len(x), "curves")
    bands = as_bands(bands, curves, len(x))
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}')
    figure = new_figure(WIDTH, 4.4)
    axis = figure.subplots()
    axis.grid(True, zorder=0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(LogLocator(subs=()))
    if "y" in log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(LogFormatterSciNotation())
    axis.set_xlim(x.min(), x.max())
    _marks(axis, marks)
    _curves(axis, x, curves, bands, _labels(labels, curves), references)
    return figure


def spectra_plot(
    frequency,
    power_by_method,
    *,
    bands=None,
    references=None,
    labels=None,
    marks=None,
    xlabel: str = "spatial frequency (cycles per image)",
    ylabel: str = "power (share of the total)",
) -> Figure:
    """Draw radial power spectra on log-log axes.

    Parameters
    ----------
    frequency : (K,), cycles per image
        Zero has no place on a log axis and is left out.
    power_by_method : dict of name to (K,)
        For instance the mean over images.
    bands, references, labels, marks, xlabel, ylabel
        As in `curve_plot`.

    Returns
    -------
    Figure

    Examples
    --------
    >>> figure = spectra_plot([0, 1, 2], {"a": [1.0, 0.5, 0.1]})
    >>> figure.axes[0].get_yscale()
    'log'
    """
    frequency = as_array(frequency, "frequency", 1)
    keep = frequency > 0
    if not keep.any():
        raise ValueError("frequency must reach above 0, got none that does")

    def cut(values, name):
        values = as_array(values, name)
        return values if values.ndim == 0 else _cut(values, keep, name)

    power = as_named(power_by_method, "power_by_method")
    return curve_plot(
        frequency[keep],
        {k: cut(v, f"power_by_method[{k!r}]") for k, v in power.items()},
        bands={k: [cut(s, "bands") for s in v] for k, v in (bands or {}).items()},
        references={k: cut(v, "references") for k, v in (references or {}).items()},
        labels=labels,
        marks=marks,
        xlabel=xlabel,
        ylabel=ylabel,
        log="xy",
    )


def _cut(values: np.ndarray, keep: np.ndarray, name: str) -> np.ndarray:
    """Keep a curve where the frequency is positive; powers of zero become gaps."""
    if values.shape != keep.shape:
        raise ValueError(f"{name} must have shape {keep.shape}, got {values.shape}")
    return np.where(values > 0, values, np.nan)[keep]


_MARKERS = "osD^vP"


@house_style
def interval_plot(
    values, *, groups=None, xlabel: str, reference=None, labels=None
) -> Figure:
    """Draw one line per method: a dot and its interval, a dot per group.

    Parameters
    ----------
    values : dict of method to (value, low, high)
        Or, with groups, dict of method to dict of group to (value, low, high); a group
        may be missing.
    groups : list of str, optional
        For instance the models, told apart by the marker.
    xlabel : str
        With unit; say there what the interval is.
    reference : float or dict of label to float, optional
        Vertical lines, for instance white noise.
    labels : dict of method to str, optional

    Returns
    -------
    Figure

    Examples
    --------
    >>> figure = interval_plot({"a": (1.0, 0.8, 1.3)}, xlabel="slope")
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    'a'
    """
    values = as_named(values, "values")
    names = list(values)
    groups = list(groups) if groups else [None]
    height = max(0.34, 0.16 * len(groups)) * len(names) + 1.1
    figure = new_figure(WIDTH, height + (0.3 if groups[0] is not None else 0))
    axis = figure.subplots()
    _rulers(axis, reference)
    steps = (np.arange(len(groups)) - (len(groups) - 1) / 2) * 0.68 / len(groups)
    for row, name in enumerate(names):
        colour = method_colour(name, row)
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="#f4f5f7", zorder=0)
        for group, step, marker in zip(groups, steps, _MARKERS, strict=False):
            entry = values[name] if group is None else values[name].get(group)
            if entry is not None:
                where = name if group is None else f"{name}, {group}"
                _interval(axis, row + step, as_triple(entry, where), colour, marker)
    axis.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    printed = _labels(labels, names)
    axis.set_yticks(range(len(names)), [printed[name] for name in names])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(True, axis="x")
    _group_legend(axis, groups)
    return figure


def _interval(axis, y: float, triple, colour: str, marker: str) -> None:
    value, low, high = triple
    axis.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
    style = {"markeredgecolor": "white", "markeredgewidth": 0.8, "markersize": 7.5}
    axis.plot([value], [y], marker, color=colour, **style, zorder=3)


def _rulers(axis, reference) -> None:
    """Draw named vertical references, the names above the axes."""
    if reference is not None and not isinstance(reference, dict):
        reference = {"": reference}
    for label, x in (reference or {}).items():
        axis.axvline(float(x), color=SOFT, linewidth=1.3, linestyle="--", zorder=1)
        axis.annotate(
            label,
            (float(x), 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10,
            color=SOFT,
        )


def _group_legend(axis, groups) -> None:
    if groups[0] is None:
        return
    handles = [
        axis.plot([], [], marker, color=INK, label=group, linestyle="none")[0]
        for group, marker in zip(groups, _MARKERS, strict=False)
    ]
    axis.figure.legend(handles=handles, loc="outside upper center", ncols=len(groups))
