"""Every method: shapes, oracles, batch equals loop, the model untouched."""

import copy

import pytest
import torch
from nets import Residual, images, linear_net, small_cnn
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from xai_lib.assets.layers import last_spatial_layer, spatial_layers
from xai_lib.attribute import (
    METHODS,
    channel_max_abs,
    channel_sum,
    find_method,
    grad_cam,
    gradient,
    gradient_x_input,
    guided_backprop,
    integrated_gradients,
    occlusion,
    percentile_scale,
    rise,
    rise_masks,
    smoothgrad,
    squaregrad,
    vargrad,
)
from xai_lib.attribute._forward import _saved_bytes, rows_per_pass

FAST = {
    "smoothgrad": {"n_samples": 4},
    "squaregrad": {"n_samples": 4},
    "vargrad": {"n_samples": 4},
    "integrated_gradients": {"steps": 6},
    "occlusion": {"window": 5, "stride": 3},
    "rise": {"n_masks": 12, "grid": 4},
    "sobol": {"grid": 3, "n_designs": 4},
    "hsic": {"grid": 3, "n_masks": 32},
    "lime": {"grid": 3, "n_samples": 24},
    "kernel_shap": {"grid": 3, "n_samples": 24},
}
LABELS = torch.tensor([1, 3])


def make(name, model, x, target=LABELS, **own):
    return METHODS[name](model, x, target, **{**FAST.get(name, {}), **own})


@pytest.mark.parametrize("name", METHODS)
def test_shape_dtype_and_signature(name):
    x = images(dtype=torch.float64)
    maps = make(name, small_cnn().double(), x)
    prediction = [m for m in METHODS if METHODS[m].family == "prediction"]
    wanted = dict.fromkeys(prediction, (2, 1, 16, 16))
    cams = [m for m in METHODS if METHODS[m].family == "cam"]
    wanted |= dict.fromkeys(cams, (2, 1, 8, 8))
    assert maps.shape == wanted.get(name, x.shape)
    assert maps.dtype == torch.float64 and not maps.requires_grad
    assert METHODS[name].name == name and METHODS[name].colour.startswith("#")


