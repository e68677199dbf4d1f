"""Down-samplers against plain sums, and against each other's sizes."""

import pytest
import torch
from nets import images
from torch import nn
from torch.nn import functional as F

from xai_lib.assets.downsample import (
    DOWNSAMPLERS,
    BlurPool,
    MaxBlurPool,
    binomial,
    reflect_pad,
)
from xai_lib.attribute import METHODS
from xai_lib.attribute.backprop import lrp

SIZES = [(1, 1), (1, 5), (2, 2), (2, 3), (3, 3), (4, 4), (5, 8), (7, 7), (32, 32)]


def test_binomials():
    assert [(8 * binomial(4)).tolist(), binomial(1).tolist()] == [[1, 3, 3, 1], [1]]
    for n in range(1, 8):
        assert binomial(n).sum() == 1
        if n > 1:
            shorter = F.pad(binomial(n - 1), (1, 1))
            torch.testing.assert_close(binomial(n), (shorter[1:] + shorter[:-1]) / 2)


def mirrored_by_hand(row, before, after):
    """Walk over the row and back, again and again."""
    n, walk = len(row), []
    for i in range(-before, n + after):
        j, step = 0, 1 if i >= 0 else -1
        for _ in range(abs(i)):
            step = 1 if j == 0 else -1 if j == n - 1 else step
            j += step if n > 1 else 0
        walk.append(row[j])
    return walk


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_padding_walks_over_the_map_and_back(size):
    row = list(range(size))
    x = torch.tensor(row, dtype=torch.float64).view(1, 1, size, 1)
    padded = reflect_pad(x, 3, 4)
    wanted = torch.tensor(mirrored_by_hand(row, 3, 4), dtype=torch.float64)
    assert padded.shape == (1, 1, size + 7, 8)
    assert torch.equal(padded[0, 0], wanted[:, None].expand(-1, 8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_blur_is_the_plain_double_sum(size, kernel):
    x = images(2, 3, *size, dtype=torch.float64)
    y = BlurPool(3, kernel).double()(x)
    assert y.shape == (2, 3, -(-size[0] // 2), -(-size[1] // 2))
    w, start = binomial(kernel), (kernel - 1) // 2
    wide = reflect_pad(x, start, kernel // 2)
    for i in range(y.shape[2]):
        for j in range(0, y.shape[3], 3):
            part = wide[:, :, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel]
            torch.testing.assert_close(
                y[:, :, i, j], (part * torch.outer(w, w)).sum((2, 3))
            )


def test_blur_for_any_number_of_channels_and_for_one_number_only():
    x = images(2, 3, 8, 6)
    assert torch.equal(BlurPool(None)(x), BlurPool(3)(x))
    with pytest.raises(ValueError, match="4 channels, got 3"):
        BlurPool(4)(x)
    with pytest.raises(ValueError, match="kernel"):
        BlurPool(4, 0)


def test_blur_of_length_two_is_the_average_pool():
    x = images(2, 3, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(BlurPool(3, 2).double()(x), F.avg_pool2d(x, 2))


@pytest.mark.parametrize("size", [s for s in SIZES if min(s) > 1])
def test_max_blur_has_the_max_pools_size_and_is_max_then_blur(size):
    x = images(2, 3, *size, dtype=torch.float64)
    y = MaxBlurPool(3).double()(x)
    assert y.shape == nn.MaxPool2d(2)(x).shape
    windows = x.unfold(2, 2, 1).unfold(3, 2, 1).amax((4, 5))
    torch.testing.assert_close(y, BlurPool(3).double()(windows))


@pytest.mark.parametrize("module", [BlurPool(3), MaxBlurPool(3)])
def test_a_constant_map_stays_constant_and_nothing_is_trained(module):
    ones = torch.ones(1, 3, 6, 7, dtype=torch.float64)
    y = module.double()(ones)
    torch.testing.assert_close(y, torch.ones_like(y))
    assert not module.state_dict() and not [*module.parameters()]


def test_all_five_halve_and_differ():
    x, found = images(2, 4, 16, 16), {}
    for name, build in DOWNSAMPLERS.items():
        torch.manual_seed(0)
        found[name] = build(4)(x)
        assert found[name].shape == (2, 4, 8, 8)
    names = [*found]
    for i, a in enumerate(names):
        assert not any(torch.allclose(found[a], found[b]) for b in names[:i])


def test_stride_is_every_second_value_of_the_convolution_that_blur_smooths():
    torch.manual_seed(0)
    stride = DOWNSAMPLERS["stride"](4)
    blur = DOWNSAMPLERS["blur"](4)
    blur.load_state_dict({f"0.{k}": v for k, v in stride.state_dict().items()})
    x = images(2, 4, 9, 8)
    torch.testing.assert_close(stride(x), blur[0](x)[:, :, ::2, ::2])
    assert blur(x).shape == stride(x).shape


@pytest.mark.parametrize("name", DOWNSAMPLERS)
@pytest.mark.parametrize("method", ["gradient", "lrp_zplus", "guided_backprop"])
def test_every_method_goes_through(name, method):
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), DOWNSAMPLERS[name](4)]
    net = nn.Sequential(*stem, nn.Flatten(), nn.Linear(64, 5)).double().eval()
    x, c = images(2, height=8, width=8, dtype=torch.float64), torch.tensor([1, 2])
    R = METHODS[method](net, x, c)
    assert R.isfinite().all() and (R.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", ["max_blur", "blur"])
def test_relevance_is_conserved_through_blurs(name):
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), DOWNSAMPLERS[name](4)]
    net = nn.Sequential(*stem, nn.Flatten(), nn.Linear(64, 5, bias=False))
    net = net.double().eval()
    if name == "blur":
        nn.init.zeros_(net[2][0].bias)
    x, c = images(2, height=8, width=8, dtype=torch.float64), torch.tensor([1, 2])
    total = lrp(net, x, c, "epsilon").sum((1, 2, 3))
    torch.testing.assert_close(
        total, net(x).gather(1, c[:, None])[:, 0], rtol=1e-3, atol=1e-6
    )
