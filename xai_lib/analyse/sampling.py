"""What sampling theory says of the way back through a down-sampling step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib._check import check_choice, check_positive


def tap_counts(
    layers: Sequence[tuple[int, int, int]], size: int | tuple[int, int]
) -> Tensor:
    """Return how many weights reach each input pixel on the way back.

    Parameters
    ----------
    layers : (kernel, stride, padding) of each convolution or pool, from the input on
    size : of the input, one number or (H, W)

    Returns
    -------
    Tensor, shape (H, W), long: for one layer the number of windows that hold the pixel,
        for a chain the number of ways back to it

    Raises
    ------
    ValueError
        if a layer has no window in its map

    Notes
    -----
    The adjoint of convolutions with ones, of ones, in float64; exact up to 2^53. A
    kernel that the stride does not divide gives a pattern of the stride's period.

    References
    ----------
    [muzellec2024]_ for the question

    Examples
    --------
    >>> tap_counts([(3, 2, 1)], 4)
    tensor([[1, 2, 1, 1],
            [2, 4, 2, 2],
            [1, 2, 1, 1],
            [1, 2, 1, 1]])
    """
    H, W = (size, size) if isinstance(size, int) else size
    leaf = torch.zeros(1, 1, H, W, dtype=torch.float64, requires_grad=True)
    z = leaf
    with torch.enable_grad():
        for kernel, stride, padding in layers:
            check_positive(kernel=kernel, stride=stride)
            if kernel > min(z.shape[2:]) + 2 * padding:
                raise ValueError(
                    f"kernel must fit into its map of {tuple(z.shape[2:])}, padded by "
                    f"{padding}, got {kernel}"
                )
            ones = z.new_ones(1, 1, kernel, kernel)
            z = F.conv2d(z, ones, stride=stride, padding=padding)
        total = z.sum()
    counts = torch.autograd.grad(total, leaf)[0][0, 0]
    if counts.max() > 2**53:
        raise ValueError(f"counts must stay below 2^53, got {counts.max():.3g}")
    return counts.long()


# --- white signals --------------------------------------------------------------------


def _cosine(height: int, width: int) -> Tensor:
    """Return c(f) = cos(pi f_y) cos(pi f_x), centred, (H, W)."""
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    c = torch.outer((torch.pi * fy).cos(), (torch.pi * fx).cos())
    return torch.fft.fftshift(c)


def stride_gain(c: Tensor) -> Tensor:
    """G = 1/4: zeros between the values of R, then weights without order."""
    return torch.full_like(c, 1 / 4)


def max_gain(c: Tensor) -> Tensor:
    """G = 1/4: each value of R at one place of its window, all places alike."""
    return torch.full_like(c, 1 / 4)


def average_gain(c: Tensor) -> Tensor:
    """G = c^2 / 4: the filter [1 1] / 2 in both directions."""
    return c**2 / 4


def blur_gain(c: Tensor) -> Tensor:
    """G = c^6 / 4: the filter [1 3 3 1] / 8, which is [1 1] / 2 three times."""
    return c**6 / 4


def max_blur_gain(c: Tensor) -> Tensor:
    """G = c^2 B + (1 - c^2) mean(B), B = `blur_gain`: blurred, then jittered.

    A value that goes to one of four places by chance keeps the share c^2 of its power
    in phase and spreads the rest over all frequencies.
    """
    B = blur_gain(c)
    return c**2 * B + (1 - c**2) * B.mean()


UPSAMPLING_GAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": max_gain,
    "average": average_gain,
    "stride": stride_gain,
    "max_blur": max_blur_gain,
    "blur": blur_gain,
}
"""G(f) by the name of the down-sampler, as a function of c(f)."""


def upsampling_gain(kind: str, height: int, width: int) -> Tensor:
    """Return the power of a white signal gone back through a down-sampler, in the mean.

    Parameters
    ----------
    kind : "max", "average", "stride", "max_blur" or "blur", as in `DOWNSAMPLERS`
    height, width : of the fine map, even

    Returns
    -------
    Tensor, shape (height, width), float64: G(f), centred as `power_spectrum`'s

    Notes
    -----
    R is independent from place to place, with mean 0 and variance 1, on a map of half
    the size; G = E \\|FFT2(U R)\\|^2 / (H W), U the adjoint of the 2x2 down-sampler on
    a map that continues at its border as if it were a torus. With
    c(f) = cos(pi f_y) cos(pi f_x):

    - "average" c^2 / 4, "blur" (length 4) c^6 / 4;
    - "stride" 1/4, for weights 3x3 independent with mean 0 and variance 1/9. Its
      pattern of taps shows in the mean spectrum of no white R: it ties each frequency's
      phase to those half the sampling rate away. That of a constant R under weights of
      one sign is `tap_counts`;
    - "max" 1/4, each window's maximum anywhere in it with equal chance;
    - "max_blur" c^2 B + (1 - c^2) mean(B), B the blur's, for windows that choose their
      places independently. Neighbours overlap and share a maximum, so this is a model.

    "stride" and "max" are white, a high-frequency ratio of about 1 - pi/16. Whiteness
    of R is an assumption; the book puts the measured spectra beside it.

    References
    ----------
    [zhang2019]_ for the steps; the formulas are ours

    Examples
    --------
    >>> upsampling_gain("average", 4, 4)[2, 1:]
    tensor([0.1250, 0.2500, 0.1250], dtype=torch.float64)
    """
    check_choice("kind", kind, UPSAMPLING_GAINS)
    check_positive(height=height, width=width)
    if height % 2 or width % 2:
        raise ValueError(f"height and width must be even, got {height}, {width}")
    return UPSAMPLING_GAINS[kind](_cosine(height, width))
