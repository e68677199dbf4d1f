"""Does the map rank the pixels as the network uses them? Deletion."""

import torch
from torch import Tensor, nn

from xai_lib._check import (
    Target,
    check_call,
    check_choice,
    check_maps,
    check_positive,
)
from xai_lib.attribute._forward import fixed_target, rows_per_pass, select

BASELINES = {
    "zero": torch.zeros_like,
    "mean": lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
}
"""What a deleted pixel becomes, in the units of the normalised input."""


def deletion_curve(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "zero",
) -> Tensor:
    """Return the target's probability while pixels are removed, highest map first.

    Parameters
    ----------
    model, x, target : as for every method
    maps : Tensor, shape (B, H, W) or (B, 1, H, W), of x's height and width
    steps : number of equal steps from the whole image to the baseline
    baseline : "zero" or "mean" (per image and channel), in the units of x

    Returns
    -------
    Tensor, shape (B, steps + 1), softmax probability of the target

    Notes
    -----
    Only the order of the pixels counts; ties keep the order of the rows. Captum has no
    deletion; Xplique scores the logit unless a softmax is asked for, in 10 steps.

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> deletion_curve(net, x, x, c, steps=4).shape
    torch.Size([1, 5])
    """
    check_call(model, x, target)
    check_positive(steps=steps)
    check_choice("baseline", baseline, BASELINES)
    maps = check_maps(maps)
    if maps.shape != (len(x), *x.shape[2:]):
        wanted = (len(x), *x.shape[2:])
        raise ValueError(f"maps must have shape {wanted}, got {tuple(maps.shape)}")
    c, end = fixed_target(model, x, target), BASELINES[baseline](x)
    pixels = maps[0].numel()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(pixels, device=x.device).expand_as(order)
    )
    rank = rank.view(len(x), 1, *x.shape[2:])  # (B, 1, H, W): 0 is deleted first
    images = torch.arange(len(x), device=x.device).repeat_interleave(steps + 1)
    removed = torch.arange(steps + 1, device=x.device).repeat(len(x)) * pixels // steps
    curve = [
        _probability(model, x[i], end[i], rank[i] < k.view(-1, 1, 1, 1), c[i])
        for i, k in zip(
            images.split(rows_per_pass(model, x)),
            removed.split(rows_per_pass(model, x)),
            strict=True,
        )
    ]
    return torch.cat(curve).view(len(x), steps + 1)


def _probability(model, x: Tensor, end: Tensor, gone: Tensor, c: Tensor) -> Tensor:
    with torch.no_grad():
        return select(model(torch.where(gone, end, x)).softmax(1), c)


def deletion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "zero",
) -> Tensor:
    """Return the area under the deletion curve; lower is better.

    Parameters
    ----------
    As `deletion_curve`.

    Returns
    -------
    Tensor, shape (B,), in [0, 1]: trapezoids over the share of deleted pixels

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> deletion(net, x, x, c).shape
    torch.Size([1])
    """
    curve = deletion_curve(model, x, maps, target, steps, baseline)
    return torch.trapezoid(curve, dx=1 / steps, dim=1)
