"""What the plots share: labels at the ends of lines, rulers, printed names."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from xai_lib.show.style import (
    ABSOLUTE,
    FAMILY_DASHES,
    FAMILY_LABELS,
    INK,
    SIGNED,
    SOFT,
    families,
    method_label,
    signed_norm,
)

_GAP = 13.5  # points between two labels, one line of letters of 10 points
_SIZE = 10


def spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Move positions apart by at least gap, as little as possible, within [low, high].

    Parameters
    ----------
    wanted : (N,)
    gap, low, high : float

    Returns
    -------
    (N,), in the order given

    Examples
    --------
    >>> spread(np.array([1.0, 1.0]), 2.0, 0.0, 10.0)
    array([0., 2.])
    """
    order = np.argsort(wanted, kind="stable")
    shift = gap * np.arange(len(wanted))
    blocks: list[list[float]] = []  # pooled runs: [mean of wanted - shift, size]
    for value in wanted[order] - shift:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, size = blocks.pop()
            mean, count = blocks[-1]
            blocks[-1] = [(mean * count + value * size) / (count + size), count + size]
    pooled = np.concatenate([[mean] * int(size) for mean, size in blocks])
    room = max(high - shift[-1], low)
    out = np.empty(len(wanted))
    out[order] = np.clip(pooled, low, room) + shift
    return out


def _last(x: np.ndarray, y: np.ndarray, limits) -> tuple[float, float] | None:
    """Return the last finite point, moved into the limits of the y axis."""
    good = np.flatnonzero(np.isfinite(y))
    return (x[good[-1]], np.clip(y[good[-1]], *sorted(limits))) if len(good) else None


def label_ends(axis, ends: list) -> None:
    """Write each curve's name to the right of its end, joined by a thin line.

    ``ends`` holds (label, x, y, colour); curves without a finite value get no label.
    """
    axis.autoscale_view()
    limits = axis.get_ylim()
    points = [(label, _last(x, y, limits), c) for label, x, y, c in ends if label]
    points = [entry for entry in points if entry[1] is not None]
    if not points:
        return
    height = axis.figure.get_figheight() * 72 * 0.8  # points, near enough before layout
    to_axes = axis.transData + axis.transAxes.inverted()
    wanted = np.array([to_axes.transform(point)[1] for _, point, _ in points])
    placed = spread(wanted, _GAP / height, 0.0, 1.0)
    for (label, point, colour), y in zip(points, placed, strict=True):
        axis.annotate(
            label,
            point,
            (1.045, y),
            textcoords="axes fraction",
            va="center",
            fontsize=_SIZE,
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def printed_names(labels, names) -> dict[str, str]:
    """Return what is printed for each name: the caller's word, else the method's."""
    return {name: (labels or {}).get(name, method_label(name)) for name in names}


def rulers(axis, rulers) -> None:
    """Draw named vertical lines, the names above the axes."""
    for label, x in (rulers or {}).items():
        axis.axvline(float(x), color=SOFT, linewidth=1.2, linestyle="--", zorder=1)
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


def log_scales(axis, log: str) -> None:
    """Put the axes named in log on a log scale, with few and round ticks."""
    if "x" in log:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.xaxis.set_minor_locator(NullLocator())
    if "y" in log:
        axis.set_yscale("log")
        axis.yaxis.set_minor_locator(NullLocator())


def family_key(axis, names) -> None:
    """Say once which dashes are which family, if there is more than one."""
    present = families(names)
    if len(present) < 2:
        return
    handles = [
        axis.plot([], [], color=INK, linestyle=FAMILY_DASHES[f], label=FAMILY_LABELS[f])
        for f in present
    ]
    axis.figure.legend(
        handles=[handle for (handle,) in handles],
        loc="outside upper center",
        ncols=len(present),
        fontsize=10,
        handlelength=2.6,
        columnspacing=1.4,
    )


def scale_bar(figure, signed: bool, label: str) -> None:
    """Draw the colour scale below the pictures, the same size in every figure."""
    cmap, norm = (SIGNED, signed_norm()) if signed else (ABSOLUTE, Normalize(0, 1))
    width, height = figure.get_size_inches()
    bar = figure.colorbar(
        ScalarMappable(norm, cmap),
        ax=figure.axes,
        orientation="horizontal",
        shrink=min(1, 3.2 / width),
        aspect=min(width, 3.2) / 0.09,
        pad=0.06 / height,
    )
    bar.set_label(label, fontsize=10)
    bar.set_ticks([-1, 0, 1] if signed else [0, 1])
    bar.ax.tick_params(labelsize=10, length=2, pad=2)
    bar.outline.set_visible(False)
