"""RISE: look through random masks, and average the masks that kept the class."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._copies import check_map, rows_of, score_copies
from xai_lib.attribute._forward import fixed_target, rows_per_pass, select, split


def _probability(logits: Tensor, c: Tensor) -> Tensor:
    return select(logits.softmax(1), c)


def rise_masks(
    n: int, size: tuple[int, int], grid: int = 7, p: float = 0.5, seed: int = 0
):
    """Return a function: mask numbers (n',) -> RISE masks (n', 1, H, W) in [0, 1].

    Each mask is a grid x grid field of Bernoulli(p) cells, bilinearly upsampled to one
    cell more than the image and cut out at a random shift of up to one cell.

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> rise_masks(10, (32, 32))(torch.arange(3)).shape
    torch.Size([3, 1, 32, 32])
    """
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(n, 1, grid, grid, generator=generator) < p).float()
    cell = [math.ceil(side / grid) for side in size]
    shift = torch.stack(
        [torch.randint(0, step, (n,), generator=generator) for step in cell], 1
    ).tolist()
    whole = [side + step for side, step in zip(size, cell, strict=True)]

    def masks(numbers: Tensor) -> Tensor:
        numbers = numbers.cpu()
        large = F.interpolate(
            cells[numbers], size=whole, mode="bilinear", align_corners=False
        )
        return torch.stack(
            [
                mask[:, top : top + size[0], left : left + size[1]]
                for mask, (top, left) in zip(
                    large, (shift[k] for k in numbers.tolist()), strict=True
                )
            ]
        )

    return masks


def rise(
    model: nn.Module,
    x: Tensor,
    target: Target,
    n_masks: int = 1000,
    grid: int = 7,
    p: float = 0.5,
    seed: int = 0,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the mean of random masks, each weighted by the masked image's probability.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    n_masks : number of masks; every image meets the same ones
    grid : cells per side of a mask before upsampling
    p : chance that a cell stays visible
    seed : of the masks

    Returns
    -------
    Tensor, non-negative, shape (B, 1, H, W): sum_k softmax_c(x * m_k) m_k / (n p)

    Notes
    -----
    The softmax probability is explained, as in the paper. Xplique divides by each
    pixel's coverage instead of n p; [rao2022]_ uses a grid of 6 and p = 0.1.

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    >>> rise(net, torch.rand(1, 1, 8, 8), torch.tensor([0]), n_masks=8, grid=4).shape
    torch.Size([1, 1, 8, 8])
    """
    check_call(model, x, target)
    check_positive(n_masks=n_masks, grid=grid, p=p)
    if p > 1:
        raise ValueError(f"p must lie in (0, 1], got {p}")
    h, tail = split(model, x, layer)
    check_map(h, "rise", layer)
    masks = rise_masks(n_masks, tuple(h.shape[2:]), grid, p, seed)
    c, per_pass = fixed_target(model, x, target), rows_per_pass(model, x)
    result = torch.zeros_like(h[:, 0])  # (B, H, W)
    for rows in torch.arange(len(x), device=x.device).split(per_pass):
        kept = []  # the masks of the part under way

        def mask(h: Tensor, copies: Tensor, kept=kept) -> Tensor:
            kept[:] = [masks(copies).to(h)]
            return h * kept[0][:, None]  # (n', B, C, H, W)

        scored = score_copies(
            rows_of(tail, rows), h[rows], c[rows], mask, n_masks, _probability, per_pass
        )
        for _, scores in scored:
            result[rows] += torch.einsum(
                "nb,nhw->bhw", scores.to(result), kept[0][:, 0]
            )
    return result[:, None] / (n_masks * p)