@pytest.mark.parametrize("name", METHODS)
def test_batch_equals_loop(name):
    model, x = small_cnn().double(), images(5, dtype=torch.float64)
    target = torch.arange(5)
    whole = make(name, model, x, target)
    alone = [make(name, model, x[i : i + 1], target[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_chunks_do_not_change_the_map(name, monkeypatch):
    model, x = small_cnn().double(), images(3, dtype=torch.float64)
    whole = make(name, model, x, torch.arange(3))
    for module in (
        *("gradients", "noisy", "occlude", "masks", "_forward", "cam"),
        *("backprop._run", "backprop.reference"),
    ):
        path = f"xai_lib.attribute.{module}.rows_per_pass"
        monkeypatch.setattr(path, lambda model, x: 2)
    parts = make(name, model, x, torch.arange(3))
    torch.testing.assert_close(whole, parts, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_model_is_left_as_it_was(name):
    model, x = Residual().eval(), images()
    before, kept = copy.deepcopy(model.state_dict()), x.clone()
    make(name, model, x)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert not model.training and torch.equal(x, kept) and not x.requires_grad
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_in_place_and_reused_relus_change_nothing(name):
    x = images(dtype=torch.float64)
    pairs = [(Residual(True), Residual(False)), (small_cnn(True), small_cnn(False))]
    for one, other in pairs:
        maps = [make(name, net.double().eval(), x) for net in (one, other)]
        torch.testing.assert_close(*maps, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", METHODS)
def test_any_layer(name):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    maps = make(name, model, x, layer="3")
    channels = 1 if METHODS[name].family in ("cam", "prediction") else 8
    assert maps.shape == (2, channels, 8, 8)


@pytest.mark.parametrize("name", METHODS)
def test_a_target_function_is_the_class_it_names(name):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    top = model(x).argmax(1)
    by_function = make(name, model, x, lambda logits: logits.argmax(1))
    torch.testing.assert_close(by_function, make(name, model, x, top))
    second = model(x).topk(2).indices[:, 1]
    by_function = make(name, model, x, lambda logits: logits.topk(2).indices[:, 1])
    torch.testing.assert_close(by_function, make(name, model, x, second))


@pytest.mark.parametrize("layer", [None, "input"])
@pytest.mark.parametrize("name", METHODS)
def test_the_map_is_in_no_graph(name, layer):
    model, x = small_cnn().double(), images(dtype=torch.float64).requires_grad_()
    assert not make(name, model, x, layer=layer).requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_under_no_grad_the_map_is_the_same(name):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    with torch.no_grad():
        found = make(name, model, x, layer="3")
    torch.testing.assert_close(found, make(name, model, x, layer="3"))


class Halves(nn.Module):
    """A body in one type, logits in another; its first step is in place."""

    def __init__(self, in_place=True):
        super().__init__()
        self.body, self.in_place = small_cnn(), in_place

    def forward(self, x):
        x = x.sub_(0.5) if self.in_place else x - 0.5
        return self.body(x).double()


@pytest.mark.parametrize("name", METHODS)
def test_an_in_place_start_and_logits_of_another_type_change_nothing(name):
    x = images()
    kept = x.clone()
    found, wanted = (make(name, Halves(how).eval(), x) for how in (True, False))
    torch.testing.assert_close(found, wanted)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        (
            lambda logits: torch.tensor([3]),
            r"target must have shape \(3,\), got \(1,\)",
        ),
        (lambda logits: logits.argmax(), r"got \(\)"),
        (lambda logits: logits.argmax(1, keepdim=True), r"got \(3, 1\)"),
        (lambda logits: logits.amax(1), "class indices"),
        (lambda logits: [0, 1, 2], "got list"),
    ],
)
@pytest.mark.parametrize(
    "name", ["gradient", "integrated_gradients", "lrp_zplus", "rise"]
)
def test_a_target_function_is_checked_as_a_target_is(name, choose, said):
    with pytest.raises((ValueError, TypeError), match=said):
        make(name, small_cnn(), images(3), choose)


def test_a_part_in_train_mode_is_refused():
    model = small_cnn()
    model.append(nn.Dropout(0.5))  # in train mode, as a new head is
    with pytest.raises(ValueError, match="got its part '9' in train mode"):
        gradient(model, images(), LABELS)
    model.eval()
    assert gradient(model, images(), LABELS).shape == images().shape
    model[-1] = StochasticDepth(0.5, "row")
    with pytest.raises(ValueError, match="part '9' in train mode"):
        gradient(model, images(), LABELS)


@pytest.mark.parametrize("part", [nn.Dropout(0.0), nn.InstanceNorm2d(8), nn.Identity()])
def test_a_part_that_is_the_same_in_train_mode_is_taken(part):
    model = small_cnn()
    model.insert(1, part)
    assert part.training and gradient(model, images(), LABELS).shape == (2, 3, 16, 16)


def test_inference_mode_is_refused_where_a_gradient_is_wanted():
    model, x = small_cnn(), images()
    with torch.inference_mode():
        for name in ("gradient", "integrated_gradients", "lrp_zplus", "grad_cam"):
            with pytest.raises(ValueError, match="torch.inference_mode"):
                make(name, model, x)
        kept = occlusion(model, x, LABELS, window=5, stride=3)
    torch.testing.assert_close(kept, occlusion(model, x, LABELS, window=5, stride=3))


def test_memory_is_measured_alike_in_inference_mode():
    model, x = small_cnn(), images(1)
    with torch.inference_mode():
        quiet = _saved_bytes(model, x)
    assert quiet == _saved_bytes(model, x) > 10 * x.numel()


class Attends(nn.Module):
    """Tokens of 4 x 4 patches, attention written out: its weights look like a map."""

    def __init__(self):
        super().__init__()
        self.patch, self.softmax = nn.Conv2d(3, 8, 4, 4), nn.Softmax(-1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.patch(x).flatten(2).transpose(1, 2)  # (B, 16, 8)
        weights = self.softmax((h @ h.transpose(1, 2))[:, None])  # (B, 1, 16, 16)
        return self.head((weights[:, 0] @ h).mean(1))


def test_attention_weights_are_no_map():
    assert [*spatial_layers(Attends().eval(), images())] == ["patch"]


class ChannelsLast(nn.Module):
    """A norm over channels that come last, between two convolutions."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.LayerNorm(8)
        self.two, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        h = self.norm(self.one(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(self.two(h).mean((2, 3)))


def test_a_channels_last_layer_does_not_hide_the_maps_behind_it():
    net, x = ChannelsLast().eval(), images(2, 3, 32, 32)
    assert last_spatial_layer(net, x) == "two"


def test_occlusion_covers_a_text_word_by_word():
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval()
    x = torch.rand(1, 4, 1, 6)
    found = occlusion(net, x, torch.tensor([1]), window=1, stride=1)
    wide = occlusion(net, x, torch.tensor([1]), window=2, stride=2)
    parts = (x * net[1].weight[1].view(x.shape)).sum(1, keepdim=True)
    torch.testing.assert_close(found, parts)
    pairs = parts.view(1, 1, 1, 3, 2).mean(-1).repeat_interleave(2, -1)
    torch.testing.assert_close(wide, pairs)
    with pytest.raises(ValueError, match="window must be at most 6, got 7"):
        occlusion(net, x, torch.tensor([1]), window=7)


class Asserts(nn.Module):
    """Two paths, and a check of its own that their batches agree."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        one, other = self.a(x), self.b(x)
        if one.shape != other.shape:
            raise ValueError("shapes differ")
        return self.head((one * other).mean((2, 3)))


def test_a_model_that_checks_its_batches_is_run_for_all_rows():
    model, x = Asserts().eval().double(), images(dtype=torch.float64)
    maps = make("ablation_cam", model, x, layer="a")
    alone = [
        make("ablation_cam", model, x[[i]], LABELS[[i]], layer="a") for i in (0, 1)
    ]
    torch.testing.assert_close(maps, torch.cat(alone))


def test_percentile_scale_takes_each_image_by_itself():
    a = images(1, 1)
    both = percentile_scale(torch.cat([a, 100 * a]))
    torch.testing.assert_close(both, percentile_scale(a).repeat(2, 1, 1, 1))


def test_rectgrad_refuses_images_that_do_not_lead():
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(48, 8), nn.Linear(8, 5)

        def forward(self, x):
            h = x.flatten(1).unflatten(1, (16, 48)).transpose(0, 1)  # (T, B, 48)
            return self.two(F.relu(self.one(h))).mean(0)

    with pytest.raises(ValueError, match="rectgrad needs the images in the leading"):
        make("rectgrad", TimeFirst().eval(), images())
    assert make("guided_backprop", TimeFirst().eval(), images()).shape == (2, 3, 16, 16)


def test_a_baseline_is_taken_as_it_is_meant():
    model, x = small_cnn(), images()
    wanted = integrated_gradients(model, x, LABELS, baseline=torch.full_like(x, 0.5))
    other = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    found = integrated_gradients(model, x, LABELS, baseline=other)
    torch.testing.assert_close(found, wanted)
    assert not found.requires_grad
    with pytest.raises(TypeError, match="baseline must be a tensor, got float"):
        integrated_gradients(model, x, LABELS, baseline=0.0)


def test_gradient_is_the_derivative():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    g, step = gradient(model, x, LABELS), 1e-6
    for place in [(0, 0, 3, 4), (0, 2, 15, 0)]:
        moved = x.clone()
        moved[place] += step
        slope = (model(moved) - model(x))[place[0], LABELS[place[0]]] / step
        assert abs(slope - g[place]) < 1e-5


def test_layer_gradient_is_the_gradient_of_the_rest():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    at_layer = gradient(model, x, LABELS, layer="3")
    h = model[:4](x).detach()
    torch.testing.assert_close(at_layer, gradient(model[4:].eval(), h, LABELS))


def test_layer_inside_a_residual_branch_meets_its_own_skip():
    model, x = Residual().double().eval(), images(3, dtype=torch.float64)
    at_branch = integrated_gradients(
        model, x, torch.arange(3), layer="branch", steps=64
    )
    h = model.branch(model.relu(model.stem(x)))
    stem = model.relu(model.stem(x))
    ends = [
        model.head(model.relu(stem + F.relu(part)).mean((2, 3))) for part in (h, 0 * h)
    ]
    fall = (ends[0] - ends[1])[torch.arange(3), torch.arange(3)]
    torch.testing.assert_close(at_branch.sum((1, 2, 3)), fall, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("quadrature", "steps", "error"),
    [("gauss_legendre", 64, 2e-3), ("midpoint", 300, 2e-3), ("right", 300, 5e-2)],
)
def test_integrated_gradients_are_complete(quadrature, steps, error):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    own = {"steps": steps, "quadrature": quadrature}
    total = integrated_gradients(model, x, LABELS, **own).sum((1, 2, 3))
    fall = (model(x) - model(0 * x))[torch.arange(2), LABELS]
    assert ((total - fall).abs() / fall.abs()).max() < error


def test_integrated_gradients_use_the_baseline():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    same = integrated_gradients(model, x, LABELS, baseline=x, steps=3)
    assert same.abs().max() == 0


def test_linear_net_makes_the_family_one():
    model, x = linear_net().double(), images(dtype=torch.float64)
    w = model[1].weight[LABELS].view_as(x)
    torch.testing.assert_close(gradient(model, x, LABELS), w)
    torch.testing.assert_close(gradient_x_input(model, x, LABELS), w * x)
    torch.testing.assert_close(integrated_gradients(model, x, LABELS, steps=2), w * x)
    torch.testing.assert_close(smoothgrad(model, x, LABELS, n_samples=3), w)
    torch.testing.assert_close(squaregrad(model, x, LABELS, n_samples=3), w**2)
    assert vargrad(model, x, LABELS, n_samples=3).abs().max() < 1e-20
    falls = occlusion(model, x, LABELS, window=1, stride=1)
    torch.testing.assert_close(falls, (w * x).sum(1, keepdim=True))


def test_smoothgrad_moments_belong_together():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    own = {"n_samples": 7, "noise": 0.3, "seed": 5}
    mean, square, var = (
        f(model, x, LABELS, **own) for f in (smoothgrad, squaregrad, vargrad)
    )
    torch.testing.assert_close(var, (square - mean**2) * 7 / 6)
    other = smoothgrad(model, x, LABELS, n_samples=7, noise=0.3, seed=6)
    assert (mean - other).abs().max() > 0


@pytest.mark.parametrize("layer", [None, "3"])
def test_moments_of_the_noisy_gradient_by_hand(layer):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    x[1] *= 3  # another range
    h, rest = (x, model) if layer is None else (model[:4](x).detach(), model[4:].eval())
    draw = torch.Generator().manual_seed(5)
    u = torch.randn((6, *h.shape[1:]), generator=draw).double()
    own = {"n_samples": 6, "noise": 0.3, "seed": 5, "layer": layer}
    found = [f(model, x, LABELS, **own) for f in (smoothgrad, squaregrad, vargrad)]
    for i, c in enumerate(LABELS):
        near = h[i] + 0.3 * (h[i].max() - h[i].min()) * u
        g = gradient(rest, near, c.expand(6))
        for R, wanted in zip(found, (g.mean(0), (g**2).mean(0), g.var(0)), strict=True):
            torch.testing.assert_close(R[i], wanted)


def test_guided_backprop_by_hand():
    w1, w2 = torch.tensor([[1.0, -2.0], [-1.0, 1.0]]), torch.tensor([[3.0, -4.0]])
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2, False), nn.ReLU(), nn.Linear(2, 1, False)
    )
    net[1].weight.data, net[3].weight.data = w1, w2
    x = torch.tensor([3.0, 1.0]).view(1, 1, 1, 2)  # z = (1, -2): unit 1 off
    r = guided_backprop(net.eval(), x, torch.tensor([0])).flatten()
    assert r.tolist() == [3.0, -6.0]
    x = torch.tensor([-1.0, 5.0]).view(1, 1, 1, 2)  # unit 0 off, unit 1 sends -4
    assert guided_backprop(net, x, torch.tensor([0])).abs().max() == 0


def test_guided_backprop_knows_every_form_of_relu():
    class Net(nn.Module):
        def __init__(self, relu):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.relu = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), relu

        def forward(self, x):
            return self.b(self.relu(self.a(x)).mean((2, 3)))

    forms = [
        nn.ReLU(),
        nn.ReLU(True),
        F.relu,
        torch.relu,
        lambda z: z.relu(),
        lambda z: z.relu_(),
        lambda z: F.relu(input=z, inplace=True),
        lambda z: F.relu_(z),
    ]
    x = images()
    maps = [guided_backprop(Net(form).eval(), x, LABELS) for form in forms]
    plain = gradient(Net(F.relu).eval(), x, LABELS)
    assert all(torch.equal(maps[0], other) for other in maps[1:])
    assert not torch.equal(maps[0], plain)
    small = guided_backprop(Net(nn.ReLU6()).eval(), x / 10, LABELS)
    assert torch.equal(small, guided_backprop(Net(nn.ReLU()).eval(), x / 10, LABELS))


def test_grad_cam_by_hand():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net[0].weight.data = torch.tensor([2.0, -1.0]).view(2, 1, 1, 1)
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]]).view(1, 1, 2, 2)
    cam = grad_cam(net.eval(), x, torch.tensor([0]), layer="0")
    # w_0 = mean of dS_0/dA_0 = 1/4, w_1 = 0
    torch.testing.assert_close(cam, torch.relu(2 * x) / 4)


