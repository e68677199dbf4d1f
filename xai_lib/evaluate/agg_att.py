"""AggAtt: the maps of a method, averaged in bins of their localisation score."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib.evaluate.localisation import cell_masses, cell_shares

BINS = ((0, 2), (2, 5), (5, 50), (50, 95), (95, 98), (98, 100))
"""Percentiles of the rank, best maps first."""


@dataclass(frozen=True)
class AggAtt:
    """The bins of one method.

    Attributes
    ----------
    mean : (bins, n*H, n*W), mean positive map of each bin over `scale`, at most 1
    scale : the percentile by which all bins were divided
    example : index of each bin's median map among the maps that were given
    members : indices of the maps in each bin, best first
    share : (bins,), share of the mean map's mass in the head's cell
    """

    mean: Tensor
    scale: float
    example: list[int]
    members: list[Tensor]
    share: Tensor


def bin_members(
    scores: Tensor, mass: Tensor, bins: Sequence[tuple[float, float]] = BINS
) -> list[Tensor]:
    """Return the maps of each bin, the highest score first, ties by mass.

    Parameters
    ----------
    scores : Tensor, shape (N,)
    mass : Tensor, shape (N,), positive mass inside the cell: decides where scores are
        equal, as they all are under DiFull
    bins : percentiles (from, to) of the rank

    Returns
    -------
    list of index Tensors

    Raises
    ------
    ValueError
        if a bin is empty: there are too few maps

    Examples
    --------
    >>> members = bin_members(torch.linspace(1, 0, 100), torch.ones(100))
    >>> [len(part) for part in members]
    [2, 3, 45, 45, 3, 2]
    """
    if scores.ndim != 1 or scores.shape != mass.shape or scores.isnan().any():
        wanted = "scores and mass must have one shape (N,), without NaN"
        raise ValueError(f"{wanted}, got {tuple(scores.shape)}, {tuple(mass.shape)}")
    order = mass.argsort(descending=True, stable=True)
    return in_bins(order[scores[order].argsort(descending=True, stable=True)], bins)


def in_bins(order: Tensor, bins: Sequence[tuple[float, float]] = BINS) -> list[Tensor]:
    """Cut maps in their order (N,) into bins, percentiles (from, to) of the rank.

    Examples
    --------
    >>> [len(part) for part in in_bins(torch.arange(100))]
    [2, 3, 45, 45, 3, 2]
    """
    edges = [
        (round(len(order) * a / 100), round(len(order) * b / 100)) for a, b in bins
    ]
    if any(start >= stop for start, stop in edges):
        raise ValueError(
            f"agg_att needs a map in every bin {[*bins]}, got {len(order)} maps"
        )
    return [order[start:stop] for start, stop in edges]


def agg_att(
    maps: Tensor,
    n: int,
    head: int = 0,
    bins: Sequence[tuple[float, float]] = BINS,
    percentile: float = 99.5,
) -> AggAtt:
    """Return AggAtt: mean maps of bins of the score, from the best to the worst.

    Parameters
    ----------
    maps : Tensor, shape (N, n*H, n*W), signed maps of one head, as `grid_maps` gives
    n : cells per side
    head : the cell whose class was explained; the paper shows the first
    bins : percentiles (from, to) of the rank, best first
    percentile : of the values of all mean maps, which is then shown as 1

    Returns
    -------
    AggAtt

    Notes
    -----
    The positive parts are averaged, in the method's own units: a map with more mass
    counts more. One scale serves all bins, so that a bin of weak maps looks weak. The
    example of a bin is its median map.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> maps = torch.rand(100, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> found = agg_att(maps, 2)
    >>> found.mean.shape, (found.share[:-1] > found.share[1:]).all()
    (torch.Size([6, 8, 8]), tensor(True))
    """
    if not isinstance(maps, Tensor) or maps.ndim != 3:
        raise ValueError("maps must be a tensor of shape (N, n*H, n*W)")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percentile}")
    own = cell_masses(maps, n)[:, head]
    members = bin_members(cell_shares(maps, n)[:, head], own, bins)
    mean = torch.stack([maps[part].clamp(min=0).mean(0) for part in members])
    rank = int(percentile / 100 * (mean.numel() - 1))
    scale = float(mean.flatten().sort().values[rank])
    shown = (mean / scale).clamp(max=1) if scale > 0 else mean
    example = [int(part[(len(part) - 1) // 2]) for part in members]
    return AggAtt(shown, scale, example, members, cell_shares(mean, n)[:, head])
