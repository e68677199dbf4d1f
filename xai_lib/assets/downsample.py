"""Five ways to halve a feature map, as modules that take each other's place."""

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import check_positive


def binomial(length: int) -> Tensor:
    """Return the binomial filter w_i = C(n - 1, i) / 2^(n - 1), n its length.

    Parameters
    ----------
    length : number of weights: 1 is [1], 2 the mean of two, 4 is [1 3 3 1] / 8

    Returns
    -------
    Tensor, shape (length,), float64, sum 1

    Examples
    --------
    >>> 8 * binomial(4)
    tensor([1., 3., 3., 1.], dtype=torch.float64)
    """
    check_positive(length=length)
    weights = [comb(length - 1, i) for i in range(length)]
    return torch.tensor(weights, dtype=torch.float64) / 2 ** (length - 1)


def reflect_pad(x: Tensor, before: int, after: int) -> Tensor:
    """Mirror both spatial dimensions at their first and last position.

    A map too small for that is mirrored again and again; a map of one row or column
    continues with its value.
    """
    if max(before, after) < min(x.shape[-2:]):
        return F.pad(x, (before, after, before, after), mode="reflect")
    for dim in (-2, -1):
        i = _mirrored(x.shape[dim], before, after).to(x.device)
        x = x.index_select(dim, i)
    return x


def _mirrored(size: int, before: int, after: int) -> Tensor:
    """Return the position that each padded position shows: 0 1 2 1 0 1 2 ..."""
    i = torch.arange(-before, size + after)
    period = max(2 * (size - 1), 1)
    i = i % period
    return torch.minimum(i, period - i) if size > 1 else i


def blur(x: Tensor, w: Tensor, stride: int = 2) -> Tensor:
    """Filter each channel with w, mirrored at the border, and keep every stride-th.

    w is (n, n), or of any shape that expands to (C, 1, n, n).
    """
    n = w.shape[-1]
    x = reflect_pad(x, (n - 1) // 2, n // 2)
    w = w.to(x).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, w, stride=stride, groups=x.shape[1])


class BlurPool(nn.Module):
    """A binomial blur in each channel, of which every second value is kept.

    Parameters
    ----------
    channels : of the input; None fits any number
    kernel : length of the binomial filter in each direction
    stride : 2 to halve the map, 1 to blur alone

    Notes
    -----
    (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)), as a convolution 3x3 of stride 2 and
    padding 1: an odd map keeps its last row. The border is mirrored, (kernel - 1) // 2
    before and kernel // 2 behind; maps of any size work. The filter is a buffer that no
    state dict holds, so nets with and without it share their weights.

    References
    ----------
    [zhang2019]_

    Examples
    --------
    >>> BlurPool(3)(torch.ones(1, 3, 8, 7)).shape
    torch.Size([1, 3, 4, 4])
    >>> sum(p.numel() for p in BlurPool(3).parameters())
    0
    """

    def __init__(self, channels: int | None, kernel: int = 4, stride: int = 2):
        super().__init__()
        check_positive(channels=channels or 1, kernel=kernel, stride=stride)
        self.channels, self.kernel, self.stride = channels, kernel, stride
        w = torch.outer(binomial(kernel), binomial(kernel))
        w = w.to(torch.get_default_dtype()).expand(channels or 1, 1, -1, -1)
        self.register_buffer("weight", w.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.channels not in (None, x.shape[1]):
            raise ValueError(f"x must have {self.channels} channels, got {x.shape[1]}")
        return blur(x, self.weight, self.stride)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel={self.kernel}, stride={self.stride}"


class MaxBlurPool(nn.Module):
    """The maximum of each 2x2 window at stride 1, then `BlurPool`.

    Parameters
    ----------
    channels, kernel : as `BlurPool`; the max-pool's windows are 2x2 whatever kernel is

    Notes
    -----
    (B, C, H, W) -> (B, C, H // 2, W // 2), as ``nn.MaxPool2d(2)``: an odd map loses its
    last row. A map of one row or column has no window: torch's error.

    References
    ----------
    [zhang2019]_

    Examples
    --------
    >>> MaxBlurPool(3)(torch.ones(1, 3, 8, 7)).shape
    torch.Size([1, 3, 4, 3])
    """

    def __init__(self, channels: int, kernel: int = 4):
        super().__init__()
        self.blur = BlurPool(channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.blur(F.max_pool2d(x, 2, 1))


def _convolution(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1)


DOWNSAMPLERS: dict[str, Callable[[int], nn.Module]] = {
    "max": lambda channels: nn.MaxPool2d(2),
    "average": lambda channels: nn.AvgPool2d(2),
    "stride": lambda channels: _convolution(channels, 2),
    "max_blur": MaxBlurPool,
    "blur": lambda channels: nn.Sequential(
        _convolution(channels, 1), BlurPool(channels)
    ),
}
"""From the number of channels to a module that halves a map; "stride" and "blur" hold
a convolution 3x3 with weights of its own, the same one."""
