"""Class activation maps: weighted sums of a layer's channels."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import Target, check_call
from xai_lib.assets.layers import last_spatial_layer
from xai_lib.attribute._forward import (
    fixed_target,
    rows_per_pass,
    select,
    split,
    value_and_gradient,
)


def grad_cam(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return relu(sum_k w_k A_k), w_k the mean over positions of dS_c/dA_k.

    Parameters
    ----------
    model, x, target : as `gradient`
    layer : name of a module with output (B, K, h, w), or "input"; None is the last one
        that still has positions. In VGG it lies behind the last max-pool, where the
        paper takes the convolution before it; in a transformer it may be the patch
        embedding, so name a layer there

    Returns
    -------
    Tensor, non-negative, shape (B, 1, h, w): the layer's resolution, not the image's

    Notes
    -----
    Most libraries return the map bilinearly upsampled to the image and scaled to
    [0, 1]; both hide what the method computed, so both are left to the caller.

    References
    ----------
    [selvaraju2017]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), *head).eval()
    >>> grad_cam(net, torch.ones(1, 1, 8, 8), torch.tensor([0]), layer="0").shape
    torch.Size([1, 1, 6, 6])
    """
    A, slope = _activations(model, x, target, layer, "grad_cam")  # (B, K, h, w) both
    w = slope.mean((2, 3), keepdim=True)  # (B, K, 1, 1)
    return torch.relu((w * A).sum(1, keepdim=True))


def grad_cam_pp(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return Grad-CAM++: relu(sum_k w_k A_k), w_k = sum over positions of alpha g+.

    Parameters and Returns as `grad_cam`.

    Notes
    -----
    alpha = g^2 / (2 g^2 + g^3 sum A), g = dS_c/dA; a denominator of 0 counts as 1. The
    paper's factor exp(S_c) is left out: it scales the whole map of an image, and it
    overflows for large logits. Xplique takes the mean over positions, not the sum.

    References
    ----------
    [chattopadhay2018]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), *head).eval()
    >>> grad_cam_pp(net, torch.ones(1, 1, 8, 8), torch.tensor([0]), layer="0").shape
    torch.Size([1, 1, 6, 6])
    """
    A, g = _activations(model, x, target, layer, "grad_cam_pp")
    below = 2 * g**2 + g**3 * A.sum((2, 3), keepdim=True)
    alpha = g**2 / torch.where(below == 0, 1, below)
    w = (alpha * torch.relu(g)).sum((2, 3), keepdim=True)  # (B, K, 1, 1)
    return torch.relu((w * A).sum(1, keepdim=True))


def layer_cam(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return LayerCAM: relu(sum_k g+ A_k), every position weighted by its own gradient.

    Parameters and Returns as `grad_cam`.

    References
    ----------
    [jiang2021]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), *head).eval()
    >>> layer_cam(net, torch.ones(1, 1, 8, 8), torch.tensor([0]), layer="0").shape
    torch.Size([1, 1, 6, 6])
    """
    A, g = _activations(model, x, target, layer, "layer_cam")
    return torch.relu((torch.relu(g) * A).sum(1, keepdim=True))


def ablation_cam(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return Ablation-CAM: relu(sum_k w_k A_k), w_k the fall of S_c when A_k is zero.

    Parameters and Returns as `grad_cam`; one forward pass per channel.

    Notes
    -----
    The paper divides the fall by S_c. That scales the map of an image, and turns its
    sign where the logit is negative; so it is left out.

    References
    ----------
    [desai2020]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), *head).eval()
    >>> x, c = torch.ones(1, 1, 8, 8), torch.tensor([0])
    >>> A = net[0](x).detach()
    >>> fall = net[3].weight[0] * A.mean((2, 3))  # what a linear head loses, (1, 3)
    >>> wanted = torch.relu((fall[:, :, None, None] * A).sum(1, keepdim=True))
    >>> torch.allclose(ablation_cam(net, x, c, layer="0"), wanted, atol=1e-5)
    True
    """
    A, tail = _cut_at(model, x, target, layer, "ablation_cam")
    c, fall = fixed_target(model, x, target), A.new_empty(A.shape[:2])  # (B, K)
    for i, channels, rows in _channels(model, x, A):
        without = A[i].repeat(len(channels), 1, 1, 1)
        without[torch.arange(len(channels)), channels] = 0
        with torch.no_grad():
            whole = select(tail(A[i : i + 1], rows[:1]), c[i : i + 1])
            fall[i, channels] = (whole - select(tail(without, rows), c[rows])).to(fall)
    return torch.relu(torch.einsum("bk,bkhw->bhw", fall, A))[:, None]


def score_cam(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return Score-CAM: relu(sum_k w_k A_k), w_k the class's probability behind A_k.

    Parameters and Returns as `grad_cam`; one forward pass per channel.

    Notes
    -----
    A channel is bilinearly upsampled to the input, scaled to [0, 1] and multiplied
    with it; w_k is the softmax probability of what is left, as in [rao2022]_. A channel
    that is the same everywhere has no range and hides the whole input. The original
    subtracts the score of a baseline image and takes the softmax over the channels.

    References
    ----------
    [wang2020]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), *head).eval()
    >>> score_cam(net, torch.rand(1, 1, 8, 8), torch.tensor([0]), layer="0").shape
    torch.Size([1, 1, 6, 6])
    """
    A, _ = _cut_at(model, x, target, layer, "score_cam")
    low = A.amin((2, 3), keepdim=True)
    span = A.amax((2, 3), keepdim=True) - low
    masks = (A - low) / torch.where(span > 0, span, 1)  # (B, K, h, w) in [0, 1]
    c, w = fixed_target(model, x, target), A.new_empty(A.shape[:2])  # (B, K)
    for i, channels, rows in _channels(model, x, A):
        mask = masks[i, channels, None]  # (n', 1, h, w)
        if mask.shape[2:] != x.shape[2:]:
            size = tuple(x.shape[2:])
            mask = F.interpolate(mask, size, mode="bilinear", align_corners=False)
        with torch.no_grad():
            w[i, channels] = select(model(x[i] * mask).softmax(1), c[rows]).to(w)
    return torch.relu(torch.einsum("bk,bkhw->bhw", w, A))[:, None]


def _activations(model, x, target, layer, name: str) -> tuple[Tensor, Tensor]:
    """Return a layer's output (B, K, h, w) and the gradient at it."""
    check_call(model, x, target)
    layer = last_spatial_layer(model, x) if layer is None else layer
    A, slope = value_and_gradient(model, x, target, layer)
    return _as_channels(A, name, layer), slope


def _cut_at(model, x, target, layer, name: str):
    """Return a layer's output (B, K, h, w) and the rest of the model."""
    check_call(model, x, target)
    layer = last_spatial_layer(model, x) if layer is None else layer
    A, tail = split(model, x.detach(), layer)
    return _as_channels(A, name, layer), tail


def _as_channels(A: Tensor, name: str, layer: str) -> Tensor:
    if A.ndim != 4:
        raise ValueError(
            f"{name} needs a layer with output (B, K, h, w), "
            f"got {tuple(A.shape)} from {layer!r}"
        )
    return A


def _channels(model, x, A) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (image, channels, the image's number for each of them), a pass each."""
    for i in range(len(A)):
        everyone = torch.arange(A.shape[1], device=A.device)
        for channels in everyone.split(rows_per_pass(model, x)):
            yield i, channels, torch.full_like(channels, i)
