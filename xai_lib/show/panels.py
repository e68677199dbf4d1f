"""Small multiples: one panel per network, the same axes in all of them."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from xai_lib.show._axes import printed_names
from xai_lib.show._data import as_array, as_named, as_triple
from xai_lib.show.style import (
    SOFT,
    WIDE,
    house_style,
    line_style,
    method_colour,
    new_figure,
)

_DASHES = ["--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))]


def _blank_panels(count: int, columns: int, height: float, **shared):
    """Open a figure with a grid of panels; return it and the axes in use."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = new_figure(WIDE, height * lines + 0.9)
    grid = figure.subplots(lines, columns, squeeze=False, **shared)
    for axis in grid.flat[count:]:
        axis.axis("off")
    for axis in grid.flat[max(0, count - columns) : count]:
        axis.xaxis.set_tick_params(labelbottom=True)  # above an empty place
    return figure, list(grid.flat[:count])


def _log_axis(axis, which: str) -> None:
    getattr(axis, f"set_{which}scale")("log")
    side = getattr(axis, f"{which}axis")
    side.set_major_locator(LogLocator(numticks=5))
    side.set_minor_locator(NullLocator())


def _references(axis, draw, references, panel: str) -> list:
    """Draw grey lines by draw(value, **style); return handles of those drawn."""
    handles = []
    for (label, value), style in zip(
        (references or {}).items(), cycle(_DASHES), strict=False
    ):
        value = value.get(panel) if isinstance(value, Mapping) else value
        if value is not None:
            options = {"color": SOFT, "linestyle": style, "linewidth": 1.3}
            handles.append(draw(float(value), label=label, zorder=1, **options))
    return handles


def _legend(figure, handles, columns: int) -> None:
    unique = {handle.get_label(): handle for handle in handles}
    if unique:
        options = {"fontsize": 10, "handlelength": 2.4, "columnspacing": 1.3}
        options["ncols"] = min(columns, len(unique))
        figure.legend(handles=unique.values(), loc="outside upper center", **options)


def _outer_labels(figure, axes, xlabel: str, ylabel: str = "") -> None:
    """Label the axes once for all panels, at their middle: the legend is above them."""
    figure.supxlabel(xlabel, fontsize=11)
    figure.supylabel(ylabel, fontsize=11)
    figure.draw_without_rendering()
    boxes = [axis.get_position() for axis in axes]
    middle = min(b.y0 for b in boxes) + max(b.y1 for b in boxes)
    figure.supylabel(ylabel, fontsize=11, y=middle / 2)
    middle = min(b.x0 for b in boxes) + max(b.x1 for b in boxes)
    figure.supxlabel(xlabel, fontsize=11, x=middle / 2)


@house_style
def dot_panels(
    values,
    *,
    panels,
    xlabel: str,
    xlim: tuple[float, float],
    log: bool = False,
    references=None,
    labels=None,
    columns: int = 3,
) -> Figure:
    """Draw a dot and its interval per method, in one panel per network.

    Parameters
    ----------
    values : dict of method to dict of panel to (value, low, high)
        A panel may be missing.
    panels : list of str
        In the order drawn; the titles.
    xlabel : str
        With unit; say there what the interval is.
    xlim : (low, high)
        What lies outside is drawn as an arrow head at the edge.
    log : bool
        Logarithmic x axis.
    references : dict of label to a number or dict of panel to number, optional
        Vertical lines, for instance chance, explained once above.
    labels : dict of method to str, optional
    columns : int
        Panels beside each other.

    Returns
    -------
    Figure

    Examples
    --------
    >>> values = {"gradient": {"net a": (0.5, 0.4, 0.6), "net b": (0.1, 0.1, 0.2)}}
    >>> options = {"xlabel": "1 - CSC", "xlim": (1e-8, 1), "log": True}
    >>> figure = dot_panels(values, panels=["net a", "net b"], **options)
    >>> [axis.get_title() for axis in figure.axes]
    ['net a', 'net b']
    """
    values, panels = as_named(values, "values"), list(panels)
    low, high = xlim
    if not low < high or (log and low <= 0):
        raise ValueError(f"xlim must rise, above 0 on a log axis, got {xlim}")
    names = list(values)
    height = 0.215 * len(names) + 0.75
    figure, axes = _blank_panels(len(panels), columns, height, sharex=True, sharey=True)
    handles = []
    for axis, panel in zip(axes, panels, strict=True):
        if log:
            _log_axis(axis, "x")
        axis.set(title=panel, xlim=xlim)
        handles += _references(axis, axis.axvline, references, panel)
        for row, name in enumerate(names):
            if panel in values[name]:
                triple = as_triple(values[name][panel], f"{name}, {panel}")
                _dot(axis, row, triple, method_colour(name, row), xlim)
    _method_rows(axes, names, labels)
    _legend(figure, handles, 3)
    _outer_labels(figure, axes, xlabel)
    return figure


