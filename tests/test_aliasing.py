"""Other ways back through down-sampling: against nets that go there forward too."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torchvision
from nets import gap, images, random_statistics, small_cnn
from torch import nn
from torch.nn import functional as F
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, ResNet

from xai_lib.analyse import (
    BACKWARD_SWAPS,
    DOWNSAMPLER_SWAPS,
    backward_ratios,
    backward_signals,
    downsampling_steps,
    high_frequency_ratio,
    swapped_gradient,
    with_downsampler,
)
from xai_lib.analyse.downsample_rules import (
    average_windows,
    max_then_blur,
    strided_average,
    strided_blur,
)
from xai_lib.assets.cifar_nets import CNN
from xai_lib.assets.cifar_nets import ResNet as SmallResNet
from xai_lib.assets.downsample import DOWNSAMPLERS, BlurPool
from xai_lib.assets.nets import EfficientNetLite0, resnet50_caffe
from xai_lib.attribute import channel_max_abs, channel_sum, gradient
from xai_lib.attribute.backprop.op import Op

C = torch.tensor([1, 3])


def tiny_resnet() -> nn.Module:
    """torchvision's ResNet-18 with one block a stage: stem 7x7, max-pool, shortcuts."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


def tiny_mobilenet() -> nn.Module:
    """Depth-wise strided convolutions, three of them."""
    plan = [[1, 8, 1, 1], [3, 12, 2, 2], [3, 16, 1, 2]]
    return MobileNetV2(num_classes=10, inverted_residual_setting=plan)


def tiny_caffe() -> nn.Module:
    """A ResNet with the stride in the first 1x1 of a stage, as `resnet50_caffe`."""
    net = ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10)
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return net


NETS = {
    "resnet": tiny_resnet,
    "caffe": tiny_caffe,
    "mobilenet": tiny_mobilenet,
    "cifar_cnn": partial(CNN, (8, 8, 8, 8), 16),
    "cifar_resnet": partial(SmallResNet, 8),
}


def ready(net: nn.Module, linear=False, no_max=False) -> nn.Module:
    """Return a net in float64 with statistics; without what is not linear, if asked."""
    torch.manual_seed(0)
    gone = (nn.ReLU, nn.ReLU6) if linear else ()
    gone += (nn.MaxPool2d,) if no_max else ()
    for parent in [*net.modules()]:
        for name, child in parent._modules.items():
            if isinstance(child, gone):
                parent._modules[name] = nn.Identity()
    return random_statistics(net).double().eval()


def inputs(size=32):
    return images(height=size, width=size, dtype=torch.float64)


# --- a copy with other steps ----------------------------------------------------------