def test_grad_cam_takes_the_last_layer_with_positions():
    model, x = small_cnn(), images()
    assert last_spatial_layer(model, x) == "5"
    assert torch.equal(
        grad_cam(model, x, LABELS), grad_cam(model, x, LABELS, layer="5")
    )
    assert spatial_layers(Residual().eval(), x) == {
        "stem": (16, 16),
        "branch": (16, 16),
    }


def test_occlusion_by_hand_with_cut_windows():
    model, x = linear_net(3 * 5 * 7).double(), images(1, 3, 5, 7, dtype=torch.float64)
    falls = occlusion(model, x, LABELS[:1], window=3, stride=2, value=0.5)
    w, by_hand = (
        model[1].weight[1].view(3, 5, 7),
        torch.zeros(5, 7, dtype=torch.float64),
    )
    for top in range(0, 3, 2):
        for left in range(0, 5, 2):
            place = (slice(top, top + 3), slice(left, left + 3))
            fall = (w[:, *place] * (x[0][:, *place] - 0.5)).sum()
            by_hand[place] += fall / 9
    torch.testing.assert_close(falls[0, 0], by_hand)


def test_occlusion_covers_the_last_pixels():
    model, x = linear_net(3 * 8 * 8).double(), images(1, 3, 8, 8, dtype=torch.float64)
    assert (occlusion(model, x, LABELS[:1], window=3, stride=3) != 0).all()


