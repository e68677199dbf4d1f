"""Intervals over images."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

Statistic = str | Callable[[Tensor], Tensor]

_STATISTICS = {
    "mean": lambda values: values.mean(dim=1),
    "median": lambda values: values.quantile(0.5, dim=1),
}
_PADDED = {
    _STATISTICS["mean"]: lambda values: values.nanmean(dim=1),
    _STATISTICS["median"]: lambda values: values.nanquantile(0.5, dim=1),
}
"""The same where NaN stands for no value."""
_CHUNK = 4_000_000  # values held at once


def bootstrap(
    values: Tensor | Sequence[float],
    statistic: Statistic = "mean",
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    groups: Tensor | Sequence[int] | None = None,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic over images.

    Parameters
    ----------
    values : (N,) tensor, array or sequence, N >= 2
        One finite value per image.
    statistic : "mean", "median" or callable
        A callable takes (R, N) resampled values and returns (R,) statistics.
    n_resamples : int
        Number of resamples R, drawn with replacement.
    level : float
        Coverage of the interval, between 0 and 1.
    seed : int
        Seed of the resampling; the same seed gives the same interval.
    groups : (N,) of int, optional
        Values of one group are drawn together, for instance the heads of one grid.

    Returns
    -------
    (float, float)
        Lower and upper end.

    Notes
    -----
    Images, or groups, are the units that are resampled; whatever was averaged inside an
    image (subsets, perturbations, methods) stays as it is. The percentile interval is
    used, without bias correction. It is too narrow for few values: the interval of the
    mean of normal numbers misses it 16 times in 100 with 5 of them, 10 times with 10, 7
    with 25 or 50, for a level of 0.95. The median of an even number of values is the
    mean of the middle two, as in numpy and unlike `torch.median`.

    Examples
    --------
    >>> low, high = bootstrap([0.1, 0.3, 0.2, 0.4, 0.2])
    >>> low < 0.24 < high
    True
    """
    data = _as_values(values)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    statistic, members = _as_statistic(statistic), _as_members(groups, len(data))
    if members is None:
        replicates = _resample(data, statistic, n_resamples, seed)
    else:
        pick = partial(_of_groups, data, statistic, members)
        numbers = torch.arange(len(members), dtype=torch.float64)
        replicates = _resample(numbers, pick, n_resamples, seed)
    tail = (1 - level) / 2
    ends = replicates.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return float(ends[0]), float(ends[1])


def _as_values(values: Tensor | Sequence[float]) -> Tensor:
    data = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if data.ndim != 1 or len(data) < 2:
        wanted = "values must have shape (N,) with N >= 2"
        raise ValueError(f"{wanted}, got {tuple(data.shape)}")
    if not data.isfinite().all():
        bad = (~data.isfinite()).nonzero().flatten().tolist()
        raise ValueError(f"values must be finite, got NaN or infinity at {bad}")
    return data


def _as_members(groups, count: int) -> list[Tensor] | None:
    """Return the places of each group's values, or None where each is its own."""
    if groups is None:
        return None
    groups = torch.as_tensor(groups).flatten()
    if len(groups) != count:
        raise ValueError(f"groups must have shape ({count},), got ({len(groups)},)")
    names, place = groups.unique(return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups must be at least 2, got 1")
    return [(place == k).nonzero().flatten() for k in range(len(names))]


def _of_groups(data: Tensor, statistic, members: list[Tensor], drawn: Tensor) -> Tensor:
    """Return the statistic (R,) of all values of the drawn groups (R, G)."""
    drawn = drawn.long()
    if len({len(part) for part in members}) == 1:
        places = torch.stack(members)[drawn].flatten(1)  # (R, N)
        return torch.as_tensor(statistic(data[places]))
    without_nan = next((f for own, f in _PADDED.items() if own is statistic), None)
    if without_nan is not None:
        padded = torch.cat([data, data.new_full((1,), math.nan)])
        places = torch.nn.utils.rnn.pad_sequence(members, True, len(data))  # (G, most)
        parts = drawn.split(max(1, _CHUNK // places.numel()))
        samples = (padded[places[part].flatten(1)] for part in parts)
        return torch.cat([without_nan(sample) for sample in samples])
    rows = [torch.cat([members[k] for k in row]) for row in drawn.tolist()]
    return torch.cat([torch.as_tensor(statistic(data[row][None])) for row in rows])


def _as_statistic(statistic: Statistic) -> Callable[[Tensor], Tensor]:
    if callable(statistic):
        return statistic
    if statistic not in _STATISTICS:
        names = ", ".join(_STATISTICS)
        raise ValueError(f"statistic must be {names} or callable, got {statistic!r}")
    return _STATISTICS[statistic]


def _resample(
    data: Tensor, statistic: Callable[[Tensor], Tensor], n_resamples: int, seed: int
) -> Tensor:
    rows, parts = max(1, _CHUNK // len(data)), []
    whole = n_resamples <= rows
    drawn = _drawn_whole if whole else partial(_drawn, rows=rows)
    for index in drawn(len(data), n_resamples, seed):  # (R, N)
        sample = data.index_select(0, index.flatten()).view(index.shape)
        part = torch.as_tensor(statistic(sample), dtype=torch.float64)
        if part.shape != index.shape[:1]:
            wanted = f"statistic must map {tuple(index.shape)} to ({len(index)},)"
            raise ValueError(f"{wanted}, got {tuple(part.shape)}")
        parts.append(part)
    replicates = torch.cat(parts)
    if math.isnan(replicates.sum()):
        raise ValueError("statistic must be finite on every resample, got NaN")
    return replicates


def _drawn(count: int, n_resamples: int, seed: int, rows: int) -> Iterator[Tensor]:
    """Yield the places (R, N) that are drawn, at most so many rows at once."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, n_resamples, rows):
        size = (min(rows, n_resamples - start), count)
        yield torch.randint(count, size, generator=generator).int()


@lru_cache(maxsize=4)
def _drawn_whole(count: int, n_resamples: int, seed: int) -> list[Tensor]:
    """Return `_drawn` in one piece: a table of intervals draws the same each time."""
    return [*_drawn(count, n_resamples, seed, n_resamples)]
