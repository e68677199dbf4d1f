"""Sensitivity-n: do sums of a map follow the logit when their features are gone?"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.assets.progress import LateProgress
from xai_lib.attribute.features import Features, feature_labels, feature_sums
from xai_lib.evaluate.correlation import (
    one_channel,
    subset_correlation,
    warn_of_undefined,
)
from xai_lib.evaluate.removal import removals
from xai_lib.evaluate.subsets import check_sizes


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
    sums, eps = one_channel(maps, x), _roundings(maps)
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
    why = "all falls of the logit, or all sums of the map, are equal"
    warn_of_undefined(found, "Sensitivity-n", why)
    return dict(zip(maps, found.to(x), strict=True))


def _roundings(maps: Mapping[str, Tensor]) -> Tensor:
    kinds = [R.dtype if R.is_floating_point() else torch.float64 for R in maps.values()]
    return torch.tensor([[torch.finfo(kind).eps] for kind in kinds]).double()  # (M, 1)