def test_rise_masks():
    masks = rise_masks(400, (30, 45), grid=5, p=0.3, seed=1)(torch.arange(400))
    assert masks.shape == (400, 1, 30, 45)
    assert masks.min() >= 0 and masks.max() < 1 + 1e-6
    assert abs(masks.mean() - 0.3) < 0.02
    few = rise_masks(400, (30, 45), grid=5, p=0.3, seed=1)(torch.tensor([7, 399]))
    assert torch.equal(few, masks[[7, 399]])


def test_rise_masks_by_hand():
    n, size, grid = 60, (30, 45), 5
    draw = torch.Generator().manual_seed(1)
    cells = (torch.rand(n, 1, grid, grid, generator=draw) < 0.3).double()[:, 0]
    shifts = [torch.randint(0, step, (n,), generator=draw) for step in (6, 9)]
    assert [len(shift.unique()) for shift in shifts] == [6, 9]  # every shift occurs

    def line(side, step, shift):
        """Return the weights of the cells at each pixel of a side, bilinear."""
        place = (torch.arange(side) + shift + 0.5).double() * grid / (side + step) - 0.5
        place = place.clamp(0, grid - 1)[:, None]
        return (1 - (place - torch.arange(grid)).abs()).clamp(min=0)  # (side, grid)

    masks = rise_masks(n, size, grid, 0.3, seed=1)(torch.arange(n))[:, 0]
    for k in range(n):
        rows, columns = line(30, 6, shifts[0][k]), line(45, 9, shifts[1][k])
        wanted = (rows @ cells[k] @ columns.T).float()
        torch.testing.assert_close(masks[k], wanted, atol=1e-5, rtol=0)


