"""Low-pass filters for maps, signed in and signed out."""

import torch
from torch import Tensor

from xai_lib._check import check_choice, check_positive
from xai_lib.analyse.spectrum import frequency_grid

GAINS = {
    "disc": lambda f, c: (f <= c).float(),
    "gaussian": lambda f, c: 0.5 ** (0.5 * (f / c) ** 2),
}
"""Gain at frequency f for cutoff c; both let half the power or more through at c."""


def low_pass(maps: Tensor, cutoff: float, kind: str = "disc") -> Tensor:
    """Remove what varies faster than the cutoff.

    Parameters
    ----------
    maps : Tensor, shape (..., H, W), any size
    cutoff : cycles per image (per shorter side), above 0
    kind : "disc", an ideal filter, or "gaussian", with half the power at the cutoff

    Returns
    -------
    Tensor, shaped like maps, signed

    Notes
    -----
    A cutoff at or above half the diagonal is the identity. The public code of
    [muzellec2024]_ keeps the disc ``<= cutoff``, takes the mean over channels and the
    absolute value before, and the absolute value after; here nothing is rectified.

    References
    ----------
    [muzellec2024]_

    Examples
    --------
    >>> maps = torch.randn(1, 1, 9, 12)
    >>> torch.allclose(low_pass(maps, 100), maps, atol=1e-5)
    True
    >>> smooth = low_pass(maps, 2)
    >>> torch.allclose(low_pass(smooth, 2), smooth, atol=1e-5)
    True
    """
    if not isinstance(maps, Tensor) or maps.ndim < 2:
        raise ValueError("maps must be a tensor of shape (..., H, W)")
    check_positive(cutoff=cutoff)
    check_choice("kind", kind, GAINS)
    H, W = maps.shape[-2:]
    gain = GAINS[kind](frequency_grid(H, W) * min(H, W), cutoff)
    gain = torch.fft.ifftshift(gain).to(maps)  # (H, W), frequency 0 first
    return torch.fft.ifft2(torch.fft.fft2(maps) * gain).real
