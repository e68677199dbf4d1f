"""DeepLIFT: against matrices, its own sum, captum, and worked examples."""

import copy

import pytest
import torch
from nets import Residual, images, small_cnn
from torch import nn
from torch.nn import functional as F

from xai_lib.attribute import gradient_x_input
from xai_lib.attribute.backprop import COMPOSITES, Chain, deeplift, lrp, signals
from xai_lib.attribute.backprop.composites import reference
from xai_lib.attribute.backprop.reference_rules import (
    linear_rule,
    rescale,
    secant,
    shared_linear,
    split_maximum,
)
from xai_lib.attribute.backprop.rules import gradient

LABELS = torch.tensor([1, 3])
SUMMING = ("rescale", "reveal_cancel", "genomics_default")
PICTURES = images(height=8, width=8, dtype=torch.float64)
BASELINE = 0.5 * images(height=8, width=8, seed=9, dtype=torch.float64)


def same(ours, theirs, tolerance=1e-10):
    gap = (ours - theirs).abs().max() / theirs.abs().max()
    assert gap < tolerance, f"relative difference {gap:.1e}"


def fall(net, x, baseline):
    """Return the change of the target logits from the baseline to x."""
    return (net(x) - net(baseline)).gather(1, LABELS[:, None])[:, 0].detach()


