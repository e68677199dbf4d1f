"""The engine on networks as they are written: explained, or refused by name."""

import copy
import gc
import weakref

import pytest
import torch
from nets import (
    Mixed,
    Residual,
    awakened,
    gap,
    images,
    settled,
    small_cnn,
    small_convnext,
    small_vit,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from xai_lib.assets import load_images, load_model
from xai_lib.assets.nets import build
from xai_lib.attribute import gradient
from xai_lib.attribute.backprop import (
    COMPOSITES,
    Chain,
    ModifiedBackprop,
    clipped_joins,
    deep_taylor,
    deeplift,
    excitation_backprop,
    guided_backprop,
    lrp,
    rectgrad,
    relevance_budget,
    signals,
)
from xai_lib.attribute.backprop._run import frozen
from xai_lib.attribute.backprop.methods import rectgrad_composite
from xai_lib.attribute.backprop.relevance_rules import epsilon, z_plus
from xai_lib.attribute.backprop.rules import gradient as gradient_rule

MARK = 1e-6
LABELS = torch.tensor([1, 3])
MAIN = ("epsilon", "epsilon_plus", "alpha2_beta1", "epsilon_gamma_box")


# --- nets as torchvision and we write them --------------------------------------------


def budget_error(budget: dict) -> float:
    kept = budget["input"] + budget["bias"] + budget["stabiliser"]
    return abs(kept / budget["logit"] - 1)


def _resnet18():
    return settled(build("resnet18"), 32)


def _mobilenet():
    return settled(build("mobilenet_v2"), 32)


QUICK = {
    "resnet18": _resnet18,
    "mobilenet_v2": _mobilenet,
    "vision transformer": small_vit,
    "convnext": small_convnext,
}


@pytest.mark.parametrize("name", QUICK)
def test_relevance_budget_adds_up(name):
    torch.manual_seed(0)
    net = QUICK[name]().double()
    x = images(1, height=32, width=32, dtype=torch.float64)
    target = net(x).argmax(1)
    before, flags = copy.deepcopy(net.state_dict()), _flags(net)
    for composite in MAIN:
        budget = relevance_budget(net, x, target, composite)
        assert budget_error(budget) < MARK, (composite, budget)
        assert abs(budget["input"]) > 1e-3 * abs(budget["logit"]), budget
    total = lrp(net, x, target, composite=MAIN[-1]).sum().item()
    assert total == pytest.approx(budget["input"], rel=1e-9)
    for method in (deep_taylor, excitation_backprop):
        assert method(net, x, target).isfinite().all()
    assert _flags(net) == flags
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


NETS = (
    "resnet18", "resnet50_caffe", "mobilenet_v2", "efficientnet_lite0", "vgg11",
    "vgg16", "densenet121", "googlenet", "convnext_tiny", "vit_b_16",
)  # fmt: skip


def whole_net(name: str, size: int) -> nn.Module:
    """Build a net with random weights and statistics under which signals live."""
    torch.manual_seed(0)
    net = build(name, size)
    net = awakened(net) if name == "vit_b_16" else settled(net, size)
    return net.double().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_every_net_runs_unchanged_and_adds_up(name, capsys):
    net, x = whole_net(name, 64), images(1, height=64, width=64, dtype=torch.float64)
    target, rows = net(x).argmax(1), []
    for composite in [c for c in COMPOSITES if _conserves(c)]:
        budget = relevance_budget(net, x, target, composite)
        shares = [budget[k] / budget["logit"] for k in ("input", "bias", "stabiliser")]
        cells = " ".join(f"{share:12.3e}" for share in shares)
        rows.append(f"{name:20}{composite:26}{cells} {budget_error(budget):9.1e}")
        rounding = 1e-13 * max(map(abs, shares))  # alpha 5 beta 4 may explode
        assert budget_error(budget) < max(MARK, rounding), rows[-1]
    with capsys.disabled():
        head = (
            f"{'net':20}{'composite':26}{'input':>12} {'bias':>12} {'stabiliser':>12}"
        )
        print(f"\n{head} {'|sum - 1|':>9}", *rows, sep="\n")
    relus = any(isinstance(m, (nn.ReLU, nn.ReLU6)) for m in net.modules())
    for method in (deep_taylor, excitation_backprop, *[guided_backprop] * relus):
        assert method(net, x, target).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50_caffe", "mobilenet_v2", "efficientnet_lite0"]
)
def test_on_trained_weights_and_a_photograph_it_adds_up(name, capsys):
    found = load_model(name)
    net, x = found.model.double(), found.transform(load_images("photos", 1).x).double()
    target = net(x).argmax(1)
    for composite in MAIN:
        budget = relevance_budget(net, x, target, composite)
        assert budget_error(budget) < MARK, (composite, budget)
        with capsys.disabled():
            shares = {k: f"{v / budget['logit']:.3f}" for k, v in budget.items()}
            print(f"\n{name} {composite} {shares} {budget_error(budget):.1e}", end="")


