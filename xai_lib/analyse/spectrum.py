"""The power spectrum of maps: how much of a map varies how fast.

Frequencies are in cycles per image, where the image is its shorter side; what is called
a fraction of the sampling rate is in cycles per pixel, 0.5 being the finest.
"""

import torch
from torch import Tensor

from xai_lib._check import check_choice, check_maps

WINDOWS = ("hann", "none")
NARROWEST = 4  # pixels; of 3 the Hann window leaves the middle one


def frequency_grid(height: int, width: int) -> Tensor:
    """Return the radial frequency of every coefficient, centred, in cycles per pixel.

    Parameters
    ----------
    height, width : size of the map, odd or even

    Returns
    -------
    Tensor, shape (height, width), 0 at (height // 2, width // 2)

    Examples
    --------
    >>> frequency_grid(4, 4)[2]
    tensor([0.5000, 0.2500, 0.0000, 0.2500])
    """
    fy, fx = (torch.fft.fftshift(torch.fft.fftfreq(n)) for n in (height, width))
    return torch.hypot(fy[:, None], fx[None, :])


def _window(name: str, maps: Tensor) -> Tensor:
    check_choice("window", name, WINDOWS)
    if name == "hann" and min(maps.shape[1:]) < NARROWEST:
        size = " x ".join(map(str, maps.shape[1:]))
        wanted = f"maps must be {NARROWEST} pixels wide and high at least"
        raise ValueError(f"{wanted} for the window 'hann', got {size}")
    sides = [
        torch.hann_window(n, periodic=False).to(maps)
        if name == "hann"
        else maps.new_ones(n)
        for n in maps.shape[1:]
    ]
    return torch.outer(*sides)  # (H, W)


def power_spectrum(
    maps: Tensor, *, window: str = "hann", normalise: bool = True
) -> Tensor:
    """Return the two-dimensional power spectrum of each map.

    Parameters
    ----------
    maps : Tensor, shape (B, H, W) or (B, 1, H, W), signed or not
    window : "hann" (a map does not continue at its border; without a window that jump
        shows as power along both axes) or "none"
    normalise : divide each map by its standard deviation, so that maps of any scale
        compare and white noise has the expected power 1 everywhere

    Returns
    -------
    Tensor, shape (B, H, W), frequency 0 at (H // 2, W // 2)

    Raises
    ------
    ValueError
        if a map is constant and normalise is True: it has no spectrum; if a map is
        narrower than 4 pixels under the Hann window

    Notes
    -----
    The mean is subtracted first. Power is ``|FFT2(w m)|^2 / sum(w^2)``, w the window;
    with no window its mean is the map's variance (Parseval). The recipe of
    [muzellec2024]_ is not known; this is ours.

    References
    ----------
    [muzellec2024]_, [torralba2003]_

    Examples
    --------
    >>> maps = torch.randn(2, 8, 8)
    >>> power = power_spectrum(maps, window="none", normalise=False)
    >>> variance = maps.var((1, 2), correction=0)
    >>> torch.allclose(power.mean((1, 2)), variance)
    True
    """
    maps = check_maps(maps)
    maps = maps - maps.mean((1, 2), keepdim=True)
    if normalise:
        scale = maps.std((1, 2), keepdim=True, correction=0)
        flat = (scale.flatten() == 0).nonzero().flatten().tolist()
        if flat:
            raise ValueError(
                f"maps must vary to have a spectrum, got constant maps {flat}"
            )
        maps = maps / scale
    w = _window(window, maps)
    power = torch.fft.fft2(maps * w).abs() ** 2 / (w**2).sum()
    return torch.fft.fftshift(power, dim=(1, 2))


