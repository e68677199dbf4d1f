"""Low-pass filters for maps, signed in and signed out, and the choice of a cutoff."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib._check import check_choice, check_positive
from xai_lib.analyse.spectrum import frequency_grid

GAINS = {
    "disc": lambda f, c: (f <= c * (1 + 1e-6)).float(),  # f is rounded
    "gaussian": lambda f, c: 0.5 ** (0.5 * (f / c) ** 2),
}
"""Gain at frequency f for cutoff c; both let half the power or more through at c."""
KINDS = (*GAINS, "kernel")
KERNEL = 0.54
"""Width of `gaussian_smooth` times its half-power frequency, in cycles per image."""


def low_pass(maps: Tensor, cutoff: float, kind: str = "disc") -> Tensor:
    """Remove what varies faster than the cutoff.

    Parameters
    ----------
    maps : Tensor, shape (..., H, W), any size
    cutoff : cycles per image (per shorter side), above 0; ``math.inf`` for no filter
    kind : "disc", an ideal filter; "gaussian", with half the power at the cutoff; or
        "kernel", `gaussian_smooth` with the kernel nearest to that, 0.54 W / cutoff

    Returns
    -------
    Tensor, shaped like maps, signed

    Notes
    -----
    A disc at or above half the diagonal is the identity. "disc" and "gaussian"
    continue the map periodically, "kernel" with zeros. The public code of
    [muzellec2024]_ keeps the disc ``<= cutoff`` and rectifies, see
    `rectified_low_pass`; here nothing is rectified. "kernel" is the smoothing of
    [rao2022]_, set by a frequency.

    References
    ----------
    [muzellec2024]_, [rao2022]_

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
    if not maps.is_floating_point():
        raise TypeError(f"maps must be floating, got {maps.dtype}")
    check_positive(cutoff=cutoff)
    check_choice("kind", kind, KINDS)
    H, W = maps.shape[-2:]
    if kind == "kernel":
        return gaussian_smooth(
            maps, 2 * round((KERNEL * min(H, W) / cutoff - 1) / 2) + 1
        )
    gain = GAINS[kind](frequency_grid(H, W) * min(H, W), cutoff)
    gain = torch.fft.ifftshift(gain).to(maps)  # (H, W), frequency 0 first
    return torch.fft.ifft2(torch.fft.fft2(maps) * gain).real


def rectified_low_pass(maps: Tensor, cutoff: float, kind: str = "disc") -> Tensor:
    """Filter maps as the public code of P4 does: rectified before and after.

    Parameters
    ----------
    maps : Tensor, shape (B, C, H, W)
    cutoff, kind : as `low_pass`

    Returns
    -------
    Tensor, shape (B, 1, H, W), at least 0: ``|low_pass(|mean over channels|)|``

    Notes
    -----
    The mean over channels comes before the absolute value, so channels of opposite
    sign cancel. The last absolute value hides the negative rings of the disc. That code
    takes square maps of even size; here any size is exact.

    References
    ----------
    [muzellec2024]_

    Examples
    --------
    >>> maps = torch.randn(2, 3, 9, 12)
    >>> bool((rectified_low_pass(maps, 3) >= 0).all())
    True
    """
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ValueError("maps must be a tensor of shape (B, C, H, W)")
    return low_pass(maps.mean(1, keepdim=True).abs(), cutoff, kind).abs()


class Cutoff(NamedTuple):
    """A cutoff, and what it gains on images that had no part in its choice."""

    cutoff: float
    gain: Tensor  # (images not used for the choice,)


def best_cutoff(
    scores: Tensor, cutoffs: Sequence[float], on: Tensor | None = None
) -> Cutoff:
    """Choose the cutoff of the best mean score on some images, judge it on the others.

    Parameters
    ----------
    scores : Tensor, shape (K, B): of every image at every cutoff, higher is better; NaN
        where an image to judge on was not judged
    cutoffs : K cutoffs, ascending; the last one filters nothing
    on : Tensor, bool, shape (B,): the images to choose on; None for every second one,
        from the first

    Returns
    -------
    Cutoff
        ``cutoff``; ``gain``: score at it minus score at the last cutoff, of every image
        that is not in ``on``; NaN if one of the two is

    Raises
    ------
    ValueError
        if no image is left to choose on or to judge on, or a score to choose by is not
        finite

    Notes
    -----
    Of equal means the largest cutoff wins, the least filter. [muzellec2024]_ choose on
    1,280 photographs; a gain measured on the same images would be too large.

    References
    ----------
    [muzellec2024]_

    Examples
    --------
    >>> scores = torch.tensor([[0.1, 0.2], [0.5, 0.3], [0.2, 0.2]])
    >>> best_cutoff(scores, [4, 8, 16])
    Cutoff(cutoff=8, gain=tensor([0.1000]))
    """
    cutoffs = list(cutoffs)
    if (
        not isinstance(scores, Tensor)
        or scores.ndim != 2
        or len(scores) != len(cutoffs)
    ):
        got = tuple(getattr(scores, "shape", ()))
        raise ValueError(f"scores must have shape ({len(cutoffs)}, B), got {got}")
    if any(c != c for c in cutoffs) or cutoffs != sorted(cutoffs):
        raise ValueError(f"cutoffs must ascend, got {cutoffs}")
    if on is None:
        on = torch.arange(scores.shape[1]) % 2 == 0
    if on.dtype != torch.bool or on.shape != scores.shape[1:]:
        raise ValueError(f"on must be bool of shape ({scores.shape[1]},)")
    if on.all() or not on.any():
        raise ValueError("images must remain to choose on and to judge on")
    if not scores[:, on].isfinite().all():
        raise ValueError("scores to choose by must be finite, got NaN or infinity")
    mean = scores[:, on].mean(1)
    best = int((mean == mean.max()).nonzero()[-1])
    return Cutoff(cutoffs[best], (scores[best] - scores[-1])[~on])


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
