"""Signals at many layers against one method call per layer; readings by hand."""

import math
from functools import partial

import pytest
import torch
from nets import Residual, images, small_cnn
from torch import nn

from xai_lib.analyse import (
    alignment,
    alignment_readings,
    backward_signals,
    carries_input,
    chance_alignment,
    shuffled_alignment,
    weighted_inputs,
)
from xai_lib.attribute import METHODS
from xai_lib.attribute.backprop import lrp, rectgrad

NAMES = ["gradient", "guided_backprop", "rectgrad", "deconvnet", "lrp_zplus"]
NAMES += ["deep_taylor", "excitation_backprop", "lrp_epsilon"]


def test_the_layers_that_weights_read():
    net, x = small_cnn(inplace=True), images()
    assert weighted_inputs(net, x) == {"0": "input", "4": "3", "8": "7"}


def test_a_reused_relu_is_left_out_and_a_reshaped_output_is_found():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.relu(self.a(x))
            return self.head(self.pool(self.relu(self.b(x))).flatten(1))

    found = weighted_inputs(Net().eval(), images())
    assert found == {"a": "input", "head": "pool"}
    assert weighted_inputs(Residual().eval(), images()) == {"stem": "input"}


def test_no_hook_is_left_behind():
    net = small_cnn()
    weighted_inputs(net, images())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_gives_what_a_call_per_layer_gives(name):
    net, x, c = small_cnn().double(), images(dtype=torch.float64), torch.tensor([1, 3])
    layers = ["input", "3", "7"] if carries_input(name) else ["input", "3"]
    found = backward_signals(net, x, c, name, layers)
    for layer in layers:
        inner = None if layer == "input" else layer
        wanted = METHODS[name](net, x, c, layer=inner)
        cosine = alignment(found[layer][0], wanted).abs()  # lrp sends the logit's sign
        torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_the_activation_is_the_layers_output():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    found = backward_signals(net, x, torch.tensor([0, 1]), "gradient", ["3", "input"])
    torch.testing.assert_close(found["3"][1], net[:4](x))
    assert torch.equal(found["input"][1], x)
    assert found["3"][2] is found["3"][1]


def test_a_vector_at_the_top_is_the_sum_of_its_classes():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    top = torch.tensor([[1.0, 0, 2, 0, 0], [0, 0, 0, 3, 0]])
    found = backward_signals(net, x, top, "gradient", ["input"])["input"][0]
    one, three = (
        backward_signals(net, x, torch.tensor(c), "gradient", ["input"])["input"][0]
        for c in ([0, 3], [2, 3])
    )
    torch.testing.assert_close(found[0], one[0] + 2 * three[0])
    torch.testing.assert_close(found[1], 3 * one[1])


def test_bad_calls_are_refused():
    net, x = small_cnn(), images()
    with pytest.raises(ValueError, match="one backward pass"):
        backward_signals(net, x, torch.tensor([0, 1]), "rise", ["input"])
    with pytest.raises(ValueError, match=r"top must have shape \(2,\)"):
        backward_signals(net, x, torch.ones(2, 4), "gradient", ["input"])


def test_which_methods_hold_the_input():
    assert not any(map(carries_input, NAMES[:4])) and all(map(carries_input, NAMES[4:]))
    assert not carries_input(partial(rectgrad, percentile=80.0))
    assert carries_input(partial(lrp, composite="zplus"))


def test_the_mean_over_shuffles_is_exact():
    R, h = images(seed=1).abs(), images() + 0.5
    found, drawn = shuffled_alignment(R, h), chance_alignment(R, h, draws=200)
    torch.testing.assert_close(found, drawn, rtol=0, atol=0.005)
    two = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 5.0]])
    both = [alignment(two[0], two[1]), alignment(two[0].flip(1), two[1])]
    torch.testing.assert_close(shuffled_alignment(*two), sum(both) / 2)


def test_readings_of_a_multiplier_and_of_a_product():
    m, h = images(seed=1, dtype=torch.float64), images(dtype=torch.float64).clamp(min=0)
    plain = alignment_readings(m, h, h, product=False)
    torch.testing.assert_close(plain["signal"], alignment(m, h))
    torch.testing.assert_close(plain["product"], alignment(m * h, h))
    masked = alignment_readings(m * h, h, h, product=True)
    torch.testing.assert_close(masked["product"], plain["product"])
    torch.testing.assert_close(masked["multiplier"], alignment(m * (h > 0), h))
    torch.testing.assert_close(masked["product_chance"], plain["product_chance"])


def test_the_chance_of_a_product_is_that_of_shuffled_multipliers():
    m = images(1, 8, 48, 48, seed=1, dtype=torch.float64) + 0.7
    h = images(1, 8, 48, 48, dtype=torch.float64).abs()
    found = alignment_readings(m * h, h, h, product=True)["product_chance"]
    order = torch.randperm(m.numel(), generator=torch.Generator().manual_seed(2))
    shuffled = m.flatten()[order].view_as(m) * h
    torch.testing.assert_close(found, alignment(shuffled, h), rtol=0, atol=0.02)


def test_the_chance_of_a_masked_multiplier_shuffles_active_units_only():
    m = torch.tensor([[1.0, 4.0, 9.0]])
    h = torch.tensor([[2.0, 0.0, 3.0]])
    found = alignment_readings(m * h, h, h, product=True)["multiplier_chance"]
    both = [alignment(torch.tensor([[a, 0.0, b]]), h) for a, b in ((1, 9), (9, 1))]
    torch.testing.assert_close(found, sum(both) / 2)


def test_an_empty_signal_is_not_aligned():
    h = images()
    found = alignment_readings(0 * h, h, h, product=True)
    assert all((v == 0).all() for v in found.values())


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ([1], r"top must have shape \(2,\) or \(2, 5\), got \(1,\)"),
        ([1, 2, 3], r"top must have shape \(2,\) or \(2, 5\), got \(3,\)"),
        ([1, -1], r"top must lie in 0..4, got -1..1"),
    ],
)
def test_a_class_for_each_image_is_wanted(top, message):
    with pytest.raises(ValueError, match=message):
        backward_signals(
            small_cnn(), images(), torch.tensor(top), "gradient", ["input"]
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_signals_that_are_not_finite_have_no_alignment(bad):
    h = torch.rand(1, 2, 4, 4)
    with pytest.raises(ValueError, match="signal must be finite, got NaN"):
        alignment_readings(torch.full_like(h, bad), h, h, False)