def _conserves(composite: str) -> bool:
    others = ("deep_taylor", "guided_backprop", "deconvnet", "gradient")
    return composite not in others and not composite.startswith("deeplift")


# --- what a method leaves behind ------------------------------------------------------


def _flags(net):
    return (
        [m.training for m in net.modules()],
        [(p.requires_grad, p.grad is None) for p in net.parameters()],
        [len(m._forward_hooks) + len(m._backward_hooks) for m in net.modules()],
    )


def raising(op, x, R):
    raise RuntimeError("the rule broke")


class Breaks(Mixed):
    def forward(self, x):
        self.norm1(self.conv1(x))
        raise RuntimeError("the model broke")


def test_after_an_exception_all_is_as_it_was():
    x = images(height=8, width=8, dtype=torch.float64)
    for net, composite in [
        (Breaks(), "epsilon"),
        (Mixed(), [("conv2", raising), *COMPOSITES["epsilon"]]),
        (Mixed(), [("linear", epsilon()), ("conv", epsilon())]),  # no rule for ReLU
    ]:
        next(net.parameters()).requires_grad_(False)
        before, flags = copy.deepcopy(net.state_dict()), _flags(net)
        for call in (
            lambda net=net, c=composite: lrp(net, x, LABELS, composite=c),
            lambda net=net, c=composite: lrp(
                net, x, LABELS, composite=c, layer="conv1"
            ),
            lambda net=net, c=composite: signals(
                net, x, c, "output", ["conv1", "input"], torch.ones(1, 2, 5).double()
            ),
        ):
            with pytest.raises((RuntimeError, ValueError), match="broke|no rule"):
                call()
            assert _flags(net) == flags
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
        net.__class__ = Mixed
        plain = gradient(net, x, LABELS)  # no mode is left on
        leaf = x.clone().requires_grad_()
        logits = net(leaf).gather(1, LABELS[:, None]).sum()
        assert torch.equal(torch.autograd.grad(logits, leaf)[0], plain)


def test_parameters_that_are_trained_are_constants():
    x = images(height=8, width=8, dtype=torch.float64)
    frozen, trained = Mixed().requires_grad_(False), Mixed()
    assert torch.equal(lrp(trained, x, LABELS), lrp(frozen, x, LABELS))
    leaf = x.clone().requires_grad_()
    with ModifiedBackprop(COMPOSITES["epsilon_plus"], trained):
        logits = trained(leaf)
    chosen = F.one_hot(LABELS, 5).double()
    start = chosen * logits.detach()
    (R,) = torch.autograd.grad(logits, leaf, start)
    assert gap(R, lrp(frozen, x, LABELS)) < 1e-12


# --- ways of writing ------------------------------------------------------------------


class Written(nn.Module):
    """Two convolutions, a residual sum, a mean, a linear map, plainly written."""

    tolerance = 1e-10

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.relu(self.b(x) + x)
        return self.head(x.mean((2, 3)))


