"""Grids of photographs, their maps, and the bins of AggAtt."""

from collections.abc import Sequence

import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xai_lib._check import check_maps
from xai_lib.attribute.reduce import percentile_scale
from xai_lib.show._axes import scale_bar
from xai_lib.show._data import as_images
from xai_lib.show.maps import _picture
from xai_lib.show.style import (
    ABSOLUTE,
    SIGNED,
    WIDE,
    house_style,
    method_label,
    new_figure,
    signed_norm,
)

OWN = "#1b7837"  # the frame of the cell that is explained


def _cells(axis, n: int, size: tuple[int, int], head: int | None) -> None:
    """Draw the borders of cells, and a frame around the one that is explained."""
    H, W = size
    for k in range(1, n):
        axis.axhline(k * H / n, color="#6b7076", linewidth=0.7)
        axis.axvline(k * W / n, color="#6b7076", linewidth=0.7)
    if head is not None:
        corner = (head % n * W / n, head // n * H / n)
        frame = {"fill": False, "edgecolor": OWN, "linewidth": 2.4, "zorder": 5}
        axis.add_patch(Rectangle(corner, W / n, H / n, clip_on=False, **frame))


@house_style
def show_grid(
    grid,
    maps,
    *,
    n: int,
    head: int | Sequence[int],
    titles=None,
    notes=None,
    title: str = "",
    columns: int = 5,
) -> Figure:
    """Draw a grid of photographs and the maps of one or more heads.

    Parameters
    ----------
    grid : Tensor, shape (3, n*H, n*W), in [0, 1]
    maps : dict of name to Tensor (h, w), signed
        A coarser map is drawn in blocks over the same area.
    n : int
        Cells per side.
    head : int, or one per map
        The explained cell, which gets a frame.
    titles : list of str, optional
        By default the methods' printed names.
    notes : list of str, optional
        Below each map, for instance its score.
    title : str
        Above the grid of photographs.
    columns : int
        Maps beside each other.

    Returns
    -------
    Figure

    Examples
    --------
    >>> grid = torch.rand(3, 8, 8)
    >>> figure = show_grid(grid, {"noise": torch.randn(8, 8)}, n=2, head=0)
    >>> len(figure.axes)  # photographs, map, colour bar
    3
    """
    grid = as_images(torch.as_tensor(grid)[None])[0]
    names = list(maps)
    heads = [head] * len(names) if isinstance(head, int) else list(head)
    titles = [method_label(k) for k in names] if titles is None else list(titles)
    notes = [""] * len(names) if notes is None else list(notes)
    if not len(heads) == len(titles) == len(notes) == len(names):
        raise ValueError(f"head, titles and notes must be {len(names)}, one per map")
    across = min(columns, len(names))
    lines = -(-len(names) // across)
    cell = min(WIDE / (across + 1), 2.2)
    figure = new_figure(cell * (across + 1), (cell + 0.46) * lines + 0.6)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0, wspace=0)
    axes = figure.subplots(lines, across + 1, squeeze=False)
    size = tuple(grid.shape[1:])
    _picture(axes[0, 0], grid.permute(1, 2, 0).expand(-1, -1, 3).numpy())
    axes[0, 0].set_title(title, fontsize=10, pad=4)
    _cells(axes[0, 0], n, size, heads[0] if len(set(heads)) == 1 else None)
    for axis in [*axes[1:, 0], *axes[:, 1:].flat[len(names) :]]:
        axis.axis("off")
    for k, axis in enumerate(axes[:, 1:].flat[: len(names)]):
        one = check_maps(torch.as_tensor(maps[names[k]]).detach().float()[None])
        scaled = percentile_scale(one)[0].numpy()
        extent = (0, size[1], size[0], 0)
        _picture(axis, scaled, cmap=SIGNED, norm=signed_norm(), extent=extent)
        _cells(axis, n, size, heads[k])
        axis.set_title(titles[k], fontsize=10, pad=4)
        axis.set_xlabel(notes[k], fontsize=10, labelpad=3)
    scale_bar(figure, True, "attribution / 99.5th percentile of |map|")
    return figure


@house_style
def agg_att_figure(found, grids, maps, *, n: int, head: int = 0, bins=None) -> Figure:
    """Draw AggAtt: the mean map of every bin, above its median example.

    Parameters
    ----------
    found : AggAtt
        As `xai_lib.evaluate.agg_att` returns it.
    grids : Tensor, shape (N, 3, n*H, n*W), in [0, 1]
        The grids of all maps.
    maps : Tensor, shape (N, h, w)
        The maps that were binned.
    n, head : int
        Cells per side; the explained cell.
    bins : sequence of (from, to), optional
        Percentiles, for the titles.

    Returns
    -------
    Figure: in the top row the mean maps in one scale, in the others the median grid of
    each bin and its own map in the same scale.

    Examples
    --------
    >>> from xai_lib.evaluate import agg_att
    >>> maps = torch.rand(100, 8, 8)
    >>> figure = agg_att_figure(agg_att(maps, 2), torch.rand(100, 3, 8, 8), maps, n=2)
    >>> len(figure.axes)  # three rows of six, and the colour bar
    19
    """
    count, size = len(found.mean), tuple(torch.as_tensor(grids).shape[2:])
    bins = list(bins or [(0, 2), (2, 5), (5, 50), (50, 95), (95, 98), (98, 100)])
    if len(bins) != count:
        raise ValueError(f"bins must hold {count} pairs, got {len(bins)}")
    scale, cell = found.scale or 1.0, WIDE / (count + 0.3)
    figure = new_figure(WIDE, 3 * cell + 1.15)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0, wspace=0)
    axes = figure.subplots(3, count, squeeze=False)
    shown = {
        "cmap": ABSOLUTE,
        "norm": Normalize(0, 1),
        "extent": (0, size[1], size[0], 0),
    }
    for k, (mean, axis) in enumerate(zip(found.mean, axes[0], strict=True)):
        low, high = bins[k]
        _picture(axis, mean.detach().cpu().numpy(), **shown)
        _cells(axis, n, size, head)
        share = f"{100 * float(found.share[k]):.0f} % inside"
        axis.set_title(f"{low:g} to {high:g} %", fontsize=10, pad=4)
        axis.set_xlabel(share, fontsize=9.5, labelpad=2)
        example = found.example[k]
        photo = as_images(torch.as_tensor(grids)[example : example + 1])[0]
        _picture(axes[1, k], photo.permute(1, 2, 0).expand(-1, -1, 3).numpy())
        one = torch.as_tensor(maps)[example].detach().float().clamp(min=0) / scale
        _picture(axes[2, k], one.clamp(max=1).cpu().numpy(), **shown)
        for axis in axes[1:, k]:
            _cells(axis, n, size, head)
    for axis, name in zip(axes[:, 0], ("mean", "median grid", "its map"), strict=True):
        axis.set_ylabel(name, fontsize=10)
    label = "positive attribution / 99.5th percentile of the mean maps"
    scale_bar(figure, False, label)
    return figure
