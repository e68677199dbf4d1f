"""A drawing of how GridPG, DiFull and DiPart are wired."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from xai_lib.show._data import as_images
from xai_lib.show.grid_pictures import OWN
from xai_lib.show.style import INK, SOFT, WIDE, house_style, new_figure

_TITLES = {"grid_pg": "GridPG", "di_full": "DiFull", "di_part": "DiPart"}
_SAYS = {
    "grid_pg": "one network sees the grid,\none head sees all features",
    "di_full": "each cell alone through the network,\nhead i sees its features",
    "di_part": "one network sees the grid,\nhead i sees the features of cell i",
}
_FEATURES = ["#dfe5ee", "#e9e2d8", "#e2ebe0", "#ece0ea"]


@house_style
def wiring(grid, classes=("A", "B", "C", "D")) -> Figure:
    """Draw the three settings for a grid of 2 x 2 photographs.

    Parameters
    ----------
    grid : Tensor, shape (3, 2*H, 2*W), in [0, 1]
    classes : four names, of the cells from top left to bottom right
        In DiFull and DiPart the last one is drawn as the first: the class that is
        repeated.

    Returns
    -------
    Figure

    Examples
    --------
    >>> figure = wiring(torch.rand(3, 8, 8))
    >>> [axis.get_title() for axis in figure.axes]
    ['GridPG', 'DiFull', 'DiPart']
    """
    grid = as_images(torch.as_tensor(grid)[None])[0].permute(1, 2, 0)
    grid = grid.expand(-1, -1, 3).numpy()
    figure = new_figure(WIDE, 4.5)
    for axis, setting in zip(figure.subplots(1, 3), _TITLES, strict=True):
        axis.set(xlim=(0, 10), ylim=(0, 17.9), aspect="equal")
        axis.axis("off")
        axis.set_title(_TITLES[setting], fontsize=12, y=0.985)
        _photographs(axis, grid, apart=setting == "di_full")
        _networks(axis, setting)
        _features(axis, apart=setting == "di_full")
        _heads(axis, setting, classes)
        axis.text(5, 0.9, _SAYS[setting], ha="center", va="center", fontsize=8.6)
    return figure


def _corners(apart: bool, left: float, bottom: float, side: float):
    """Yield the lower left corners of four squares, row by row from the top."""
    gap = 0.35 if apart else 0.0
    for row in (0, 1):
        for column in (0, 1):
            yield left + column * (side + gap), bottom + (1 - row) * (side + gap)


def _photographs(axis, grid, apart: bool) -> None:
    H, W = grid.shape[0] // 2, grid.shape[1] // 2
    for k, (x, y) in enumerate(_corners(apart, 3.2 - 0.17 * apart, 13.2, 1.8)):
        part = grid[k // 2 * H : k // 2 * H + H, k % 2 * W : k % 2 * W + W]
        axis.imshow(part, extent=(x, x + 1.8, y, y + 1.8), zorder=2)
        if apart:
            axis.add_patch(Rectangle((x, y), 1.8, 1.8, fill=False, ec=INK, lw=0.8))
    axis.set(xlim=(0, 10), ylim=(0, 17.9))


def _networks(axis, setting: str) -> None:
    boxes = (
        [(0.3 + 2.4 * k, 2.1) for k in range(4)] if setting == "di_full" else [(2, 6)]
    )
    for left, width in boxes:
        style = {"boxstyle": "round,pad=0.08", "fc": "#f4f5f7", "ec": SOFT, "lw": 0.9}
        axis.add_patch(FancyBboxPatch((left, 10.6), width, 1.2, **style))
        middle = left + width / 2
        axis.text(middle, 11.2, "network", ha="center", va="center", fontsize=7.4)
        _arrow(axis, (5 + 0.33 * (middle - 5), 13.1), (middle, 11.95))
        _arrow(axis, (middle, 10.5), (5 + 0.42 * (middle - 5), 9.5))


def _features(axis, apart: bool) -> None:
    side = 1.5
    for k, (x, y) in enumerate(_corners(apart, 3.5 - 0.17 * apart, 6.2, side)):
        face = _FEATURES[k] if apart else _FEATURES[0]
        axis.add_patch(Rectangle((x, y), side, side, fc=face, ec=INK, lw=0.8, zorder=1))
        for step in (1, 2):
            thin = {"color": "white", "lw": 0.8, "zorder": 2}
            ends = 0.04, side - 0.04
            axis.plot([x + step * side / 3] * 2, [y + e for e in ends], **thin)
            axis.plot([x + e for e in ends], [y + step * side / 3] * 2, **thin)
    axis.text(7.1, 7.7, "features", fontsize=8, va="center", color=SOFT)


def _heads(axis, setting: str, classes) -> None:
    if setting == "grid_pg":
        axis.add_patch(Rectangle((3.4, 6.1), 3.2, 3.2, fill=False, ec=OWN, lw=1.8))
        _head(axis, 5, "head", " ".join(f"$S_{{{c}}}$" for c in classes), (5, 6.0))
        return
    gap = 0.35 * (setting == "di_full")
    for k, centre in ((0, 2.6), (3, 7.4)):
        corner = list(_corners(setting == "di_full", 3.5 - gap / 2, 6.2, 1.5))[k]
        frame = {"fill": False, "ec": OWN, "lw": 1.8, "zorder": 4}
        axis.add_patch(Rectangle(corner, 1.5, 1.5, **frame))
        start = (corner[0] + (0.2 if k == 0 else 1.3), corner[1] - 0.05)
        name = f"head {1 if k == 0 else 4}"
        _head(axis, centre, name, f"$S_{{{classes[0]}}}$", start)


def _head(axis, centre: float, name: str, logits: str, start) -> None:
    style = {"boxstyle": "round,pad=0.08", "fc": "#eef6f0", "ec": OWN, "lw": 1.0}
    axis.add_patch(FancyBboxPatch((centre - 1.1, 3.9), 2.2, 0.9, **style))
    axis.text(centre, 4.35, name, ha="center", va="center", fontsize=8)
    _arrow(axis, start, (centre, 5.0))
    axis.text(centre, 2.9, logits, ha="center", va="center", fontsize=9.5)


def _arrow(axis, start, end) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 7, "color": SOFT, "lw": 0.9}
    axis.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))