class IgnoresWhatReluReturns(Written):
    def forward(self, x):
        x = self.a(x)
        self.relu(x)
        y = self.b(x)
        y += x
        self.relu(y)
        return self.head(y.mean((2, 3)))


class InPlaceMethods(Written):
    def forward(self, x):
        x = self.a(x).relu_()
        y = self.b(x).add_(x)
        torch.relu_(y)
        return self.head(y.mean((2, 3)))


class DictOfTensors(Written):
    def forward(self, x):
        seen = {"input": x}
        for name, source in (("a", "input"), ("b", "a")):
            out = getattr(self, name)(seen[source])
            out = out + seen["a"] if name == "b" else out
            seen[name] = F.relu(out)
        return {"logits": self.head(seen["b"].mean((2, 3)))}["logits"]


class FunctionsOnly(Written):
    def forward(self, x):
        x = torch.relu(torch.conv2d(x, self.a.weight, self.a.bias, 1, 1))
        y = F.conv2d(input=x, weight=self.b.weight, bias=self.b.bias, padding="same")
        y = torch.add(y, other=x).clamp(min=0)
        return F.linear(torch.mean(y, dim=(-2, -1)), self.head.weight, self.head.bias)


class PartsJoined(Written):
    def forward(self, x):
        x = F.relu(self.a(x))
        y = F.relu(torch.add(self.b(x), x))
        y = torch.cat(list(y.split(1, dim=1)), dim=1)
        y = torch.stack([part for part in y.unbind(0)])
        return self.head(y.flatten(2).mean(-1))


class SubtractsANegative(Written):
    tolerance = 1e-5  # the sign is an operation of its own, with its own stabiliser

    def forward(self, x):
        x = F.relu(self.a(x))
        y = torch.where((z := self.b(x) - (-x)) > 0, z, 0.0)
        return self.head(F.adaptive_avg_pool2d(y, 1)[..., 0, 0])


class PadsByHand(Written):
    def forward(self, x):
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1)), self.a.weight, self.a.bias))
        pad = nn.ZeroPad2d(1)
        y = F.relu(F.conv2d(pad(x), self.b.weight, self.b.bias) + x)
        return self.head(y.mean((2, 3)))


class Unfolds(Written):
    def _convolved(self, conv, x):
        patches = F.unfold(x, 3, padding=1).transpose(1, 2)  # (B, H W, C 9)
        z = F.linear(patches, conv.weight.flatten(1), conv.bias)
        return z.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])

    def forward(self, x):
        x = F.relu(self._convolved(self.a, x))
        x = F.relu(self._convolved(self.b, x) + x)
        return self.head(x.mean((2, 3)))


class WeightNorm(Written):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.a)


WRITINGS = [
    IgnoresWhatReluReturns, InPlaceMethods, DictOfTensors, FunctionsOnly, PartsJoined,
    SubtractsANegative, PadsByHand, WeightNorm,
]  # fmt: skip
PICTURES = images(height=8, width=8, dtype=torch.float64)


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box"])
def test_a_way_of_writing_changes_nothing(writing, composite):
    plain, odd = Written(), writing()
    torch.testing.assert_close(odd(PICTURES), plain(PICTURES))
    wanted = lrp(plain, PICTURES, LABELS, composite=composite)
    ours = lrp(odd, PICTURES, LABELS, composite=composite)
    assert gap(ours, wanted) < odd.tolerance
    wanted = lrp(plain, PICTURES, LABELS, composite=composite, layer="b")
    functional = writing in (FunctionsOnly, PadsByHand)  # without the module's run
    if not functional:
        ours = lrp(odd, PICTURES, LABELS, composite=composite, layer="b")
        assert gap(ours, wanted) < odd.tolerance


