"""Correlations, by value and by rank: do sums of a map follow the falls of a score?"""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

ROUNDING = 8.0
"""Values that lie within so many roundings of each other count as equal."""


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation over the last dimension; NaN if one is constant.

    Examples
    --------
    >>> pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])).item()
    1.0
    """
    kind = torch.result_type(a, b)
    kind = kind if kind.is_floating_point else torch.double
    flat = _constant(a) | _constant(b)
    a, b = (v.double() - v.double().mean(-1, keepdim=True) for v in (a, b))
    a, b = (v / v.norm(dim=-1, keepdim=True) for v in (a, b))  # so no product overflows
    return (a * b).sum(-1).clamp(-1, 1).masked_fill(flat, math.nan).to(kind)


def _constant(values: Tensor) -> Tensor:
    """Return whether the last dimension is constant up to the rounding of its type."""
    kind = values.dtype if values.is_floating_point() else torch.double
    return is_flat(values, torch.finfo(kind).eps * values.abs())


def ranks(values: Tensor, slack: float | Tensor = 0.0) -> Tensor:
    """Return the ranks 1..k of the last dimension's values; ties share their mean.

    Neighbours in the order that differ by at most ``slack`` are ties. NaN has no rank:
    all ranks of its row are NaN.

    Examples
    --------
    >>> ranks(torch.tensor([5.0, 1.0, 5.0, 9.0]))
    tensor([2.5000, 1.0000, 2.5000, 4.0000], dtype=torch.float64)
    """
    ordered, order = values.sort(-1)
    step = ordered.diff(dim=-1) > slack  # (..., k - 1): a new value begins
    edge, k = torch.ones_like(ordered[..., :1], dtype=torch.bool), values.shape[-1]
    place = torch.arange(k, device=values.device).expand_as(order)
    begins, ends = torch.cat([edge, step], -1), torch.cat([step, edge], -1)
    low = torch.where(begins, place, 0).cummax(-1).values
    high = torch.where(ends, place, k).flip(-1).cummin(-1).values.flip(-1)
    found = torch.empty_like(ordered, dtype=torch.float64)
    found.scatter_(-1, order, 1 + (low + high).double() / 2)
    return found.masked_fill(values.isnan().any(-1, keepdim=True), math.nan)


def spearman(a: Tensor, b: Tensor, slack: float | Tensor = 0.0) -> Tensor:
    """Return Spearman's rank correlation over the last dimension, in float64.

    Ties share their mean rank; values of a within ``slack`` are ties, see `ranks`.

    Examples
    --------
    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 7.0, 90.0]))
    tensor(1.0000, dtype=torch.float64)
    """
    return pearson(ranks(a, slack), ranks(b))


def subset_correlation(
    R: Tensor, S: Tensor, before: Tensor, after: Tensor, eps: Tensor | float = 0.0
) -> Tensor:
    """Correlate the sums of maps over subsets of features with the falls of the logit.

    Parameters
    ----------
    R : Tensor, shape (M, K): M maps of K features
    S : Tensor, bool, shape (k, K): k subsets
    before, after : the logit of the whole input, (1,), and without each subset, (k,)
    eps : relative rounding of the maps' values, a number or (M, 1)

    Returns
    -------
    Tensor, shape (M,); NaN where all sums, or all falls, are equal up to rounding

    Examples
    --------
    >>> R, S = torch.tensor([[2.0, 5.0, 3.0]]), torch.eye(3) > 0
    >>> before, after = torch.tensor([9.0]), torch.tensor([7.0, 4.0, 6.0])
    >>> subset_correlation(R, S, before, after).round(decimals=5)
    tensor([1.])
    """
    S = S.to(R)
    a, d = R @ S.T, before.to(R) - after.to(R)  # (M, k), (k,)
    flat = is_flat(a, eps * (R.abs() @ S.T))
    flat |= is_flat(after, torch.finfo(after.dtype).eps * after.abs())
    return pearson(a, d).masked_fill(flat, math.nan)


def is_flat(values: Tensor, rounding: Tensor) -> Tensor:
    """Return whether the last dimension's values are equal up to rounding."""
    return values.amax(-1) - values.amin(-1) <= ROUNDING * rounding.amax(-1)


def one_channel(maps: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return all maps (M, B, H, W), summed over channels, in float64 on the CPU."""
    if not isinstance(maps, Mapping) or not maps:
        got = "none" if isinstance(maps, Mapping) else type(maps).__name__
        raise TypeError(f"maps must be a dict of name to map, got {got}")
    B, (H, W), found = len(x), x.shape[2:], []
    for name, R in maps.items():
        if not isinstance(R, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(R).__name__}")
        if R.shape not in (x.shape, (B, 1, H, W), (B, H, W)):
            wanted = f"{name} must have shape {tuple(x.shape)}, {(B, 1, H, W)}"
            raise ValueError(f"{wanted} or {(B, H, W)}, got {tuple(R.shape)}")
        if not R.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        found.append(R.detach().cpu().double().reshape(B, -1, H, W).sum(1))
    return torch.stack(found)


def warn_of_undefined(found: Tensor, metric: str, why: str) -> None:
    """Say how many values are NaN, at the caller of the metric."""
    lost = int(found.isnan().sum())
    if lost:
        warnings.warn(
            f"{metric} is undefined, NaN, for {lost} of {found.numel()}: {why}; "
            "mean_of_defined drops and counts them",
            stacklevel=3,
        )
