"""Random fields with a chosen spectrum: references, and perturbations."""

import torch
from torch import Tensor

from xai_lib._check import check_positive
from xai_lib.analyse.spectrum import frequency_grid


def power_law_noise(
    n: int, shape: tuple[int, ...], exponent: float = 0.0, *, rms=1.0, seed: int = 0
) -> Tensor:
    """Return Gaussian noise whose power falls as 1 / f^exponent.

    Parameters
    ----------
    n : number of fields
    shape : (..., H, W) of one field
    exponent : 0 is white; 2 is about that of photographs
    rms : root mean square of each field
    seed : of the draws

    Returns
    -------
    Tensor, shape (n, ..., H, W), each field (over all its channels) with mean square
    rms^2, and zero mean per channel unless exponent is 0

    Examples
    --------
    >>> power_law_noise(3, (3, 8, 8), 2.0, rms=0.1).square().mean((1, 2, 3)).sqrt()
    tensor([0.1000, 0.1000, 0.1000])
    """
    check_positive(n=n, rms=rms)
    noise = torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed))
    if exponent:
        f = torch.fft.ifftshift(frequency_grid(*shape[-2:]))
        gain = torch.where(f > 0, f ** (-exponent / 2), 0.0)
        noise = torch.fft.ifft2(torch.fft.fft2(noise) * gain).real
    scale = noise.flatten(1).square().mean(1).sqrt()
    return noise * (rms / scale).view(n, *[1] * len(shape))
