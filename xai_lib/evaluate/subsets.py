"""Random subsets of features, their sizes, and means over what is defined."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from xai_lib._check import check_choice, check_positive

SPACINGS = {
    "linear": lambda last, points: torch.linspace(1, last, points, dtype=torch.float64),
    "log": lambda last, points: torch.logspace(
        0, math.log10(last), points, dtype=torch.float64
    ),
}
"""How `subset_sizes` divides the way from 1 to the largest n."""


def random_subsets(features: int, n: int, n_subsets: int, seed: int) -> Tensor:
    """Draw subsets of n features, each without replacement.

    Parameters
    ----------
    features : how many there are
    n : how many each subset holds
    n_subsets : how many subsets; two may be the same
    seed : of the draw

    Returns
    -------
    Tensor, bool, shape (n_subsets, features)

    Examples
    --------
    >>> random_subsets(5, 2, 3, seed=0).sum(1)
    tensor([2, 2, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    ranks = (torch.randperm(features, generator=generator) for _ in range(n_subsets))
    return torch.stack([rank < n for rank in ranks])


def bernoulli_subsets(features: int, p: float, n_subsets: int, seed: int) -> Tensor:
    """Draw subsets that hold each feature with the chance p, so of different sizes.

    Returns
    -------
    Tensor, bool, shape (n_subsets, features)

    Examples
    --------
    >>> bernoulli_subsets(81, 0.2, 3, seed=0).shape
    torch.Size([3, 81])
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_subsets, features, generator=generator) < p


def subset_sizes(
    features: int | Tensor, points: int = 16, most: float = 0.8, spacing: str = "linear"
) -> Tensor:
    """Return the grid of n: whole numbers from 1 to a share of the features.

    Parameters
    ----------
    features : how many there are; a tensor (B,) for a grid of each image's own, where
        their numbers differ
    points : how many values; fewer come where rounding makes neighbours equal
    most : the largest n as a share of the features, below 1
    spacing : "linear" or "log"

    Returns
    -------
    Tensor, long, shape (points,), or (points, B)

    Notes
    -----
    The paper goes from 1 to about 80%; its spacing is not known to us.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> subset_sizes(100, points=5)
    tensor([ 1, 21, 40, 60, 80])
    >>> subset_sizes(100, points=5, spacing="log")
    tensor([ 1,  3,  9, 27, 80])
    """
    check_positive(points=points, most=most)
    check_choice("spacing", spacing, SPACINGS)
    if most >= 1:
        raise ValueError(f"most must lie in (0, 1), got {most}")
    counts = torch.as_tensor(features)
    if counts.min() < 2:
        raise ValueError(f"features must be at least 2, got {counts.min()}")
    last = [max(1, math.floor(most * count + 1e-9)) for count in counts.view(-1)]
    columns = [SPACINGS[spacing](end, points) for end in last]
    grid = torch.stack(columns, 1).round().long()  # (points, B)
    return torch.unique_consecutive(grid, dim=0).view(-1, *counts.shape)


def check_sizes(sizes: Sequence[int] | Tensor, counts: Tensor) -> Tensor:
    """Return values of n as (P, B), below each image's count of features (B,).

    Examples
    --------
    >>> check_sizes([1, 2], torch.tensor([3, 4]))
    tensor([[1, 1],
            [2, 2]])
    """
    sizes = torch.as_tensor(sizes).cpu()
    if sizes.is_floating_point() or sizes.dtype == torch.bool:
        raise TypeError(f"n must be whole numbers, got {sizes.dtype}")
    given = tuple(sizes.shape)
    sizes = sizes[:, None] if sizes.ndim == 1 else sizes
    if sizes.ndim != 2 or not sizes.numel() or sizes.shape[1] not in (1, len(counts)):
        raise ValueError(f"n must have shape (P,) or (P, {len(counts)}), got {given}")
    sizes = sizes.long().expand(len(sizes), len(counts))
    if sizes.min() < 1:
        raise ValueError(f"n must be at least 1, got {sizes.min()}")
    for n, image in (sizes >= counts).nonzero()[:1].tolist():
        n, count = int(sizes[n, image]), int(counts[image])
        why = "; all features make one subset, and no correlation" * (n == count)
        raise ValueError(
            f"n must be below the number of features, {count} in image {image}, "
            f"got {n}{why}"
        )
    return sizes


def mean_of_defined(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return means over images that leave NaN out, and how many were left out.

    Parameters
    ----------
    values : Tensor, shape (..., B)

    Returns
    -------
    mean : Tensor, shape (...); NaN where no value is left, and so dropped equals B
    dropped : Tensor, long, shape (...)

    Examples
    --------
    >>> mean_of_defined(torch.tensor([0.5, float("nan"), 0.7]))
    (tensor(0.6000), tensor(1))
    """
    return values.nanmean(-1), values.isnan().sum(-1)
