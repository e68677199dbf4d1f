"""The edges of an image: what a map is like that knows nothing but the image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib._check import check_images


def gradient_magnitude(images: Tensor) -> Tensor:
    """Return the size of the brightness gradient at each pixel.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W); brightness is the mean over the channels

    Returns
    -------
    Tensor, shape (B, H, W), non-negative, in units of the image per pixel

    Notes
    -----
    Sobel's kernels divided by 8: a ramp of slope 1 has magnitude 1, and smoothing
    acts across the direction of the derivative; the border is repeated outwards.
    scikit-image's ``sobel`` divides by sqrt(2) more.

    Examples
    --------
    >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    >>> gradient_magnitude(ramp)[0, 2]
    tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """
    check_images(images)
    grey = F.pad(images.mean(1, keepdim=True), [1] * 4, mode="replicate")
    across = grey.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([across, across.T])[:, None]  # (2, 1, 3, 3)
    return F.conv2d(grey, kernels).norm(dim=1)  # (B, H, W)