class Mixed(nn.Module):
    """Cat, a reused in-place ReLU, pools that overlap, BatchNorm that stands alone."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.c = nn.Conv2d(8, 6, 3, bias=False)
        self.head = nn.Linear(6, 5)
        self.norm.running_mean.normal_()
        self.norm.weight.data.normal_()  # of both signs

    def forward(self, x):
        x = self.relu(self.norm(torch.cat([torch.tanh(self.a(x)), self.b(x)], 1)))
        x = F.max_pool2d(x, 3, stride=2, padding=1) - 0.3
        x = self.c(F.relu(x)) * 2.0 + torch.ones(6, 1, 1)
        x = F.max_pool2d(torch.sigmoid(x), 2)
        return self.head(self.relu(-x.mean((2, 3)) + 0.9))


def smooth_cnn(act=nn.Tanh) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), act(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 7), act(), nn.Linear(7, 5),
    ).eval()  # fmt: skip


NETS = {
    "small": small_cnn,
    "in_place": lambda: small_cnn(inplace=True),
    "residual": Residual,
    "mixed": Mixed,
    "tanh": smooth_cnn,
    "sigmoid": lambda: smooth_cnn(nn.Sigmoid),
    "softplus": lambda: smooth_cnn(nn.Softplus),
    "relu6": lambda: smooth_cnn(nn.ReLU6),
    "gelu": lambda: smooth_cnn(nn.GELU),
}


@pytest.mark.parametrize("rule", SUMMING)
@pytest.mark.parametrize("name", NETS)
def test_it_sums_to_the_change_of_the_logit(name, rule):
    net = NETS[name]().double().eval()
    for baseline in (BASELINE, 0 * BASELINE):
        R = deeplift(net, PICTURES, LABELS, baseline, rule)
        gap = (R.flatten(1).sum(1) - fall(net, PICTURES, baseline)).abs().max()
        assert gap < 1e-10 * R.abs().sum()


@pytest.mark.parametrize("rule", SUMMING)
def test_it_sums_on_a_residual_net_of_torchvision(rule):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None, num_classes=5).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    x = images(height=32, width=32, dtype=torch.float64)
    baseline = images(height=32, width=32, seed=3, dtype=torch.float64)
    R = deeplift(net, x, LABELS, baseline, rule)
    gap = (R.flatten(1).sum(1) - fall(net, x, baseline)).abs().max()
    assert gap < 1e-10 * R.abs().sum()


# --- the formulas with matrices -------------------------------------------------------


def matrix(layer, x):
    """Return the matrix of an affine layer, (outputs, inputs), at images like x[0]."""
    jacobian = torch.autograd.functional.jacobian(layer, x[:1])
    return jacobian.reshape(layer(x[:1]).numel(), x[0].numel()).detach()


def linear_by_hand(W, dx, pos, neg, cross):
    plus, minus = W.clamp(min=0), W.clamp(max=0)
    m = torch.empty_like(dx)
    for i in range(len(dx)):
        if dx[i] > 0:
            m[i] = plus[:, i] @ pos + cross * minus[:, i] @ neg
        elif dx[i] < 0:
            m[i] = cross * minus[:, i] @ pos + plus[:, i] @ neg
        else:
            m[i] = 0.5 * W[:, i] @ (pos + neg)
    return m


def slopes_by_hand(f, z, z0, plus, minus, rule):
    def ratio(dy, dz):
        return torch.where(dz == 0, 0, dy / torch.where(dz == 0, 1, dz))

    if rule != "reveal_cancel":
        return (ratio(f(z) - f(z0), z - z0),) * 2
    up = f(z0 + plus) - f(z0) + f(z0 + minus + plus) - f(z0 + minus)
    down = f(z0 + minus) - f(z0) + f(z0 + plus + minus) - f(z0 + plus)
    return ratio(up / 2, plus), ratio(down / 2, minus)


def by_hand(steps, x, baseline, target, rule):
    """Return the attributions of one image through affine maps and functions in turn.

    steps : pairs (affine map, non-linearity), the last without one
    """
    trail, h, h0 = [], x, baseline
    for affine, f in steps:
        W = matrix(affine, h)
        dx = (h - h0).flatten()
        z, z0 = affine(h), affine(h0)
        terms = W * dx
        parts = terms.clamp(min=0).sum(1), terms.clamp(max=0).sum(1)
        trail.append((W, dx, f, z.flatten(), z0.flatten(), *parts))
        h, h0 = (z, z0) if f is None else (f(z), f(z0))
    pos = neg = F.one_hot(target, h.shape[1]).to(x)
    for W, dx, f, z, z0, plus, minus in reversed(trail):
        if f is not None:
            up, down = slopes_by_hand(f, z, z0, plus, minus, rule)
            pos, neg = pos * up, neg * down
        pos = neg = linear_by_hand(W, dx, pos, neg, cross=rule != "ablation")
    return (pos * dx).view_as(x).detach()


def steps_of(bias, act, norm):
    torch.manual_seed(3)
    convs = [nn.Conv2d(3, 4, 3, stride=2, bias=bias), nn.Conv2d(4, 4, 2, bias=bias)]
    norms = [nn.BatchNorm2d(4) if norm else nn.Identity() for _ in convs]
    for module in norms[: 2 * norm]:
        module.running_mean.normal_()
        module.weight.data.normal_()
    head = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=bias))
    affine = [
        nn.Sequential(c, n).double().eval() for c, n in zip(convs, norms, strict=True)
    ]
    layers = [affine[0], act, affine[1], act, head.double()]
    return nn.Sequential(*layers).eval(), [
        (affine[0], act), (affine[1], act), (head, None),
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel", "ablation"])
@pytest.mark.parametrize("bias, norm", [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Tanh()])
def test_matrices(rule, bias, norm, act):
    net, steps = steps_of(bias, act, norm)
    baseline = BASELINE.clone()
    baseline[:, :, 2] = PICTURES[:, :, 2]  # pixels that do not differ
    ours = deeplift(net, PICTURES, LABELS, baseline, rule)
    for i in range(2):
        x, x0 = PICTURES[i : i + 1], baseline[i : i + 1]
        same(ours[i : i + 1], by_hand(steps, x, x0, LABELS[i], rule))


def test_ablation_drops_the_two_cross_terms_and_nothing_else():
    net, steps = steps_of(True, nn.ReLU(), False)
    last = nn.Sequential(*net[-1:]).eval()
    h = images(2, 4, 2, 2, dtype=torch.float64)
    W = net[-1][1].weight.detach()[LABELS]  # (B, 16)
    full, less = (deeplift(last, h, LABELS, rule=r) for r in ("rescale", "ablation"))
    crossed = h.flatten(1) * W.clamp(max=0)
    same(full - less, crossed.view_as(h))
    assert (crossed != 0).any()
    h[:, :2] = 0  # no difference: the multiplier keeps both signs, times nothing
    same(
        deeplift(last, h, LABELS, rule="ablation"),
        (h.flatten(1) * W.clamp(min=0)).view_as(h),
    )


def test_signs_cancel_in_rescale():
    full = reference(linear_rule(), linear_rule(), rescale)
    for make in (small_cnn, Residual, Mixed, smooth_cnn):
        net = make().double().eval()
        v = F.one_hot(LABELS, 5).double()[None]
        call = ("output", ["input"], v)
        signed = signals(net, PICTURES, full, *call, baseline=BASELINE)["input"][0]
        same(signed, deeplift(net, PICTURES, LABELS, BASELINE))


def test_rescale_is_one_modified_chain_rule():
    net, steps = steps_of(True, nn.Tanh(), False)
    x, x0 = PICTURES[:1], BASELINE[:1]
    chain, h, h0 = None, x, x0
    for affine, f in steps:
        W = matrix(affine, h)
        chain = W if chain is None else W @ chain
        h, h0 = affine(h), affine(h0)
        if f is not None:
            slope = ((f(h) - f(h0)) / (h - h0)).flatten()
            chain, h, h0 = slope[:, None] * chain, f(h), f(h0)
    theirs = chain[LABELS[0]].view_as(x) * (x - x0)
    same(deeplift(net, x, LABELS[:1], x0), theirs.detach())


def test_without_biases_it_is_lrp_and_with_relus_gradient_x_input():
    net, _ = steps_of(False, nn.Tanh(), False)
    same(deeplift(net, PICTURES, LABELS), lrp(net, PICTURES, LABELS, "lrp_0"), 1e-8)
    net, _ = steps_of(False, nn.ReLU(), False)
    same(deeplift(net, PICTURES, LABELS), gradient_x_input(net, PICTURES, LABELS))


# --- worked examples ------------------------------------------------------------------


class Minimum(nn.Module):
    """min(x1, x2), written as x1 - relu(x1 - x2)."""

    def forward(self, x):
        a, b = x.flatten(1).split(1, dim=1)
        return a - F.relu(a - b)


@pytest.mark.parametrize(
    "rule, shares", [("rescale", (0.0, 1.0)), ("reveal_cancel", (0.5, 0.5))]
)
def test_minimum(rule, shares):
    x = torch.tensor([2.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    R = deeplift(Minimum().eval(), x, torch.tensor([0]), rule=rule)
    assert torch.allclose(R.flatten(), torch.tensor(shares).double(), atol=1e-12)


def test_genomics_default_reveals_behind_dense_layers_only():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    conv = nn.Sequential(*conv, nn.Linear(144, 5)).double().eval()
    dense = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5))
    dense = dense.double().eval()
    for net, like, unlike in (
        (conv, "rescale", "reveal_cancel"),
        (dense, "reveal_cancel", "rescale"),
    ):
        mixed, alike, other = (
            deeplift(net, PICTURES, LABELS, rule=rule)
            for rule in ("genomics_default", like, unlike)
        )
        same(mixed, alike)
        assert (mixed - other).abs().max() > 1e-3 * mixed.abs().max()


class Pool(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, (1, 2)).flatten(1)


def test_max_pool_goes_to_the_winner_of_the_larger_maximum():
    x = torch.tensor([[5.0, 1.0], [0.0, 1.0], [2.0, 2.0]]).view(3, 1, 1, 2)
    x0 = torch.tensor([[2.0, 3.0], [4.0, 3.0], [2.0, 2.0]]).view(3, 1, 1, 2)
    R = deeplift(Pool().eval(), x, torch.tensor([0, 0, 0]), x0).view(3, 2)
    assert R.tolist() == [[2.0, 0.0], [-3.0, 0.0], [0.0, 0.0]]


def test_a_plain_gradient_at_the_max_pool_does_not_sum():
    net = small_cnn().double()
    plain = [("max_pool", gradient), *COMPOSITES["deeplift_rescale"]]
    gaps = []
    for composite in (plain, "deeplift_rescale"):
        chain = Chain(net, PICTURES, composite, ["input"], BASELINE)
        R = chain.back("output", F.one_hot(LABELS, 5).double(), ["input"])["input"]
        gaps.append((R.flatten(1).sum(1) - fall(net, PICTURES, BASELINE)).abs().max())
    assert gaps[0] > 1e-3 and gaps[1] < 1e-12


def test_a_unit_that_does_not_differ_has_its_slope():
    z = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    same(secant(torch.tanh, z, z), 1 - torch.tanh(z) ** 2)
    near = z + 1e-13  # the quotient would be rounding
    same(secant(torch.tanh, z, near), 1 - torch.tanh(z) ** 2)
    across = torch.tensor([[-1e-13], [3e-13]], dtype=torch.float64)
    same(secant(torch.relu, *across), torch.tensor([0.75], dtype=torch.float64))


# --- layers, chains, batches ----------------------------------------------------------


@pytest.mark.parametrize("rule", SUMMING)
@pytest.mark.parametrize("layer", ["0", "2", "3", "5", "7"])
def test_a_layer_sums_too(layer, rule):
    net = small_cnn(inplace=True).double()
    R = deeplift(net, PICTURES, LABELS, BASELINE, rule, layer=layer)
    gap = (R.flatten(1).sum(1) - fall(net, PICTURES, BASELINE)).abs().max()
    assert gap < 1e-12


@pytest.mark.parametrize("layer", ["branch", "stem"])
def test_a_layer_beside_a_skip_connection_is_that_of_the_whole_net(layer):
    net = Residual().double().eval()
    chain = Chain(net, PICTURES, "deeplift_rescale", [layer], BASELINE)
    theirs = chain.back("output", F.one_hot(LABELS, 5).double(), [layer])[layer]
    same(deeplift(net, PICTURES, LABELS, BASELINE, layer=layer), theirs)


class Skipped(nn.Module):
    """relu(w h + x): behind the layer h, x comes in as a constant."""

    def __init__(self):
        super().__init__()
        self.layer, self.linear = nn.Tanh(), nn.Linear(4, 4, bias=False)
        torch.nn.init.eye_(self.linear.weight)

    def forward(self, x):
        x = x.flatten(1)
        return F.relu(self.linear(self.layer(x)) + x)


def test_reveal_cancel_counts_what_a_skip_connection_brings():
    x = torch.tensor([2.0, -2.0, 1.0, 3.0], dtype=torch.float64).view(1, 1, 2, 2)
    R = deeplift(
        Skipped().double().eval(), x, torch.tensor([0]), rule="reveal_cancel",
        layer="layer",
    )  # fmt: skip
    h = torch.tanh(torch.tensor(2.0)).double()
    assert torch.allclose(R, torch.stack([h, *3 * [0 * h]]), atol=1e-7)


@pytest.mark.parametrize("rule", [*SUMMING, "ablation"])
def test_a_chain_sends_each_vector_as_both_halves(rule):
    net = (Residual if rule == "ablation" else Mixed)().double().eval()
    composite = f"deeplift_{rule}"
    v = torch.stack([F.one_hot(LABELS, 5), F.one_hot((LABELS + 1) % 5, 5)]).double()
    mixed = torch.cat([v, (2 * v[0] - 3 * v[1])[None]])
    found = signals(
        net, PICTURES, composite, "output", ["input"], mixed, baseline=BASELINE
    )["input"]
    same(found[0], deeplift(net, PICTURES, LABELS, BASELINE, rule))
    same(found[1], deeplift(net, PICTURES, (LABELS + 1) % 5, BASELINE, rule))
    same(found[2], 2 * found[0] - 3 * found[1])


@pytest.mark.parametrize("rule", [*SUMMING, "ablation"])
def test_batch_is_loop_and_in_place_is_not(rule):
    x = images(9, 3, 8, 8, dtype=torch.float64)  # more than one pass
    labels = torch.arange(9) % 5
    x0 = images(9, 3, 8, 8, seed=4, dtype=torch.float64)
    for make in (lambda p: small_cnn(inplace=p), Residual):
        net = make(True).double().eval()
        before = copy.deepcopy(net.state_dict())
        whole = deeplift(net, x, labels, x0, rule)
        alone = [
            deeplift(net, x[i : i + 1], labels[i : i + 1], x0[i : i + 1], rule)
            for i in range(9)
        ]
        same(whole, torch.cat(alone))
        same(whole, deeplift(make(False).double().eval(), x, labels, x0, rule))
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_a_baseline_broadcasts_and_a_target_function_is_asked_at_x():
    net = small_cnn().double()
    one = BASELINE[:1, :, :1, :1]
    theirs = deeplift(net, PICTURES, net(PICTURES).argmax(1), one.expand_as(PICTURES))
    same(deeplift(net, PICTURES, lambda logits: logits.argmax(1), one), theirs)


# --- what is refused ------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.middle, self.head = middle, nn.Linear(4, 5)

    def forward(self, x):
        x = x.flatten(2)[:, :, :4]  # (B, 3, 4)
        x = self.middle(x, x, x)[0] if "Multi" in repr(self.middle) else self.middle(x)
        return self.head(torch.tanh(x).mean(1))


@pytest.mark.parametrize("rule", [*SUMMING, "ablation"])
@pytest.mark.parametrize(
    "middle, name",
    [
        (nn.LayerNorm(4), "norm"),
        (nn.GroupNorm(1, 3), "norm"),
        (nn.MultiheadAttention(4, 2, batch_first=True), "attention"),
    ],
)
def test_no_exact_rule(middle, name, rule):
    net = Tokens(middle).double().eval()
    with pytest.raises(ValueError, match=name):
        deeplift(net, PICTURES, LABELS, rule=rule)


class Moved(nn.Module):
    """The batch goes to the second place, or into the sum, or out of the graph."""

    def __init__(self, how):
        super().__init__()
        self.how, self.head = how, nn.Linear(192, 5)

    def forward(self, x):
        x = x.flatten(1)
        if self.how == "transposed":
            x = torch.tanh(x[:, :190].T).T.repeat(1, 2)[:, :192]
        elif self.how == "odd":
            x = torch.tanh(x[:, :191].T).T.repeat(1, 2)[:, :192]
        elif self.how == "centred":
            x = torch.tanh(x - x.mean(0, keepdim=True))
        elif self.how == "detached":
            x = torch.tanh(x + torch.tanh(x).detach())
        elif self.how == "gated":
            x = torch.tanh(x * torch.tanh(x).detach())
        return self.head(x)


@pytest.mark.parametrize(
    "how, wanted",
    [
        ("odd", "leading dimension, of a multiple of 4"),
        ("transposed", "leading dimension|moves the batch"),
        ("centred", "leading dimension"),
        ("detached", "detaches"),
        ("gated", "factor that depends on the input"),
    ],
)
@pytest.mark.parametrize("rule", SUMMING)
def test_nothing_is_silently_wrong(how, wanted, rule):
    torch.manual_seed(0)
    net = Moved(how).double().eval()
    with pytest.raises(ValueError, match=wanted):
        deeplift(net, PICTURES, LABELS, rule=rule)
    with pytest.raises(ValueError):  # 188 of the first two is a multiple of 4
        deeplift(net, PICTURES, LABELS, BASELINE, rule=rule)


def test_rules_without_a_baseline_are_refused():
    with pytest.raises(ValueError, match="baseline"):
        lrp(small_cnn(), images(), LABELS, "deeplift_rescale")


def test_bad_input():
    net, x = small_cnn(), images()
    with pytest.raises(ValueError, match="rule must be one of rescale"):
        deeplift(net, x, LABELS, rule="linear")
    with pytest.raises(ValueError, match="broadcast to x"):
        deeplift(net, x, LABELS, torch.zeros(3, 5, 5))
    with pytest.raises(ValueError, match="finite"):
        deeplift(net, x, LABELS, x / 0)
    with pytest.raises(TypeError, match="tensor"):
        deeplift(net, x, LABELS, 0.0)


def test_shared_linear_checks_what_it_cannot_do():
    composite = reference(shared_linear, shared_linear, rescale)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double().eval()
    R = Chain(net, PICTURES, composite, ["input"], BASELINE)
    v = F.one_hot(LABELS, 5).double()
    theirs = deeplift(net, PICTURES, LABELS, BASELINE)
    same(R.back("output", v, ["input"])["input"], theirs)
    assert ("max_pool", split_maximum) in composite


# --- captum ---------------------------------------------------------------------------


said_by_captum = pytest.mark.filterwarnings("ignore::UserWarning:captum")


class Once(nn.Module):
    """Something linear between two modules that captum hooks."""

    def forward(self, x):
        return 1.0 * x


def pooled(*between) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *between, nn.MaxPool2d(2)
    return nn.Sequential(*layers, nn.Conv2d(8, 5, 4), nn.Flatten()).double().eval()


@said_by_captum
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "pool"])
def test_captum_agrees_where_no_module_is_reused(name):
    captum = pytest.importorskip("captum.attr")
    net = pooled(Once()) if name == "pool" else NETS[name]().double().eval()
    theirs = captum.DeepLift(net).attribute(PICTURES, BASELINE, LABELS)
    same(deeplift(net, PICTURES, LABELS, BASELINE), theirs.detach())


@said_by_captum
def test_captum_does_not_sum_where_a_max_pool_follows_a_relu():
    """It notes the signal at the ReLU's output before the pool's hook changes it."""
    captum = pytest.importorskip("captum.attr")
    own = {"return_convergence_delta": True}
    for net, sums in ((pooled(Once()), True), (pooled(), False)):
        gap = captum.DeepLift(net).attribute(PICTURES, BASELINE, LABELS, **own)[1]
        assert (gap.abs().max() < 1e-12) == sums
        R = deeplift(net, PICTURES, LABELS, BASELINE)
        total = fall(net, PICTURES, BASELINE)
        assert (R.flatten(1).sum(1) - total).abs().max() < 1e-12


@said_by_captum
def test_captum_refuses_a_reused_module():
    """It keeps one input per module, in a hook, so a second run overwrites it."""
    captum = pytest.importorskip("captum.attr")
    net = Residual(inplace=False).double().eval()
    with pytest.raises(RuntimeError, match="used more than once"):
        captum.DeepLift(net).attribute(PICTURES, BASELINE, LABELS)
    R = deeplift(net, PICTURES, LABELS, BASELINE)
    assert (R.flatten(1).sum(1) - fall(net, PICTURES, BASELINE)).abs().max() < 1e-12
