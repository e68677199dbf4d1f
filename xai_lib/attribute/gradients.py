"""The gradient family: gradient, its product with the input, its averages."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice, check_positive
from xai_lib.attribute._forward import (
    Tail,
    fixed_target,
    input_gradient,
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
    h, tail = split(model, x, layer)
    start = torch.zeros_like(h) if baseline is None else baseline.expand_as(h)
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


def noisy_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    n_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Yield, image by image, the gradients (n_samples, ...) at noisy copies of it.

    Parameters as `smoothgrad`, which is their mean; SquareGrad and VarGrad are two more
    of their moments, so one set of gradients serves all three.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> [g.shape[0] for g in noisy_gradients(net, x, c, n_samples=5)]
    [5, 5, 5]
    """
    check_call(model, x, target)
    check_positive(n_samples=n_samples, noise=noise)
    h, tail = split(model, x, layer)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn((n_samples, *h.shape[1:]), generator=generator).to(h)
    for i, c in enumerate(fixed_target(model, x, target)):
        sigma = noise * (h[i].max() - h[i].min())
        points = h[i] + sigma * draws
        yield row_gradients(tail, points, i, c, rows_per_pass(model, x))


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    n_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """Return the mean gradient over noisy copies of the input.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    n_samples : number of copies
    noise : standard deviation of the Gaussian noise, as a fraction of the range
        max - min of the image (or of the layer's output)
    seed : every image gets the same draws, so a batch equals its images one by one

    Returns
    -------
    Tensor, signed, shaped as `gradient`'s

    Notes
    -----
    50 copies and 0.15 are the settings of [sixt2020]_; Xplique's noise is 0.2 in the
    units of x. The gradient keeps its sign; some authors average absolute values.

    References
    ----------
    [smilkov2017]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> torch.allclose(smoothgrad(net, x, c, n_samples=4), gradient(net, x, c))
    True
    """
    own = {"layer": layer, "n_samples": n_samples, "noise": noise, "seed": seed}
    return torch.stack([g.mean(0) for g in noisy_gradients(model, x, target, **own)])


def squaregrad(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    n_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """Return the mean squared gradient over noisy copies of the input.

    Parameters and Returns as `smoothgrad`; the map is non-negative.

    References
    ----------
    [hooker2019]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> square = squaregrad(net, x, c, n_samples=4)
    >>> torch.allclose(square, gradient(net, x, c) ** 2)
    True
    """
    own = {"layer": layer, "n_samples": n_samples, "noise": noise, "seed": seed}
    return torch.stack(
        [(g**2).mean(0) for g in noisy_gradients(model, x, target, **own)]
    )


def vargrad(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    n_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """Return the unbiased variance of the gradient over noisy copies of the input.

    Parameters and Returns as `smoothgrad`, with at least two copies; the map is
    non-negative. The signed gradient enters the variance, as in Xplique.

    References
    ----------
    [adebayo2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> vargrad(net, x, c, n_samples=4).max() < 1e-12  # a linear net never varies
    tensor(True)
    """
    if n_samples < 2:
        raise ValueError(
            f"n_samples must be at least 2 for a variance, got {n_samples}"
        )
    own = {"layer": layer, "n_samples": n_samples, "noise": noise, "seed": seed}
    return torch.stack([g.var(0) for g in noisy_gradients(model, x, target, **own)])