def test_the_steps_of_a_net_by_name():
    steps = downsampling_steps(resnet50_caffe())
    shortcuts = [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    first = [f"layer{i}.0.conv1" for i in (2, 3, 4)]
    assert sorted(n for n, s in steps.items() if s == "strided") == sorted(
        ["conv1", *first, *shortcuts]
    )
    assert [n for n, s in steps.items() if s == "max_pool"] == ["maxpool"]
    depthwise = [n for n in downsampling_steps(torchvision.models.mobilenet_v2())]
    assert depthwise == [
        "features.0.0",
        *(f"features.{i}.conv.1.0" for i in (2, 4, 7, 14)),
    ]
    assert downsampling_steps(EfficientNetLite0())["stem.conv"] == "strided"


@pytest.mark.parametrize("kind", DOWNSAMPLER_SWAPS)
@pytest.mark.parametrize("size", [32, 37])
def test_every_map_keeps_its_size_and_the_model_its_steps(kind, size):
    net = tiny_resnet().double().eval()
    if kind == "max":
        net.maxpool = nn.AvgPool2d(3, 2, 1)
    before, x = deepcopy(net), inputs(size)
    copy = with_downsampler(net, kind)

    def shapes(model):
        found, handles = {}, []
        for name in [n for n, _ in net.named_modules() if n]:
            keep = lambda m, i, o, name=name: found.update({name: o.shape})  # noqa: E731
            handles.append(model.get_submodule(name).register_forward_hook(keep))
        model(x)
        [handle.remove() for handle in handles]
        return found

    assert shapes(copy) == shapes(net) and not copy.training
    assert not torch.allclose(copy(x), net(x))
    assert [*downsampling_steps(net).items()] == [*downsampling_steps(before).items()]
    assert torch.equal(net(x), before(x)) and str(net) == str(before)
    own = {
        name.replace(".0.weight", ".weight"): p for name, p in copy.state_dict().items()
    }
    assert torch.equal(own["conv1.weight"], net.conv1.weight)
    assert (
        copy.layer1[0].conv1.weight.data_ptr() != net.layer1[0].conv1.weight.data_ptr()
    )


POOLS = {
    "average": lambda h: F.avg_pool2d(h, 2, 2),
    "max_blur": lambda h: BlurPool(None)(F.max_pool2d(h, 2, 1)),
    "blur": lambda h: BlurPool(None)(F.max_pool2d(h, 2, 1)),
}


@pytest.mark.parametrize("kind", POOLS)
def test_a_replaced_pool_is_what_it_says(kind):
    net, x = small_cnn().double(), inputs(16)
    y = net[4:](POOLS[kind](net[:3](x)))
    torch.testing.assert_close(with_downsampler(net, kind)(x), y)


@pytest.mark.parametrize("kind", ["average", "blur"])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_replaced_convolution_is_what_it_says(kind, groups):
    conv = nn.Conv2d(3, 6, 3, 2, 1, groups=groups)
    net, x = nn.Sequential(conv).double().eval(), inputs(9)
    fine = F.conv2d(x, conv.weight, conv.bias, 1, 1, 1, groups)
    pool = BlurPool(6) if kind == "blur" else nn.AvgPool2d(2, ceil_mode=True)
    torch.testing.assert_close(with_downsampler(net, kind)(x), pool(fine))


def test_average_pools_become_max_pools_and_blurs():
    net, x = nn.Sequential(nn.AvgPool2d(3, 2, 1)).eval(), inputs(9)
    found = [with_downsampler(net, kind)(x) for kind in ("max", "max_blur", "blur")]
    torch.testing.assert_close(found[0], F.max_pool2d(x, 3, 2, 1))
    blur = BlurPool(3)
    torch.testing.assert_close(found[1], blur(F.max_pool2d(x, 3, 1, 1)))
    torch.testing.assert_close(found[2], blur(F.avg_pool2d(x, 3, 1, 1)))


def test_a_step_used_twice_stays_one():
    pool = nn.MaxPool2d(2)
    copy = with_downsampler(nn.Sequential(pool, nn.ReLU(), pool).eval(), "average")
    assert isinstance(copy[0], nn.AvgPool2d) and copy[0] is copy[2]


def test_what_cannot_be_replaced_is_refused():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(2)).eval()
    with pytest.raises(ValueError, match="replaces max_pool, strided.*none"):
        with_downsampler(flat, "average")
    with pytest.raises(ValueError, match="replaces average_pool, got.*strided"):
        with_downsampler(tiny_mobilenet().eval(), "max")
    with pytest.raises(ValueError, match="kind must be one of"):
        with_downsampler(flat, "bilinear")
    with pytest.raises(ValueError, match="train mode"):
        with_downsampler(tiny_resnet(), "average")
    for step, kind, why in [
        (nn.MaxPool2d(2, ceil_mode=True), "blur", "ceil_mode"),
        (nn.MaxPool2d(2, dilation=2), "average", "dilated"),
        (nn.Conv2d(3, 4, 4, 4), "blur", "stride 2"),
    ]:
        with pytest.raises(ValueError, match=why):
            with_downsampler(nn.Sequential(step).eval(), kind)


# --- rules ----------------------------------------------------------------------------

WINDOWS = [  # kernel, stride, padding, ceil_mode
    (2, 2, 0, False),
    (3, 2, 1, False),
    (3, 2, 0, True),
    (2, None, 0, False),
    (3, 3, 1, False),
]


def pool_op(kernel, stride, padding, ceil, dilation=1) -> Op:
    window = {"kernel_size": kernel, "stride": stride, "padding": padding}
    window["ceil_mode"] = ceil
    settings = window | {"dilation": dilation}
    return Op("max_pool", lambda x: F.max_pool2d(x, **settings), settings=settings)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [8, 9])
def test_each_window_shares_its_signal_out_whole_and_evenly(window, size):
    op, x = pool_op(*window), inputs(size)
    z = op(x)
    stride = window[1] or window[0]
    for i, j in [(0, 0), (1, 2), (z.shape[2] - 1, z.shape[3] - 1)]:
        R = torch.zeros_like(z)
        R[0, 1, i, j] = 3.0
        found = average_windows(op, x, R)
        rows, columns = (
            range(
                max(0, n * stride - window[2]),
                min(size, n * stride - window[2] + window[0]),
            )
            for n in (i, j)
        )
        wanted = torch.zeros_like(x)
        wanted[0, 1, rows.start : rows.stop, columns.start : columns.stop] = 1.0
        torch.testing.assert_close(found, 3 * wanted / wanted.sum())


