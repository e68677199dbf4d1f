"""The gradient, its product with the input, and its mean on a path."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice, check_positive
from xai_lib.attribute._forward import (
    Tail,
    fixed_target,
    input_gradient,
    reference_input,
    rows_per_pass,
    split,
    value_and_gradient,
)


def gradient(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the gradient of the target logit, dS_c/dx.

    Parameters
    ----------
    model : Module in eval mode, x -> logits (B, classes)
    x : Tensor, shape (B, C, H, W), normalised as the model wants
    target : Tensor of class indices, shape (B,), or a function of the logits
    layer : name of a module, or None (also "input") for x itself

    Returns
    -------
    Tensor, signed; x's shape, or the shape of the layer's output

    Notes
    -----
    The logit is explained, not the softmax. Captum's Saliency and Xplique return the
    absolute value by default; here that is a step of its own, `channel_max_abs`.

    References
    ----------
    [simonyan2014]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> gradient(net, torch.zeros(1, 1, 2, 2), torch.tensor([1])).shape
    torch.Size([1, 1, 2, 2])
    """
    check_call(model, x, target)
    return value_and_gradient(model, x, target, layer)[1]


def gradient_x_input(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return x * dS_c/dx, element by element.

    Parameters and Returns as `gradient`; at a layer, x is the layer's output.

    Notes
    -----
    x is the normalised input, so a zero is the data set's mean colour, not black.

    References
    ----------
    [shrikumar2017]_, [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    >>> x = torch.ones(1, 1, 2, 2)
    >>> product = gradient_x_input(net, x, torch.tensor([0]))
    >>> torch.allclose(product.sum(), net(x)[0, 0])  # a linear net is its own sum
    True
    """
    check_call(model, x, target)
    h, slope = value_and_gradient(model, x, target, layer)
    return h * slope


def _gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


QUADRATURE: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "gauss_legendre": _gauss_legendre,
    "midpoint": lambda m: ((np.arange(m) + 0.5) / m, np.full(m, 1 / m)),
    "right": lambda m: (np.arange(1, m + 1) / m, np.full(m, 1 / m)),
}


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    baseline: Tensor | None = None,
    steps: int = 32,
    quadrature: str = "gauss_legendre",
) -> Tensor:
    """Return (x - b) times the mean gradient on the straight path from b to x.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    baseline : Tensor that broadcasts to x (or to the layer's output); None is zero
    steps : number of gradients on the path
    quadrature : "gauss_legendre", "midpoint" or "right"

    Returns
    -------
    Tensor, signed, shaped as `gradient`'s; sums to S_c(x) - S_c(b) up to the quadrature

    Notes
    -----
    Captum uses Gauss-Legendre nodes (and [rao2022]_ with it, 20 steps), DeepExplain the
    right Riemann sum of 100. A target function is asked once, at x.

    References
    ----------
    [sundararajan2017]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x = torch.ones(1, 1, 2, 2)
    >>> total = integrated_gradients(net, x, torch.tensor([0]), steps=4).sum()
    >>> torch.allclose(total, net(x)[0, 0] - net(0 * x)[0, 0])
    True
    """
    check_call(model, x, target)
    check_positive(steps=steps)
    check_choice("quadrature", quadrature, QUADRATURE)
    nodes, weights = (
        torch.as_tensor(part, dtype=x.dtype, device=x.device)
        for part in QUADRATURE[quadrature](steps)
    )
    h, tail = split(model, x.detach(), layer)
    start = reference_input(h, baseline)
    delta = h - start
    column = (-1,) + (1,) * (h.ndim - 1)
    result = torch.empty_like(h)
    for i, c in enumerate(fixed_target(model, x, target)):
        path = start[i] + nodes.view(column) * delta[i]  # (steps, C, H, W)
        slopes = row_gradients(tail, path, i, c, rows_per_pass(model, x))
        result[i] = delta[i] * (weights.view(column) * slopes).sum(0)
    return result


def row_gradients(
    tail: Tail, points: Tensor, image: int, c: Tensor, per_pass: int
) -> Tensor:
    """Return the gradient of logit c at many points (R, ...) of one image."""
    parts = []
    for part in points.split(per_pass):
        rows = torch.full((len(part),), image, device=points.device)
        parts.append(input_gradient(tail, part, rows, c.expand(len(part))))
    return torch.cat(parts)
