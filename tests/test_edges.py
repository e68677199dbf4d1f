"""Edges of images with known edges."""

import pytest
import torch
from nets import images

from xai_lib.analyse import gradient_magnitude


@pytest.mark.parametrize("slopes", [(1.0, 0.0), (0.0, 2.0), (3.0, 4.0)])
def test_a_ramp_has_its_slope(slopes):
    i, j = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    ramp = (slopes[0] * i + slopes[1] * j).expand(2, 3, 7, 9)
    inner = gradient_magnitude(ramp)[:, 1:-1, 1:-1]
    wanted = (slopes[0] ** 2 + slopes[1] ** 2) ** 0.5
    torch.testing.assert_close(inner, torch.full_like(inner, wanted))


def test_sobel_by_hand():
    m = images(1, 1, 3, 3, dtype=torch.float64)
    a = m[0, 0]
    across = (a[0, 2] + 2 * a[1, 2] + a[2, 2] - a[0, 0] - 2 * a[1, 0] - a[2, 0]) / 8
    down = (a[2, 0] + 2 * a[2, 1] + a[2, 2] - a[0, 0] - 2 * a[0, 1] - a[0, 2]) / 8
    torch.testing.assert_close(
        gradient_magnitude(m)[0, 1, 1], torch.hypot(across, down)
    )


def test_brightness_is_the_mean_over_channels_and_a_flat_image_has_no_edges():
    x = images()
    grey = x.mean(1, keepdim=True)
    torch.testing.assert_close(gradient_magnitude(x), gradient_magnitude(grey))
    assert not gradient_magnitude(torch.ones(1, 3, 5, 5)).any()
    with pytest.raises(ValueError, match="finite"):
        gradient_magnitude(x * torch.nan)
