"""Input alignment against hand-made vectors and the law for one random layer."""

import pytest
import torch
from nets import images, small_cnn
from torch import nn

from xai_lib.analyse import (
    alignment,
    alignment_by_layer,
    alignment_law,
    chance_alignment,
    random_layer_alignment,
)
from xai_lib.attribute import gradient, guided_backprop

LAWS = ("equal", "activation", "positive", "signed")


@pytest.mark.parametrize("per", ["map", "position"])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("magnitude", [False, True])
def test_alignment_by_hand(per, centre, magnitude):
    r, x = images(seed=1, dtype=torch.float64), images(dtype=torch.float64) + 0.3
    found = alignment(r, x, per, centre, magnitude)
    h = x.abs() if magnitude else x
    for i in range(2):
        g = h[i].clone()
        for channel in g:
            channel -= channel.mean() * centre
        if per == "map":
            wanted = (r[i] * g).sum() / (r[i].norm() * g.norm())
        else:
            wanted = (r[i] * g).sum(0) / ((r[i] ** 2).sum(0) * (g**2).sum(0)).sqrt()
        torch.testing.assert_close(found[i], wanted)


def test_alignment_knows_no_scale_and_no_underflow():
    r, x = images(seed=1), images()
    torch.testing.assert_close(alignment(1e-30 * r, 1e9 * x), alignment(r, x))
    torch.testing.assert_close(
        alignment(r[:, :, 0, 0], x[:, :, 0, 0]),
        alignment(r, x, per="position")[:, 0, 0],
    )
    assert alignment(0 * r, x).isnan().all()


def test_chance_of_a_signed_and_of_a_positive_map():
    r, x = images(seed=1, height=48, width=48), images(height=48, width=48)
    assert chance_alignment(r, x).abs().max() < 0.02
    a, b = r.abs(), x.abs()
    means = (a.mean() * b.mean() / (a.norm() * b.norm()) * a.numel()).item()
    torch.testing.assert_close(
        chance_alignment(a, b), torch.full((2,), means).double(), atol=0.02, rtol=0
    )
    for draw in (
        lambda seed: chance_alignment(r, x, draws=2, seed=seed),
        lambda seed: random_layer_alignment("equal", 9, 20, 3, seed),
    ):
        assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert chance_alignment(r, x, per="position", draws=2).shape == (2, 48, 48)


@pytest.mark.parametrize(
    ("d", "n", "wanted"),  # measured elsewhere, 20 draws
    [
        (27, 64, (0.67, 0.75, 0.59, -0.04)),
        (27, 512, (0.94, 0.96, 0.90, -0.03)),
        (27, 4096, (0.990, 0.993, 0.98, 0.01)),
        (64, 64, (0.47, 0.55, 0.40, -0.04)),
        (64, 1000, (0.91, 0.94, 0.87, 0.01)),
        (576, 64, (0.19, 0.23, 0.15, 0.0)),
        (576, 512, (0.48, 0.55, 0.40, -0.01)),
        pytest.param(3072, 1024, (0.31, 0.38, 0.25, 0.0), marks=pytest.mark.slow),
    ],
)
def test_the_law_of_one_random_layer(d, n, wanted):
    for weighting, value in zip(LAWS, wanted, strict=True):
        found = random_layer_alignment(weighting, d, n).mean().item()
        predicted = alignment_law(weighting, d, n)
        assert abs(found - predicted) < 0.05
        assert abs(predicted - value) < 0.05
        if weighting != "signed":
            assert abs(found - value) < 0.05


def random_mlp(d, n):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, n, bias=False), nn.ReLU())
    net = nn.Sequential(*net, nn.Linear(n, 10, bias=False)).double().eval()
    net[1].weight.data.normal_()
    return net


def test_guided_backprop_of_a_random_layer_obeys_the_law():
    x = images(40, 1, 8, 8, dtype=torch.float64)
    net, labels = random_mlp(64, 1000), torch.arange(40) % 10
    found = alignment_by_layer(net, x, labels, guided_backprop, ["input"])
    positive = found["input"].mean().item()
    # positive upstream signals reach half of the active units
    assert abs(positive - alignment_law("positive", 64, 500)) < 0.05
    flat = alignment_by_layer(net, x, labels, gradient, ["input"])["input"]
    assert flat.abs().mean() < 0.2 and abs(flat.mean()) < 0.05


def test_alignment_by_layer_takes_the_layers_own_activation():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    labels = torch.tensor([1, 3])
    found = alignment_by_layer(net, x, labels, "gradient", ["2", "input"], centre=True)
    wanted = alignment(gradient(net, x, labels, layer="2"), net[:3](x), centre=True)
    torch.testing.assert_close(found["2"], wanted)
    chance = alignment_by_layer(
        net, x, labels, "gradient", ["2"], chance=True, draws=3, seed=1
    )
    wanted = chance_alignment(
        gradient(net, x, labels, layer="2"), net[:3](x), draws=3, seed=1
    )
    torch.testing.assert_close(chance["2"], wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alignment(images(), images(1)), "one shape"),
        (lambda: alignment(images(), images(), per="pixel"), "per must be one of"),
        (lambda: alignment(torch.ones(1, 2), torch.ones(1, 2), "position"), "position"),
        (lambda: alignment_law("all", 3, 4), "weighting must be one of"),
        (lambda: alignment_law("equal", 3, 0), "n must be above 0"),
        (lambda: random_layer_alignment("equal", 3, 4, draws=0), "draws must be"),
    ],
)
def test_alignment_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
