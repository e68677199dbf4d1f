"""How alike are two maps? SSIM, and the score that sanity checks make of it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib._check import check_maps, check_positive


def ssim(a: Tensor, b: Tensor, window: int = 5, data_range: float = 1.0) -> Tensor:
    """Return the structural similarity of each pair of maps.

    Parameters
    ----------
    a, b : Tensor, shape (B, H, W) or (B, 1, H, W), of one shape
    window : odd side of the square, uniform window, at most the maps' shorter side
    data_range : largest minus smallest possible value: 1 for maps in [0, 1]

    Returns
    -------
    Tensor, shape (B,), in [-1, 1]

    Notes
    -----
    Wang's constants K1 = 0.01 and K2 = 0.03, sample covariance, mean over the windows
    that lie inside: the defaults of scikit-image but for its window of 7. Old versions
    of scikit-image took a data range of 2 for floats if none was given; that moves the
    value by about 0.1. Computed in float64.

    References
    ----------
    [wang2004]_, [sixt2020]_

    Examples
    --------
    >>> maps = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> ssim(maps, maps)
    tensor([1., 1.])
    >>> bool((ssim(maps, 1 - maps) < 0).all())
    True
    """
    a, b = check_maps(a), check_maps(b)
    if a.shape != b.shape:
        raise ValueError(
            f"maps must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    check_positive(data_range=data_range)
    if window % 2 == 0 or not 1 < window <= min(a.shape[1:]):
        raise ValueError(
            f"window must be odd and in 3..{min(a.shape[1:])}, got {window}"
        )
    x, y = a.double()[:, None], b.double()[:, None]  # (B, 1, H, W)

    def mean(m: Tensor) -> Tensor:
        return F.avg_pool2d(m, window, stride=1)

    sample = window**2 / (window**2 - 1)
    mx, my = mean(x), mean(y)
    vx, vy = sample * (mean(x * x) - mx**2), sample * (mean(y * y) - my**2)
    cov = sample * (mean(x * y) - mx * my)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    likeness = (2 * mx * my + c1) * (2 * cov + c2)
    likeness = likeness / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    kind = a.dtype if a.is_floating_point() else torch.double
    return likeness.mean((1, 2, 3)).to(kind)


def clip_to_unit(maps: Tensor, percentile: float = 99.5) -> Tensor:
    """Clip each map between two of its percentiles and move that range to [0, 1].

    Parameters
    ----------
    maps : Tensor, shape (B, H, W) or (B, 1, H, W)
    percentile : in (50, 100]: the upper one; the lower is 100 minus it

    Returns
    -------
    Tensor, shape (B, H, W), in [0, 1]; a map without a range becomes zero. Where the
    percentiles are equal, in a map of a few pixels, all of its range is taken

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> clip_to_unit(torch.tensor([[[-4.0, 0.0, 4.0]]]), 100)
    tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    maps = check_maps(maps)
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile must lie in (50, 100], got {percentile}")
    share = percentile / 100
    maps = maps if maps.dtype == torch.double else maps.float()  # quantile's types
    flat, ends = maps.flatten(1), maps.new_tensor([1 - share, share])
    low, high = torch.quantile(flat, ends, dim=1)[..., None, None]
    least, most = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    low, high = torch.where(high > low, low, least), torch.where(high > low, high, most)
    span = torch.where(high > low, high - low, torch.inf)
    return ((maps - low) / span).clamp(0, 1)


def similarity(
    a: Tensor,
    b: Tensor,
    *,
    percentile: float = 99.5,
    window: int = 5,
    data_range: float = 1.0,
) -> Tensor:
    """Return the SSIM of two maps up to scale, offset and sign.

    Parameters
    ----------
    a, b : Tensor, shape (B, H, W) or (B, 1, H, W)
    percentile : as `clip_to_unit`, which both maps go through
    window, data_range : as `ssim`

    Returns
    -------
    Tensor, shape (B,): the larger of SSIM(a, b) and SSIM(a, -b)

    Notes
    -----
    The sign is turned before the clipping, so -b becomes 1 minus b's unit map, and a
    map is 1 like its own negative. Two constant maps are 1 alike, and two of a few
    pixels nearly so, wherever these lie: most windows are empty in both. [binder2023]_
    shows that maps without structure do best in checks that want a low score, so such a
    score cannot rank methods.

    References
    ----------
    [sixt2020]_, [binder2023]_

    Examples
    --------
    >>> maps = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> similarity(maps, -3 * maps).round(decimals=5)
    tensor([1., 1.])
    """
    a, b = (clip_to_unit(maps, percentile) for maps in (a, b))
    flipped = torch.where((b == 0).all((1, 2), keepdim=True), b, 1 - b)
    options = {"window": window, "data_range": data_range}
    return torch.maximum(ssim(a, b, **options), ssim(a, flipped, **options))