@pytest.mark.parametrize("rule", [average_windows, max_then_blur])
@pytest.mark.parametrize("window", [w for w in WINDOWS if not w[3] and w[1] != 3])
@pytest.mark.parametrize("size", [2, 3, 8, 9])
def test_pools_keep_the_sum_of_the_signal(rule, window, size):
    op, x = pool_op(*window), inputs(size)
    if window[0] > size + 2 * window[2]:
        return
    R = torch.randn_like(op(x))
    found = rule(op, x, R)
    assert not torch.allclose(found, op.vjp(x, R)) or size == 2
    torch.testing.assert_close(found.sum((2, 3)), R.sum((2, 3)))


@pytest.mark.parametrize("rule", [average_windows, max_then_blur])
def test_pools_that_halve_nothing_keep_their_gradient(rule):
    x = inputs(8)
    for op in (
        pool_op(2, 1, 0, False),
        Op("max_pool", lambda x: F.adaptive_max_pool2d(x, 2)),
    ):
        R = torch.randn_like(op(x))
        torch.testing.assert_close(rule(op, x, R), op.vjp(x, R))


def test_pools_without_a_substitute_are_refused():
    x = inputs(9)
    for rule, op, why in [
        (average_windows, pool_op(2, 2, 0, False, dilation=2), "dilated"),
        (max_then_blur, pool_op(3, 3, 0, False), "stride 2"),
        (max_then_blur, pool_op(2, 2, 0, True), "must have output"),
    ]:
        with pytest.raises(ValueError, match=why):
            rule(op, x, torch.randn_like(op(x)))
    row = Op(
        "max_pool", lambda x: F.max_pool1d(x, 2), settings=dict(kernel_size=2, stride=2)
    )
    with pytest.raises(ValueError, match="2-D"):
        average_windows(row, x[:, :, 0], x[:, :, 0, ::2])


@pytest.mark.parametrize("rule", [strided_average, strided_blur])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_strided_rule_by_hand(rule, kernel):
    """The signal shared out, then a transposed convolution of stride 1."""
    x = inputs(9)
    w = images(4, 3, kernel, kernel, seed=1, dtype=torch.float64)
    op = Op("conv", lambda x, w: F.conv2d(x, w, None, 2, 1), w, name="conv1")
    fine = 9 + 2 - kernel + 1
    R = torch.randn_like(op(x))
    if rule is strided_average:
        shared = F.interpolate(R, scale_factor=2.0, mode="nearest") / 4
        if fine % 2:  # the last windows hold two positions, or one
            shared[:, :, -2] *= 2
            shared[:, :, :, -2] *= 2
            shared = shared[:, :, :fine, :fine]
    else:
        B = blur_matrix(fine)  # (coarse, fine)
        shared = torch.einsum("ia,bcij,jd->bcad", B, R, B)
    wanted = F.conv_transpose2d(shared, w, padding=1)
    torch.testing.assert_close(rule(op, x, R), wanted)
    torch.testing.assert_close(shared.sum(), R.sum())


