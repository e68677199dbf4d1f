"""Dots and their intervals by method, for one number per method and model."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from xai_lib.show._axes import printed_names, rulers
from xai_lib.show._data import as_named, as_triple
from xai_lib.show.style import INK, WIDTH, house_style, method_colour, new_figure

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
    named = reference if isinstance(reference, Mapping) else {"": reference}
    rulers(axis, {} if reference is None else named)
    steps = (np.arange(len(groups)) - (len(groups) - 1) / 2) * 0.68 / len(groups)
    for row, name in enumerate(names):
        colour = method_colour(name, row)
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="#f4f5f7", zorder=0)
        for group, step, marker in zip(groups, steps, cycle(_MARKERS), strict=False):
            entry = values[name] if group is None else values[name].get(group)
            if entry is not None:
                where = name if group is None else f"{name}, {group}"
                _interval(axis, row + step, as_triple(entry, where), colour, marker)
    axis.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    printed = printed_names(labels, names)
    axis.set_yticks(range(len(names)), [printed[name] for name in names])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(True, axis="x")
    _group_legend(axis, groups)
    return figure


def _interval(axis, y: float, triple, colour: str, marker: str) -> None:
    value, low, high = triple
    axis.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
    style = {"markeredgecolor": "white", "markeredgewidth": 0.8, "markersize": 7}
    axis.plot([value], [y], marker, color=colour, **style, zorder=3)


def _group_legend(axis, groups) -> None:
    if groups[0] is None:
        return
    handles = [
        axis.plot([], [], marker, color=INK, label=group, linestyle="none")[0]
        for group, marker in zip(groups, cycle(_MARKERS), strict=False)
    ]
    axis.figure.legend(handles=handles, loc="outside upper center", ncols=len(groups))
