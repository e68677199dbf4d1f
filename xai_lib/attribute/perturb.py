"""The prediction family: change the input, watch the output. No gradient is needed."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._forward import (
    Tail,
    fixed_target,
    rows_per_pass,
    select,
    split,
)


def _score_copies(tail: Tail, h: Tensor, c: Tensor, edit, n: int, score, per_pass: int):
    """Yield (copies, scores (n', B)) for n edited copies of each image, in parts.

    edit(h, copies) returns (n', B, ...), the copies with those numbers.
    """
    images = torch.arange(len(h), device=h.device)
    for copies in torch.arange(n, device=h.device).split(max(1, per_pass // len(h))):
        changed = edit(h, copies)  # (n', B, C, H, W)
        rows = images.repeat(len(copies))
        with torch.no_grad():
            logits = tail(changed.flatten(0, 1), rows)
        yield copies, score(logits, c.repeat(len(copies))).view(len(copies), len(h))


def _check_map(h: Tensor, name: str, layer: str | None) -> None:
    if h.ndim != 4:
        raise ValueError(
            f"{name} needs a layer with output (B, K, h, w), "
            f"got {tuple(h.shape)} from {layer!r}"
        )


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target,
    window: int = 16,
    stride: int = 8,
    value: float = 0.0,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the fall of the target logit when a window is covered, per covered pixel.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    window, stride : side of the square window and its step, in pixels of x (or in
        positions of the layer's output)
    value : what is put in the window, in the units of x

    Returns
    -------
    Tensor, signed, shape (B, 1, H, W)

    Notes
    -----
    A pixel gets the sum, over the windows that cover it, of the fall divided by the
    window's area, as in [rao2022]_, which uses 16 and 8 at the input and 5 and 2 at
    layers. DeepExplain divides by the number of windows as well, Xplique by neither.
    Windows start at 0, stride, ... until the image is covered; the last ones are cut.

    References
    ----------
    [zeiler2014]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> fall = occlusion(net, x, c, window=1, stride=1)
    >>> torch.allclose(fall.flatten(), (x.flatten() * net[1].weight[0]))
    True
    """
    check_call(model, x, target)
    check_positive(window=window, stride=stride)
    h, tail = split(model, x, layer)
    _check_map(h, "occlusion", layer)
    H, W = h.shape[2:]
    if window > min(H, W):
        raise ValueError(f"window must be at most {min(H, W)}, got {window}")
    down, across = (math.ceil((side - window) / stride) + 1 for side in (H, W))
    c, per_pass = fixed_target(model, x, target), rows_per_pass(model, x)

    def cover(h: Tensor, copies: Tensor) -> Tensor:
        changed = h.repeat(len(copies), 1, 1, 1, 1)  # (n', B, C, H, W)
        for k, number in enumerate(copies.tolist()):
            top, left = number // across * stride, number % across * stride
            changed[k, :, :, top : top + window, left : left + window] = value
        return changed

    fall = h.new_empty(down * across, len(h))
    for rows in torch.arange(len(x), device=x.device).split(per_pass):
        part, before = h[rows], select(_logits(tail, h[rows], rows), c[rows])
        scored = _score_copies(
            _rows(tail, rows), part, c[rows], cover, len(fall), select, per_pass
        )
        for copies, score in scored:
            fall[copies[:, None], rows] = before - score
    fall = fall.T.reshape(len(h), 1, down, across)
    spread = fall.new_full((1, 1, window, window), 1 / window**2)
    return F.conv_transpose2d(fall, spread, stride=stride)[:, :, :H, :W]


def _rows(tail: Tail, rows: Tensor) -> Tail:
    """Return the tail for a part of the images, numbered from 0."""
    return lambda h, local: tail(h, rows[local])


def _logits(tail: Tail, h: Tensor, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return tail(h, rows)


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
    _check_map(h, "rise", layer)
    masks = rise_masks(n_masks, tuple(h.shape[2:]), grid, p, seed)
    c, per_pass = fixed_target(model, x, target), rows_per_pass(model, x)
    result = torch.zeros_like(h[:, 0])  # (B, H, W)
    for rows in torch.arange(len(x), device=x.device).split(per_pass):
        kept = []  # the masks of the part under way

        def mask(h: Tensor, copies: Tensor, kept=kept) -> Tensor:
            kept[:] = [masks(copies).to(h)]
            return h * kept[0][:, None]  # (n', B, C, H, W)

        scored = _score_copies(
            _rows(tail, rows), h[rows], c[rows], mask, n_masks, _probability, per_pass
        )
        for _, scores in scored:
            result[rows] += torch.einsum("nb,nhw->bhw", scores, kept[0][:, 0])
    return result[:, None] / (n_masks * p)
