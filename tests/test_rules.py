"""Every rule against its definition in dense matrices; the oracles of the family."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
import replicas
import torch
from nets import LINEAR_OPERATIONS, Mixed, gap, images
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_linear_bn_eval

from xai_lib.attribute import METHODS, gradient_x_input
from xai_lib.attribute.backprop import (
    COMPOSITES,
    ModifiedBackprop,
    deep_taylor,
    excitation_backprop,
    guided_backprop,
    lrp,
    rectgrad,
    rules,
)
from xai_lib.attribute.backprop import relevance_rules as shares
from xai_lib.attribute.backprop.relevance_rules import alpha_beta, epsilon, gamma

MARK = 1e-10
LABELS = torch.tensor([1, 3])


@pytest.fixture(scope="module", autouse=True)
def differences():
    """Collect the relative differences; -s shows the largest of each test."""
    found = {}
    yield found
    for name, worst in found.items():
        print(f"\nlargest relative difference, {name}: {worst:.1e}", end="")


@pytest.fixture
def same(request, differences):
    def compare(ours, theirs):
        worst, name = gap(ours, theirs), request.function.__name__
        differences[name] = max(worst, differences.get(name, 0.0))
        assert worst < MARK, f"relative difference {worst:.1e}"

    return compare


def send(layer, x, R, rule):
    """Return what a rule sends back through one layer."""
    leaf = x.clone().requires_grad_()
    with ModifiedBackprop([("any", rule)]):
        z = layer(leaf)
    return torch.autograd.grad(z, leaf, R)[0]


@cache
def prepared(name, bias, sign):
    """Return a layer, two images, a signal, and (W, b) for each image."""
    torch.manual_seed(len(name))
    layer, shape = LINEAR_OPERATIONS[name](bias)
    layer.double().eval().requires_grad_(False)
    x = torch.randn(2, *shape, dtype=torch.float64)
    x = x.abs() if sign == "non-negative" else x
    R = torch.randn_like(layer(x))
    return layer, x, R, [replicas.dense(layer, one[None]) for one in x]


def by_image(replica, prepared):
    """Return a replica's answer for every image, shaped as x."""
    _, x, R, matrices = prepared
    rows = [
        replica(*matrices[i], x[i].flatten(), R[i].flatten()) for i in range(len(x))
    ]
    return torch.stack(rows).view_as(x)


PAIRS = {
    "lrp_0": (shares.lrp_0, partial(replicas.epsilon, eps=1e-12)),
    "epsilon": (epsilon(), replicas.epsilon),
    "epsilon 0.25": (epsilon(0.25), partial(replicas.epsilon, eps=0.25)),
    "gamma": (gamma(), replicas.gamma),
    "gamma 2": (gamma(2.0), partial(replicas.gamma, g=2.0)),
    "alpha 2 beta 1": (alpha_beta(2, 1), partial(replicas.alpha_beta, alpha=2, beta=1)),
    "alpha 5 beta 4": (alpha_beta(5, 4), partial(replicas.alpha_beta, alpha=5, beta=4)),
    "alpha 1 beta 0": (alpha_beta(1, 0), partial(replicas.alpha_beta, alpha=1, beta=0)),
    "z_plus": (shares.z_plus(), replicas.z_plus),
    "z_plus, no bias": (
        shares.z_plus(bias=False),
        partial(replicas.z_plus, bias=False),
    ),
    "excitation": (shares.excitation(), partial(replicas.z_plus, bias=False)),
    "z_box": (
        shares.z_box(-3.0, 4.0),
        partial(replicas.z_box, low=-3.0, high=4.0),
    ),
    "w_square": (shares.w_square, replicas.w_square),
    "flat": (shares.flat, replicas.flat),
    "clip": (
        shares.clip(epsilon(), 0.0, 0.5),
        lambda *a: replicas.epsilon(*a).clamp(0.0, 0.5),
    ),
}