@pytest.mark.parametrize(
    "writing", [w for w in WRITINGS if w is not SubtractsANegative]
)
def test_guided_backprop_whatever_the_writing(writing):
    wanted = guided_backprop(Written(), PICTURES, LABELS)
    assert gap(guided_backprop(writing(), PICTURES, LABELS), wanted) < 1e-10
    assert gap(gradient(Written(), PICTURES, LABELS), wanted) > 0.1


@pytest.mark.parametrize(
    "writing", [w for w in WRITINGS if w is not SubtractsANegative]
)
def test_deeplift_whatever_the_writing(writing):
    wanted = deeplift(Written(), PICTURES, LABELS)
    assert gap(deeplift(writing(), PICTURES, LABELS), wanted) < 1e-10


def test_patches_by_hand_are_a_convolution():
    both = [
        lrp(net(), PICTURES, LABELS, composite="epsilon") for net in (Unfolds, Written)
    ]
    assert gap(*both) < 1e-10


def test_a_layer_that_ignores_what_relu_returns_is_gone_back_to_behind_it():
    class Block(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv, self.relu = conv, nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            self.relu(x)
            return x  # the tensor from before

    plain = Written()
    odd = nn.Sequential(Block(plain.a), Block(plain.b)).eval()
    chain = Chain(odd, PICTURES, "epsilon", ["0", "1"])
    wanted = [F.relu(plain.a(PICTURES))]
    wanted.append(F.relu(plain.b(wanted[0])))
    for name, value in zip("01", wanted, strict=True):
        assert torch.equal(chain.values[name], value)


# --- refusals -------------------------------------------------------------------------


class OwnAttention(Written):
    def forward(self, x):
        h = self.a(x).flatten(2).transpose(1, 2)  # (B, tokens, C)
        weights = torch.softmax(h @ h.transpose(1, 2), -1)
        return self.head((weights @ h).mean(1))


class SqueezeExcitation(Written):
    def forward(self, x):
        x = F.relu(self.a(x))
        return self.head((x * x.mean((2, 3), keepdim=True)).mean((2, 3)))


class WritesIntoATensor(Written):
    def forward(self, x):
        x = self.a(x)
        x[:, 0] = 0
        return self.head(x.mean((2, 3)))


class ThroughAView(Written):
    def forward(self, x):
        x = self.a(x)
        x[:, :2].relu_()
        return self.head(x.mean((2, 3)))


class ThroughAnEarlierView(Written):
    def forward(self, x):
        x = self.a(x)
        rows = x.flatten(2)
        x.relu_()
        return self.head(rows.mean(2))


class WeightsFromTheInput(Written):
    def forward(self, x):
        kernel = self.a(x).mean((0, 2, 3)).view(4, 1, 1, 1).expand(4, 3, 1, 1)
        return self.head(F.conv2d(x, kernel).mean((2, 3)))


class BatchStatistics(Written):
    def forward(self, x):
        x = F.batch_norm(self.a(x), None, None, training=True)
        return self.head(x.mean((2, 3)))


class Einsum(Written):
    def forward(self, x):
        return self.head(torch.einsum("bchw,c->bc", self.a(x), self.a.bias))


class Detaches(Written):
    def forward(self, x):
        x = self.a(x)
        x.detach_()
        return self.head(x.mean((2, 3)))


class RealPart(Written):
    def forward(self, x):
        return self.head(torch.fft.fft2(self.a(x)).real.mean((2, 3)))


class Maximum(Written):
    def forward(self, x):
        return self.head(torch.maximum(self.a(x), x[:, :1]).mean((2, 3)))


class _OwnSwish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, R):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return R * (s + x * s * (1 - s))


class OwnFunction(Written):
    def forward(self, x):
        return self.head(_OwnSwish.apply(self.a(x)).mean((2, 3)))


class KeysForNothing(Written):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True)
        self.double().eval()

    def forward(self, x):
        h = self.a(x).flatten(2).transpose(1, 2)
        return self.head(self.attend(h, h, h)[0].mean(1))


