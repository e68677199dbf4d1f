"""Which layers of a net still have positions, and which of them to look at."""

from math import inf, prod

import torch
from torch import Tensor, nn


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """Return the rows and columns of tokens that tile an image, or None.

    Examples
    --------
    >>> token_grid(64, 32, 32), token_grid(65, 32, 32), token_grid(8, 32, 64)
    ((8, 8), None, (2, 4))
    """
    rows = round((tokens * height / width) ** 0.5)
    columns = tokens // rows if rows else 0
    fits = rows * columns == tokens and rows * width == columns * height
    return (rows, columns) if fits else None


def _positions(output, x: Tensor, tokens: bool) -> tuple[int, ...]:
    """Return the height and width of an output's map, or ()."""
    if not isinstance(output, Tensor):
        return ()
    if output.ndim == 4:
        return tuple(output.shape[2:])
    if tokens and output.ndim == 3:
        return token_grid(output.shape[1], *x.shape[2:]) or ()
    return ()


def spatial_layers(
    model: nn.Module, x: Tensor, tokens: bool = False
) -> dict[str, tuple[int, int]]:
    """Return the modules that run once and give (B, K, h, w) with h, w > 1, in order.

    The order is that of finishing, so a block comes after the layers inside it.
    Adaptive poolings are left out: their size is not the net's. So is an output with
    four times the positions of a map before it, as attention weights have, unless an
    earlier map had that size. With tokens, outputs (B, T, K) whose T tokens tile the
    image count as well.
    """
    found: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str):
        def hook(module, inputs, output):
            found.append((name, _positions(output, x, tokens)))

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.AdaptiveAvgPool2d)
    ]
    try:
        with torch.no_grad():
            model(x[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    runs = [name for name, _ in found]
    kept, smallest, (H, W) = {}, inf, x.shape[2:]
    for name, size in found:
        if runs.count(name) != 1 or not size or min(size) < 2:
            continue
        if prod(size) >= 4 * smallest and size not in kept.values():
            continue  # no map grows fourfold: attention weights
        kept[name] = size
        if abs(size[0] * W - size[1] * H) <= 2 * max(H, W):  # shaped as the image
            smallest = min(smallest, prod(size))
    return kept


def last_spatial_layer(model: nn.Module, x: Tensor, tokens: bool = False) -> str:
    """Return the name of the last layer with positions, the outermost if nested."""
    layers = spatial_layers(model, x, tokens)
    if not layers:
        raise ValueError(
            f"model must have a layer with output (B, K, h, w), "
            f"got none in {type(model).__name__}"
        )
    return list(layers)[-1]


def named_layers(model: nn.Module, size: int = 224) -> dict[str, str | None]:
    """Choose the layers "input", "middle" and "final" of a net.

    Notes
    -----
    "final" is the last module whose output is larger than 1 x 1, "middle" the last one
    with an output four times as high (else the nearest height). Of modules that contain
    each other the outermost counts. A net without a second height has no "middle".
    Outputs that are not square are passed over: their last two dimensions are no map.
    """
    return layers_of(model, next(model.parameters()).new_zeros(1, 3, size, size))


def layers_of(model: nn.Module, x: Tensor) -> dict[str, str | None]:
    """Choose them as `named_layers`, for square inputs like x."""
    sizes, size = spatial_layers(model, x), x.shape[2]
    heights = {name: h for name, (h, w) in sizes.items() if h == w}
    layers: dict[str, str | None] = {"input": None}
    if not heights:
        return layers
    last = list(heights.values())[-1]
    others = [h for h in heights.values() if h != last and h < size]
    if others:
        middle = min(others, key=lambda h: abs(h - 4 * last))
        layers["middle"] = _outermost(heights, middle)
    layers["final"] = _outermost(heights, last)
    return layers


def _outermost(heights: dict[str, int], wanted: int) -> str:
    names = [name for name, height in heights.items() if height == wanted]
    depth = min(name.count(".") for name in names)
    return [name for name in names if name.count(".") == depth][-1]
