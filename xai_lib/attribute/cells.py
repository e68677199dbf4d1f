"""Sobol and HSIC: how much a logit depends on each cell of a grid of masks."""

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from xai_lib._check import Target, check_call, check_choice, check_positive
from xai_lib.attribute._copies import check_map, rows_of, score_copies
from xai_lib.attribute._forward import (
    fixed_target,
    reference_input,
    rows_per_forward,
    select,
    split,
)
from xai_lib.attribute.features import grid_labels


def sobol(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    grid: int = 8,
    n_designs: int = 32,
    baseline: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return each cell's total Sobol index: its share of the logit's variance.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    grid : cells per side, as `grid_labels` cuts them
    n_designs : pairs of masks per cell, at least 2; a power of two balances the masks
    baseline : Tensor that broadcasts to x (or to the layer's output); None is zero
    seed : of the masks; every image meets the same ones

    Returns
    -------
    Tensor, non-negative, shape (B, 1, H, W); every position has its cell's index

    Notes
    -----
    A mask m has one uniform value in [0, 1] per cell; m x + (1 - m) baseline is scored.
    A cell's index counts its own effect on the variance of the logit and its part in
    all interactions. It has no sign: it does not tell evidence for the class from
    evidence against it. The indices add up to 1 when cells do not interact, to more
    otherwise; a logit that never changes gets zeros. n_designs (K + 1) forward passes
    for K cells.

    A and B are the even and the odd coordinates of one scrambled Sobol sequence in 2 K
    dimensions, C_i is A with B's column i. The draw of 32 designs for 64 cells alone
    moves an index by 15 % (standard deviation; independent random masks, 21 %). Xplique
    takes the first and the second half of the coordinates, unscrambled, and enlarges
    the map by bicubic interpolation; here the cells stay to be seen.

    References
    ----------
    [fel2021]_, [jansen1999]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> net[1].weight.data[0] = torch.tensor([0.0, 1.0, 0.0, -2.0])
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> sobol(net, x, c, grid=2, n_designs=1024).flatten().round(decimals=2)
    tensor([0.0000, 0.2000, 0.0000, 0.8000])
    """
    check_call(model, x, target)
    check_positive(grid=grid)
    if n_designs < 2:
        raise ValueError(f"n_designs must be at least 2, got {n_designs}")
    h, tail = split(model, x, layer)
    check_map(h, "sobol", layer)
    labels = grid_labels(tuple(h.shape[2:]), grid).to(h.device)
    K = int(labels.max()) + 1
    points = SobolEngine(2 * K, scramble=True, seed=seed).draw(n_designs)
    A, B = points[:, ::2], points[:, 1::2]  # (n, K) both
    cells = torch.arange(K)

    def masks(numbers: Tensor) -> Tensor:
        swapped, row = numbers // n_designs - 1, numbers % n_designs  # -1: none, A
        return torch.where(cells == swapped[:, None], B[row], A[row])

    n = n_designs * (K + 1)
    f = _logits((model, x, target), (h, tail), baseline, labels, masks, n)
    f = f.view(K + 1, n_designs, len(x))
    return total_indices(f[0], f[1:])[:, None, labels]


def total_indices(f_A: Tensor, f_C: Tensor) -> Tensor:
    """Return Jansen's total indices: sum_j (f(A)_j - f(C_i)_j)^2 / (2 n Var f(A)).

    f_A has shape (n, B), f_C (K, n, B), the indices (B, K). The variance divides by
    n - 1; where it is 0, so are the indices.

    References
    ----------
    [jansen1999]_

    Examples
    --------
    >>> f_A, f_C = torch.tensor([[0.0], [2.0]]), torch.tensor([[[2.0], [2.0]]])
    >>> total_indices(f_A, f_C)  # 4 / (2 * 2 * 2)
    tensor([[0.5000]])
    """
    variance = f_A.var(0)  # (B,)
    caused = (f_A - f_C).square().mean(1) / 2  # (K, B)
    return torch.where(variance > 0, caused / variance, 0).T


def hsic(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    grid: int = 8,
    n_masks: int = 500,
    bandwidth: str = "outputs",
    baseline: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return how much the logit depends on whether each cell is shown: their HSIC.

    Parameters
    ----------
    model, x, target, layer, grid, baseline : as `sobol`
    n_masks : number of binary masks, half of the cells shown in each on average; a
        power of two balances them exactly
    bandwidth : of the kernel of the logits, "outputs": the median of the logits, or
        "distances": the median distance of two of them
    seed : of the masks; every image meets the same ones

    Returns
    -------
    Tensor, non-negative, shape (B, 1, H, W); every position has its cell's HSIC

    Raises
    ------
    ValueError
        if the masks are too few to tell two cells apart

    Notes
    -----
    HSIC has no sign: it does not tell evidence for the class from evidence against it.
    It sees whatever a cell alone changes in the distribution of the logit, and misses
    what only several cells decide together, as in an exclusive or.

    The masks round one scrambled Sobol sequence in K dimensions, so that the bits of
    two cells are nearly uncorrelated, exactly for a power of two.

    "outputs" is Xplique's bandwidth. It is not the usual median heuristic, "distances":
    a constant added to all logits changes the map, and a median near zero, as the
    logits of wrong classes often have it, takes all its contrast. Xplique divides the
    trace by n, not by n^2, and enlarges the map by bicubic interpolation.

    References
    ----------
    [novello2022]_, [gretton2005]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> net[1].weight.data[0] = torch.tensor([0.0, 1.0, 0.0, -2.0])
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> hsic(net, x, c, grid=2, n_masks=64).flatten().argsort()[2:]
    tensor([1, 3])
    """
    check_call(model, x, target)
    check_positive(grid=grid, n_masks=n_masks)
    check_choice("bandwidth", bandwidth, BANDWIDTHS)
    h, tail = split(model, x, layer)
    check_map(h, "hsic", layer)
    labels = grid_labels(tuple(h.shape[2:]), grid).to(h.device)
    bits = _bits(n_masks, int(labels.max()) + 1, seed)  # (n, K)

    def masks(numbers: Tensor) -> Tensor:
        return bits[numbers]

    f = _logits((model, x, target), (h, tail), baseline, labels, masks, n_masks)
    bits, width = bits.to(f.device, torch.double), BANDWIDTHS[bandwidth]
    scores = [hsic_scores(bits, y, width(y)) for y in f.double().T]
    return torch.stack(scores).to(h)[:, None, labels]


BANDWIDTHS = {
    "outputs": lambda y: y.quantile(0.5),
    "distances": lambda y: torch.pdist(y[:, None]).median(),
}


def hsic_scores(bits: Tensor, y: Tensor, bandwidth: Tensor) -> Tensor:
    """Return tr(K_i H L H) / n^2 of bits (n, K) and outputs (n,), one per column i.

    K_i(p, q) = 1/2 - (p - q)^2 of two bits, so H K_i H = 2 b b', b the centred column;
    L(y, z) = exp(-(y - z)^2 / 2 bandwidth^2); H = 1 - 1/n centres.

    References
    ----------
    [novello2022]_, [gretton2005]_

    Examples
    --------
    >>> bits, one = torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor(1.0)
    >>> hsic_scores(bits, torch.tensor([0.0, 99.0]), one)
    tensor([0.0000, 0.2500])
    """
    distance = (y[:, None] - y).abs()
    L = torch.where(distance > 0, (-((distance / bandwidth) ** 2) / 2).exp(), 1)
    b = bits - bits.mean(0)  # (n, K)
    return 2 * (b * (L @ b)).sum(0) / len(y) ** 2


def _bits(n: int, K: int, seed: int) -> Tensor:
    """Return binary masks (n, K) in which no two cells share or swap all their bits."""
    bits = (SobolEngine(K, scramble=True, seed=seed).draw(n) >= 0.5).float()
    signs = 2 * bits - 1
    if (signs.T @ signs).abs().triu(1).max() == n:
        raise ValueError(
            f"n_masks must be enough to tell {K} cells apart, got {n}: "
            "take more masks, four times the cells or above, or a smaller grid"
        )
    return bits


def _logits(call, cut, baseline, labels: Tensor, masks, n: int) -> Tensor:
    """Return the target logit of every image under n masks of the cells, (n, B)."""
    (model, x, target), (h, tail) = call, cut
    start = reference_input(h, baseline)
    c, per_pass = fixed_target(model, x, target), rows_per_forward(model, x)
    f = h.new_empty(n, len(h))
    for rows in torch.arange(len(x), device=x.device).split(per_pass):

        def cover(h: Tensor, copies: Tensor, start=start[rows]) -> Tensor:
            m = masks(copies.cpu()).to(h)[:, None, None, labels]  # (n', 1, 1, H, W)
            return start.lerp(h, m)  # m h + (1 - m) start, (n', B, C, H, W)

        scored = score_copies(
            rows_of(tail, rows), h[rows], c[rows], cover, n, select, per_pass
        )
        for copies, score in scored:
            f[copies[:, None], rows] = score.to(f)
    return f