@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("name", LINEAR_OPERATIONS)
def test_rule_is_its_matrix_form(name, rule, same):
    ours, replica = PAIRS[rule]
    for bias, sign in product([True, False], ["signed", "non-negative"]):
        case = prepared(name, bias, sign)
        same(send(*case[:3], ours), by_image(replica, case))


@pytest.mark.parametrize("name", ["conv", "grouped", "linear"])
def test_box_without_bounds_takes_each_images_own_range(name, same):
    layer, x, R, matrices = case = prepared(name, True, "signed")
    for i in range(len(x)):
        planes = x[i].reshape(len(x[i]), -1) if x.ndim == 4 else x[i][None]
        low, high = planes.amin(1, keepdim=True), planes.amax(1, keepdim=True)
        low, high = (a.expand_as(planes).flatten() for a in (low, high))
        wanted = replicas.z_box(*matrices[i], x[i].flatten(), R[i].flatten(), low, high)
        same(send(*case[:3], shares.z_box())[i].flatten(), wanted)


def test_box_with_bounds_by_channel(same):
    case = prepared("conv", True, "signed")
    low, high = -torch.arange(1.0, 5.0).double(), torch.arange(3.0, 7.0).double()
    each = tuple(a.view(-1, 1, 1).expand_as(case[1][0]).flatten() for a in (low, high))
    bounds = (a.view(-1, 1, 1) for a in (low, high))
    wanted = by_image(partial(replicas.z_box, low=each[0], high=each[1]), case)
    same(send(*case[:3], shares.z_box(*bounds)), wanted)


def test_zero_total_counts_as_positive(same):
    layer = nn.Linear(2, 1, bias=False).double().requires_grad_(False)
    layer.weight[:] = torch.tensor([[1.0, -1.0]])
    x, R = torch.ones(1, 2).double(), torch.ones(1, 1).double()
    for rule, replica in [PAIRS["gamma"], PAIRS["epsilon"]]:
        wanted = replica(layer.weight.detach(), torch.zeros(1), x[0], R[0])
        assert wanted.abs().min() > 0
        same(send(layer, x, R, rule)[0], wanted)


# --- non-linearities and pools --------------------------------------------------------

SIGNAL = images(channels=4, height=6, width=6, seed=1, dtype=torch.float64)
INPUT = images(channels=4, height=6, width=6, seed=2, dtype=torch.float64)
POOLED = images(channels=4, height=3, width=3, seed=3, dtype=torch.float64)


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU6()])
def test_rules_of_the_relu(relu, same):
    x = 4 * INPUT  # some above 6
    top = 6.0 if isinstance(relu, nn.ReLU6) else np.inf
    open_, positive = (x > 0) & (x < top), SIGNAL > 0
    zero = torch.zeros_like(x)
    guided = torch.where(open_ & positive, SIGNAL, zero)
    same(send(relu, x, SIGNAL, rules.guided), guided)
    same(send(relu, x, SIGNAL, rules.deconv), torch.where(positive, SIGNAL, zero))
    same(send(relu, x, SIGNAL, rules.gradient), torch.where(open_, SIGNAL, zero))


def test_pass_through_hands_on(same):
    for act in (nn.ReLU(), nn.GELU(), nn.Sigmoid(), nn.Hardswish()):
        same(send(act, INPUT, SIGNAL, rules.pass_through), SIGNAL)


@pytest.mark.parametrize("percentile", [0, 37.3, 98])
@pytest.mark.parametrize("magnitude", [False, True])
def test_rectify_is_its_definition(percentile, magnitude, same):
    rows = []
    for x, R in zip(INPUT, SIGNAL, strict=True):
        h = np.maximum(x.numpy(), 0)
        importance = abs(h * R.numpy()) if magnitude else h * R.numpy()
        tau = np.percentile(importance, percentile)
        rows.append(np.where((x.numpy() > 0) & (importance > tau), R.numpy(), 0))
    rule = rules.rectify(percentile, magnitude)
    same(send(nn.ReLU(), INPUT, SIGNAL, rule), torch.tensor(np.stack(rows)))


