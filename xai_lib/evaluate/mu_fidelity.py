"""muFidelity: do a map's sums rank random regions as the falls of the score do?"""

import math

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice, check_positive
from xai_lib.attribute._forward import fixed_target
from xai_lib.attribute.features import grid_labels, positions_of
from xai_lib.evaluate.correlation import (
    ROUNDING,
    is_flat,
    one_channel,
    spearman,
    warn_of_undefined,
)
from xai_lib.evaluate.removal import (
    BASELINES,
    SCORES,
    check_subsets,
    ends_of,
    own_seed,
    reader,
    runs,
)
from xai_lib.evaluate.subsets import bernoulli_subsets

WHY = "all falls of the score, or all sums of the map, are equal"


def mu_fidelity(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    n_subsets: int = 200,
    grid: int = 9,
    p: float = 0.2,
    baseline: str = "zero",
    seed: int = 0,
    score: str = "logit",
) -> Tensor:
    """Return the rank correlation of a map's sums over regions with the score's falls.

    Parameters
    ----------
    model, x, target : as for every method; for several maps of one image,
        ``x.expand(M, -1, -1, -1)`` and ``target.expand(M)``: they share the passes
    maps : Tensor, signed, shape (B, C, H, W), summed over channels, or (B, 1, H, W) or
        (B, H, W); of x's height and width
    n_subsets : random regions per image
    grid : superpixels per side, rectangles (`grid_labels`)
    p : chance that a superpixel is removed, so regions differ in size
    baseline : what removed pixels become: "zero", "mean" or "blur", as for
        `deletion_curve`
    seed : of the regions
    score : "logit" or "probability" of the target

    Returns
    -------
    Tensor, shape (B,), in [-1, 1]; NaN, with a warning that counts them, where the
    correlation is undefined because all falls, or all sums, are equal up to rounding

    Notes
    -----
    For regions S_k: a_k = sum of R_i over i in S_k, d_k = S_c(x) - S_c(x without S_k),
    and the result is Spearman's correlation of a and d, ties at their mean rank. A
    constant map has a score too: it ranks regions by size. Every image has regions of
    its own, which depend on its values and the seed, not on the map: `region_falls`.
    Xplique, whose definition this is, has 0 for an undefined correlation, the regions
    of a batch in common and new ones for every map; it scores what the network
    returns, here the logit, unless a softmax is asked for.

    References
    ----------
    [bhatt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(20, 2)).eval()
    >>> x, c = torch.rand(1, 1, 4, 5), torch.tensor([0])
    >>> R = x * net[1].weight[0].detach().view(1, 1, 4, 5)
    >>> mu_fidelity(net.double(), x.double(), R.double(), c)  # a linear model
    tensor([1.], dtype=torch.float64)
    """
    check_call(model, x, target)
    R = one_channel({"map": maps}, x)[0]  # (B, H, W)
    c = fixed_target(model, x, target)
    settings = n_subsets, grid, p, baseline, seed, score
    found, (first, run) = [], runs(x, c)
    for k, i in enumerate(first.tolist()):
        one = slice(i, i + 1)
        regions, falls = region_falls(model, x[one], c[one], *settings)
        found.append(_correlation(R[run.cpu() == k], regions[0], falls[0]))
    found = torch.cat(found).to(x)
    warn_of_undefined(found, "muFidelity", WHY)
    return found