def radial_spectrum(
    maps: Tensor, *, window: str = "hann", normalise: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the power of each map against frequency, averaged over directions.

    Parameters
    ----------
    maps, window, normalise : as `power_spectrum`

    Returns
    -------
    frequency : Tensor, shape (K,): 1, 2, ... in cycles per image
    power : Tensor, shape (B, K): mean over the ring of coefficients whose frequency
        rounds to that number

    Notes
    -----
    On a map that is not square the unit is cycles per shorter side, so a ring joins
    coefficients of one physical frequency. K is half the shorter side, rounded down;
    the corners beyond it belong to no ring.

    References
    ----------
    [field1987]_

    Examples
    --------
    >>> wave = torch.cos(2 * torch.pi * 5 * torch.arange(32) / 32).expand(1, 32, 32)
    >>> frequency, power = radial_spectrum(wave, window="none")
    >>> frequency[power[0].argmax()].item()
    5.0
    """
    return ring_means(power_spectrum(maps, window=window, normalise=normalise))


def ring_means(power: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of power over each ring of frequencies.

    Parameters
    ----------
    power : Tensor, shape (B, H, W), frequency 0 at (H // 2, W // 2)

    Returns
    -------
    frequency, power : as `radial_spectrum`

    Examples
    --------
    >>> ring_means(torch.ones(1, 6, 8))
    (tensor([1., 2., 3.]), tensor([[1., 1., 1.]]))
    """
    H, W = power.shape[1:]
    side = min(H, W)
    ring = (frequency_grid(H, W) * side).round().long().flatten().to(power.device)
    inside = ring <= side // 2
    total = power.new_zeros(len(power), side // 2 + 1)
    total.index_add_(1, ring[inside], power.flatten(1)[:, inside])
    mean = total / torch.bincount(ring[inside])
    frequency = torch.arange(1, side // 2 + 1, device=power.device).to(power)
    return frequency, mean[:, 1:]


def spectral_slope(
    maps: Tensor, *, low: float = 1 / 32, high: float = 1 / 2.2, window: str = "hann"
) -> Tensor:
    """Return the slope of each map's radial spectrum on log-log axes.

    Parameters
    ----------
    maps, window : as `power_spectrum`
    low, high : the range of the fit, as fractions of the sampling rate

    Returns
    -------
    Tensor, shape (B,): 0 for white noise, about -2 for photographs

    Notes
    -----
    Least squares of log power on log frequency, each ring counted once.

    References
    ----------
    [field1987]_, [vanderschaaf1996]_

    Examples
    --------
    >>> noise = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> bool(spectral_slope(noise).abs().max() < 0.5)
    True
    """
    if not 0 <= low < high <= 0.5:
        raise ValueError(f"low and high must be ordered in [0, 0.5], got {low}, {high}")
    frequency, power = radial_spectrum(maps, window=window)
    side = min(maps.shape[-2:])
    fit = (frequency >= low * side) & (frequency <= high * side)
    if fit.sum() < 2:
        raise ValueError(
            f"low and high must enclose at least 2 rings, got {int(fit.sum())} "
            f"on a side of {side}"
        )
    x, y = frequency[fit].log(), power[:, fit].clamp(min=1e-30).log()
    x = x - x.mean()
    return (y * x).sum(1) / (x**2).sum()


def high_frequency_ratio(
    maps: Tensor, above: float = 0.25, *, window: str = "hann"
) -> Tensor:
    """Return the share of each map's power above a frequency.

    Parameters
    ----------
    maps, window : as `power_spectrum`
    above : fraction of the sampling rate in [0, 0.5)

    Returns
    -------
    Tensor, shape (B,), in [0, 1]; white noise has 1 - pi * above^2, 0.80 at 0.25

    Notes
    -----
    The sum runs over the whole plane, corners included, the frequency 0 excluded.

    References
    ----------
    [muzellec2024]_ for the question; the definition is ours

    Examples
    --------
    >>> noise = torch.randn(8, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> round(high_frequency_ratio(noise, window="none").mean().item(), 1)
    0.8
    """
    return share_above(power_spectrum(maps, window=window), above)


def share_above(power: Tensor, above: float = 0.25) -> Tensor:
    """Return the share of power that lies above a frequency, the frequency 0 excluded.

    Parameters
    ----------
    power : Tensor, shape (B, H, W), frequency 0 at (H // 2, W // 2)
    above : as `high_frequency_ratio`

    Returns
    -------
    Tensor, shape (B,), in [0, 1]; nan where there is no power

    Examples
    --------
    >>> share_above(torch.ones(1, 2, 2)).item()
    1.0
    """
    if not 0 <= above < 0.5:
        raise ValueError(f"above must lie in [0, 0.5), got {above}")
    f = frequency_grid(*power.shape[1:]).to(power.device)
    higher = f > above * (1 + 1e-6)  # f is rounded, as in `low_pass`
    return power[:, higher].sum(1) / power[:, f > 0].sum(1)
