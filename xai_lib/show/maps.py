"""Attribution maps beside their photographs."""

import textwrap

import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from xai_lib._check import check_maps
from xai_lib.attribute.reduce import percentile_scale
from xai_lib.show._axes import scale_bar
from xai_lib.show._data import as_images, as_named
from xai_lib.show.style import (
    ABSOLUTE,
    SIGNED,
    WIDE,
    house_style,
    method_label,
    new_figure,
    signed_norm,
)


def _named_maps(maps, batch: int) -> dict:
    """Return checked maps by name, (B, H, W) each."""
    if isinstance(maps, torch.Tensor):
        maps = {"": maps}
    out = {}
    for name, stack in as_named(maps, "maps").items():
        try:
            out[name] = check_maps(torch.as_tensor(stack).detach().float().cpu())
        except ValueError as error:
            raise ValueError(f"maps[{name!r}]: {error}") from None
        if len(out[name]) != batch:
            wanted = f"maps[{name!r}] must hold {batch} maps, one per image"
            raise ValueError(f"{wanted}, got {len(out[name])}")
    return out


def _names(given, default, count: int, name: str) -> list[str]:
    names = list(default if given is None else given)
    if len(names) != count:
        raise ValueError(f"{name} must hold {count} names, got {len(names)}")
    return names


def _picture(axis, picture, **kwargs) -> None:
    axis.imshow(picture, **kwargs)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color="#b8bcc2", linewidth=0.7)


def _map(axis, values, photo, signed: bool, image_alpha: float) -> None:
    height, width = photo.shape[-2:]
    extent = (0, width, height, 0)  # a 7 x 7 map covers the photograph as well
    cmap, norm = (SIGNED, signed_norm()) if signed else (ABSOLUTE, Normalize(0, 1))
    _picture(axis, values, cmap=cmap, norm=norm, extent=extent)
    if image_alpha > 0:  # multiply by the grey photograph: white stays white
        shade = torch.zeros(*photo.shape[1:], 4)
        shade[..., 3] = image_alpha * (1 - photo.mean(0))
        axis.imshow(shade.numpy(), extent=extent)


def _scale_bar(figure, signed: bool, percentile: float) -> None:
    """Draw the scale of maps that are divided by a percentile of their own."""
    what = "attribution" if signed else "|attribution|"
    scale_bar(figure, signed, f"{what} / {percentile:g}th percentile of |map|")


def _blank_blocks(images: int, maps: int, across: int, titles: list[str]):
    """Open a figure; return it with the axes of each image, unused ones off."""
    lines = -(-maps // across)  # lines of pictures per image
    title_lines = 1 + max(title.count("\n") for title in titles)
    cell = min(WIDE / (across + 1), 2.4)
    titled = lines * images if lines > 1 else 1
    height = cell * lines * images + 0.17 * title_lines * titled + 0.62
    figure = new_figure(cell * (across + 1), height)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0, wspace=0)
    grid = figure.subplots(lines * images, across + 1, squeeze=False)
    blocks = grid.reshape(images, lines, across + 1)
    for block in blocks:
        for axis in [*block[1:, 0], *block[:, 1:].flat[maps:]]:
            axis.axis("off")
    return figure, blocks


@house_style
def show_maps(
    images,
    maps,
    *,
    titles=None,
    rows=None,
    signed: bool = True,
    percentile: float = 99.5,
    image_alpha: float = 0.0,
    columns: int = 5,
) -> Figure:
    """Draw photographs on the left and their attribution maps beside them.

    Parameters
    ----------
    images : Tensor, shape (B, 3, H, W), in [0, 1]
        The photographs as a person sees them, not the model's normalised input.
    maps : dict of name to Tensor (B, h, w) or (B, 1, h, w), or one such Tensor
        A map coarser than its photograph is drawn in blocks over the same area.
    titles : list of str, optional
        One per entry of maps; by default the methods' printed names.
    rows : list of str, optional
        One per image, for instance the class explained.
    signed : bool
        True: diverging colours with white at zero. False: the absolute values.
    percentile : float in (0, 100]
        Each map is divided by this percentile of its own absolute values.
    image_alpha : float in [0, 1)
        How much of the photograph, in grey, shows through the map.
    columns : int
        Maps beside each other before the next line begins.

    Returns
    -------
    Figure, not known to pyplot: let it be the last expression of a cell.

    Notes
    -----
    Every map has a scale of its own: colours compare places within a map, not maps.

    Examples
    --------
    >>> figure = show_maps(torch.rand(2, 3, 8, 8), {"noise": torch.randn(2, 8, 8)})
    >>> len(figure.axes)  # two photographs, two maps, the colour bar
    5
    """
    images = as_images(images)
    maps = _named_maps(maps, len(images))
    titles = _names(titles, map(method_label, maps), len(maps), "titles")
    rows = _names(rows, [""] * len(images), len(images), "rows")
    if not 0 <= image_alpha < 1:
        raise ValueError(f"image_alpha must lie in [0, 1), got {image_alpha}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    across = min(columns, len(maps))
    letters = int(13 * min(WIDE / (across + 1), 2.4))  # that fit over one picture
    titles = [textwrap.fill(title, letters) for title in titles]
    figure, blocks = _blank_blocks(len(images), len(maps), across, titles)
    for i, (photo, block) in enumerate(zip(images, blocks, strict=True)):
        _picture(block[0, 0], photo.permute(1, 2, 0).expand(-1, -1, 3).numpy())
        block[0, 0].set_ylabel(textwrap.fill(rows[i], letters), fontsize=10.5)
        panels = zip(block[:, 1:].flat, titles, maps.values(), strict=False)
        for axis, title, stack in panels:
            scaled = percentile_scale(stack[i : i + 1], percentile)[0]
            values = scaled if signed else scaled.abs()
            _map(axis, values.numpy(), photo, signed, image_alpha)
            if i == 0 or len(block) > 1:
                axis.set_title(title, fontsize=10, pad=4)
    _scale_bar(figure, signed, percentile)
    return figure
