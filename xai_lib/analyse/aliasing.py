"""What down-sampling does to the gradient: other ways back, and how far noise goes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice
from xai_lib.analyse.downsample_nets import downsampling_steps
from xai_lib.analyse.downsample_rules import BACKWARD_SWAPS
from xai_lib.analyse.layer_signals import backward_signals
from xai_lib.analyse.spectrum import power_spectrum, share_above
from xai_lib.assets.layers import spatial_layers
from xai_lib.attribute._forward import fixed_target
from xai_lib.attribute.backprop._run import backward
from xai_lib.attribute.backprop.engine import Composite
from xai_lib.attribute.backprop.rules import gradient
from xai_lib.attribute.reduce import channel_max_abs, channel_sum

SMALLEST = 8
"""Pixels. The Hann window's main lobe, +- 2 / n cycles per pixel, reaches 0.25 at 8."""


def _channels(signal: Tensor) -> Tensor:
    return signal


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "channel_power": _channels,
    "channel_sum": channel_sum,
    "channel_max_abs": channel_max_abs,
}
"""What the spectrum is taken of; the power of several channels is averaged."""


def swap_composite(model: nn.Module, kind: str) -> Composite:
    """Return the composite of a swap: its rules by step, else the plain gradient.

    Parameters
    ----------
    model : Module; its strided convolutions are named one by one
    kind : a name in `BACKWARD_SWAPS`

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2))
    >>> [key for key, rule in swap_composite(net, "all_average")]
    ['max_pool', '0', 'any']
    """
    check_choice("kind", kind, BACKWARD_SWAPS)
    rules = BACKWARD_SWAPS[kind]
    pairs = [(key, rules[key]) for key in ("max_pool",) if key in rules]
    if "strided" in rules:
        steps = downsampling_steps(model).items()
        pairs += [(name, rules["strided"]) for name, step in steps if step == "strided"]
    return [*pairs, ("any", gradient)]


def swapped_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target,
    kind: str = "own",
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the gradient with other down-sampling steps on the way back alone.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    kind : "own", the plain gradient; "max_pool_average", max-pools go back as the
        average pool of the same windows; "max_pool_max_blur", as a max-pool at stride 1
        with a blur behind; "strided_average" and "strided_blur", strided convolutions
        go back as the same convolution at stride 1 with an average pool or a blur
        behind; "all_average" and "all_blur", both. `BACKWARD_SWAPS` says it as data

    Returns
    -------
    Tensor, signed; x's shape, or the shape of the layer's output

    Raises
    ------
    ValueError
        if a step has no such substitute: a blur takes the place of stride 2 alone, an
        average pool that of windows without dilation

    Notes
    -----
    The forward pass is the network's own, so every ReLU is open or closed as it was.
    The sum of the signal is kept by each swap. A 1x1 convolution of stride 2 reaches
    all positions instead of every fourth. Max-pools called as functions are seen too;
    adaptive ones, average pools and fixed filters keep their gradient. Where there is
    nothing to swap the result is the plain gradient. [herdt2024]_ goes back through
    the convolution at stride 1 behind a bilinear up-sampling, or smooths in a hook.

    References
    ----------
    [muzellec2024]_ for the question, [zhang2019]_, [herdt2024]_

    Examples
    --------
    >>> net = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> swapped = swapped_gradient(net, x, c, "max_pool_average")
    >>> torch.equal(swapped.flatten(), net[2].weight[0] / 4 * torch.ones(4))
    True
    """
    check_call(model, x, target)
    composite = swap_composite(model, kind)
    return backward(model, x, target, layer, composite, from_logit=False)[1]


def backward_ratios(
    model: nn.Module,
    x: Tensor,
    target: Target,
    layers: list[str] | None = None,
    *,
    reduction: str = "channel_power",
    kind: str = "own",
    above: float = 0.25,
    window: str = "hann",
) -> dict[str, Tensor]:
    """Return the high-frequency ratio of the backward signal, layer by layer.

    Parameters
    ----------
    model, x, target : as `gradient`
    layers : names of modules that run once and have positions, or "input"; None is all
        whose map has at least 8 x 8 positions, from the last to the input
    reduction : "channel_power", the mean of the channels' power spectra; "channel_sum"
        or "channel_max_abs", the spectrum of the reduced signal
    kind : how the signal goes back, as `swapped_gradient`
    above : in cycles per pixel of the layer's own map
    window : as `power_spectrum`

    Returns
    -------
    dict of layer to Tensor, shape (B,): the share of the power of dS_c/d(output) above
        the frequency; nan where the signal is constant: it has no spectrum

    Raises
    ------
    ValueError
        for a layer whose map is smaller than 8 x 8: what the window spreads around the
        frequency 0 reaches 0.25 cycles per pixel there

    Notes
    -----
    One forward and one backward pass for all layers, and one forward pass more if the
    target is a function. In front of a mean over all positions the signal is constant.
    A block comes after the layers inside it in the net, so before them here.

    References
    ----------
    [muzellec2024]_ for the question; the definition is ours

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(256, 2))
    >>> [*backward_ratios(net.eval(), torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))]
    ['0', 'input']
    """
    check_call(model, x, target)
    check_choice("reduction", reduction, REDUCTIONS)
    if layers is None:
        sizes = spatial_layers(model, x) | {"input": tuple(x.shape[2:])}
        layers = [n for n, size in sizes.items() if min(size) >= SMALLEST]
        layers = [n for n in reversed(layers) if n != "input"] + ["input"]
    top, composite = fixed_target(model, x, target), swap_composite(model, kind)
    found = backward_signals(model, x, top, composite, layers)
    return {
        name: _ratio(name, found[name][0], reduction, above, window) for name in layers
    }


def _ratio(
    name: str, signal: Tensor, reduction: str, above: float, window: str
) -> Tensor:
    if signal.ndim != 4 or min(signal.shape[2:]) < SMALLEST:
        raise ValueError(
            f"layers must have maps of at least {SMALLEST} x {SMALLEST}, got "
            f"{tuple(signal.shape)} at {name!r}"
        )
    maps = REDUCTIONS[reduction](signal)  # (B, K, H, W)
    spread = (maps.amax((2, 3)) - maps.amin((2, 3))).amax(1)  # (B,)
    maps = maps / torch.where(spread > 0, spread, 1.0)[:, None, None, None]
    rows = maps.flatten(0, 1)
    power = power_spectrum(rows, window=window, normalise=False)
    share = share_above(power.unflatten(0, maps.shape[:2]).mean(1), above)
    return torch.where(spread > 0, share, torch.nan)
