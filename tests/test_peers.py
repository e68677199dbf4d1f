"""Against captum and zennit: equal where they are right; where they are not, why."""

import copy
from importlib.metadata import version

import pytest
import torch
from nets import gap, images, settled, small_vit
from torch import nn
from torch.nn.utils import fusion

from xai_lib.assets.nets import build
from xai_lib.attribute.backprop import deconvnet, guided_backprop, lrp, relevance_budget
from xai_lib.attribute.backprop.composites import relevance
from xai_lib.attribute.backprop.relevance_rules import (
    alpha_beta,
    epsilon,
    flat,
    gamma,
    w_square,
    z_box,
    z_plus,
)

LABELS, ROWS = torch.tensor([1, 3]), torch.arange(2)
X = images(height=32, width=32, dtype=torch.float64)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def zennit():
    """Return the peer that measures against its own 1.0.0 or its earlier 0.5.1."""
    pytest.importorskip("zennit")
    import zennit.attribution
    import zennit.canonizers
    import zennit.composites
    import zennit.core
    import zennit.layer
    import zennit.rules
    import zennit.torchvision

    return zennit


@pytest.fixture(scope="module")
def captum():
    return pytest.importorskip("captum.attr")


class Plain(nn.Module):
    """Convolutions with bias, a max-pool, a linear map; no layer that peers refuse."""

    def __init__(self, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 3, bias=bias), nn.Conv2d(6, 8, 3, bias=bias)
        self.relu1, self.relu2, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)
        self.head = nn.Linear(8 * 5 * 5, 5, bias=bias)
        self.double().eval()

    def forward(self, x):
        x = self.pool(self.relu1(self.a(x)))
        return self.head(self.relu2(self.b(x)).flatten(1))


SMALL = images(dtype=torch.float64)


def zennits(net, x, composite):
    """Return zennit's map of the target logits; it leaves biases behind in the net."""
    with composite.context(copy.deepcopy(net)) as prepared:
        leaf = x.clone().requires_grad_()
        logits = prepared(leaf)
        start = torch.zeros_like(logits)
        start[ROWS, LABELS] = logits.detach()[ROWS, LABELS]
        return torch.autograd.grad(logits, leaf, start)[0]


def one_rule(zennit, rule):
    """Return zennit's composite with one rule at every convolution and linear map."""
    layers = [
        (zennit.types.Linear, rule),
        (zennit.types.Activation, zennit.rules.Pass()),
    ]
    return zennit.composites.LayerMapComposite(layer_map=layers)


RULES = {
    "epsilon": (epsilon(), lambda r: r.Epsilon()),
    "gamma": (gamma(), lambda r: r.Gamma(0.25)),
    "alpha 2 beta 1": (alpha_beta(2, 1), lambda r: r.AlphaBeta(2, 1)),
    "alpha 1 beta 0": (alpha_beta(1, 0), lambda r: r.AlphaBeta(1, 0)),
    "z_plus": (z_plus(), lambda r: r.ZPlus()),
    "z_plus, no bias": (z_plus(False), lambda r: r.ZPlus(zero_params="bias")),
    "z_box": (z_box(-3.0, 3.0), lambda r: r.ZBox(-3.0, 3.0)),
    "w_square": (w_square, lambda r: r.WSquare(zero_params="bias")),  # else + b^2
    "flat": (flat, lambda r: r.Flat()),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_zennits(zennit, name):
    ours, theirs = RULES[name]
    net = Plain()
    R = lrp(net, SMALL, LABELS, composite=relevance(ours, ours))
    mark = 1e-4 if name in ("w_square", "flat") else 1e-10  # stabilised by 1e-6 there
    assert gap(R, zennits(net, SMALL, one_rule(zennit, theirs(zennit.rules)))) < mark


def test_guided_backprop_and_deconvnet_are_the_peers(zennit, captum):
    net, x = Plain(), SMALL
    methods = {
        guided_backprop: (captum.GuidedBackprop, zennit.composites.GuidedBackprop),
        deconvnet: (captum.Deconvolution, zennit.composites.DeconvNet),
    }
    for ours, (of_captum, of_zennit) in methods.items():
        R = ours(net, x, LABELS)
        assert gap(R, of_captum(net).attribute(x, LABELS)) == 0
        with of_zennit().context(net) as prepared:
            leaf = x.clone().requires_grad_()
            score = prepared(leaf)[ROWS, LABELS].sum()
            assert gap(R, torch.autograd.grad(score, leaf)[0]) == 0


# --- residual networks ----------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return settled(build("resnet18"), 32).double()


def without_norms(net: nn.Module) -> nn.Module:
    """Return the ResNet with its BatchNorms folded by torch."""
    fresh = build("resnet18").double().eval()
    fresh.load_state_dict(net.state_dict())
    blocks = [b for n in "1234" for b in getattr(fresh, f"layer{n}")]
    for block in [fresh, *blocks]:
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
            if hasattr(block, conv):
                pair = getattr(block, conv), getattr(block, norm)
                setattr(block, conv, fusion.fuse_conv_bn_eval(*pair))
                setattr(block, norm, nn.Identity())
        if getattr(block, "downsample", None):
            block.downsample = nn.Sequential(
                fusion.fuse_conv_bn_eval(*block.downsample)
            )
    return fresh


def _composites(zennit):
    room = zennit.composites
    settings = {"canonizers": [zennit.torchvision.ResNetCanonizer()]}
    return {
        "epsilon_plus": room.EpsilonPlus(**settings),
        "epsilon_alpha2_beta1": room.EpsilonAlpha2Beta1(**settings),
        "epsilon_plus_flat": room.EpsilonPlusFlat(**settings),
    }


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("epsilon_alpha2_beta1", "epsilon_plus_flat")
]


