"""Networks with weights of a given law, and the alignment that follows from it."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from xai_lib._check import check_choice, check_model, check_positive
from xai_lib.analyse.layer_signals import WEIGHTED
from xai_lib.attribute._forward import find_layer

Draw = Callable[[int, int, torch.Generator], Tensor]


def _gaussian(n: int, d: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, d, generator=g, dtype=torch.float64) / d**0.5


def _orthogonal(n: int, d: int, g: torch.Generator) -> Tensor:
    blocks = []
    for _ in range(-(-n // d)):
        Q, R = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))
        blocks.append(Q * R.diagonal().sign())  # uniform over the orthogonal group
    return torch.cat(blocks)[:n]


def _shifted(n: int, d: int, g: torch.Generator) -> Tensor:
    return _gaussian(n, d, g) + d**-0.5


WEIGHT_LAWS: dict[str, Draw] = {
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
    "shifted": _shifted,
}
"""Weights (n, d) of n units with d inputs, each row of mean square norm 1 (2 for the
shifted ones): independent Gaussian; rows of blocks of random rotations, so of equal
norm and orthogonal within a block of d; Gaussian with a mean of one deviation."""


def redraw_weights(
    model: nn.Module,
    law: str = "gaussian",
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a copy of the model with new weights and no biases in some layers.

    Parameters
    ----------
    model : Module in eval mode; it stays as it is
    law : one of `WEIGHT_LAWS`; times sqrt(2), so that activations behind a ReLU keep
        their size (He's factor)
    layers : names of convolutions, dense and norm layers (batch, layer and group norm);
        None for all of them
    seed : of the draws

    Returns
    -------
    Module. A batch norm among the layers becomes the identity; a layer or group norm
    keeps its scaling to mean 0 and deviation 1. Attention's first map, weights that no
    layer of its own holds, stays as it is.

    Raises
    ------
    ValueError
        for a layer without weights, for one whose weight is computed from others (by
        weight or spectral norm), and for a transposed convolution

    References
    ----------
    [zheng2025]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    >>> rows = redraw_weights(net, "orthogonal", ["0"])[0].weight.norm(dim=1)
    >>> torch.allclose(rows, torch.tensor(2.0).sqrt())
    True
    """
    check_model(model)
    check_choice("law", law, WEIGHT_LAWS)
    copy, g = deepcopy(model), torch.Generator().manual_seed(seed)
    if layers is None:
        layers = [k for k, m in copy.named_modules() if isinstance(m, WEIGHTED + NORMS)]
    for name in layers:
        module = find_layer(copy, name)
        if isinstance(module, NORMS):
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
            if module.weight is not None:
                nn.init.ones_(module.weight)
        elif isinstance(module, nn.modules.conv._ConvTransposeNd):
            raise ValueError(f"layer {name!r} must be no transposed convolution")
        elif isinstance(module, WEIGHTED) and "weight" not in module._parameters:
            raise ValueError(f"layer {name!r} must hold its weight, not compute it")
        elif isinstance(module, WEIGHTED):
            n, d = len(module.weight), module.weight[0].numel()
            weight = 2**0.5 * WEIGHT_LAWS[law](n, d, g)
            module.weight.data.copy_(weight.view_as(module.weight))
        else:
            kind = type(module).__name__
            raise ValueError(f"layer {name!r} must have weights, got a {kind}")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return copy


NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def random_mlp(widths: Sequence[int], law: str = "gaussian", seed: int = 0):
    """Return a float64 net of dense layers without bias, a ReLU behind each.

    Parameters
    ----------
    widths : inputs, then the units of each layer
    law, seed : as `redraw_weights`

    Returns
    -------
    Sequential in eval mode; x has shape (B, widths[0], 1, 1), the ReLUs are the modules
    "2", "4", ...

    Examples
    --------
    >>> random_mlp([4, 8, 8])(torch.ones(1, 4, 1, 1, dtype=torch.float64)).shape
    torch.Size([1, 8])
    """
    if len(widths) < 2:
        raise ValueError(f"widths must name inputs and units, got {list(widths)}")
    check_positive(**{f"widths[{i}]": n for i, n in enumerate(widths)})
    steps: list[nn.Module] = [nn.Flatten()]
    for d, n in zip(widths, widths[1:], strict=False):
        with torch.device("meta"):
            dense = nn.Linear(d, n, bias=False, dtype=torch.float64)
        steps += [dense.to_empty(device="cpu"), nn.ReLU()]
    net = nn.Sequential(*steps).eval().requires_grad_(False)
    return redraw_weights(net, law, seed=seed)


def predicted_alignment(signal: Tensor, d: int) -> Tensor:
    """Predict cos(S, x) of a random layer from the signal that reaches its units.

    Parameters
    ----------
    signal : Tensor, shape (..., N): what each of the N units sends back if it is
        active, after any filter; it must not depend on the unit's activation
    d : inputs of a unit

    Returns
    -------
    Tensor, shape (...)

    Notes
    -----
    1 / sqrt(1 + pi (d-1)/N * mean(c^2) / mean(c)^2), with the sign of mean(c): the law
    of `alignment_law` for any signal c. What counts is how constant the signal is: with
    a mean of 0 nothing is aligned, with |g| the factor is pi / 2, with max(g, 0) it is
    pi, for g ~ N(0, 1). Ours.

    References
    ----------
    [zheng2025]_

    Examples
    --------
    >>> round(predicted_alignment(torch.ones(512), 27).item(), 2)
    0.93
    """
    check_positive(d=d)
    c, n = signal.double(), signal.shape[-1]
    mean, square = c.mean(-1), (c**2).mean(-1)
    return mean / (mean**2 + torch.pi * (d - 1) / n * square).sqrt()
