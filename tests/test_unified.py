"""P1's unified rule: four methods, one formula; the recursions; the propositions."""

from collections import Counter

import pytest
import torch
from nets import Mixed, Residual, gap, images, small_cnn, small_vit
from torch import nn

from xai_lib.assets.small_nets import ACTIVATIONS, KINDS, SIZE, small_net
from xai_lib.attribute import (
    UNIFIED,
    deeplift,
    gradient_x_input,
    integrated_gradients,
    layer_recursion,
    lrp,
    modified_gradient,
    unified,
)
from xai_lib.attribute.backprop.slopes import ratio

CURVED = [name for name in ACTIVATIONS if name != "identity"]
THROUGH_ZERO = [name for name in CURVED if name not in ("sigmoid", "softplus")]
TINY = 1e-12


def inputs(batch=6, seed=0):
    return images(batch, *SIZE, seed=seed, dtype=torch.float64)


def classes(x):
    return torch.arange(len(x)) % 5


def lrp_map(net, x):
    return modified_gradient(net, x, classes(x), lambda op, z: ratio(op, z, TINY)) * x


# --- the formula and the library's own functions --------------------------------------


@pytest.mark.parametrize("activation", CURVED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_is_the_four_methods(kind, activation):
    net, x = small_net(kind, activation), inputs()
    c = classes(x)
    wanted = {
        "gradient_x_input": gradient_x_input(net, x, c),
        "integrated_gradients": integrated_gradients(net, x, c),
        "lrp_epsilon": lrp(net, x, c, "epsilon"),
        "deeplift": deeplift(net, x, c),
    }
    assert wanted.keys() == UNIFIED.keys()
    for method, theirs in wanted.items():
        limit = 5e-3 if method == "lrp_epsilon" else 1e-12  # stabilised elsewhere
        assert gap(unified(net, x, c, method), theirs) < limit, method


@pytest.mark.parametrize("make", [small_cnn, Residual, Mixed])
def test_the_formula_holds_for_batch_norm_pools_and_skips(make):
    net, x = make().double().eval(), images(3, height=8, width=8).double()
    c = classes(x)
    assert gap(unified(net, x, c, "deeplift"), deeplift(net, x, c)) < 1e-12
    assert gap(lrp_map(net, x), lrp(net, x, c, "lrp_0")) < 1e-6
    start = images(1, height=8, width=8, seed=5).double()
    ours = unified(net, x, c, "deeplift", baseline=start)
    assert gap(ours, deeplift(net, x, c, start)) < 1e-12
    ours = unified(net, x, c, "integrated_gradients", baseline=start, steps=7)
    theirs = integrated_gradients(net, x, c, baseline=start, steps=7)
    assert gap(ours, theirs) < 1e-12


@pytest.mark.parametrize("activation", CURVED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_is_the_recursion_over_the_layers(kind, activation):
    net, x = small_net(kind, activation), inputs()
    ours, theirs = (
        lrp_map(net, x),
        layer_recursion(net, x, classes(x), "lrp_epsilon", eps=TINY),
    )
    assert gap(ours, theirs) < 1e-8
    if kind != "cnn_max_pool":
        start = inputs(1, seed=3)
        own = {"baseline": start}
        ours = unified(net, x, classes(x), "deeplift", **own)
        theirs = layer_recursion(net, x, classes(x), "deeplift", eps=TINY, **own)
        assert gap(ours, theirs) < 1e-8


def test_one_backward_pass_asks_each_activation_once():
    net, x, asked = small_net("cnn", "tanh"), inputs(2), Counter()

    def counted(op, z):
        asked[z.shape] += 1
        return ratio(op, z)

    modified_gradient(net, x, classes(x), counted)
    assert sorted(asked.values()) == [1, 1, 1]


# --- the propositions -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_lrp_is_gradient_x_input_for_relu_alone(kind, seed):
    x = inputs(40, seed)
    for activation in CURVED:
        net = small_net(kind, activation, seed=seed)
        apart = gap(lrp_map(net, x), gradient_x_input(net, x, classes(x)))
        assert apart < 1e-6 if activation == "relu" else apart > 1e-2, activation


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_lrp_is_deeplift_without_bias_through_zero(kind, seed):
    x = inputs(40, seed)
    for activation in CURVED:
        for bias in (False, True):
            net = small_net(kind, activation, bias=bias, seed=seed)
            apart = gap(lrp_map(net, x), deeplift(net, x, classes(x)))
            same = activation in THROUGH_ZERO and not bias
            assert apart < 1e-6 if same else apart > 1e-2, (activation, bias)


def test_in_a_linear_network_all_four_are_one():
    net, x = small_net("cnn", "identity"), inputs()
    first, *others = (unified(net, x, classes(x), method) for method in UNIFIED)
    assert all(gap(one, first) < 1e-5 for one in others)


class Pairwise(nn.Module):
    """f(x1, x2) as a network with one logit."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        first, second = x[:, 0, 0, 0], x[:, 0, 0, 1]
        return self.function(first, second)[:, None]


def explained(function, point, method):
    x = torch.tensor(point, dtype=torch.float64).view(1, 1, 1, 2)
    net = Pairwise(function).eval()
    return unified(net, x, torch.tensor([0]), method).flatten().tolist()


def test_a_product_of_inputs_parts_the_methods():
    def product(a, b):
        return a * b

    for method in ("gradient_x_input", "lrp_epsilon", "deeplift"):
        assert explained(product, [1.0, 1.0], method) == pytest.approx([1, 1])
    halves = explained(product, [1.0, 1.0], "integrated_gradients")
    assert halves == pytest.approx([0.5, 0.5])


def test_the_minimum_goes_to_one_input_alone():
    def minimum(a, b):
        return a - torch.relu(a - b)

    assert explained(minimum, [3.0, 1.0], "deeplift") == pytest.approx([1, 0]) or (
        explained(minimum, [3.0, 1.0], "deeplift") == pytest.approx([0, 1])
    )
    for method in ("deeplift", "integrated_gradients"):
        assert sum(explained(minimum, [3.0, 1.0], method)) == pytest.approx(1)


def test_gates_keep_their_gradient_where_deeplift_refuses():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(192, 6), nn.Linear(192, 6)
            self.head = nn.Linear(6, 5)

        def forward(self, x):
            x = x.flatten(1)
            return self.head(torch.sigmoid(self.a(x)) * torch.tanh(self.b(x)))

    net, x = Gated().double().eval(), inputs()
    c = classes(x)
    with pytest.raises(ValueError, match="mul of two tensors"):
        deeplift(net, x, c)
    slope = modified_gradient(net, x, c, "derivative")
    assert gap(slope * x, gradient_x_input(net, x, c)) < 1e-12
    own = unified(net, x, c, "deeplift")
    lost = own.sum((1, 2, 3)) - (net(x) - net(0 * x)).gather(1, c[:, None])[:, 0]
    assert lost.abs().max() > 1e-3  # a product has no average slope


# --- its edges ------------------------------------------------------------------------


def test_batches_do_not_matter_and_the_model_is_untouched():
    net, x = small_net("cnn", "tanh"), inputs(20)
    c, before = classes(x), [p.clone() for p in net.parameters()]
    for method in UNIFIED:
        alone = [unified(net, x[i : i + 1], c[i : i + 1], method) for i in range(20)]
        assert gap(unified(net, x, c, method), torch.cat(alone)) < 1e-12
    assert all(map(torch.equal, before, net.parameters()))
    assert not any(m._forward_hooks for m in net.modules())


def test_a_transformer_gets_its_gradient():
    net, x = small_vit(), images(2, height=32, width=32)
    c = torch.tensor([1, 2])
    assert gap(unified(net, x, c, "gradient_x_input"), gradient_x_input(net, x, c)) < (
        1e-4
    )
    assert unified(net, x, c, "lrp_epsilon").isfinite().all()


def test_a_slope_of_ones_own_may_compare_with_a_baseline():
    def mean_of_ends(op, z):
        own, other = op.vjp(z, torch.ones_like(z)).chunk(2)
        return ((own + other) / 2).repeat(2, *[1] * (z.ndim - 1))

    net, x = small_net("mlp", "tanh"), inputs(3)
    c = classes(x)
    same = modified_gradient(net, x, c, mean_of_ends, baseline=x)
    assert gap(same, modified_gradient(net, x, c)) < 1e-12
    assert gap(modified_gradient(net, x, c, mean_of_ends, baseline=0 * x), same) > 1e-2


def test_wrong_calls_are_refused():
    net, x = small_net(), inputs(2)
    c = classes(x)
    with pytest.raises(ValueError, match="slope must be one of derivative, ratio"):
        modified_gradient(net, x, c, "secant")
    with pytest.raises(ValueError, match="method must be one of gradient_x_input"):
        unified(net, x, c, "lrp")
    with pytest.raises(ValueError, match="lrp_epsilon has no baseline, got one"):
        unified(net, x, c, "lrp_epsilon", baseline=x)
    with pytest.raises(ValueError, match="'ratio' has no baseline, got one"):
        modified_gradient(net, x, c, "ratio", baseline=x)
    with pytest.raises(ValueError, match="baseline must broadcast to x"):
        unified(net, x, c, "deeplift", baseline=x[:, :, :3])
    with pytest.raises(ValueError, match="steps must be above 0, got 0"):
        unified(net, x, c, "integrated_gradients", steps=0)
    with pytest.raises(ValueError, match="got a Residual"):
        layer_recursion(Residual().eval(), x, c, "deeplift")
    with pytest.raises(ValueError, match="Flatten and Dropout, got a MaxPool2d"):
        layer_recursion(small_net("cnn_max_pool"), x, c, "deeplift")
    with pytest.raises(ValueError, match="kind must be one of mlp, cnn"):
        small_net("rnn")
    with pytest.raises(ValueError, match="activation must be one of relu"):
        small_net("mlp", "swish")
