"""Occlusion: cover a window, watch the target logit fall."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._copies import check_map, logits_of, rows_of, score_copies
from xai_lib.attribute._forward import (
    Tail,
    fixed_target,
    rows_per_forward,
    rows_per_pass,
    select,
    split,
)
from xai_lib.attribute.features import (
    Features,
    feature_labels,
    feature_sums,
    positions_of,
    without,
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
    Windows start at 0, stride, ... until the image is covered; the last ones are cut. A
    side shorter than the window has one window of its own length: a text, (1, T), is
    covered word by word.

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
    check_map(h, "occlusion", layer)
    H, W = h.shape[2:]
    if window > max(H, W):
        raise ValueError(f"window must be at most {max(H, W)}, got {window}")
    high, wide = min(window, H), min(window, W)
    down, across = (
        math.ceil((side - own) / stride) + 1 for side, own in ((H, high), (W, wide))
    )
    c, per_pass = fixed_target(model, x, target), rows_per_pass(model, x)

    def cover(h: Tensor, copies: Tensor) -> Tensor:
        changed = h.repeat(len(copies), 1, 1, 1, 1)  # (n', B, C, H, W)
        for k, number in enumerate(copies.tolist()):
            top, left = number // across * stride, number % across * stride
            changed[k, :, :, top : top + high, left : left + wide] = value
        return changed

    fall = h.new_empty(down * across, len(h))
    for rows in torch.arange(len(x), device=x.device).split(per_pass):
        part, before = h[rows], select(_logits(tail, h[rows], rows), c[rows])
        scored = score_copies(
            rows_of(tail, rows), part, c[rows], cover, len(fall), select, per_pass
        )
        for copies, score in scored:
            fall[copies[:, None], rows] = (before - score).to(fall)
    fall = fall.T.reshape(len(h), 1, down, across)
    spread = fall.new_full((1, 1, high, wide), 1 / (high * wide))
    return F.conv_transpose2d(fall, spread, stride=stride)[:, :, :H, :W]


def _logits(tail: Tail, h: Tensor, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return tail(h, rows)


def occlusion_1(
    model: nn.Module,
    x: Tensor,
    target: Target,
    features: Features = "pixels",
    *,
    layer: str | None = None,
) -> Tensor:
    """Return Occlusion-1: the fall of the target logit when one feature is set to zero.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    features : "pixels" (the tokens of a text), or labels, as `feature_labels` takes
        them

    Returns
    -------
    Tensor, signed, shape (B, 1, H, W)

    Notes
    -----
    R_i = S_c(x) - S_c(x with x_i = 0). Each position of a feature gets an equal share,
    so the sum over the feature is R_i; what is in no feature gets 0. For pixels this is
    `occlusion` with a window and a stride of 1, so it has no entry of its own in
    METHODS.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> halves = torch.tensor([[0, 1], [0, 1]])
    >>> R = occlusion_1(net, x, c, halves)
    >>> wanted = (x.flatten() * net[1].weight[0]).view(2, 2).sum(0)
    >>> torch.allclose(R[0, 0].sum(0), wanted)
    True
    """
    check_call(model, x, target)
    h, tail = split(model, x, layer)
    check_map(h, "occlusion_1", layer)
    labels, counts = feature_labels(h, features)
    c, per_pass = fixed_target(model, x, target), rows_per_forward(model, x)
    R = torch.empty_like(h[:, 0])  # (B, H, W)
    for i, count in enumerate(counts.tolist()):
        numbers = torch.arange(count, device=h.device).view(-1, 1, 1)
        after = [
            logits_of(tail, without(h[i], labels[i] == part), i, c)
            for part in numbers.split(per_pass)
        ]
        fall = logits_of(tail, h[i : i + 1], i, c) - torch.cat(after)  # (K,)
        size = feature_sums(torch.ones_like(R[i].flatten()), labels[i])
        R[i] = positions_of(fall / size, labels[i])
    return R[:, None]
