"""From signed, unreduced maps to what is shown or scored; papers differ here."""

import torch
from torch import Tensor


def _check(maps: Tensor) -> None:
    if maps.ndim != 4:
        raise ValueError(f"maps must have shape (B, C, H, W), got {tuple(maps.shape)}")


def channel_sum(maps: Tensor) -> Tensor:
    """Sum maps over their channels; the sign survives.

    Parameters
    ----------
    maps : Tensor, shape (B, C, H, W)

    Returns
    -------
    Tensor, shape (B, 1, H, W)

    Notes
    -----
    Used for products with the input and for relevance, where the channels' shares add
    up [sixt2020]_, [rao2022]_.

    Examples
    --------
    >>> channel_sum(torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)).item()
    -2.0
    """
    _check(maps)
    return maps.sum(1, keepdim=True)


def channel_max_abs(maps: Tensor) -> Tensor:
    """Take the largest absolute value over the channels.

    Parameters
    ----------
    maps : Tensor, shape (B, C, H, W)

    Returns
    -------
    Tensor, shape (B, 1, H, W), non-negative

    Notes
    -----
    The usual reduction of a gradient map. Captum's Saliency takes the absolute value
    and leaves the channels; the public low-pass code of [muzellec2024]_ averages over
    the channels first and takes the absolute value after.

    Examples
    --------
    >>> channel_max_abs(torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)).item()
    3.0
    """
    _check(maps)
    return maps.abs().amax(1, keepdim=True)


def percentile_scale(maps: Tensor, percentile: float = 99.5) -> Tensor:
    """Divide each map by a percentile of its absolute values and clip to [-1, 1].

    Parameters
    ----------
    maps : Tensor, shape (B, ..., H, W)
    percentile : float in (0, 100]

    Returns
    -------
    Tensor, shaped like maps. Where the percentile is zero, as of a map of single
    pixels, the largest absolute value stands in its place; a map of zeros stays zero.

    Notes
    -----
    Zero stays zero, so the sign keeps its meaning. [sixt2020]_ clips to a range of
    percentiles and rescales to [0, 1] instead, which moves the zero.

    Examples
    --------
    >>> percentile_scale(torch.tensor([[[-4.0, 2.0]]]), 100)
    tensor([[[-1.0000,  0.5000]]])
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percentile}")
    flat = maps.flatten(1).abs()
    scale = torch.quantile(flat, percentile / 100, dim=1)
    scale = torch.where(scale > 0, scale, flat.amax(1))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (maps / scale.view(-1, *[1] * (maps.ndim - 1))).clamp(-1, 1)
