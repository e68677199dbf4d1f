"""The CAM family: by hand, at any layer, and the known faults of published code."""

import pytest
import torch
from nets import Residual, images, linear_net, small_cnn
from torch import nn
from torch.nn import functional as F

from xai_lib.attribute import (
    METHODS,
    ablation_cam,
    grad_cam_pp,
    layer_cam,
    score_cam,
)
from xai_lib.attribute._forward import forward_hook, split

CAMS = [name for name in METHODS if METHODS[name].family == "cam"]
LABELS = torch.tensor([1, 3])


def head_only(seed=0, bias=True):
    """The layer is the input: A is known, the rest is a mean and a linear map."""
    torch.manual_seed(seed)
    parts = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5, bias=bias)]
    return nn.Sequential(*parts).double().eval()


def activations(seed=0):
    return images(2, 4, 3, 5, seed=seed, dtype=torch.float64).abs()


def test_the_family_has_five_members():
    assert CAMS == ["grad_cam", "grad_cam_pp", "layer_cam", "ablation_cam", "score_cam"]


@pytest.mark.parametrize("name", CAMS)
@pytest.mark.parametrize("layer", [None, "input", "0", "2", "5"])
def test_any_layer_batch_equals_loop_and_nothing_is_negative(name, layer):
    model, x = small_cnn(inplace=True).double(), images(3, dtype=torch.float64)
    target = torch.tensor([1, 3, 0])
    maps = METHODS[name](model, x, target, layer=layer)
    side = {None: 8, "5": 8}.get(layer, 16)
    assert maps.shape == (3, 1, side, side) and maps.min() >= 0
    alone = [
        METHODS[name](model, x[i : i + 1], target[i : i + 1], layer=layer)
        for i in range(3)
    ]
    torch.testing.assert_close(maps, torch.cat(alone))


@pytest.mark.parametrize("name", CAMS)
def test_a_layer_inside_a_skip_connection(name):
    model, x = Residual().eval().double(), images(2, dtype=torch.float64)
    maps = METHODS[name](model, x, LABELS, layer="branch")
    assert maps.shape == (2, 1, 16, 16) and maps.isfinite().all()


def test_layer_cam_by_hand():
    A, net = activations(), head_only()
    g = net[2].weight[LABELS][:, :, None, None] / 15  # (2, 4, 1, 1)
    want = (g.clamp(min=0) * A).sum(1, keepdim=True)
    torch.testing.assert_close(layer_cam(net, A, LABELS, layer="input"), want)


def test_grad_cam_pp_by_hand():
    A, net = activations(), head_only()
    g = (net[2].weight[LABELS][:, :, None, None] / 15).expand_as(A)
    alpha = g**2 / (2 * g**2 + g**3 * A.sum((2, 3), keepdim=True))
    w = (alpha * g.clamp(min=0)).sum((2, 3), keepdim=True)
    want = (w * A).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(grad_cam_pp(net, A, LABELS, layer="input"), want)


def test_grad_cam_pp_where_the_denominator_is_zero():
    A = activations()
    net = head_only()
    nn.init.zeros_(net[2].weight)
    assert grad_cam_pp(net, A, LABELS, layer="input").abs().max() == 0


def test_grad_cam_pp_does_not_overflow_for_large_logits():
    """The paper's exp(S_c) is infinite from 710 on in float64."""
    A, net = 1e4 * activations(), head_only()
    assert net(A).max() > 710
    maps = grad_cam_pp(net, A, LABELS, layer="input")
    assert maps.isfinite().all() and maps.max() > 0


def test_ablation_cam_takes_what_a_channel_gave_where_the_rest_is_linear():
    A, net = activations(), head_only()
    falls = A.mean((2, 3)) * net[2].weight[LABELS]  # what channel k gave the logit
    by_hand = torch.einsum("bk,bkhw->bhw", falls, A)[:, None].clamp(min=0)
    torch.testing.assert_close(ablation_cam(net, A, LABELS, layer="input"), by_hand)


