"""Box plots by method: how the scores of many maps are spread."""

import numpy as np
from matplotlib.figure import Figure

from xai_lib.show._data import as_array, as_named
from xai_lib.show.panels import (
    _blank_panels,
    _legend,
    _method_rows,
    _outer_labels,
    _references,
)
from xai_lib.show.style import INK, house_style, method_colour


@house_style
def box_panels(
    values,
    *,
    panels,
    xlabel: str,
    xlim: tuple[float, float],
    references=None,
    labels=None,
    columns: int = 3,
) -> Figure:
    """Draw one box per method in each panel: quartiles, median, whiskers.

    Parameters
    ----------
    values : dict of method to dict of panel to scores (N,)
        A panel may be missing; methods are drawn from top to bottom.
    panels : list of str
        In the order drawn; the titles.
    xlabel : str
        With unit.
    xlim : (low, high)
    references : dict of label to a number or dict of panel to number, optional
        Vertical lines, for instance what a uniform map scores.
    labels : dict of method to str, optional
    columns : int
        Panels beside each other.

    Returns
    -------
    Figure

    Notes
    -----
    Whiskers reach the last score within 1.5 interquartile ranges of the box; what lies
    further out is not drawn, as in [rao2022]_.

    Examples
    --------
    >>> values = {"gradient": {"net": [0.1, 0.2, 0.3]}}
    >>> figure = box_panels(values, panels=["net"], xlabel="score", xlim=(0, 1))
    >>> figure.axes[0].get_title()
    'net'
    """
    values, panels = as_named(values, "values"), list(panels)
    names = list(values)
    height = 0.2 * len(names) + 0.7
    figure, axes = _blank_panels(len(panels), columns, height, sharex=True, sharey=True)
    handles = []
    for axis, panel in zip(axes, panels, strict=True):
        axis.set(title=panel, xlim=xlim)
        handles += _references(axis, axis.axvline, references, panel)
        for row, name in enumerate(names):
            if panel in values[name]:
                scores = as_array(values[name][panel], f"{name}, {panel}", 1)
                _box(axis, row, scores, method_colour(name, row))
    _method_rows(axes, names, labels)
    _legend(figure, handles, 3)
    _outer_labels(figure, axes, xlabel)
    return figure


def _box(axis, row: int, scores: np.ndarray, colour: str) -> None:
    if not len(scores):
        raise ValueError("a box needs scores, got none")
    drawn = axis.boxplot(
        scores,
        positions=[row],
        widths=0.62,
        orientation="horizontal",
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.55},
        whiskerprops={"color": colour, "linewidth": 1.1},
        capprops={"color": colour, "linewidth": 1.1},
        medianprops={"color": INK, "linewidth": 2.0},
    )
    for part in drawn["medians"]:
        part.set_solid_capstyle("butt")
