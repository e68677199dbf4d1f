"""Key regions with known energy; sufficiency of linear models by hand."""

import pytest
import torch
from nets import images, linear_net, small_cnn
from torch import nn

from xai_lib.evaluate import (
    blurred,
    key_region,
    key_sufficiency,
    moved,
    transplant_rate,
)

LABELS = torch.tensor([1, 3])


def test_a_region_or_hosts_of_another_shape_are_refused():
    net, x = linear_net(), images()
    region = torch.ones(2, 16, 16, dtype=torch.bool)
    for bad in (region.float(), region[:, :1, :1], region[:1]):
        with pytest.raises(ValueError, match="region must be bool of shape"):
            transplant_rate(net, x, bad, LABELS, x)
    for hosts in (x[:, :1], x[..., :8], x[0]):
        with pytest.raises(ValueError, match=r"hosts must have shape \(K, 3, 16, 16\)"):
            transplant_rate(net, x, region, LABELS, hosts)


@pytest.mark.parametrize(("share", "pixels"), [(0.1, 1), (0.5, 1), (0.6, 2), (1.0, 3)])
def test_the_region_is_the_smallest_that_holds_the_share(share, pixels):
    m = torch.zeros(1, 4, 4)
    m[0, 0, 0], m[0, 1, 1], m[0, 3, 2] = -2.0, 1.5, 1.0  # energies 4, 2.25, 1
    region = key_region(m, share)
    assert region.sum() == pixels
    assert ((m**2 * region).sum() / (m**2).sum()) >= share


def test_a_flat_map_gives_up_a_tenth_of_its_pixels_and_an_empty_one_none():
    assert key_region(torch.ones(1, 10, 10), 0.1).sum() == 10
    assert key_region(torch.zeros(1, 5, 5), 0.5).sum() == 0
    with pytest.raises(ValueError, match="share must lie in"):
        key_region(torch.ones(1, 5, 5), 0.0)


def test_blur_keeps_the_mean_and_spreads_a_point_by_sigma():
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[0, 0, 20, 20] = 1
    found = blurred(x, 3.0)[0, 0]
    torch.testing.assert_close(found.sum(), torch.tensor(1.0).double())
    place = torch.arange(41.0).double() - 20
    spread = (found.sum(0) * place**2).sum().sqrt()
    assert abs(spread - 3) < 0.1
    torch.testing.assert_close(found, found.T)


def test_blur_of_a_small_image_and_a_bad_sigma():
    assert blurred(images(2, 3, 4, 6), 20.0).shape == (2, 3, 4, 6)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        blurred(images(), 0.0)


def test_sufficiency_of_everything_and_of_nothing():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    everything = torch.ones(2, 16, 16, dtype=torch.bool)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(key_sufficiency(net, x, everything, LABELS), ones)
    rest = net(blurred(x, 2.0)).gather(1, LABELS[:, None])[:, 0]
    own = net(x).gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(key_sufficiency(net, x, ~everything, LABELS), rest / own)


def test_sufficiency_of_a_linear_model_is_its_share():
    net, x = linear_net().double(), images(dtype=torch.float64)
    region = torch.zeros(2, 16, 16, dtype=torch.bool)
    region[:, 3:9, 5:8] = True
    found = key_sufficiency(net, x, region, LABELS, sigma=1.0)
    w = net[1].weight[LABELS].view_as(x)
    kept = torch.where(region[:, None], x, blurred(x, 1.0))
    wanted = (w * kept).sum((1, 2, 3)) / (w * x).sum((1, 2, 3))
    torch.testing.assert_close(found, wanted)


def test_a_region_of_another_kind_is_refused():
    net, x = linear_net(), images()
    for region in (torch.ones(2, 16, 16), torch.ones(2, 8, 8, dtype=torch.bool)):
        with pytest.raises(ValueError, match="region must be bool of shape"):
            key_sufficiency(net, x, region, LABELS)


def test_a_moved_region_keeps_its_shape_on_the_torus():
    region = torch.zeros(40, 12, 12, dtype=torch.bool)
    region[:, 2:5, 7:9] = True
    found = moved(region)
    assert (found.sum((1, 2)) == 6).all() and not torch.equal(found, region)
    assert (found.any(2).sum(1) == 3).all() and (found.any(1).sum(1) == 2).all()
    assert torch.equal(found, moved(region)) and not torch.equal(
        found, moved(region, 1)
    )
    assert len({tuple(one.flatten().tolist()) for one in found}) > 20


def test_a_transplant_takes_the_class_along_only_if_the_region_decides():
    corner = torch.zeros(2, 1, 4, 4)
    corner[1, 0, :2, :2] = 1.0

    class Corner(nn.Module):
        def forward(self, x):
            bright = x[:, 0, :2, :2].mean((1, 2))
            return torch.stack([0.5 - bright, bright - 0.5], 1)

    net, c = Corner().eval(), torch.tensor([0, 1])
    there = torch.zeros(2, 4, 4, dtype=torch.bool)
    there[:, :2, :2] = True
    hosts = torch.stack([corner[0], corner[1], corner[1], corner[1]])
    assert transplant_rate(net, corner, there, c, hosts).tolist() == [1.0, 1.0]
    assert transplant_rate(net, corner, ~there, c, hosts).tolist() == [0.25, 0.75]


def test_a_text_is_blurred_along_its_words_and_oblong_images_by_their_height():
    x = torch.zeros(1, 1, 1, 41, dtype=torch.float64)
    x[..., 20] = 1
    found, place = blurred(x, 3.0)[0, 0, 0], torch.arange(41.0) - 20
    assert abs(float((found * place**2).sum()) ** 0.5 - 3) < 0.1
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(128, 2)).eval()
    x, region = images(1, 1, 8, 16), torch.zeros(1, 8, 16, dtype=torch.bool)
    c = torch.tensor([0])
    default = key_sufficiency(net, x, region, c)
    torch.testing.assert_close(default, key_sufficiency(net, x, region, c, sigma=1.0))


def test_all_of_the_energy_wants_every_pixel_that_has_some():
    maps = torch.tensor([[[1.0, 1e-7], [1e-7, 0.0]]])
    assert key_region(maps, 1.0).sum() == 3


def test_a_transplant_refuses_a_class_that_is_none_and_hosts_that_are_not_finite():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    x, region = torch.rand(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="target must lie in"):
        transplant_rate(net, x, region, torch.tensor([9]), x)
    with pytest.raises(ValueError, match="hosts must be finite"):
        transplant_rate(net, x, region, torch.tensor([0]), x * torch.nan)
