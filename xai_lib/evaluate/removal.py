"""Removing random sets of features, and reading the logit that is left."""

import math
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
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
    if not n_subsets >= 3:
        raise ValueError(f"n_subsets must be at least 3, got {n_subsets}")
    _, tail = split(model, x, None)
    c, per_pass = fixed_target(model, x, target), rows_per_forward(model, x)
    parts = math.ceil(n_subsets / per_pass)
    own = [zlib.crc32(image.float().cpu().numpy().tobytes()) for image in x]
    before = [logits_of(tail, x[i : i + 1], i, c).cpu() for i in range(len(x))]

    def remove(i: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = zlib.crc32(f"{seed} {n}".encode(), own[i])
        S = random_subsets(int(counts[i]), n, n_subsets, drawn)
        after = [
            logits_of(tail, without(x[i], positions_of(part, labels[i])), i, c)
            for part in S.to(x.device).chunk(parts)
        ]
        after = torch.cat(after).cpu()
        if not after.isfinite().all():
            wanted = "the model must return finite logits"
            raise ValueError(f"{wanted}, got NaN or infinity for image {i}")
        return S, before[i], after

    return remove
