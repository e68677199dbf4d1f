"""Input alignment: how far a backward signal points along the activation."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from xai_lib._check import (
    Target,
    check_choice,
    check_images,
    check_model,
    check_positive,
)
from xai_lib.analyse._signals import is_input
from xai_lib.attribute._forward import fixed_target, split
from xai_lib.attribute.registry import find_method

OVER = ("map", "position")

WEIGHTINGS: dict[str, tuple[float, Callable]] = {
    "equal": (math.pi, lambda h, g: torch.ones_like(h)),
    "activation": (2.0, lambda h, g: h),
    "positive": (math.pi**2 / 2, lambda h, g: g.abs()),
    "signed": (math.inf, lambda h, g: g),
}
"""k in the law 1 / sqrt(1 + k (d-1)/n), and the weight of a unit from h and g ~ N."""


def _cosine(a: Tensor, b: Tensor, dim) -> Tensor:
    norm = torch.linalg.vector_norm
    a = a / norm(a, dim=dim, keepdim=True)  # first, so that no product underflows
    b = b / norm(b, dim=dim, keepdim=True)
    return (a * b).sum(dim)


def _prepared(h: Tensor, per: str, centre: bool, magnitude: bool) -> Tensor:
    h = h.double().abs() if magnitude else h.double()
    if not centre:
        return h
    positions = (2, 3) if h.ndim == 4 else (1,)
    return h - h.mean(positions, keepdim=True)


def alignment(
    signal: Tensor,
    activation: Tensor,
    per: str = "map",
    centre: bool = False,
    magnitude: bool = False,
) -> Tensor:
    """Return the cosine between backward signal and activation.

    Parameters
    ----------
    signal : Tensor, shape (B, C, h, w), or (B, C) with per "map": the map at a layer
    activation : Tensor of the same shape: the layer's output; x at the input
    per : "map", one cosine over everything, or "position", over the channels
    centre : subtract the activation's mean over positions from each channel (over
        units for (B, C))
    magnitude : use the absolute activation (before centring): what a product with the
        input is to be compared with

    Returns
    -------
    Tensor, float64, shape (B,), or (B, h, w); NaN where a vector is zero

    Notes
    -----
    The measure is ours: the one of [zheng2025]_ is not known to us. A non-negative
    signal has a positive cosine with a non-negative activation by chance alone: compare
    with `chance_alignment`.

    References
    ----------
    [zheng2025]_

    Examples
    --------
    >>> x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> alignment(2 * x, x).round(decimals=6)
    tensor([1., 1.], dtype=torch.float64)
    >>> alignment(-x, x, per="position").shape
    torch.Size([2, 4, 4])
    """
    check_choice("per", per, OVER)
    if signal.shape != activation.shape or signal.ndim < 2:
        raise ValueError(
            "signal and activation must have one shape (B, C, ...), "
            f"got {tuple(signal.shape)} and {tuple(activation.shape)}"
        )
    if per == "position" and signal.ndim != 4:
        raise ValueError(f"per position needs (B, C, h, w), got {tuple(signal.shape)}")
    h = _prepared(activation, per, centre, magnitude)
    if per == "position":
        return _cosine(signal.double(), h, 1)
    return _cosine(signal.double().flatten(1), h.flatten(1), 1)


def chance_alignment(
    signal: Tensor, activation: Tensor, *, draws: int = 20, seed: int = 0, **options
) -> Tensor:
    """Return the mean alignment of random maps with the signal's own values.

    Parameters
    ----------
    signal, activation : as `alignment`
    draws : number of shuffles of each map's values over channels and positions
    seed : of the shuffles
    options : per, centre, magnitude, as `alignment`

    Returns
    -------
    Tensor, float64, shape (B,), or (B, h, w) per position

    Examples
    --------
    >>> x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool(chance_alignment(x, x) > 0.7)  # non-negative: the means alone agree
    True
    >>> bool(chance_alignment(x, x, centre=True).abs() < 0.1)
    True
    """
    check_positive(draws=draws)
    g, total = torch.Generator().manual_seed(seed), 0.0
    for _ in range(draws):
        orders = [torch.randperm(signal[0].numel(), generator=g) for _ in signal]
        order = torch.stack(orders).to(signal.device)
        shuffled = signal.flatten(1).gather(1, order).view_as(signal)
        total = total + alignment(shuffled, activation, **options)
    return total / draws


def alignment_by_layer(
    model: nn.Module,
    x: Tensor,
    target: Target,
    method: str | Callable[..., Tensor],
    layers: Sequence[str],
    *,
    chance: bool = False,
    **options,
) -> dict[str, Tensor]:
    """Return the alignment of a method's map at each layer.

    Parameters
    ----------
    model, x, target : as for every method
    method : a name in METHODS, or a callable with the common signature
    layers : names of modules, or "input"
    chance : return `chance_alignment` instead
    options : as `alignment`, and draws, seed with chance

    Returns
    -------
    dict of layer to Tensor, as `alignment`

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> alignment_by_layer(net, x, c, "gradient", ["input"])["input"].shape
    torch.Size([1])
    """
    check_model(model)
    check_images(x)
    function, c = find_method(method), fixed_target(model, x, target)
    measure, found = chance_alignment if chance else alignment, {}
    for layer in layers:
        name = None if is_input(layer) else layer
        signal = function(model, x, c, layer=name)
        found[layer] = measure(signal, split(model, x, name)[0], **options)
    return found


def alignment_law(weighting: str, d: int, n: int) -> float:
    """Predict cos(S, x) for S the weighted sum of the active units' weights.

    Parameters
    ----------
    weighting : of the n units w_j ~ N(0, I_d) with w_j . x > 0: "equal" (1),
        "activation" (w_j . x), "positive" (|g|, g ~ N(0, 1)) or "signed" (g)
    d : inputs of a unit
    n : number of units, active or not

    Returns
    -------
    float: 1 / sqrt(1 + k (d-1) / n), k = pi, 2, pi^2 / 2; 0 for "signed"

    Notes
    -----
    The sum's part along x by its mean, the rest by its mean square; ours, after the
    theorem on one random layer in [zheng2025]_.

    References
    ----------
    [zheng2025]_, [nie2018]_

    Examples
    --------
    >>> round(alignment_law("equal", 27, 512), 2)
    0.93
    >>> alignment_law("signed", 27, 512)
    0.0
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    check_positive(d=d, n=n)
    k = WEIGHTINGS[weighting][0]
    return 0.0 if math.isinf(k) else (1 + k * (d - 1) / n) ** -0.5


def random_layer_alignment(
    weighting: str, d: int, n: int, draws: int = 20, seed: int = 0
) -> Tensor:
    """Measure what `alignment_law` predicts, on random layers.

    Parameters
    ----------
    weighting, d, n : as `alignment_law`
    draws : number of layers and inputs x ~ N(0, I_d)
    seed : of the draws

    Returns
    -------
    Tensor, float64, shape (draws,), cos(S, x)

    Examples
    --------
    >>> measured = random_layer_alignment("equal", 27, 512).mean().item()
    >>> abs(measured - alignment_law("equal", 27, 512)) < 0.05
    True
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    check_positive(d=d, n=n, draws=draws)
    g = torch.Generator().manual_seed(seed)
    weight, cosines = WEIGHTINGS[weighting][1], []
    for _ in range(draws):
        x = torch.randn(d, generator=g, dtype=torch.float64)
        W = torch.randn(n, d, generator=g, dtype=torch.float64)
        h = (W @ x).clamp(min=0)  # (n,)
        c = weight(h, torch.randn(n, generator=g, dtype=torch.float64)) * (h > 0)
        cosines.append(_cosine(c @ W, x, 0))
    return torch.stack(cosines)
