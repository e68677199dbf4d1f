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
from xai_lib.attribute.features import feature_labels, feature_sums
from xai_lib.evaluate import (
    deletion,
    faithfulness,
    insertion,
    random_logit,
    region_falls,
    region_rank_correlation,
    stability,
)
from xai_lib.evaluate.correlation import one_channel, subset_correlation
from xai_lib.evaluate.removal import removals, runs
from xai_lib.evaluate.subsets import check_sizes

KEPT = 32  # falls of images that are kept, 10 MB each at 224 pixels
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
            maps[run == k], *_kept(region_falls, model, x, target, i, own)
        )
        for k, i in enumerate(first.tolist())
    ]
    return torch.cat(parts)


def _sensitivity_n(
    model, x, maps, target, share=0.1, n_subsets=100, features="pixels", seed=0
) -> Tensor:
    """As `sensitivity_n`, n a share of the pixels, with the falls kept likewise."""
    own = max(1, round(share * maps[0, 0].numel())), n_subsets, features, seed
    R = one_channel({"maps": maps}, maps)[0]  # (B, H, W)
    (first, run), found = runs(x, target), maps.new_empty(len(maps), dtype=torch.double)
    for k, i in enumerate(first.tolist()):
        labels, *falls = _kept(_pixel_falls, model, x, target, i, own)
        sums = feature_sums(R[run.cpu() == k].flatten(1), labels)  # (M, K)
        eps = torch.finfo(maps.dtype).eps
        found[run == k] = subset_correlation(sums, *falls, eps).to(found)
    return found.to(x)


def _pixel_falls(model, x, target, n, n_subsets, features, seed) -> tuple:
    """Return labels (H, W), subsets (k, K), the logit, and the logits without them."""
    labels, counts = feature_labels(x, features)
    remove = removals(model, x, target, labels, counts, n_subsets, seed)
    return labels[0].cpu(), *remove(0, *check_sizes([n], counts)[0].tolist())


def _kept(compute: Callable, model, x: Tensor, target: Tensor, i: int, own: tuple):
    """Return what depends on one image and not on its map; the last `KEPT` are kept."""
    held, one = _FALLS.setdefault(model, OrderedDict()), slice(i, i + 1)
    key = compute.__name__, digest(x[one]), int(target[i]), own
    if key not in held:
        held[key] = compute(model, x[one], target[one], *own)
        if len(held) > KEPT:
            held.popitem(last=False)
    return held[key]


def forget_falls() -> None:
    """Let go of what `_kept` keeps, as when weights change in place."""
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


def _stability(
    model, x, method, target, n_neighbours=20, radius=0.1, seed=0, normalise=False
) -> Tensor:
    own = n_neighbours, radius, seed, normalise
    return stability(model, x, target, method, *own)


def _random_logit(model, x, method, target, seed=0) -> Tensor:
    """As `random_logit`, an image at a time."""
    each = zip(x.split(1), target.split(1), strict=True)
    return torch.cat([random_logit(model, a, c, method, seed) for a, c in each])


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
    "random_logit": Metric(
        "Other class", _random_logit, "lower", "rectified", needs="method"
    ),
    "high_frequency_ratio": Metric(
        "High-frequency ratio", _high_frequency_ratio, "neither", "signed"
    ),
}
"""Every metric of the grid by name.

"rectified" is how the public code of [muzellec2024]_ reads a map, "signed" what
[ancona2018]_ define Sensitivity-n for. Stability compares maps of length 1, so that
methods in different units compare; a map that is far above zero everywhere, such as
RISE's, looks stable by that alone. `random_logit` compares the map with that of another
class: 1 for a method that ignores the class. Localisation is not here: GridPG, DiFull
and DiPart score a grid of images, with a class for each cell, and not one image.
"""