def _method_rows(axes, names, labels) -> None:
    """Give panels that share a y axis one row per method, every second one shaded."""
    printed = printed_names(labels, names)
    axes[0].set_yticks(range(len(names)), [printed[name] for name in names])
    for axis in axes:
        axis.set_ylim(len(names) - 0.5, -0.5)
        for row in range(1, len(names), 2):
            axis.axhspan(row - 0.5, row + 0.5, color="#f4f5f7", zorder=0)
        axis.grid(True, axis="x")
        axis.tick_params(axis="both", labelsize=9.5)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)


def _dot(axis, row: int, triple, colour: str, xlim) -> None:
    value, *ends = triple
    ends = np.clip(ends, *xlim)
    axis.plot(ends, [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
    marker = "<" if value < xlim[0] else ">" if value > xlim[1] else "o"
    style = {"markeredgecolor": "white", "markeredgewidth": 0.7, "markersize": 6.5}
    value = np.clip(value, *xlim)
    axis.plot([value], [row], marker, color=colour, **style, zorder=3, clip_on=False)


@house_style
def curve_panels(
    curves,
    *,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float],
    log: bool = False,
    references=None,
    labels=None,
    ticks=None,
    columns: int = 3,
    height: float = 2.1,
) -> Figure:
    """Draw named curves in one panel per network, named once above.

    Parameters
    ----------
    curves : dict of panel to dict of name to (x, y) or (x, y, low, high), each (K,)
        Each curve has its own x; low and high are shaded.
    xlabel, ylabel : str
        With units.
    ylim : (low, high)
        The same in all panels; curves are clipped to it.
    log : bool
        Logarithmic y axis.
    references : dict of label to a number or dict of panel to number, optional
        Horizontal lines.
    labels : dict of name to str, optional
    ticks : list of str, optional
        Names of the places 0, 1, ... on the x axis.
    columns : int
        Panels beside each other.
    height : float
        Of a panel, in inches.

    Returns
    -------
    Figure

    Examples
    --------
    >>> curves = {"net": {"gradient": ([0, 1], [0.9, 0.5])}}
    >>> figure = curve_panels(curves, xlabel="layers", ylabel="1 - CSC", ylim=(0, 1))
    >>> figure.axes[0].get_title()
    'net'
    """
    curves = as_named(curves, "curves")
    names = list(dict.fromkeys(name for one in curves.values() for name in one))
    figure, axes = _blank_panels(len(curves), columns, height, sharey=True)
    printed, handles, grey = printed_names(labels, names), [], []
    for axis, (panel, one) in zip(axes, curves.items(), strict=True):
        if log:
            _log_axis(axis, "y")
        axis.set(title=panel, ylim=ylim)
        axis.grid(True)
        if ticks is not None:
            axis.set_xticks(range(len(ticks)), ticks)
        grey += _references(axis, axis.axhline, references, panel)
        for name, rows in one.items():
            x, y, *band = (as_array(row, f"{panel}, {name}", 1) for row in rows)
            colour = method_colour(name, names.index(name))
            style = {"color": colour, "label": printed[name], "markersize": 3.5}
            style |= {"linestyle": line_style(name), "marker": "o"}
            handles += axis.plot(x, np.clip(y, *ylim), **style)
            if band:
                low, high = (np.clip(edge, *ylim) for edge in band)
                axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    _legend(figure, handles + grey, 4)
    _outer_labels(figure, axes, xlabel, ylabel)
    return figure