def test_random_mask_is_as_dense_as_the_images_own(same):
    x = torch.stack([INPUT[0], INPUT[1] + 1])  # of different density
    ours = send(nn.ReLU(), x, SIGNAL, rules.random_mask(7))
    chance = torch.rand(
        x.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )
    wanted = torch.zeros_like(x)
    for i in range(2):
        density = sum(1 for value in x[i].flatten() if value > 0) / x[i].numel()
        wanted[i] = SIGNAL[i] * (chance[i] < density)
    same(ours, wanted)
    assert gap(ours, send(nn.ReLU(), x, SIGNAL, rules.random_mask(8))) > 0.1
    assert gap(ours, send(nn.ReLU(), x, SIGNAL, rules.gradient)) > 0.1


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1)])
def test_rules_of_the_pool(window, same):
    names = dict(zip(("kernel", "stride", "padding"), window, strict=True))
    pool, shape = nn.MaxPool2d(*window), INPUT.shape[1:]
    noise = torch.rand(
        INPUT.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )
    plain = send(pool, INPUT, POOLED, rules.gradient)
    random = send(pool, INPUT, POOLED, rules.random_switch(7))
    shared = send(pool, INPUT.abs(), POOLED, rules.redistribute_pool)
    for i in range(2):
        x, R = INPUT[i].flatten(), POOLED[i].flatten()
        by_size = replicas.winner_takes_all(x, R, shape, **names)
        same(plain[i].flatten(), by_size)
        by_chance = replicas.winner_takes_all(
            x, R, shape, key=noise[i].flatten(), **names
        )
        same(random[i].flatten(), by_chance)
        same(shared[i].flatten(), replicas.share_by_value(x.abs(), R, shape, **names))
    assert gap(plain, random) > 0.1


def test_proportional_pool_counts_a_cut_window(same):
    pool = nn.MaxPool2d(2, ceil_mode=True)  # the last windows hang over
    x, R = INPUT[:, :, :5, :5].abs(), POOLED
    shared = send(pool, x, R, rules.redistribute_pool)
    assert gap(shared.sum((2, 3)), R.sum((2, 3))) < 1e-8


# --- whole networks -------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A composite in the words of the replicas: (W, b, x, R) -> R_in by kind."""

    conv: Callable
    linear: Callable
    first: Callable | None = None
    last: Callable | None = None
    join: Callable = replicas.epsilon  # sums and averages
    plain: bool = False  # ... which have the gradient, as every other operation
    unit: bool = False  # starts with 1, or else with the logit


def own_box(W, b, x, R):
    planes = x.view(3, -1)
    low, high = (f(1, keepdim=True) for f in (planes.amin, planes.amax))
    low, high = (a.expand_as(planes).flatten() for a in (low, high))
    return replicas.z_box(W, b, x, R, low, high)


EPSILON, Z_PLUS, GAMMA = replicas.epsilon, replicas.z_plus, replicas.gamma
LRP_0 = partial(EPSILON, eps=1e-12)
NO_BIAS = partial(Z_PLUS, bias=False)
A2B1 = partial(replicas.alpha_beta, alpha=2, beta=1)
A5B4 = partial(replicas.alpha_beta, alpha=5, beta=4)
RECIPES = {
    "lrp_0": Recipe(LRP_0, LRP_0, join=LRP_0),
    "epsilon": Recipe(EPSILON, EPSILON),
    "gamma": Recipe(GAMMA, GAMMA),
    "zplus": Recipe(Z_PLUS, Z_PLUS),
    "alpha2_beta1": Recipe(A2B1, A2B1),
    "alpha5_beta4": Recipe(A5B4, A5B4),
    "epsilon_plus": Recipe(Z_PLUS, EPSILON),
    "epsilon_plus_box": Recipe(Z_PLUS, EPSILON, own_box),
    "epsilon_plus_flat": Recipe(Z_PLUS, EPSILON, replicas.flat),
    "epsilon_alpha2_beta1": Recipe(A2B1, EPSILON),
    "epsilon_alpha2_beta1_flat": Recipe(A2B1, EPSILON, replicas.flat),
    "epsilon_gamma_box": Recipe(GAMMA, EPSILON, own_box),
    "deep_taylor": Recipe(NO_BIAS, NO_BIAS, own_box, replicas.w_square, plain=True),
    "excitation_backprop": Recipe(NO_BIAS, NO_BIAS, unit=True),
}


