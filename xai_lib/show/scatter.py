"""Two numbers per method against each other, in one panel per network."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from xai_lib.show._axes import printed_names
from xai_lib.show._data import as_array, as_named
from xai_lib.show.panels import _blank_panels, _legend, _outer_labels, _references
from xai_lib.show.style import INK, house_style, method_colour


@house_style
def scatter_panels(
    points,
    *,
    xlabel: str,
    ylabel: str,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    hollow=(),
    lines=None,
    references=None,
    labels=None,
    texts=None,
    columns: int = 3,
    height: float = 2.3,
) -> Figure:
    """Draw points of named colours in one panel per network.

    Parameters
    ----------
    points : dict of panel to dict of name to (x, y), each a number or (K,)
    xlabel, ylabel : str
        With units.
    xlim, ylim : (low, high)
        The same in all panels; what lies outside is an arrow head at the edge.
    hollow : collection of names
        Drawn as rings: a second code beside the colour.
    lines : dict of panel to (start, slope), optional
        A straight line per panel, for instance a fit.
    references : dict of label to a number or dict of panel to number, optional
        Vertical lines.
    labels : dict of name to str, optional
    texts : dict of panel to dict of str to (x, y), optional
        Words beside a point, towards the middle of its panel.
    columns : int
        Panels beside each other.
    height : float
        Of a panel, in inches.

    Returns
    -------
    Figure

    Examples
    --------
    >>> options = {"xlabel": "a", "ylabel": "b", "xlim": (0, 1), "ylim": (0, 1)}
    >>> figure = scatter_panels({"net": {"gradient": (0.2, 0.5)}}, **options)
    >>> figure.axes[0].get_title()
    'net'
    """
    points = as_named(points, "points")
    names = list(dict.fromkeys(name for one in points.values() for name in one))
    figure, axes = _blank_panels(len(points), columns, height, sharex=True, sharey=True)
    printed, handles, grey = printed_names(labels, names), [], []
    for axis, (panel, one) in zip(axes, points.items(), strict=True):
        axis.set(title=panel, xlim=xlim, ylim=ylim)
        axis.grid(True)
        grey += _references(axis, axis.axvline, references, panel)
        if lines is not None and panel in lines:
            start, slope = lines[panel]
            axis.axline((0, start), slope=slope, color="0.55", linewidth=1, zorder=1)
        for name, pair in one.items():
            colour = method_colour(name, names.index(name))
            style = _ring(colour) if name in hollow else _dot(colour)
            x, y = (np.atleast_1d(as_array(v, f"{panel}, {name}")) for v in pair)
            style |= {"label": printed[name], "linestyle": "none", "clip_on": False}
            away = _outside(x, y, xlim, ylim)
            inside = ~np.any(list(away.values()), 0)
            handles += axis.plot(x[inside], y[inside], **style)
            x, y = np.clip(x, *xlim), np.clip(y, *ylim)
            for head, out in away.items():
                if out.any():
                    axis.plot(x[out], y[out], **style | {"marker": head, "label": None})
        for text, (x, y) in (texts or {}).get(panel, {}).items():
            _beside(axis, text, np.clip(x, *xlim), np.clip(y, *ylim))
    _legend(figure, handles + grey, 4)
    _outer_labels(figure, axes, xlabel, ylabel)
    return figure


def _outside(x, y, xlim, ylim) -> Mapping:
    """Return by arrow head which points (K,) lie beyond that side, each once."""
    away = {"<": x < xlim[0], ">": x > xlim[1]}
    beside = away["<"] | away[">"]
    return away | {"v": (y < ylim[0]) & ~beside, "^": (y > ylim[1]) & ~beside}


def _dot(colour: str) -> Mapping:
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    return {"marker": "o", "color": colour, "markersize": 6.5, **edge}


def _ring(colour: str) -> Mapping:
    face = {"markerfacecolor": "none", "markeredgewidth": 1.6}
    return {"marker": "o", "markeredgecolor": colour, "markersize": 6, **face}


def _beside(axis, text: str, x: float, y: float) -> None:
    right = x <= np.mean(axis.get_xlim())
    axis.annotate(
        text,
        (x, y),
        (6 if right else -6, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=9,
        color=INK,
    )
