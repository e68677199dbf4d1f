"""Sensitivity-n: do sums of a map follow the logit when their features are gone?"""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.assets.progress import LateProgress
from xai_lib.attribute.features import Features, feature_labels, feature_sums
from xai_lib.evaluate.linear import pearson
from xai_lib.evaluate.removal import removals
from xai_lib.evaluate.subsets import check_sizes

ROUNDING = 8.0
"""Values that lie within so many roundings of each other count as equal."""


def sensitivity_n(
    model: nn.Module,
    x: Tensor,
    target: Target,
    maps: Tensor,
    n: int | Tensor,
    n_subsets: int = 100,
    features: Features = "pixels",
    seed: int = 0,
) -> Tensor:
    """Return the correlation of a map's sums with the logit's falls, n features a time.

    Parameters
    ----------
    model, x, target : as for every method
    maps : Tensor, signed, shape (B, C, H, W), summed over channels, or (B, 1, H, W) or
        (B, H, W); of x's height and width
    n : how many features are removed together, below the number of features; one for
        all images or a tensor (B,)
    n_subsets : random subsets per image
    features : "pixels": a feature is a position with all its channels, so for a text
        (B, E, 1, T) a token. Or labels of shape (H, W) or (B, H, W): 0..K-1 for
        superpixels or tokens, -1 for what is never removed; K may differ per image
    seed : of the subsets

    Returns
    -------
    Tensor, shape (B,), in [-1, 1]; NaN, with a warning that counts them, where the
    correlation is undefined because all falls, or all sums, are equal up to rounding

    Raises
    ------
    ValueError
        if n is not below the number of features: of all of them there is one subset

    Notes
    -----
    For random subsets S_k of n features, drawn without replacement, with S_c the logit:
    a_k = sum of R_i over i in S_k, d_k = S_c(x) - S_c(x with x_i = 0 for i in S_k), and
    the result is Pearson's correlation of a and d. Zero is meant in the units of the
    normalised input. Every image has subsets of its own, which depend on its values, n
    and the seed, not on the other images. `sensitivity_curve` scores several maps and n
    with the same passes. Quantus means something else by the name
    (`quantus_sensitivity_n`); captum has no Sensitivity-n.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> R = x * net[1].weight[0].detach().view(1, 1, 2, 2)
    >>> sensitivity_n(net, x, c, R, n=2).round(decimals=5)  # a linear model
    tensor([1.])
    """
    sizes = torch.as_tensor(n).reshape(1, -1)  # (1, 1) or (1, B)
    call = model, x, target, {"map": maps}, sizes, n_subsets, features, seed
    return sensitivity_curve(*call)["map"][0]


def sensitivity_curve(
    model: nn.Module,
    x: Tensor,
    target: Target,
    maps: Mapping[str, Tensor],
    sizes: Sequence[int] | Tensor,
    n_subsets: int = 100,
    features: Features = "pixels",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return Sensitivity-n of several maps at several n.

    Parameters
    ----------
    model, x, target, n_subsets, features, seed : as `sensitivity_n`
    maps : the maps by name, each as for `sensitivity_n`
    sizes : P values of n, for instance `subset_sizes`; a tensor (P, B) for values of
        each image's own

    Returns
    -------
    dict, name -> Tensor (P, B), as of `sensitivity_n`

    Raises
    ------
    ValueError
        as `sensitivity_n`

    Notes
    -----
    The passes, B P n_subsets of them, are what costs; the maps share them, and are
    compared on the same subsets. A line on stderr shows the progress after 2 seconds.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> curve = sensitivity_curve(net, x, c, {"x": x, "-x": -x}, [1, 2, 3])
    >>> curve["x"].shape, torch.equal(curve["x"], -curve["-x"])
    (torch.Size([3, 1]), True)
    """
    check_call(model, x, target)
    labels, counts = feature_labels(x, features)
    sums, eps = _one_channel(maps, x), _roundings(maps)
    sizes = check_sizes(sizes, counts)  # (P, B)
    remove = removals(model, x, target, labels, counts, n_subsets, seed)
    line = LateProgress("Sensitivity-n", sizes.numel() * n_subsets, "passes")
    found = torch.empty(len(maps), *sizes.shape, dtype=torch.float64)  # (M, P, B)
    for i, own in enumerate(sizes.T.tolist()):
        R = feature_sums(sums[:, i].flatten(1), labels[i].cpu())  # (M, K)
        for p, n in enumerate(own):
            found[:, p, i] = subset_correlation(R, *remove(i, n), eps)
            line.more(n_subsets)
    line.end()
    _warn_of_undefined(found)
    return dict(zip(maps, found.to(x), strict=True))


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
    flat = _flat(a, eps * (R.abs() @ S.T))
    flat |= _flat(after, torch.finfo(after.dtype).eps * after.abs())
    return pearson(a, d).masked_fill(flat, math.nan)


def _flat(values: Tensor, rounding: Tensor) -> Tensor:
    """Return whether the last dimension's values are equal up to rounding."""
    return values.amax(-1) - values.amin(-1) <= ROUNDING * rounding.amax(-1)


def _one_channel(maps: Mapping[str, Tensor], x: Tensor) -> Tensor:
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


def _roundings(maps: Mapping[str, Tensor]) -> Tensor:
    kinds = [R.dtype if R.is_floating_point() else torch.float64 for R in maps.values()]
    return torch.tensor([[torch.finfo(kind).eps] for kind in kinds]).double()  # (M, 1)


def _warn_of_undefined(found: Tensor) -> None:
    lost = int(found.isnan().sum())
    if lost:
        warnings.warn(
            f"Sensitivity-n is undefined, NaN, for {lost} of {found.numel()}: all "
            "falls of the logit, or all sums of the map, are equal; mean_of_defined "
            "drops and counts them",
            stacklevel=3,
        )
