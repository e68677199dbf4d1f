"""Which layers of a network still have positions."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from xai_lib.attribute._forward import forward_hook


def spatial_layers(model: nn.Module, x: Tensor) -> dict[str, tuple[int, int]]:
    """Return the modules that run once and give (B, K, h, w) with h, w > 1, in order.

    The order is that of finishing, so a block comes after the layers inside it.
    """
    found: list[tuple[str, tuple[int, int]]] = []

    def note(name):
        def hook(module, inputs, output):
            size = tuple(output.shape[2:]) if isinstance(output, Tensor) else ()
            found.append((name, size))

        return hook

    with torch.no_grad(), ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hooks.enter_context(forward_hook(module, note(name)))
        model(x[:1])
    runs = [name for name, _ in found]
    return {
        name: size
        for name, size in found
        if runs.count(name) == 1 and len(size) == 2 and min(size) > 1
    }


def last_spatial_layer(model: nn.Module, x: Tensor) -> str:
    """Return the name of the last layer with positions, the outermost if nested."""
    layers = spatial_layers(model, x)
    if not layers:
        raise ValueError(
            f"model must have a layer with output (B, K, h, w), "
            f"got none in {type(model).__name__}"
        )
    return list(layers)[-1]
