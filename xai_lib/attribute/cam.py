"""Class activation maps: weighted sums of a layer's channels."""

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.assets.layers import last_spatial_layer
from xai_lib.attribute._forward import value_and_gradient


def grad_cam(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return relu(sum_k w_k A_k), w_k the mean over positions of dS_c/dA_k.

    Parameters
    ----------
    model, x, target : as `gradient`
    layer : name of a module with output (B, K, h, w), or "input"; None is the paper's
        choice, the last layer that still has positions

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
    check_call(model, x, target)
    layer = last_spatial_layer(model, x) if layer is None else layer
    A, slope = value_and_gradient(model, x, target, layer)  # (B, K, h, w) both
    if A.ndim != 4:
        raise ValueError(
            f"grad_cam needs a layer with output (B, K, h, w), "
            f"got {tuple(A.shape)} from {layer!r}"
        )
    w = slope.mean((2, 3), keepdim=True)  # (B, K, 1, 1)
    return torch.relu((w * A).sum(1, keepdim=True))
