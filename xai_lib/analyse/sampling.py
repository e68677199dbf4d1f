"""What sampling theory says of the way back through a down-sampling step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

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

Frequencies = tuple[Tensor, Tensor]
PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]
"""Of a 2x2 window."""


def _frequencies(height: int, width: int) -> Frequencies:
    """Return f_y (H, 1) and f_x (1, W), centred, in cycles per pixel."""
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    return torch.fft.fftshift(fy)[:, None], torch.fft.fftshift(fx)[None]


def _cosine(f: Frequencies) -> Tensor:
    """Return c(f) = cos(pi f_y) cos(pi f_x), (H, W)."""
    return (torch.pi * f[0]).cos() * (torch.pi * f[1]).cos()


def stride_gain(f: Frequencies) -> Tensor:
    """G = 1/4: zeros between the values of R, then weights without order."""
    return torch.full_like(_cosine(f), 1 / 4)


def max_gain(f: Frequencies) -> Tensor:
    """G = 1/4: each value of R at one place of its window, all places alike."""
    return torch.full_like(_cosine(f), 1 / 4)


def average_gain(f: Frequencies) -> Tensor:
    """G = c^2 / 4: the filter [1 1] / 2 in both directions."""
    return _cosine(f) ** 2 / 4


def blur_gain(f: Frequencies) -> Tensor:
    """G = c^6 / 4: the filter [1 3 3 1] / 8, which is [1 1] / 2 three times."""
    return _cosine(f) ** 6 / 4


def max_blur_gain(f: Frequencies) -> Tensor:
    """G = c^2 B + sum_d r(d) (Phi_d - c^2 cos(2 pi f d)), d over windows that overlap.

    B is `blur_gain` and r its autocorrelation, what two windows d apart send back
    alike; Phi_d = sum_pq P_d(p, q) cos(2 pi f (q - p)), P_d(p, q) the chance that one
    has its maximum at p and the other at q. Windows apart choose independently: c^2.
    """
    B, c = blur_gain(f), _cosine(f)
    r = torch.fft.ifft2(torch.fft.ifftshift(B)).real
    G = c**2 * B
    for d in [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
        Phi = sum(P * _wave(f, q, p) for p, q, P in shared_maximum(d))
        G = G + r[d] * (Phi - c**2 * _wave(f, d, (0, 0)))
    return G


def _wave(f: Frequencies, q: tuple[int, int], p: tuple[int, int]) -> Tensor:
    """Return cos(2 pi f (q - p))."""
    return (2 * torch.pi * (f[0] * (q[0] - p[0]) + f[1] * (q[1] - p[1]))).cos()


def shared_maximum(d: tuple[int, int]) -> Iterator[tuple]:
    """Yield p, q and the chance P_d(p, q) that p and q are two windows' maxima.

    The windows are 2x2 and d apart, of n independent pixels together. P = 1/n for
    p = q; else one of p, q is the largest of all, and not in the other's window, whose
    own maximum is each of four alike: P = ([q not in 1] + [p not in 2]) / (4 n).

    Examples
    --------
    >>> round(sum(P for p, q, P in shared_maximum((0, 1))), 12)
    1.0
    """
    first, second = set(PLACES), {(i + d[0], j + d[1]) for i, j in PLACES}
    n = len(first | second)
    for p, q in product(sorted(first), sorted(second)):
        apart = ((q not in first) + (p not in second)) / (4 * n)
        yield p, q, 1 / n if p == q else apart


UPSAMPLING_GAINS: dict[str, Callable[[Frequencies], Tensor]] = {
    "max": max_gain,
    "average": average_gain,
    "stride": stride_gain,
    "max_blur": max_blur_gain,
    "blur": blur_gain,
}
"""G(f) by the name of the down-sampler."""


def upsampling_gain(kind: str, height: int, width: int) -> Tensor:
    """Return the power of a white signal gone back through a down-sampler, in the mean.

    Parameters
    ----------
    kind : "max", "average", "stride", "max_blur" or "blur", as in `DOWNSAMPLERS`
    height, width : of the fine map, even, at least 4

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
    - "max" 1/4, and "max_blur" `max_blur_gain`, for independent pixels without ties:
      the maximum lies at each place of a window with equal chance. At stride 1 windows
      overlap and share maxima, which makes their signals pile up.

    "stride" and "max" are white, a high-frequency ratio of about 1 - pi/16. These are
    assumptions about R, weights and pixels; the book puts what is measured beside them.

    References
    ----------
    [zhang2019]_ for the steps; the formulas are ours

    Examples
    --------
    >>> upsampling_gain("average", 4, 4)[2, 1:]
    tensor([0.1250, 0.2500, 0.1250], dtype=torch.float64)
    """
    check_choice("kind", kind, UPSAMPLING_GAINS)
    if height % 2 or width % 2 or min(height, width) < 4:
        raise ValueError(
            f"height and width must be even and at least 4, got {height}, {width}"
        )
    return UPSAMPLING_GAINS[kind](_frequencies(height, width))