def test_rise_by_hand():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    maps = rise(model, x, LABELS, n_masks=20, grid=4, p=0.5, seed=3)
    by_hand = torch.zeros(2, 16, 16, dtype=torch.float64)
    for mask in rise_masks(20, (16, 16), 4, 0.5, 3)(torch.arange(20)).double():
        score = model(x * mask).softmax(1)[torch.arange(2), LABELS]
        by_hand += score[:, None, None] * mask / 10
    torch.testing.assert_close(maps[:, 0], by_hand)


def test_reductions():
    maps = torch.tensor([[1.0, -3.0], [0.5, 0.5]]).view(2, 2, 1, 1)
    assert channel_sum(maps).flatten().tolist() == [-2, 1]
    assert channel_max_abs(maps).flatten().tolist() == [3, 0.5]
    scaled = percentile_scale(images() * 7, 90)
    assert scaled.abs().max() == 1 and (scaled.abs() == 1).float().mean() < 0.11
    assert percentile_scale(torch.zeros(1, 4, 4)).abs().max() == 0
    lonely = torch.zeros(1, 32, 32)
    lonely[0, 3, 4], lonely[0, 5, 6] = 2e-3, -1e-3
    assert percentile_scale(lonely)[0, [3, 5], [4, 6]].tolist() == [1.0, -0.5]