def blur_matrix(n: int) -> torch.Tensor:
    """Return [1 3 3 1] / 8 with mirrored ends and stride 2 as a matrix."""
    B = torch.zeros(-(-n // 2), n, dtype=torch.float64)
    for i in range(len(B)):
        for tap, weight in enumerate((1, 3, 3, 1)):
            j = abs(2 * i + tap - 1)
            B[i, j if j < n else 2 * (n - 1) - j] += weight / 8
    return B


@pytest.mark.parametrize("rule", [strided_average, strided_blur])
def test_stride_one_and_fixed_filters_keep_their_gradient(rule):
    x, w = inputs(9), images(4, 3, 3, 3, seed=1, dtype=torch.float64)
    for stride, name in [(1, "conv1"), (2, "")]:
        op = Op("conv", lambda x, w, s=stride: F.conv2d(x, w, None, s, 1), w, name=name)
        R = torch.randn_like(op(x))
        torch.testing.assert_close(rule(op, x, R), op.vjp(x, R))


# --- the gradient with other steps on the way back ------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_own_is_the_plain_gradient_exactly(name):
    net, x = ready(NETS[name]()), inputs()
    assert torch.equal(swapped_gradient(net, x, C), gradient(net, x, C))


SAME = [("max_pool_average", "average"), ("max_pool_max_blur", "max_blur")]


@pytest.mark.parametrize(("kind", "forward"), SAME)
@pytest.mark.parametrize("size", [16, 17])
def test_a_max_pool_before_a_linear_rest_goes_back_as_the_other_net(
    kind, forward, size
):
    """What comes to the pool is then the same, wherever the maxima are."""
    torch.manual_seed(0)
    rest = [nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    stem = [nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    net = random_statistics(nn.Sequential(*stem, *rest, nn.Linear(16, 5)))
    net, x = net.double().eval(), inputs(size)
    wanted = gradient(with_downsampler(net, forward), x, C)
    assert gap(swapped_gradient(net, x, C, kind), wanted) < 1e-12
    assert gap(gradient(net, x, C), wanted) > 0.1


LINEAR = [
    ("resnet", "all_average", "average", False),
    ("caffe", "all_average", "average", False),
    ("mobilenet", "all_average", "average", False),
    ("cifar_cnn", "all_average", "average", False),
    ("cifar_resnet", "all_average", "average", False),
    ("resnet", "strided_blur", "blur", True),
    ("caffe", "all_blur", "blur", True),
    ("mobilenet", "strided_blur", "blur", False),
    ("cifar_resnet", "all_blur", "blur", False),
]


@pytest.mark.parametrize(("name", "kind", "forward", "no_max"), LINEAR)
def test_without_relus_a_whole_net_goes_back_as_the_other_net(
    name, kind, forward, no_max
):
    """BatchNorms folded or not, shortcuts, depth-wise filters and odd maps included."""
    net = ready(NETS[name](), linear=True, no_max=no_max)
    x = inputs(32 if name == "cifar_cnn" else 45)  # its dense layers fix its size
    wanted = gradient(with_downsampler(net, forward), x, C)
    assert gap(swapped_gradient(net, x, C, kind), wanted) < 1e-12
    assert gap(gradient(net, x, C), wanted) > 0.1


def test_padding_before_a_strided_convolution_is_its_own():
    """EfficientNet-Lite0 pads in a module, which the engine merges."""
    torch.manual_seed(0)
    pad, conv = nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, 2, bias=False)
    net = nn.Sequential(pad, conv, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 5))
    net, x = random_statistics(net).double().eval(), inputs(16)
    wanted = gradient(with_downsampler(net, "average"), x, C)
    assert gap(swapped_gradient(net, x, C, "all_average"), wanted) < 1e-12


def test_a_layer_called_conv_does_not_bring_the_others_along():
    """Its name is also a kind of operation."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.conv = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2)
            self.blur, self.head = BlurPool(4), nn.Linear(36, 5)

        def forward(self, x):
            return self.head(self.blur(self.conv(F.relu(self.a(x)))).flatten(1))

    torch.manual_seed(0)
    net, x = Net().double().eval(), inputs(14)
    other = with_downsampler(net, "average")
    wanted = gradient(other, x, C)
    assert gap(swapped_gradient(net, x, C, "all_average"), wanted) < 1e-12


def test_pools_called_as_functions_are_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 5)

        def forward(self, x):
            return self.head(F.max_pool2d(self.conv(x), 2).flatten(1))

    torch.manual_seed(0)
    net, x = Net().double().eval(), inputs(16)
    module = nn.Sequential(net.conv, nn.AvgPool2d(2), nn.Flatten(), net.head).eval()
    found = swapped_gradient(net, x, C, "max_pool_average")
    torch.testing.assert_close(found, gradient(module, x, C))


@pytest.mark.parametrize("kind", BACKWARD_SWAPS)
def test_a_net_of_average_pools_has_nothing_to_swap(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten())
    net, x = net.append(nn.Linear(196, 5)).double().eval(), inputs(16)
    assert torch.equal(swapped_gradient(net, x, C, kind), gradient(net, x, C))


@pytest.mark.parametrize("name", DOWNSAMPLERS)
def test_the_blurs_of_our_own_nets_are_left_alone(name):
    torch.manual_seed(0)
    net = nn.Sequential(DOWNSAMPLERS[name](3), nn.ReLU(), nn.Flatten())
    net, x = net.append(nn.Linear(192, 5)).double().eval(), inputs(16)
    changed = not torch.equal(
        swapped_gradient(net, x, C, "all_blur"), gradient(net, x, C)
    )
    assert changed == (name in ("max", "stride"))


@pytest.mark.parametrize("kind", [k for k in BACKWARD_SWAPS if k != "own"])
def test_swaps_change_what_they_name_and_nothing_forward(kind):
    net, x = ready(tiny_resnet()), inputs()
    weights = deepcopy(net.state_dict())
    own, found = gradient(net, x, C), swapped_gradient(net, x, C, kind)
    assert found.shape == x.shape and gap(found, own) > 0.01
    assert all(torch.equal(weights[k], v) for k, v in net.state_dict().items())
    deep = swapped_gradient(net, x, C, kind, layer="layer4.0.conv2")
    torch.testing.assert_close(deep, gradient(net, x, C, layer="layer4.0.conv2"))


def test_each_image_on_its_own():
    net, x = ready(tiny_resnet()), inputs()
    both = swapped_gradient(net, x, C, "all_blur")
    one = swapped_gradient(net, x[1:], C[1:], "all_blur")
    torch.testing.assert_close(both[1:], one)
    first = swapped_gradient(net, x, lambda logits: logits.argmax(1), "all_blur")
    best = net(x).argmax(1)
    assert torch.equal(first, swapped_gradient(net, x, best, "all_blur"))


def test_an_unknown_swap_is_refused():
    with pytest.raises(ValueError, match="kind must be one of own, .*got 'smooth'"):
        swapped_gradient(small_cnn(), images(), C, "smooth")
    wide = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(64, 5)).eval()
    with pytest.raises(ValueError, match="stride 2"):
        swapped_gradient(wide, images(), C, "all_blur")


# --- layer by layer -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["own", "all_average"])
def test_ratios_are_those_of_one_gradient_per_layer(kind):
    net, x = ready(tiny_resnet()), inputs(40)
    by = {"channel_sum": channel_sum, "channel_max_abs": channel_max_abs}
    layers = ["layer1.0.conv1", "maxpool", "bn1", "input"]
    for reduction, reduce in by.items():
        found = backward_ratios(net, x, C, layers, reduction=reduction, kind=kind)
        assert [*found] == layers
        for layer in layers:
            R = swapped_gradient(net, x, C, kind, layer=layer)
            torch.testing.assert_close(found[layer], high_frequency_ratio(reduce(R)))


def test_the_mean_power_of_channels_weighs_them_by_their_power():
    net, x = ready(tiny_resnet()), inputs()
    R = gradient(net, x, C)
    power = R.var((2, 3), correction=0)  # (B, 3)
    ratios = [high_frequency_ratio(R[:, k], window="none") for k in range(3)]
    wanted = (power * torch.stack(ratios, 1)).sum(1) / power.sum(1)
    found = backward_ratios(net, x, C, ["input"], window="none")["input"]
    torch.testing.assert_close(found, wanted)


def test_all_layers_from_the_last_to_the_input():
    net, x = ready(tiny_resnet()), inputs(64)
    found = backward_ratios(net, x, C)
    names = [*found]
    assert names[0] == "layer2" and names[-2:] == ["conv1", "input"]
    assert "layer3" not in names and "layer2.0.conv1" in names  # 4 x 4, 8 x 8
    assert all(len(r) == 2 and ((r >= 0) & (r <= 1)).all() for r in found.values())
    best = backward_ratios(net, x, lambda logits: logits.argmax(1), ["input"])["input"]
    again = backward_ratios(net, x, net(x).argmax(1), ["input"])["input"]
    assert torch.equal(best, again)


def test_a_constant_signal_has_no_ratio_and_a_small_map_is_refused():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    net = net.append(nn.Flatten()).eval()
    x = images(height=9, width=9)  # the mean of 81 equal numbers is not exact
    found = backward_ratios(net, x, torch.tensor([0, 1]))
    assert found["0"].isnan().all() and found["input"].isfinite().all()
    net = small_cnn()
    with pytest.raises(ValueError, match="at least 8 x 8.*at '6'"):
        backward_ratios(net, images(), C, ["6"])
    with pytest.raises(ValueError, match="reduction must be one of"):
        backward_ratios(net, images(), C, reduction="channel_mean")


def test_the_signals_are_those_of_the_gradient():
    net, x = ready(tiny_resnet()), inputs()
    R = backward_signals(net, x, C, "gradient", ["input"])["input"][0]
    found = backward_ratios(net, x, C, ["input"], reduction="channel_sum")["input"]
    torch.testing.assert_close(found, high_frequency_ratio(channel_sum(R)))
