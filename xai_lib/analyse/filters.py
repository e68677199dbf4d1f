"""Low-pass filters for maps, signed in and signed out."""

import torch
from torch import Tensor
from torch.nn import functional as F

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


BORDERS = ("zero", "renormalise")


def gaussian_smooth(maps: Tensor, kernel: int, border: str = "zero") -> Tensor:
    """Convolve maps with a Gaussian of kernel x kernel pixels and deviation kernel / 4.

    Parameters
    ----------
    maps : Tensor, shape (..., H, W), any size
    kernel : side of the kernel in pixels, odd; 1 is the identity
    border : what lies outside the map. "zero": nothing, so mass near the border leaves
        the map; "renormalise": the weights inside are scaled up to a sum of 1

    Returns
    -------
    Tensor, shaped like maps, signed

    Notes
    -----
    The kernel is cut off at two deviations and sums to 1. How [rao2022]_ treat the
    border is not known. `low_pass` with "gaussian" is periodic and is set by a
    frequency: away from the border the two differ by less than a tenth for a cutoff of
    0.54 W / kernel cycles per image.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> maps = torch.zeros(1, 9, 9)
    >>> maps[0, 4, 4] = 1
    >>> gaussian_smooth(maps, 5).sum()
    tensor(1.)
    """
    if not isinstance(maps, Tensor) or maps.ndim < 2:
        raise ValueError("maps must be a tensor of shape (..., H, W)")
    if isinstance(kernel, bool) or not isinstance(kernel, int):
        raise TypeError(f"kernel must be a whole number of pixels, got {kernel!r}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 1, got {kernel}")
    check_choice("border", border, BORDERS)
    place = torch.arange(kernel, dtype=maps.dtype, device=maps.device) - kernel // 2
    g = torch.exp(-0.5 * (place / (kernel / 4)) ** 2)
    g = g / g.sum()  # (kernel,)

    def blur(h: Tensor) -> Tensor:
        h = F.conv2d(h, g.view(1, 1, -1, 1), padding=(kernel // 2, 0))
        return F.conv2d(h, g.view(1, 1, 1, -1), padding=(0, kernel // 2))

    flat = maps.reshape(-1, 1, *maps.shape[-2:])  # (N, 1, H, W)
    smooth = blur(flat)
    if border == "renormalise":
        smooth = smooth / blur(torch.ones_like(flat[:1]))
    return smooth.view(maps.shape)