REFUSED = {
    OwnAttention: "matmul of two tensors .*h @ h.transpose",
    SqueezeExcitation: "mul of two tensors .*x.mean",
    WritesIntoATensor: r"__setitem__ has no rule .*x\[:, 0\] = 0",
    ThroughAView: "through a view has no rule .*self.head",
    ThroughAnEarlierView: "through a view has no rule .*rows.mean",
    WeightsFromTheInput: "conv with a weight that depends .*F.conv2d",
    BatchStatistics: "batch_norm on the batch's own statistics .*F.batch_norm",
    Einsum: "einsum has no rule .*torch.einsum",
    Detaches: "detach_ has no rule .*x.detach_",
    RealPart: "fft_fft2 has no rule .*torch.fft.fft2",
    Maximum: "maximum has no rule .*torch.maximum",
    OwnFunction: "_OwnSwish has no rule .*autograd.Function",
    KeysForNothing: "multi_head_attention_forward with bias_k .*self.attend",
}


@pytest.mark.parametrize("net", REFUSED)
def test_what_has_no_rule_is_refused_by_name_and_line(net):
    with pytest.raises(ValueError, match=REFUSED[net]) as caught:
        lrp(net(), PICTURES, LABELS)
    assert "\n" not in str(caught.value) and "test_engine.py, line" in str(caught.value)


GRADIENT_GOES_ON = [OwnAttention, SqueezeExcitation, Einsum, RealPart, OwnFunction]


@pytest.mark.parametrize("net", GRADIENT_GOES_ON)
def test_the_gradient_as_a_composite_is_the_gradient_everywhere(net):
    net, starts = net(), torch.eye(5, dtype=torch.float64)[LABELS][None]
    ours = signals(net, PICTURES, "gradient", "output", ["input"], starts)["input"][0]
    assert gap(ours, gradient(net, PICTURES, LABELS)) < 1e-12


