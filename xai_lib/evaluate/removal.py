"""Removing features: what they become, random sets, and reading what is left."""

import math
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.analyse.filters import gaussian_smooth
from xai_lib.attribute._copies import logits_of
from xai_lib.attribute._forward import fixed_target, rows_per_forward, split
from xai_lib.attribute.features import (
    Features,
    feature_labels,
    positions_of,
    without,
)
from xai_lib.evaluate.subsets import check_sizes, random_subsets


def output_changes(
    model: nn.Module,
    x: Tensor,
    target: Target,
    n: int | Tensor,
    n_subsets: int = 100,
    features: Features = "pixels",
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the subsets that Sensitivity-n draws, and the logit's fall without each.

    Parameters
    ----------
    As `sensitivity_n`.

    Returns
    -------
    subsets : Tensor, bool, shape (B, n_subsets, H, W): True where x is set to zero
    falls : Tensor, shape (B, n_subsets): d_k = S_c(x) - S_c(x without subset k)

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> subsets, d = output_changes(net, torch.rand(1, 1, 2, 2), torch.tensor([0]), 3)
    >>> subsets.shape, d.shape, subsets.sum((2, 3)).unique()
    (torch.Size([1, 100, 2, 2]), torch.Size([1, 100]), tensor([3]))
    """
    check_call(model, x, target)
    labels, counts = feature_labels(x, features)
    sizes = check_sizes(torch.as_tensor(n).reshape(1, -1), counts)[0]  # (B,)
    remove = removals(model, x, target, labels, counts, n_subsets, seed)
    subsets, falls = [], []
    for i, own in enumerate(sizes.tolist()):
        S, before, after = remove(i, own)
        subsets.append(positions_of(S.to(x.device), labels[i]))
        falls.append((before - after).to(x.device))
    return torch.stack(subsets), torch.stack(falls)


def removals(model, x, target, labels, counts, n_subsets, seed) -> Callable:
    """Return a function (image, n) -> subsets (k, K), logit (1,), logits without (k,).

    All on the CPU, where the subsets are drawn.
    """
    check_subsets(n_subsets)
    read = reader(model, x, target, labels)

    def remove(i: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        S = random_subsets(int(counts[i]), n, n_subsets, own_seed(x[i], seed, n))
        return S, *read(i, S)

    return remove


def check_subsets(n_subsets: int) -> None:
    """Refuse fewer subsets than a correlation needs."""
    if not n_subsets >= 3:
        raise ValueError(f"n_subsets must be at least 3, got {n_subsets}")


def own_seed(image: Tensor, seed: int, what: object) -> int:
    """Return a seed that depends on an image's values, a seed, and what is drawn."""
    values = image.detach().float().cpu().numpy().tobytes()
    return zlib.crc32(f"{seed} {what}".encode(), zlib.crc32(values))


SCORES = {
    "logit": lambda logits: logits,
    "probability": lambda logits: logits.softmax(1),
}
"""What is read of the logits (R, classes) for the target class."""


def reader(model, x, target, labels, ends=None, score="logit") -> Callable:
    """Return a function (image, subsets (k, K)) -> score (1,), scores without (k,).

    ends (B, C, H, W) is what removed positions become; None is zero.
    """
    _, whole = split(model, x, None)
    c, per_pass = fixed_target(model, x, target), rows_per_forward(model, x)

    def tail(h: Tensor, rows: Tensor) -> Tensor:
        return SCORES[score](whole(h, rows))

    before = [logits_of(tail, x[i : i + 1], i, c).cpu() for i in range(len(x))]
    for i, score_of_all in enumerate(before):
        _check_logits(score_of_all, i)

    def read(i: int, S: Tensor) -> tuple[Tensor, Tensor]:
        end, parts = None if ends is None else ends[i], math.ceil(len(S) / per_pass)
        after = [
            logits_of(tail, without(x[i], positions_of(part, labels[i]), end), i, c)
            for part in S.to(x.device).chunk(parts)
        ]
        after = torch.cat(after).cpu()
        _check_logits(after, i)
        return before[i], after

    return read


def _check_logits(scores: Tensor, image: int) -> None:
    if not scores.isfinite().all():
        wanted = "the model must return finite logits"
        raise ValueError(f"{wanted}, got NaN or infinity for image {image}")


BASELINES = {
    "zero": torch.zeros_like,
    "mean": lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
    "blur": lambda x: gaussian_smooth(x, blur_kernel(x.shape[2:]), "renormalise"),
}
"""What a removed pixel becomes, in the units of the normalised input."""


def ends_of(baseline: str, x: Tensor) -> Tensor | None:
    """Return what x's pixels become, as `without` takes it: None for zero."""
    return None if baseline == "zero" else BASELINES[baseline](x)


def blur_kernel(size: tuple[int, int]) -> int:
    """Return the kernel of the baseline "blur": a quarter of the shorter side, odd.

    Examples
    --------
    >>> blur_kernel((32, 32)), blur_kernel((224, 256))
    (9, 57)
    """
    return 2 * max(1, min(size) // 8) + 1


def runs(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return where runs of equal images and targets begin, (R,), and the run of each.

    So several maps of one image share passes that do not depend on the map.

    Examples
    --------
    >>> runs(torch.tensor([5.0, 5.0, 7.0]), torch.tensor([1, 1, 1]))
    (tensor([0, 2]), tensor([0, 0, 1]))
    """
    new = [
        k == 0 or bool(c[k] != c[k - 1]) or not torch.equal(x[k], x[k - 1])
        for k in range(len(x))
    ]
    new = torch.tensor(new, device=x.device)
    return new.nonzero()[:, 0], new.cumsum(0) - 1