@cache
def taken_apart(i: int):
    """Return Mixed on picture i as its operations: values by name, (W, b) by name."""
    net, x = Mixed().requires_grad_(False), PICTURES[i : i + 1]
    steps = {
        "stem": lambda x: net.norm1(net.conv1(x)),
        "branch": lambda b: net.norm2(net.conv2(b)),
        "average": lambda d: F.avg_pool2d(d, 2),
        "hidden": net.hidden,
        "head": net.head,
    }
    v = {"x": x, "a": steps["stem"](x)}
    v["b"] = F.max_pool2d(F.relu(v["a"]), 2)
    v["c"] = steps["branch"](v["b"])
    v["d"] = F.relu(v["b"] + v["c"])
    v["e"] = steps["average"](v["d"]).flatten(1)
    v["f"] = net.hidden(v["e"])
    v["g"] = F.relu(v["f"])
    inputs = {"stem": "x", "branch": "b", "average": "d", "hidden": "e", "head": "g"}
    matrices = {
        step: (*replicas.dense(steps[step], v[name]), v[name].flatten())
        for step, name in inputs.items()
    }
    return {k: value.flatten() for k, value in v.items()}, matrices


def by_matrices(i: int, target: int, recipe: Recipe):
    """Go back through Mixed, picture i, operation by operation; return the map."""
    v, matrices = taken_apart(i)
    W, b, g = matrices["head"]

    def relu(z, R):
        return R * (z > 0) if recipe.plain else R

    R = torch.zeros_like(b)
    R[target] = 1.0 if recipe.unit else (W @ g + b)[target]
    R = relu(v["f"], (recipe.last or recipe.linear)(W, b, g, R))
    R = recipe.linear(*matrices["hidden"], R)
    if recipe.plain:
        skip = R = relu(v["d"], matrices["average"][0].T @ R)
    else:
        R = recipe.join(*matrices["average"], R)
        identity = torch.eye(len(R)).double()
        both = torch.cat([v["b"], v["c"]])
        sum_of_both = torch.cat([identity, identity], 1)
        skip, R = recipe.join(sum_of_both, 0 * R, both, R).chunk(2)
    R = skip + recipe.conv(*matrices["branch"], R)
    R = replicas.winner_takes_all(F.relu(v["a"]), R, (4, 8, 8))
    R = (recipe.first or recipe.conv)(*matrices["stem"], relu(v["a"], R))
    return R.view(3, 8, 8)


PICTURES = images(height=8, width=8, dtype=torch.float64)


def explained(name, net, x, target=LABELS):
    own = {"deep_taylor": deep_taylor, "excitation_backprop": excitation_backprop}
    method = own.get(name) or partial(lrp, composite=name)
    return method(net, x, target)


@pytest.mark.parametrize("name", RECIPES)
def test_composite_is_its_matrices(name, same):
    net = Mixed()
    wanted = [by_matrices(i, int(c), RECIPES[name]) for i, c in enumerate(LABELS)]
    same(explained(name, net, PICTURES), torch.stack(wanted))