COMPILERS = [
    pytest.param(torch.jit, "script", id="script"),
    pytest.param(torch, "compile", id="compile", marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize(("room", "name"), COMPILERS)
def test_compiled_parts_are_refused(room, name):
    net = Written()
    net.a = getattr(room, name)(net.a)
    with pytest.raises(ValueError, match=f"module 'a' made by {room.__name__}"):
        lrp(net, PICTURES, LABELS)


def test_a_function_may_bring_its_own_rule():
    class HandsOn(_OwnSwish):
        is_rule = True

        @staticmethod
        def backward(ctx, R):
            return R

    class Net(Written):
        def __init__(self, act):
            super().__init__()
            self.act = act

        def forward(self, x):
            return self.head(self.act(self.a(x)).mean((2, 3)))

    own, silu = (lrp(Net(act), PICTURES, LABELS) for act in (HandsOn.apply, nn.SiLU()))
    assert gap(own, silu) < 1e-12


def test_an_unknown_key_is_refused():
    for key in ("convolution", "head.0"):
        with pytest.raises(ValueError, match=f"got '{key}'"):
            lrp(Written(), PICTURES, LABELS, composite=[(key, epsilon())])


# --- keys -----------------------------------------------------------------------------


def spied(seen):
    def rule(op, x, R):
        seen.append(op.name or op.kind)
        return op.vjp(x, R)

    return rule


@pytest.mark.parametrize(
    ("net", "first", "last"),
    [(Mixed, "conv1", "head"), (small_vit, "conv_proj", "heads.head")],
)
def test_first_and_last_are_one_operation_each(net, first, last):
    net, size = net().double(), 8 if net is Mixed else 32
    x = images(height=size, width=size, dtype=torch.float64)
    for key, name in (("first", first), ("last", last)):
        seen = []
        lrp(net, x, LABELS, composite=[(key, spied(seen)), ("any", gradient_rule)])
        assert seen == [name]


def test_the_first_layer_is_the_nets_also_from_a_layer_on():
    seen = []
    composite = [("first", spied(seen)), *COMPOSITES["epsilon"]]
    lrp(Mixed(), PICTURES, LABELS, composite=composite, layer="norm1")
    assert seen == []


def test_a_layers_name_is_a_key():
    seen, rest = [], COMPOSITES["epsilon"]
    keys = [(name, spied(seen)) for name in ("conv2", "hidden", "norm1")]
    lrp(Mixed(), PICTURES, LABELS, composite=[*keys, *rest])
    assert seen == ["hidden", "conv2"]  # norm1 is folded into conv1
    by_name = [("conv1", z_plus()), ("conv2", z_plus()), *rest]
    assert torch.equal(
        lrp(Mixed(), PICTURES, LABELS, composite=by_name),
        lrp(Mixed(), PICTURES, LABELS, composite="epsilon_plus"),
    )


class TwoNorms(Written):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.double().eval()

    def forward(self, x):
        x = self.a(x)
        return self.head((self.one(x) + self.two(x)).mean((2, 3)))


def test_two_norms_behind_one_convolution():
    budget = relevance_budget(TwoNorms(), PICTURES, LABELS)
    assert budget_error(budget) < MARK


# --- attention ------------------------------------------------------------------------


class Attends(nn.Module):
    def __init__(self, need_weights, own_values=False):
        super().__init__()
        torch.manual_seed(0)
        widths = {"kdim": 4, "vdim": 4} if own_values else {}
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.values = nn.Linear(6, 4) if own_values else nn.Identity()
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True, **widths)
        self.head, self.need_weights = nn.Linear(6, 5), need_weights
        nn.init.normal_(self.attend.in_proj_bias)
        self.double().eval()

    def forward(self, x):
        h = self.embed(x).flatten(2).transpose(1, 2)
        k = self.values(h)
        mixed, weights = self.attend(h, k, k, need_weights=self.need_weights)
        assert (weights is not None) == self.need_weights
        return self.head((h + mixed).mean(1))


@pytest.mark.parametrize("own_values", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_is_linear_in_the_values(need_weights, own_values):
    net = Attends(need_weights, own_values)
    budget = relevance_budget(net, PICTURES, LABELS, "epsilon")
    logit = net(PICTURES).gather(1, LABELS[:, None]).sum()
    assert budget_error(budget) < MARK and abs(budget["logit"] - logit) < 1e-12
    starts = torch.eye(5, dtype=torch.float64)[LABELS][None]
    ours = signals(net, PICTURES, "gradient", "output", ["input"], starts)["input"][0]
    assert gap(ours, gradient(net, PICTURES, LABELS)) < 1e-12


def test_scaled_dot_product_attention_is_the_same_attention():
    class Functional(Attends):
        def forward(self, x):
            h = self.embed(x).flatten(2).transpose(1, 2)  # (B, 4, 6)
            w, b = self.attend.in_proj_weight, self.attend.in_proj_bias
            parts = zip(w.chunk(3), b.chunk(3), strict=True)
            q, k, v = (
                F.linear(h, *part).unflatten(2, (2, 3)).transpose(1, 2)
                for part in parts
            )
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.head((h + self.attend.out_proj(mixed)).mean(1))

    both = [
        lrp(net, PICTURES, LABELS, composite="epsilon")
        for net in (Functional(False), Attends(False))
    ]
    assert gap(*both) < 1e-9


# --- layers ---------------------------------------------------------------------------

CASES = {
    "small_cnn": (lambda: small_cnn().double(), 16, ["2", "3", "5", "6"]),
    "vision transformer": (
        lambda: small_vit().double(),
        32,
        ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"],
    ),
}


@pytest.mark.parametrize("composite", [*MAIN, "excitation_backprop", "deep_taylor"])
@pytest.mark.parametrize("case", ["small_cnn", "vision transformer"])
def test_relevance_at_a_layer_sent_on_is_the_relevance_at_the_input(case, composite):
    make, size, layers = CASES[case]
    net, x = make(), images(height=size, width=size, dtype=torch.float64)
    whole = lrp(net, x, LABELS, composite=composite)
    for layer in layers:
        R = lrp(net, x, LABELS, composite=composite, layer=layer)
        sent = signals(net, x, composite, layer, ["input"], R[None])["input"][0]
        assert gap(sent, whole) < 1e-9


@pytest.mark.parametrize("composite", [*MAIN, "gradient", "guided_backprop"])
def test_signals_compose(composite):
    net, x = small_cnn().double(), images(dtype=torch.float64)
    vectors = torch.randn(3, 2, 12, 8, 8, dtype=torch.float64)
    far = signals(net, x, composite, "5", ["5", "2", "input"], vectors)
    near = signals(net, x, composite, "2", ["input"], far["2"])
    assert gap(near["input"], far["input"]) < 1e-10
    assert torch.equal(far["5"], vectors)
    alone = [signals(net, x, composite, "5", ["2"], v[None])["2"] for v in vectors]
    assert gap(torch.cat(alone), far["2"]) < 1e-12
    by_image = [
        signals(net, x[i : i + 1], composite, "5", ["2"], vectors[:, i : i + 1])["2"]
        for i in range(2)
    ]
    assert gap(torch.cat(by_image, 1), far["2"]) < 1e-12


def test_a_start_may_be_its_own_end_and_what_is_not_reached_gets_nothing():
    net, x = Residual().double().eval(), images(dtype=torch.float64)
    v = torch.randn(2, 2, 6, 16, 16, dtype=torch.float64)
    assert torch.equal(signals(net, x, "epsilon", "stem", ["stem"], v)["stem"], v)
    assert signals(net, x, "epsilon", "stem", ["branch"], v)["branch"].abs().max() == 0


def test_a_wanted_convolution_is_kept_apart_from_its_norm():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    chain = Chain(net, x, "epsilon", ["0", "output"])
    assert gap(chain.values["0"], net[0](x)) < 1e-12
    one = torch.zeros_like(chain.values["output"])
    one[:, 0] = chain.values["output"][:, 0]
    sent = chain.back("output", one, ["0", "input"])
    at_layer = lrp(net, x, LABELS * 0, composite="epsilon", layer="0")
    assert gap(sent["0"], at_layer) < 1e-10
    again = signals(net, x, "epsilon", "0", ["input"], at_layer[None])["input"][0]
    assert gap(sent["input"], again) < 1e-10


def test_relevance_at_a_layer_does_not_depend_on_the_other_images():
    net, x = small_cnn().double(), images(4, dtype=torch.float64)
    target = torch.arange(4)
    for composite in ("epsilon_plus", "excitation_backprop"):
        whole = lrp(net, x, target, composite=composite, layer="3")
        alone = [
            lrp(net, x[i : i + 1], target[i : i + 1], composite=composite, layer="3")
            for i in range(4)
        ]
        assert gap(torch.cat(alone), whole) < 1e-12
    one = excitation_backprop(net, x, target, layer="3").sum((1, 2, 3))
    assert gap(one, torch.ones(4)) < 1e-3


def test_box_without_bounds_on_rows_is_by_image():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 5))
    net = net.double().eval()
    whole = deep_taylor(net, PICTURES, LABELS)
    alone = [deep_taylor(net, PICTURES[i : i + 1], LABELS[i : i + 1]) for i in (0, 1)]
    assert gap(torch.cat(alone), whole) < 1e-12


