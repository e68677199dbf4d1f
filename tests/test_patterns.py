"""Patterns: against their definition by patches, matrices, and linear data."""

import pytest
import torch
from nets import Residual, images, linear_net, small_cnn
from torch import nn
from torch.nn import functional as F

from xai_lib.assets import progress as progress_module
from xai_lib.attribute import gradient
from xai_lib.attribute.backprop import (
    Patterns,
    estimate_patterns,
    pattern_attribution,
    pattern_composite,
    pattern_net,
    pattern_singular_ratios,
    signals,
)

LABELS = torch.tensor([1, 3])
DATA = images(20, 3, 8, 8, dtype=torch.float64)


def same(ours, theirs, tolerance=1e-10):
    gap = (ours - theirs).abs().max() / theirs.abs().max()
    assert gap < tolerance, f"relative difference {gap:.1e}"


def chain(norm=False, act=nn.ReLU) -> nn.Module:
    """Strides, padding, groups, dilation, then a max-pool and two linear maps."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        act(),
        nn.Conv2d(6, 4, 2, groups=2, dilation=2),
        act(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 7),
        act(),
        nn.Linear(7, 5),
    )
    if norm:
        net[1].running_mean.normal_()
        net[1].weight.data.normal_()
    return net.double().eval()


# --- the estimator --------------------------------------------------------------------


def patches_of(conv, x):
    """Return the patches of each group, (N, G, inputs, positions)."""
    found = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return found.view(len(x), conv.groups, -1, found.shape[-1])


def pattern_by_hand(patches, w, b, rectified):
    """Return the pattern of one neuron from its patches (P, D), term by term."""
    y = patches @ w
    chosen = y + b > 0 if rectified else torch.ones_like(y, dtype=torch.bool)
    Exy = (patches * y[:, None])[chosen].mean(0)
    Ex = patches[chosen].mean(0)
    a = Exy - Ex * y.mean()
    return a / (w @ a)


@pytest.mark.parametrize("norm", [False, True])
def test_the_definition_patch_by_patch(norm):
    net = chain(norm)
    patterns = estimate_patterns(net, DATA, batch=7)
    assert list(patterns.data) == ["0", "3", "7", "9"]
    assert patterns.rectified == ("0", "3", "7")
    alive = 0
    for name in patterns.data:
        layer, h = net[int(name)], net[: int(name)](DATA).detach()
        W = patterns.weights[name].flatten(1)
        b = layer.bias.detach()
        if name == "0" and norm:
            b = net[:2](0 * DATA)[0, :, 2, 2].detach()
        for j in range(len(W)):
            if isinstance(layer, nn.Conv2d):
                groups = patches_of(layer, h).permute(1, 0, 3, 2).flatten(1, 2)
                patches = groups[j * layer.groups // len(W)]  # (P, D)
            else:
                patches = h
            if name != "9" and not (patches @ W[j] + b[j] > 0).any():
                continue
            theirs = pattern_by_hand(patches, W[j], b[j], rectified=name != "9")
            same(patterns.data[name][j].flatten(), theirs)
            alive += 1
    assert alive >= 15


def test_weights_are_folded():
    net = chain(norm=True)
    W = estimate_patterns(net, DATA).weights["0"]
    scale = net[1].weight / (net[1].running_var + net[1].eps).sqrt()
    same(W, (net[0].weight * scale.view(-1, 1, 1, 1)).detach())


@pytest.mark.parametrize("make", [chain, lambda: Residual().double().eval()])
def test_a_neuron_weighs_its_pattern_with_one(make):
    net = make()
    patterns = estimate_patterns(net, DATA)
    for name, a in patterns.data.items():
        assert a.shape == patterns.weights[name].shape
        total = (a * patterns.weights[name]).flatten(1).sum(1)
        alive = a.flatten(1).abs().sum(1) > 0
        assert alive.any()
        assert torch.allclose(total[alive], torch.ones_like(total[alive]))


def test_linear_data_give_back_the_signals_direction():
    """x = a s + noise; the least-squares weight is not a, the pattern of it is."""
    g = torch.Generator().manual_seed(0)
    n, a = 20_000, torch.tensor([1.0, 2.0, -1.0, 0.0]).double()
    s = torch.randn(n, generator=g, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=g, dtype=torch.float64)
    distractor = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 0.0]]).double()
    x = s[:, None] * a + noise @ distractor
    w = torch.linalg.lstsq(x, s[:, None]).solution[:, 0]  # reads s off x
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double().eval()
    net[1].weight.data = torch.stack([w, w])
    net[1].bias.data.fill_(0.1)
    found = estimate_patterns(net, x.view(n, 1, 2, 2), batch=5000).data["1"]
    assert (found - a).abs().max() < 0.03
    assert torch.cosine_similarity(w, a, dim=0) < 0.9


def test_with_a_relu_only_the_positive_regime_counts():
    """Below zero the data point elsewhere, which only the linear estimator sees."""
    g = torch.Generator().manual_seed(0)
    s = torch.randn(5000, generator=g, dtype=torch.float64)
    up, down = torch.tensor([[1.0, 1, 0, 0], [1.0, 0, 3, 0]]).double()
    x = torch.where(s[:, None] > 0, s[:, None] * up, s[:, None] * down)
    for behind, a in (([nn.ReLU()], up), ([], None)):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), *behind).double().eval()
        net[1].weight.data = torch.tensor([[1.0, 0, 0, 0]]).double()
        net[1].bias.data.zero_()
        found = estimate_patterns(net, x.view(-1, 1, 2, 2)).data["1"][0]
        if a is None:
            assert found[2] > 1  # pulled towards the other regime
        else:
            assert (found - a).abs().max() < 1e-12


def test_batches_do_not_matter_and_the_model_is_left_alone():
    net = small_cnn(inplace=True).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    one, many = (estimate_patterns(net, DATA, batch=k) for k in (20, 3))
    for name, a in one.data.items():
        same(many.data[name], a)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    net[0].weight.data.zero_()
    assert one.weights["0"].abs().sum() > 0


def test_a_neuron_that_is_never_positive_has_none():
    net = chain()
    net[0].bias.data[2] = -100
    a = estimate_patterns(net, DATA).data["0"]
    assert (a[2] == 0).all() and a.isfinite().all() and (a[1] != 0).any()


def test_a_residual_net_takes_all_patches_in_front_of_the_sum():
    assert estimate_patterns(Residual().double().eval(), DATA).rectified == (
        "stem",
        "branch",
    )
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None, num_classes=5).eval()
    found = estimate_patterns(net, images(4, 3, 32, 32))
    assert "layer1.0.conv1" in found.rectified
    assert not {"layer1.0.conv2", "layer2.0.downsample.0", "fc"} & set(found.rectified)
    assert len(found.data) == 21


# --- the methods ----------------------------------------------------------------------


def matrix(layer, weight, h):
    """Return the matrix of a layer with other weights, (outputs, inputs)."""
    if isinstance(layer, nn.Linear):
        return weight
    own = (layer.stride, layer.padding, layer.dilation, layer.groups)
    jacobian = torch.autograd.functional.jacobian(
        lambda a: F.conv2d(a, weight, None, *own), h
    )
    return jacobian.reshape(-1, h.numel())


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("method", [pattern_net, pattern_attribution])
def test_matrices(method, norm):
    net = chain(norm)
    patterns = estimate_patterns(net, DATA)
    x = DATA[:2]
    ours = method(net, x, LABELS, patterns)
    for i in range(2):
        trail, h = [], x[i : i + 1]
        for k, module in enumerate(net):
            if str(k) in patterns.data:
                w = patterns.data[str(k)]
                if method is pattern_attribution:
                    w = w * patterns.weights[str(k)]
                trail.append(matrix(module, w, h))
            elif not isinstance(module, nn.BatchNorm2d):
                J = torch.autograd.functional.jacobian(module, h)
                trail.append(J.reshape(-1, h.numel()))
            h = module(h).detach()
        R = h[0] * F.one_hot(LABELS[i], 5)
        for J in reversed(trail):
            R = R @ J
        same(ours[i].flatten(), R)


def test_with_the_weights_for_patterns_it_is_the_gradient():
    net = Residual().double().eval()
    weights = estimate_patterns(net, DATA).weights
    x = DATA[:2]
    own = Patterns(weights, weights)
    logit = net(x).gather(1, LABELS[:, None]).detach().view(2, 1, 1, 1)
    same(pattern_net(net, x, LABELS, own), logit * gradient(net, x, LABELS))


def test_a_linear_net_is_explained_by_its_pattern():
    net = linear_net(bias=True).double()
    x = images(400, 3, 16, 16, dtype=torch.float64)
    patterns = estimate_patterns(net, x)
    a, w = patterns.data["1"], net[1].weight.detach()
    y = net(x[:2]).gather(1, LABELS[:, None]).detach()
    same(pattern_net(net, x[:2], LABELS, patterns).flatten(1), y * a[LABELS])
    R = pattern_attribution(net, x[:2], LABELS, patterns).flatten(1)
    same(R, y * (a * w)[LABELS])
    same(R.sum(1), y[:, 0])


@pytest.mark.parametrize("method", [pattern_net, pattern_attribution])
@pytest.mark.parametrize(
    "make", [lambda: small_cnn(inplace=True).double(), lambda: Residual().double()]
)
def test_at_a_layer_and_in_batches(method, make):
    net = make().eval()
    x, labels = images(9, 3, 8, 8, dtype=torch.float64), torch.arange(9) % 5
    patterns = estimate_patterns(net, DATA)
    whole = method(net, x, labels, patterns)
    alone = [method(net, x[i : i + 1], labels[i : i + 1], patterns) for i in range(9)]
    same(whole, torch.cat(alone))
    name = list(patterns.data)[1]
    call = (net, x, pattern_composite(patterns, method is pattern_attribution))
    logits = net(x).detach()
    v = (F.one_hot(labels, 5) * logits)[None]
    theirs = signals(*call, "output", [name], v)[name][0]
    same(method(net, x, labels, patterns, layer=name), theirs)


# --- the chain of matrices ------------------------------------------------------------


def test_singular_ratios_against_the_whole_product():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 7), nn.ReLU(), nn.Linear(7, 5),
    ).double().eval()  # fmt: skip
    patterns = estimate_patterns(net, DATA)
    single, links = pattern_singular_ratios(patterns)
    assert list(single) == ["0", "2", "6", "8"]
    assert list(links) == [("0", "2"), ("2", "6"), ("6", "8")]
    M = {k: a * patterns.weights[k] for k, a in patterns.data.items()}
    M = [
        M["0"][:, :, 1, 1],
        M["2"][:, :, 1, 1],
        M["6"].view(7, 5, 3, 3)[:, :, 1, 1],
        M["8"],
    ]
    for name, one in zip(single, M, strict=True):
        s = torch.linalg.svdvals(one)
        assert abs(single[name] - s[0] / s[1]) < 1e-9 * single[name]
    # the links, between the outer roots, are the whole product again
    roots = [torch.linalg.svd(one, full_matrices=False) for one in M]
    product = roots[0].S.sqrt()[:, None] * roots[0].Vh
    for (a, b), link in zip(zip(roots, roots[1:], strict=False), links, strict=True):
        item = b.S.sqrt()[:, None] * b.Vh @ (a.U * a.S.sqrt())
        s = torch.linalg.svdvals(item)
        assert abs(links[link] - s[0] / s[1]) < 1e-9 * links[link]
        product = item @ product
    product = roots[-1].U * roots[-1].S.sqrt() @ product
    same(product, M[3] @ M[2] @ M[1] @ M[0])


def test_singular_ratios_of_matrices_of_rank_one():
    one = torch.ones(3, 3) + 1e-6 * torch.eye(3)
    patterns = Patterns({"a": one, "b": one}, {"a": torch.ones(3, 3)} | {"b": one})
    single, links = pattern_singular_ratios(patterns)
    assert single["a"] > 1e6 and links["a", "b"] > 1e6


# --- what is refused ------------------------------------------------------------------


def test_patterns_must_be_the_models_own():
    net, x = chain(), DATA[:2]
    patterns = estimate_patterns(net, DATA)
    less = Patterns({k: a for k, a in patterns.data.items() if k != "3"}, {})
    with pytest.raises(ValueError, match="one for conv '3'.* got none"):
        pattern_net(net, x, LABELS, less)
    turned = Patterns(patterns.data | {"9": patterns.data["9"].T}, {})
    with pytest.raises(ValueError, match=r"'9', of shape \(5, 7\), got one of shape"):
        pattern_attribution(net, x, LABELS, turned)
    with pytest.raises(ValueError, match="own, got layers .'nowhere'"):
        pattern_net(net, x, LABELS, Patterns(patterns.data | {"nowhere": x}, {}))
    with pytest.raises(TypeError, match="Patterns, got dict"):
        pattern_net(net, x, LABELS, patterns.data)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 5)

    def forward(self, x):
        return self.head(self.conv(torch.relu(self.conv(x))).mean((2, 3)))


class Loose(nn.Module):
    def forward(self, x):
        return F.linear(x.flatten(1), torch.ones(5, 192, dtype=x.dtype))


@pytest.mark.parametrize(
    "net, wanted",
    [
        (Twice(), "'conv' must run once"),
        (Loose(), "parameter of the model"),
        (nn.Sequential(nn.Flatten()), "convolutions or linear maps"),
        (
            nn.Sequential(nn.ConvTranspose2d(3, 2, 2), nn.Flatten(), nn.Linear(162, 5)),
            "transposed",
        ),
    ],
)
def test_no_pattern(net, wanted):
    with pytest.raises(ValueError, match=wanted):
        estimate_patterns(net.double().eval(), DATA)


def test_bad_input():
    with pytest.raises(ValueError, match="batch must be above 0"):
        estimate_patterns(chain(), DATA, batch=0)
    with pytest.raises(ValueError, match="eval mode"):
        estimate_patterns(chain().train(), DATA)
    patterns = estimate_patterns(Residual().double().eval(), DATA)
    with pytest.raises(ValueError, match="layers must be among stem, branch, head"):
        pattern_singular_ratios(patterns, ["stem", "tail"])
    wrong = estimate_patterns(chain(), DATA)
    with pytest.raises(ValueError, match="chain, got '3' with 3 inputs behind '0'"):
        pattern_singular_ratios(wrong)  # a grouped convolution


def test_a_long_estimation_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress_module.LateProgress, "SILENT_SECONDS", -1.0)
    monkeypatch.setattr(progress_module.sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress_module.time, "monotonic", iter(range(99)).__next__)
    estimate_patterns(chain(), DATA, batch=10)
    shown = capsys.readouterr().err
    assert "patterns (40 images)" in shown and "20.0 images" in shown
    assert "estimated after" in shown
