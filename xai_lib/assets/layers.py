"""Which layers of a net to look at: the input, the middle, the final one."""

import torch
from torch import Tensor, nn


def spatial_layers(model: nn.Module, size: int = 224) -> dict[str, int]:
    """Return the height of each module's square output, in order of finishing.

    Modules whose output is not (B, C, h, h) with h > 1, and adaptive poolings, are left
    out.
    """
    heights: dict[str, int] = {}

    def look(name: str):
        def hook(module, inputs, out):
            square = isinstance(out, Tensor) and out.ndim == 4
            if square and out.shape[-1] == out.shape[-2] > 1:
                heights.pop(name, None)  # a module used twice counts where it ends
                heights[name] = out.shape[-1]

        return hook

    modules = [
        (name, module)
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.AdaptiveAvgPool2d)
    ]
    handles = [module.register_forward_hook(look(name)) for name, module in modules]
    try:
        with torch.no_grad():
            model(next(model.parameters()).new_zeros(1, 3, size, size))
    finally:
        for handle in handles:
            handle.remove()
    return heights


def named_layers(model: nn.Module, size: int = 224) -> dict[str, str | None]:
    """Choose the layers "input", "middle" and "final" of a net.

    Notes
    -----
    "final" is the last module whose output is larger than 1 x 1, "middle" the last one
    with an output four times as high (else the nearest height). Of modules that contain
    each other the outermost counts. A net without a second height has no "middle".
    """
    heights = spatial_layers(model, size)
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