@pytest.mark.parametrize("composite", ["zplus", "guided_backprop"])
def test_a_pass_is_let_go_of(composite):
    """An in-place ReLU's result must not keep its own graph alive."""
    net, engine = Residual().eval(), ModifiedBackprop(COMPOSITES[composite])
    with frozen(net), engine:
        y = net(images().requires_grad_())
    left = weakref.ref(engine)
    del engine, y
    gc.collect()
    assert left() is None


@pytest.mark.parametrize("composite", [*MAIN, "gradient", "guided_backprop"])
def test_vectors_sent_together_are_vectors_sent_one_by_one(composite):
    net, x = small_cnn().double(), images(dtype=torch.float64)
    chain = Chain(net, x, composite, ["5"])
    vectors = torch.randn(3, 2, 12, 8, 8, dtype=torch.float64)

    def send(vector):
        return chain.back("5", vector, ["input"])["input"]

    alone = torch.stack([send(vector) for vector in vectors])
    assert gap(torch.vmap(send)(vectors), alone) < 1e-12


@pytest.mark.parametrize("name", ["epsilon", "epsilon_plus", "alpha2_beta1"])
def test_lrp_beside_a_skip_connection_is_that_of_the_whole_net(name):
    net, x = Residual().double().eval(), images(dtype=torch.float64)
    chain = Chain(net, x, name, ["branch", "output"])
    logits = F.one_hot(LABELS, 5) * chain.values["output"]
    wanted = chain.back("output", logits, ["branch"])["branch"]
    assert gap(lrp(net, x, LABELS, name, layer="branch"), wanted) < 1e-10


