"""Moments of the gradient over noisy copies of the input."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._forward import fixed_target, rows_per_pass, split
from xai_lib.attribute.gradients import row_gradients


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
    >>> smooth = smoothgrad(net, x, c, n_samples=4)
    >>> torch.allclose(smooth.flatten(), net[1].weight[0])  # a linear net
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
    >>> torch.allclose(square.flatten(), net[1].weight[0] ** 2)
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
    parts = [
        (g - g.mean(0)).square().sum(0) / (n_samples - 1)  # g.var(0) takes far longer
        for g in noisy_gradients(model, x, target, **own)
    ]
    return torch.stack(parts)