@pytest.mark.parametrize("name", RECIPES)
def test_batch_memory_format_and_in_place_change_nothing(name, same):
    net, x, target = Mixed(), images(5, height=8, width=8).double(), torch.arange(5)
    whole = explained(name, net, x, target)
    alone = [explained(name, net, x[i : i + 1], target[i : i + 1]) for i in range(5)]
    same(torch.cat(alone), whole)
    last = net.to(memory_format=torch.channels_last)
    x_last = x.to(memory_format=torch.channels_last)
    same(explained(name, last, x_last, target), whole)
    same(explained(name, Mixed(inplace=True), x, target), whole)


# --- the family's oracles -------------------------------------------------------------


def test_lrp_0_is_gradient_x_input_on_relu_and_max_pool_nets():
    net, x = Mixed(), images(8, height=8, width=8).double()
    target = torch.arange(8) % 5
    R = lrp(net, x, target, composite="lrp_0")
    assert gap(R, gradient_x_input(net, x, target)) < 1e-7
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh()).double().eval()
    R = lrp(smooth, x, target, composite="lrp_0")
    assert gap(R, gradient_x_input(smooth, x, target)) > 0.01


@pytest.mark.parametrize("name", ["lrp_0", "epsilon", "gamma", "zplus", "epsilon_plus"])
def test_without_biases_relevance_is_the_logit(name):
    net = Mixed()
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    x, rows = PICTURES, torch.arange(2)
    R = lrp(net, x, LABELS, composite=name).sum((1, 2, 3))
    assert gap(R, net(x)[rows, LABELS]) < 1e-3


def test_alpha_beta_conserves_each_part():
    _, x, R, _ = prepared("conv", False, "signed")
    layer = prepared("conv", False, "signed")[0]
    one = send(layer, x, R, alpha_beta(1, 0, eps=1e-12)).sum()
    both = send(layer, x, R, alpha_beta(3, 2, eps=1e-12)).sum()
    assert gap(one, R.sum()) < 1e-8 and gap(both, R.sum()) < 1e-8


def test_z_plus_is_alpha_1_beta_0():
    case = prepared("grouped", True, "signed")[:3]
    assert torch.equal(send(*case, shares.z_plus()), send(*case, alpha_beta(1, 0)))


def test_rectgrad_with_threshold_zero_is_guided_backprop(monkeypatch):
    net = Mixed()
    plain = guided_backprop(net, PICTURES, LABELS)
    assert gap(rectgrad(net, PICTURES, LABELS), plain) > 0.1
    monkeypatch.setattr(
        rules, "percentile_of", lambda rows, percentile: rows.new_zeros(len(rows))
    )
    assert torch.equal(rectgrad(net, PICTURES, LABELS), plain)


def test_every_composite_has_a_replica():
    others = {"guided_backprop", "deconvnet", "gradient"}
    deeplift = {name for name in COMPOSITES if name.startswith("deeplift")}
    assert set(RECIPES) == set(COMPOSITES) - others - deeplift


def test_a_rule_of_shares_refuses_a_non_linearity():
    for rule in (epsilon(), gamma(), shares.z_plus(), shares.flat, shares.w_square):
        with pytest.raises(ValueError, match="relu is not linear"):
            send(nn.ReLU(), INPUT, SIGNAL, rule)


@pytest.mark.parametrize(
    "name", ["lrp_zplus", "lrp_epsilon", "lrp_alpha2_beta1", "lrp_epsilon_gamma_box"]
)
def test_a_norm_behind_a_linear_map_is_folded_into_it(name):
    torch.manual_seed(0)
    linear, norm = nn.Linear(48, 8), nn.BatchNorm1d(8)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    norm.weight.data.uniform_(0.5, 2), norm.bias.data.normal_()
    last = nn.Linear(8, 3)
    apart = nn.Sequential(nn.Flatten(), linear, norm, nn.ReLU(), last).double().eval()
    fused = fuse_linear_bn_eval(linear, norm)
    whole = nn.Sequential(nn.Flatten(), fused, nn.ReLU(), last).eval()
    x, c = images(2, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(METHODS[name](apart, x, c), METHODS[name](whole, x, c))