def region_falls(
    model: nn.Module,
    x: Tensor,
    target: Target,
    n_subsets: int = 200,
    grid: int = 9,
    p: float = 0.2,
    baseline: str = "zero",
    seed: int = 0,
    score: str = "logit",
) -> tuple[Tensor, Tensor]:
    """Return the regions that muFidelity draws, and the score's fall without each.

    Parameters
    ----------
    As `mu_fidelity`.

    Returns
    -------
    regions : Tensor, bool, shape (B, n_subsets, H, W): True where x is removed
    falls : Tensor, shape (B, n_subsets): d_k = S_c(x) - S_c(x without region k); all 0
        where they are equal up to rounding

    Notes
    -----
    The passes are what costs; a region drawn twice is run once.

    References
    ----------
    [bhatt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    >>> regions, d = region_falls(net, torch.rand(1, 1, 6, 6), torch.tensor([0]), 50, 3)
    >>> regions.shape, d.shape
    (torch.Size([1, 50, 6, 6]), torch.Size([1, 50]))
    """
    check_call(model, x, target)
    check_subsets(n_subsets)
    check_choice("baseline", baseline, BASELINES)
    check_choice("score", score, SCORES)
    check_positive(p=p)
    if p >= 1:
        raise ValueError(f"p must lie in (0, 1), got {p}")
    cells = grid_labels(tuple(x.shape[2:]), grid).to(x.device)  # (H, W)
    labels, ends = cells.expand(len(x), -1, -1), ends_of(baseline, x)
    read = reader(model, x, target, labels, ends, score)
    regions, falls = [], []
    for i, image in enumerate(x):
        S = bernoulli_subsets(
            int(cells.max()) + 1, p, n_subsets, own_seed(image, seed, p)
        )
        once, back = S.unique(dim=0, return_inverse=True)
        before, after = read(i, once)
        fall = (before - after)[back]
        if is_flat(after, torch.finfo(after.dtype).eps * after.abs()):
            fall = torch.zeros_like(fall)
        regions.append(positions_of(S.to(x.device), cells))
        falls.append(fall.to(x.device))
    return torch.stack(regions), torch.stack(falls)


def region_rank_correlation(maps: Tensor, regions: Tensor, falls: Tensor) -> Tensor:
    """Correlate the ranks of maps' sums over regions with those of the score's falls.

    Parameters
    ----------
    maps : Tensor, shape (B, H, W), or (B, C, H, W), which is summed over channels; or
        M maps of one image, where B is 1
    regions, falls : shape (B, n_subsets, H, W) and (B, n_subsets), of `region_falls`

    Returns
    -------
    Tensor, shape (B,), or (M,); as of `mu_fidelity`

    References
    ----------
    [bhatt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    >>> x, maps = torch.rand(1, 1, 6, 6), torch.randn(4, 6, 6)
    >>> regions, falls = region_falls(net, x, torch.tensor([0]))
    >>> region_rank_correlation(maps, regions, falls).shape
    torch.Size([4])
    """
    B, _, H, W = regions.shape
    if maps.ndim not in (3, 4) or maps.shape[-2:] != (H, W) or B not in (1, len(maps)):
        wanted = f"maps must have shape ({'M' if B == 1 else B}, {H}, {W})"
        raise ValueError(f"{wanted}, or with channels, got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError("maps must be finite, got NaN or infinity")
    R = maps.detach().double()
    R = R.sum(1) if R.ndim == 4 else R
    groups = R[None] if B == 1 else R[:, None]  # (B, M, H, W), M = 1 but for B = 1
    parts = [_correlation(*own) for own in zip(groups, regions, falls, strict=True)]
    found = torch.cat(parts).to(falls)
    warn_of_undefined(found, "muFidelity", WHY)
    return found


def _correlation(R: Tensor, S: Tensor, d: Tensor) -> Tensor:
    """Return Spearman's correlation (M,) for maps (M, H, W), regions (k, H, W)."""
    R, S = R.flatten(1), S.flatten(1).to(R)  # (M, H W), (k, H W)
    a, rounding = R @ S.T, torch.finfo(R.dtype).eps * (R.abs() @ S.T)  # (M, k)
    flat = is_flat(a, rounding) | (d.amax() == d.amin()).to(a.device)
    slack = ROUNDING * rounding.amax(-1, keepdim=True)
    return spearman(a, d.to(R), slack).masked_fill(flat, math.nan)