@pytest.mark.parametrize("name", ["epsilon_plus", *SLOW])
def test_composites_on_resnet18_are_zennits(zennit, resnet, name):
    R = lrp(resnet, X, LABELS, composite=name)
    theirs = zennits(without_norms(resnet), X, _composites(zennit)[name])
    mark = 1e-6 if name.endswith("flat") else 1e-10
    assert gap(R, theirs) < mark


@pytest.mark.slow
def test_gamma_and_box_on_resnet18_are_zennits(zennit, resnet):
    ours = relevance(gamma(), epsilon(), z_box(-4.0, 4.0))
    settings = {"canonizers": [zennit.torchvision.ResNetCanonizer()]}
    theirs = zennit.composites.EpsilonGammaBox(-4.0, 4.0, **settings)
    R = lrp(resnet, X, LABELS, composite=ours)
    assert gap(R, zennits(without_norms(resnet), X, theirs)) < 1e-10


def test_zennit_0_5_changes_the_network_where_it_merges_norms(zennit, resnet):
    """Its merged weights keep a BatchNorm that divides by sqrt(1 + eps) once more."""
    with _composites(zennit)["epsilon_plus"].context(copy.deepcopy(resnet)) as merged:
        moved = gap(merged(X), resnet(X))
    R = lrp(resnet, X, LABELS, composite="epsilon_plus")
    apart = gap(zennits(resnet, X, _composites(zennit)["epsilon_plus"]), R)
    if version("zennit") < "1":
        assert 1e-6 < moved < 1e-2 and 1e-6 < apart < 1e-2
    else:
        assert moved < 1e-12 and apart < 1e-10


def test_zennit_doubles_at_a_sum_that_forward_builds(zennit):
    """Its hooks are put on modules that exist; a new Sum gets the plain gradient."""

    class Residual(Plain):
        def __init__(self, inside):
            super().__init__(bias=False)
            self.sum = None if inside else zennit.layer.Sum()
            self.side = nn.Conv2d(6, 6, 3, padding=1, bias=False).double()

        def forward(self, x):
            x = self.relu1(self.a(x))
            total = self.sum or zennit.layer.Sum()
            x = total(torch.stack([x, self.side(x)], dim=-1))
            return self.head(self.relu2(self.b(self.pool(x))).flatten(1))

    torch.manual_seed(1)
    inside, outside = Residual(True), Residual(False)
    outside.load_state_dict(inside.state_dict())
    theirs = zennit.composites.EpsilonPlus()
    shares = []
    for net in (inside, outside):
        logits = net(SMALL)[ROWS, LABELS]
        shares.append((zennits(net, SMALL, theirs).sum((1, 2, 3)) / logits).detach())
    assert gap(shares[0], 2 * torch.ones(2)) < 0.01  # relevance out of nothing
    assert gap(shares[1], torch.ones(2)) < 0.01
    R = lrp(inside, SMALL, LABELS)
    assert gap(R, zennits(outside, SMALL, theirs)) < 1e-9


def test_zennit_has_no_rule_for_attention(zennit):
    """It hooks the attention module, whose output is a pair."""
    net, x = small_vit().double(), X
    with pytest.raises((RuntimeError, TypeError, AttributeError)):
        zennits(net, x, zennit.composites.EpsilonPlusFlat())
    budget = relevance_budget(net, x, LABELS, "epsilon_plus_flat")
    kept = budget["input"] + budget["bias"] + budget["stabiliser"]
    assert abs(kept / budget["logit"] - 1) < 1e-6


# --- captum's LRP ---------------------------------------------------------------------


def captums(captum, net, x, rule=None):
    from captum.attr._utils import lrp_rules

    if rule:
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.rule = getattr(lrp_rules, rule)()
    return captum.LRP(net).attribute(x, LABELS).detach()


def test_epsilon_rule_is_captums(captum):
    R = lrp(Plain(bias=False), SMALL, LABELS, composite="lrp_0")
    assert gap(R, captums(captum, Plain(bias=False), SMALL, "EpsilonRule")) < 1e-6


def test_alpha_1_beta_0_is_captums_only_where_no_input_is_negative(captum):
    """It clamps the weights alone: x < 0 enters with w+, and shares change sign."""
    rule = "Alpha1_Beta0_Rule"
    for x, right in [(SMALL.abs(), True), (SMALL, False)]:
        R = lrp(Plain(bias=False), x, LABELS, composite="zplus")
        theirs = captums(captum, Plain(bias=False), x, rule)
        logits = Plain(bias=False)(x)[ROWS, LABELS]
        assert gap(theirs.sum((1, 2, 3)), logits) < 0.01  # conservation sees nothing
        assert gap(R.sum((1, 2, 3)), logits) < 0.01
        assert (gap(R, theirs) < 1e-4) == right, gap(R, theirs)
        assert right or gap(R, theirs) > 0.5


def test_captums_lrp_is_no_share_of_the_logit_on_resnet18(captum, resnet):
    """It runs: sums are passed by their gradient, so relevance doubles at each, and
    BatchNorm by an epsilon rule around z = 0."""
    logits = resnet(X)[ROWS, LABELS].detach()
    for module in resnet.modules():  # its hooks refuse in-place ReLUs
        if isinstance(module, nn.ReLU):
            module.inplace = False
    theirs = captums(captum, resnet, X).sum((1, 2, 3)) / logits
    ours = lrp(resnet, X, LABELS, composite="epsilon_plus").sum((1, 2, 3)) / logits
    assert theirs.abs().min() > 100 and ours.abs().max() < 5, (theirs, ours)