@pytest.mark.parametrize("size", [1.0, 1e7])
@pytest.mark.parametrize("name", ["alpha2_beta1", "epsilon"])
def test_clipped_joins_clip_what_a_sum_sends_back_and_nothing_else(name, size):
    net, x = Residual().double().eval(), images(dtype=torch.float64)
    vector = size * F.one_hot(LABELS, 5).double()[None]
    own, clipped = (
        signals(net, x, rules, "output", ["branch"], vector)["branch"]
        for rules in (name, clipped_joins(name))
    )
    assert own.min() < 0
    torch.testing.assert_close(clipped, own.clamp(0, 1000))
    pairs = [*zip(clipped_joins(name), COMPOSITES[name], strict=True)]
    assert all(a is b for (key, a), (_, b) in pairs if key != "add")
    assert [one[0] for one, _ in pairs] == [key for key, _ in COMPOSITES[name]]


def test_variants_of_rectgrad():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    vector, inner = F.one_hot(LABELS, 5).double()[None], torch.zeros(16, 16).double()
    inner[1:-1, 1:-1] = 1
    R = rectgrad(net, x, LABELS, percentile=50)
    found = rectgrad(net, x, LABELS, percentile=50, variant="kim2019")
    torch.testing.assert_close(found, x * R * inner)
    for variant, keys in {"modified": "relu any", "prr": "relu max_pool any"}.items():
        rules = rectgrad_composite(50.0, variant)
        assert [key for key, _ in rules] == keys.split()
        sent = signals(net, x, rules, "output", ["input"], vector)["input"][0]
        found = rectgrad(net, x, LABELS, percentile=50, variant=variant)
        torch.testing.assert_close(found, x * sent * inner)
        assert gap(sent, R) > 0.01
    for bad in (100, -1):
        with pytest.raises(ValueError, match=r"percentile must lie in \[0, 100\), got"):
            rectgrad(net, x, LABELS, percentile=bad)
    with pytest.raises(ValueError, match="variant must be one of sixt2020"):
        rectgrad(net, x, LABELS, variant="sixt")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: lrp(m, x, LABELS, "epsilonplus"), "composite must be one of"),
        (lambda m, x: lrp(m, x, LABELS, []), r"list of pairs \(key, rule\), got \[\]"),
        (lambda m, x: lrp(m, x, LABELS, [("conv", "epsilon")]), "list of pairs"),
        (
            lambda m, x: signals(m, x, "epsilon", "7", ["input"], torch.ones(2, 12)),
            r"shape \(V, 2, 12\), got \(2, 12\)",
        ),
        (
            lambda m, x: Chain(Residual().eval(), x, "epsilon", ["relu"]),
            "'relu' must run once",
        ),
    ],
)
def test_what_the_engine_cannot_do_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())