def test_ablation_cam_keeps_its_sign_where_the_logit_is_negative():
    """Divided by S_c, as published, it would mark what speaks against the class."""
    A, net = activations(), head_only()
    with torch.no_grad():
        net[2].bias -= 100
    assert net(A).max() < 0
    same = head_only()
    torch.testing.assert_close(
        ablation_cam(net, A, LABELS, layer="input"),
        ablation_cam(same, A, LABELS, layer="input"),
    )


def test_score_cam_by_hand():
    model, x = small_cnn().double(), images(2, dtype=torch.float64)
    A = model[:6](x)  # (2, 12, 8, 8)
    want = []
    for i in range(2):
        w = []
        for a in A[i]:
            a = (a - a.min()) / (a.max() - a.min()).clamp(min=1e-300)
            a = F.interpolate(a[None, None], (16, 16), mode="bilinear")
            w.append(model(x[i : i + 1] * a).softmax(1)[0, LABELS[i]])
        want.append((torch.stack(w)[:, None, None] * A[i]).sum(0).clamp(min=0))
    got = score_cam(model, x, LABELS, layer="5")
    torch.testing.assert_close(got, torch.stack(want)[:, None])


def test_score_cam_with_a_constant_channel_is_finite():
    """Scaled to [0, 1] it is 0/0 in published code."""
    A = activations()
    A[:, 2] = 0.7
    net, maps = head_only(), score_cam(head_only(), A, LABELS, layer="input")
    low, high = A.amin((2, 3), keepdim=True), A.amax((2, 3), keepdim=True)
    masks = (A - low) / (high - low)
    masks[:, 2] = 0  # 0/0: it hides everything
    w = torch.stack(
        [
            net(A * masks[:, k, None]).softmax(1).gather(1, LABELS[:, None])
            for k in range(4)
        ]
    )  # (4, 2, 1)
    want = torch.einsum("kbi,bkhw->bihw", w, A)
    torch.testing.assert_close(maps, want)


@pytest.mark.parametrize("name", ["ablation_cam", "score_cam"])
def test_a_target_may_be_a_function(name):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    best = model(x).argmax(1)
    maps = METHODS[name](model, x, lambda logits: logits.argmax(1), layer="5")
    torch.testing.assert_close(maps, METHODS[name](model, x, best, layer="5"))


@pytest.mark.parametrize("name", CAMS)
def test_refusals(name):
    with pytest.raises(ValueError, match=rf"{name} needs a layer.*from '7'"):
        METHODS[name](small_cnn(), images(), LABELS, layer="7")
    with pytest.raises(ValueError, match="got none in Sequential"):
        METHODS[name](linear_net(), images(), LABELS)
    with pytest.raises(ValueError, match="a module's name"):
        METHODS[name](small_cnn(), images(), LABELS, layer="nope")


class Dense(nn.Module):
    """A concatenation around a layer, which does not broadcast."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.branch = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.branch(x).relu()], 1)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    "net, rows", [(Residual(inplace=False), 1), (Residual(), 1), (Dense(), 7)]
)
@pytest.mark.parametrize("layer", ["stem", "branch"])
def test_what_lies_before_the_layer_runs_for_one_row_where_it_can(net, rows, layer):
    x = images(2).double()
    net, seen = net.double().eval(), []
    h, tail = split(net, x, layer)
    h = torch.cat([h[1:] * k for k in range(7)])
    with forward_hook(net.stem, lambda module, inputs, out: seen.append(len(out))):
        found = tail(h, torch.ones(7, dtype=torch.long))
    ran = seen[-1]
    one_by_one = [tail(part[None], torch.tensor([1])) for part in h]
    torch.testing.assert_close(found, torch.cat(one_by_one))
    assert ran == (1 if layer == "stem" else rows)
    mixed = tail(h[:2], torch.tensor([0, 1]))
    torch.testing.assert_close(mixed[1], found[1])
    assert not torch.allclose(mixed[0], found[0]) or layer == "stem"