def test_find_method():
    assert find_method("rise") is METHODS["rise"] and find_method(rise) is rise
    with pytest.raises(ValueError, match="one of gradient, .*got 'risee'"):
        find_method("risee")


def test_rows_per_pass_follows_the_free_memory(monkeypatch):
    model, x = small_cnn(), images()
    assert rows_per_pass(model, x) == 8
    monkeypatch.setattr(
        "xai_lib.attribute._forward._free_bytes", lambda device: 200_000
    )
    assert 1 <= rows_per_pass(model, x) < 8
    monkeypatch.setattr("xai_lib.attribute._forward._free_bytes", lambda device: 1)
    assert rows_per_pass(model, x) == 1


NAN = images()
NAN[1, 0, 0, 0] = float("nan")
BAD = {
    "train mode": (lambda: small_cnn().train(), images(), LABELS, {}, "train mode"),
    "no module": (lambda: 3, images(), LABELS, {}, "Module, got int"),
    "three dims": (
        small_cnn,
        images()[0],
        LABELS,
        {},
        r"\(B, C, H, W\), got \(3, 16, 16\)",
    ),
    "empty batch": (small_cnn, images()[:0], LABELS[:0], {}, r"got \(0, 3"),
    "bytes": (
        small_cnn,
        images().byte(),
        LABELS,
        {},
        "floating tensor, got torch.uint8",
    ),
    "not a tensor": (small_cnn, [1], LABELS, {}, "tensor, got list"),
    "NaN": (small_cnn, NAN, LABELS, {}, r"NaN or infinity in images \[1\]"),
    "class too high": (small_cnn, images(), LABELS + 3, {}, "lie in 0..4, got"),
    "class negative": (small_cnn, images(), LABELS - 2, {}, "lie in 0..4, got -1"),
    "target shape": (small_cnn, images(), LABELS[:1], {}, r"\(2,\), got \(1,\)"),
    "target float": (small_cnn, images(), LABELS.float(), {}, "got torch.float32"),
    "target int": (small_cnn, images(), 3, {}, "function of the logits, got int"),
    "unknown layer": (
        small_cnn,
        images(),
        LABELS,
        {"layer": "x"},
        "module's name .*'x'",
    ),
    "layer is no name": (small_cnn, images(), LABELS, {"layer": 3}, "got 3"),
    "reused layer": (
        lambda: Residual().eval(),
        images(),
        LABELS,
        {"layer": "relu"},
        "ran 3 t",
    ),
    "no logits": (
        lambda: nn.Conv2d(3, 2, 1).eval(),
        images(),
        LABELS,
        {},
        r"\(B, classes\)",
    ),
}


@pytest.mark.parametrize("name", ["gradient", "rise", "integrated_gradients"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, name):
    model, x, target, own, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make(name, model(), x, target, **own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: integrated_gradients(m, x, LABELS, steps=0),
            "steps must be above 0",
        ),
        (
            lambda m, x: integrated_gradients(m, x, LABELS, quadrature="left"),
            "got 'left'",
        ),
        (
            lambda m, x: smoothgrad(m, x, LABELS, n_samples=0),
            "n_samples must be above 0",
        ),
        (
            lambda m, x: smoothgrad(m, x, LABELS, noise=-1),
            "noise must be above 0, got -1",
        ),
        (lambda m, x: vargrad(m, x, LABELS, n_samples=1), "at least 2"),
        (lambda m, x: occlusion(m, x, LABELS, window=17), "at most 16, got 17"),
        (lambda m, x: occlusion(m, x, LABELS, stride=0), "stride must be above 0"),
        (lambda m, x: rise(m, x, LABELS, p=1.5), r"\(0, 1\], got 1.5"),
        (lambda m, x: rise(m, x, LABELS, n_masks=0), "n_masks must be above 0"),
        (lambda m, x: rise(m, x, LABELS, layer="7"), r"\(B, K, h, w\), got \(2, 12\)"),
        (lambda m, x: grad_cam(m, x, LABELS, layer="7"), r"got \(2, 12\) from '7'"),
        (lambda m, x: grad_cam(linear_net(), x, LABELS), "got none in Sequential"),
        (lambda m, x: guided_backprop(linear_net(), x, LABELS), "ReLUs, got none"),
        (lambda m, x: guided_backprop(m, x, LABELS, layer="5"), "behind layer '5'"),
        (lambda m, x: channel_sum(x[0]), r"\(B, C, H, W\), got \(3, 16, 16\)"),
        (lambda m, x: percentile_scale(x, 0), r"\(0, 100\], got 0"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())
