"""Every metric of the grid as data: what it reads, and which side is better."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_lib.analyse import high_frequency_ratio, low_pass, rectified_low_pass
from xai_lib.attribute import channel_sum
from xai_lib.evaluate import (
    deletion,
    faithfulness,
    insertion,
    region_falls,
    region_rank_correlation,
    sensitivity_curve,
    stability,
)
from xai_lib.evaluate.removal import runs

KEPT = 32  # images whose regions and falls are kept, 10 MB each at 224 pixels
_FALLS: WeakKeyDictionary[nn.Module, OrderedDict] = WeakKeyDictionary()


def rectified(maps: Tensor, cutoff: float, kind: str = "disc") -> Tensor:
    """Return `rectified_low_pass` of maps; for ``math.inf`` without any filter.

    Examples
    --------
    >>> rectified(torch.tensor([1.0, -4.0]).view(1, 2, 1, 1), math.inf).item()
    1.5
    """
    if cutoff == math.inf:
        return maps.mean(1, keepdim=True).abs()
    return rectified_low_pass(maps, cutoff, kind)


def signed(maps: Tensor, cutoff: float, kind: str = "disc") -> Tensor:
    """Return `low_pass` of the sum over channels; for ``math.inf`` the sum alone.

    Examples
    --------
    >>> signed(torch.tensor([1.0, -4.0]).view(1, 2, 1, 1), math.inf).item()
    -3.0
    """
    total = channel_sum(maps)
    return total if cutoff == math.inf else low_pass(total, cutoff, kind)


READINGS: dict[str, Callable[..., Tensor]] = {"rectified": rectified, "signed": signed}
"""From signed maps (B, C, H, W), a cutoff and a kind of filter to (B, 1, H, W)."""


@dataclass(frozen=True)
class Metric:
    """A metric with its settings.

    Attributes
    ----------
    label : its name in a figure
    function : ``(model, x, maps, target, **settings)`` -> (B,), one value per image;
        for several maps of one image, ``x.expand(M, -1, -1, -1)`` and
        ``target.expand(M)``. Where `needs` is "method", a callable with the common
        signature stands in the place of the maps
    better : "higher", "lower", or "neither" for what describes and does not rank
    reading : what it wants of a map, a name in `READINGS`
    settings : what differs from the function's defaults
    needs : "maps" or "method"
    parts : two metrics of which this is the first minus the second
    """

    label: str
    function: Callable[..., Tensor]
    better: str
    reading: str
    settings: dict = field(default_factory=dict)
    needs: str = "maps"
    parts: tuple[str, ...] = ()


def _mu_fidelity(
    model,
    x,
    maps,
    target,
    n_subsets=200,
    grid=9,
    p=0.2,
    baseline="zero",
    seed=0,
    score="logit",
) -> Tensor:
    """As `mu_fidelity`, with the falls of the last images kept for the next method."""
    own = n_subsets, grid, p, baseline, seed, score
    first, run = runs(x, target)
    parts = [
        region_rank_correlation(
            maps[run == k], *_falls(model, x[i : i + 1], target[i : i + 1], own)
        )
        for k, i in enumerate(first.tolist())
    ]
    return torch.cat(parts)


def _falls(model: nn.Module, x: Tensor, target: Tensor, own: tuple) -> tuple:
    """Return `region_falls` of one image; the last `KEPT` ones are not run again."""
    held = _FALLS.setdefault(model, OrderedDict())
    key = digest(x), int(target), own
    if key not in held:
        held[key] = region_falls(model, x, target, *own)
        if len(held) > KEPT:
            held.popitem(last=False)
    return held[key]


def forget_falls() -> None:
    """Let go of what `_falls` keeps, as when weights change in place."""
    _FALLS.clear()


def digest(*tensors: Tensor) -> str:
    """Return a hash of the values of tensors.

    Examples
    --------
    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)) != digest(torch.ones(2))
    True
    """
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:20]


def _sensitivity_n(
    model, x, maps, target, share=0.1, n_subsets=100, features="pixels", seed=0
) -> Tensor:
    """As `sensitivity_n`, n a share of the pixels; maps of one image share passes."""
    n = max(1, round(share * maps[0, 0].numel()))
    (first, run), found = runs(x, target), []
    for k, i in enumerate(first.tolist()):
        named = {str(m): R[None] for m, R in enumerate(maps[run == k])}
        call = model, x[i : i + 1], target[i : i + 1], named, [n]
        curves = sensitivity_curve(*call, n_subsets, features, seed)
        found += [curve[0] for curve in curves.values()]
    return torch.cat(found)


def _stability(
    model, x, method, target, n_neighbours=20, radius=0.1, seed=0, normalise=False
) -> Tensor:
    own = n_neighbours, radius, seed, normalise
    return stability(model, x, target, method, *own)


def _high_frequency_ratio(model, x, maps, target, above=0.25, window="hann") -> Tensor:
    return high_frequency_ratio(maps, above, window=window)


METRICS: dict[str, Metric] = {
    "deletion": Metric("Deletion", deletion, "lower", "rectified"),
    "insertion": Metric("Insertion", insertion, "higher", "rectified"),
    "faithfulness": Metric(
        "Faithfulness",
        faithfulness,
        "higher",
        "rectified",
        parts=("insertion", "deletion"),
    ),
    "mu_fidelity": Metric("muFidelity", _mu_fidelity, "higher", "rectified"),
    "stability": Metric(
        "Stability", _stability, "lower", "rectified", {"normalise": True}, "method"
    ),
    "sensitivity_n": Metric("Sensitivity-n", _sensitivity_n, "higher", "signed"),
    "high_frequency_ratio": Metric(
        "High-frequency ratio", _high_frequency_ratio, "neither", "signed"
    ),
}
"""Every metric of the grid by name.

"rectified" is how the public code of [muzellec2024]_ reads a map, "signed" what
[ancona2018]_ define Sensitivity-n for. Stability compares maps of length 1, so that
methods in different units compare; a map that is far above zero everywhere, such as
RISE's, looks stable by that alone. Localisation is not here: GridPG, DiFull and DiPart
score a grid of images, with a class for each cell, and not one image.
"""
