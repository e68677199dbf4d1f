"""Convergence: cosines, signals from anywhere, chains of matrices, singular values."""

from functools import partial

import numpy as np
import pytest
import torch
from nets import Idle, Residual, images, small_cnn
from torch import nn

from xai_lib.analyse import (
    MATRIX_LAWS,
    abs_cosine,
    chance_csc,
    csc,
    csc_summary,
    matrix_chain,
    singular_ratio,
    whole_map_csc,
)
from xai_lib.analyse._signals import back_all, explained_signals
from xai_lib.attribute import METHODS, gradient, smoothgrad
from xai_lib.attribute.backprop import (
    COMPOSITES,
    Chain,
    guided_backprop,
    lrp,
    rectgrad,
)
from xai_lib.attribute.backprop.methods import rectgrad_composite
from xai_lib.attribute.backprop.rules import gradient as plain
from xai_lib.attribute.backprop.rules import random_mask, random_switch

torch.manual_seed(0)
WIDE = nn.Sequential(nn.Flatten(), nn.Linear(768, 300)).eval()


def double(net):
    return net.double(), images(dtype=torch.float64)


def hidden(name):
    """Return a method that no plan knows, so that it must be explained."""
    return lambda *args, **own: partial(lrp, composite=name)(*args, **own)


@pytest.mark.parametrize("angle", [1.5, 1e-1, 1e-3, 1e-5, 1e-7])
def test_cosine_is_exact_close_to_one(angle):
    a = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    angle = torch.tensor(angle, dtype=torch.float64)
    b = torch.stack([0.6 * angle.cos(), 0.8 * angle.cos(), angle.sin()])
    wanted = 2 * (angle / 2).sin() ** 2
    for scale in (1e-30, -7.0):
        found = 1 - abs_cosine(a, scale * b)
        assert abs(found - wanted) < 1e-15


def test_cosine_of_nothing_is_nan():
    assert abs_cosine(torch.zeros(3), torch.ones(3)).isnan()
    assert abs_cosine(torch.tensor([1.0, 0]), torch.tensor([0, 2.0])) == 0


def orthogonal_net(n=12, depth=4):
    torch.manual_seed(0)
    layers = [nn.Linear(n, n) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    return nn.Sequential(nn.Flatten(), *layers).double().eval()


def test_orthogonal_weights_keep_the_angle():
    net = orthogonal_net()
    x = images(3, 3, 2, 2, dtype=torch.float64)
    found = csc(net, x, "gradient", "4", ["4", "3", "2", "1"])
    for layer in ("3", "2", "1"):
        torch.testing.assert_close(found[layer], found["4"], atol=1e-6, rtol=0)
    assert csc_summary(found["4"])["median"] < 0.5  # at chance


def test_positive_weights_lose_the_angle():
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(4)]
    for layer in layers:
        layer.weight.data.uniform_(0, 1)
    net = nn.Sequential(nn.Flatten(), *layers).double().eval()
    x = images(1, 1, 8, 8, dtype=torch.float64)
    found = csc(net, x, "gradient", "4", ["3", "1", "input"])
    whole = whole_map_csc(net, x, "gradient", "4", ["1"])["1"]
    assert csc_summary(found["1"])["p1"] > 0.99
    torch.testing.assert_close(whole, found["1"][..., 0])


@pytest.mark.parametrize("name", ["zplus", "alpha2_beta1", "epsilon", "gradient"])
def test_a_chain_agrees_with_one_explanation_per_vector(name):
    net, x = double(small_cnn())
    layers = ["5", "4", "2", "input"]
    method = gradient if name == "gradient" else hidden(name)
    slow = csc(net, x, lambda *a, **k: method(*a, **k), ["7", "5"], layers)
    quick = csc(net, x, COMPOSITES[name], ["7", "5"], layers)
    for start in ("7", "5"):
        for layer in layers:
            torch.testing.assert_close(
                quick[start][layer], slow[start][layer], equal_nan=True
            )


@pytest.mark.parametrize("name", sorted(COMPOSITES))
@pytest.mark.parametrize("make", [small_cnn, lambda: Residual().eval()])
def test_all_vectors_at_once_are_one_after_the_other(name, make):
    net, x = double(make())
    layers = ["output", "4" if isinstance(net, nn.Sequential) else "stem", "input"]
    baseline = 0.1 + 0 * x if name.startswith("deeplift") else None
    vectors = torch.randn(3, 2, 5, dtype=torch.float64)
    chain = Chain(net, x, COMPOSITES[name], layers, baseline)
    together = back_all(chain, "output", vectors, layers)
    for i, vector in enumerate(vectors):
        alone = chain.back("output", vector, layers)
        for layer in layers:
            torch.testing.assert_close(together[layer][i], alone[layer])


def asks(op, x, R):
    """A rule that looks at what it gets, which vmap cannot run."""
    return op.vjp(x, R if bool(R.sum() > 0) else 2 * R)


def test_rules_that_draw_sort_or_ask_send_each_vector_its_own_way():
    net, x = double(small_cnn())
    drawn = [("relu", random_mask(0)), ("max_pool", random_switch(0))]
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 2, 5, generator=draw).double()
    for rules in (drawn, rectgrad_composite(50.0)[:-1], [("relu", asks)]):
        chain = Chain(net, x, [*rules, ("any", plain)], ["output", "input"])
        found = back_all(chain, "output", vectors, ["input"])["input"]
        for R, vector in zip(found, vectors, strict=True):
            alone = chain.back("output", vector, ["input"])["input"]
            torch.testing.assert_close(R, alone)
        assert (found[0] - found[1]).abs().max() > 0.1 * found.abs().max()


def test_signals_by_hand():
    net, x = double(small_cnn())
    found = csc(net, x, "gradient", "5", ["2"], n_vectors=2, seed=3)["2"]
    draw = torch.Generator().manual_seed(3)
    for i in range(2):
        vectors = torch.randn(2, 12, 8, 8, generator=draw).double()
        h = net[:3](x[i : i + 1]).requires_grad_()
        rows = [
            torch.autograd.grad(net[3:6](h), h, v[None], retain_graph=True)[0]
            for v in vectors
        ]
        a, b = (row[0].flatten(1).T for row in rows)  # (256, 8)
        wanted = torch.cosine_similarity(a, b).abs()
        dead = (a == 0).all(1) | (b == 0).all(1)
        torch.testing.assert_close(found[i, 0][~dead], wanted[~dead])
        assert found[i, 0][dead].isnan().all()


def test_several_starts_are_each_as_if_alone():
    net, x = double(small_cnn())
    both = csc(net, x, COMPOSITES["zplus"], ["output", "5", "2"], ["4", "input"])
    assert list(both["2"]) == ["input"]  # layer 4 does not run before start 2
    for start, layers in (("output", ["4", "input"]), ("2", ["input"])):
        alone = csc(net, x, COMPOSITES["zplus"], start, layers)
        for layer in layers:
            torch.testing.assert_close(both[start][layer], alone[layer], equal_nan=True)


def test_an_image_does_not_depend_on_those_after_it():
    net, x = double(small_cnn())
    both = csc(net, x, COMPOSITES["zplus"], "7", ["4"], seed=1)["4"]
    one = csc(net, x[:1], COMPOSITES["zplus"], "7", ["4"], seed=1)["4"]
    torch.testing.assert_close(both[:1], one)
    other = csc(net, x, COMPOSITES["zplus"], "7", ["4"], seed=2)["4"]
    assert not torch.allclose(both, other)


def test_a_residual_net():
    net, x = Residual().double().eval(), images(dtype=torch.float64)
    found = csc(net, x, COMPOSITES["zplus"], "output", ["branch", "stem", "input"])
    assert found["stem"].shape == (2, 10, 256) and found["input"].shape == (2, 10, 256)
    assert csc_summary(found["stem"])["median"] > csc_summary(found["branch"])["median"]


@pytest.mark.parametrize(
    "method",
    [guided_backprop, partial(rectgrad, percentile=50.0)]
    + [partial(smoothgrad, n_samples=2, noise=1e-9)],
)
def test_any_method_will_do(method):
    net, x = double(small_cnn())
    found = csc(net, x, method, "7", ["2", "input"], n_vectors=2)
    assert found["input"].shape == (2, 1, 256)
    assert found["input"].nan_to_num().max() <= 1
    if getattr(method, "func", None) is smoothgrad:  # without noise, the gradient
        wanted = csc(net, x, "gradient", "7", ["2", "input"], n_vectors=2)
        torch.testing.assert_close(found["input"], wanted["input"], equal_nan=True)


def test_whole_maps_and_positions_differ():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(256, 5)).eval()
    x = images(1, 1, dtype=torch.float32)
    found = csc(net, x, "gradient", "0", ["input"])["input"]
    assert csc_summary(found)["p0"] == 1  # one channel: one direction
    whole = whole_map_csc(net, x, "gradient", "0", ["input"])["input"]
    assert whole.shape == (1, 10) and whole.max() < 0.3


def test_float32_is_enough_for_1e_8():
    net, x = small_cnn(), images()
    one = csc(net, x, COMPOSITES["zplus"], "7", ["2"])["2"]
    two = csc(net.double(), x.double(), COMPOSITES["zplus"], "7", ["2"])["2"]
    assert (one - two).nan_to_num().abs().max() < 1e-5
    rows = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    noisy = rows * (1 + 1e-6 * torch.randn(4, 64))
    assert (1 - abs_cosine(rows, noisy)).max() < 1e-11


def test_model_is_untouched():
    net, x = double(small_cnn(inplace=True))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    csc(net, x, "gradient", "7", ["4"])
    csc(net, x, hidden("zplus"), "7", ["4"], n_vectors=2)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters()) and not net.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_vectors": 1}, "n_vectors"),
        ({"layers": ["8"]}, "before start"),
        ({"layers": ["nowhere"]}, "layer must be"),
        ({"start": "nowhere"}, "layer must be"),
        ({"start": []}, "start"),
        ({"method": "nothing"}, "method must be"),
    ],
)
def test_csc_refuses(change, message):
    call = {"method": "gradient", "start": "7", "layers": ["4"]} | change
    with pytest.raises(ValueError, match=message):
        csc(small_cnn(), images(), **call)


def test_summary_against_numpy():
    values = torch.rand(3, 10, 41, generator=torch.Generator().manual_seed(0)).double()
    row = csc_summary(torch.cat([values.flatten(), torch.full((7,), torch.nan)]))
    for p in (0, 1, 5, 10, 20, 50, 80, 95, 99, 100):
        assert np.isclose(row[f"p{p}"], np.percentile(values.numpy(), p), rtol=1e-12)
    assert (row["n"], row["dropped"]) == (1230, 7)
    assert np.isclose(row["mean"], values.mean().item())
    assert np.isnan(csc_summary(torch.tensor([torch.nan]))["median"])


@pytest.mark.parametrize(("channels", "median"), [(3, 0.5), (64, 0.085), (512, 0.030)])
def test_chance(channels, median):
    assert abs(chance_csc(channels, 20000) - median) < 0.01


def test_small_chains():
    shapes = [(100, 256)] + [(256, 256)] * 8
    end = {law: matrix_chain(law, shapes)[-1] for law in MATRIX_LAWS}
    assert all(1 - end[law] < 1e-9 for law in ("positive", "stochastic"))
    assert all(1 - end[law] < 1e-9 for law in ("non_negative", "alpha1_beta0"))
    order = ["alpha1_beta0", "alpha2_beta1", "alpha3_beta2", "alpha5_beta4"]
    away = [1 - end[law] for law in order]
    assert away == sorted(away) and away[-1] < 0.9
    assert end["vanilla"] < 0.2 < end["relu"] < 0.98
    with pytest.raises(ValueError, match="law must be one of"):
        matrix_chain("negative")
    with pytest.raises(ValueError, match="shapes must chain"):
        matrix_chain("vanilla", [(3, 4), (5, 6)])


TABLE = {  # after 0, 1, 2, 3 and 6 factors of VGG-16: a run of the simulation elsewhere
    "vanilla": (0.025, 0.028, 0.031, 0.047, 0.077),
    "relu": (0.024, 0.318, 0.495, 0.613, 0.784),
    "positive": (0.025, 0.390, 0.999, 1, 1),
    "non_negative": (0.025, 0.209, 0.985, 1, 1),
    "alpha2_beta1": (0.024, 0.041, 0.662, 0.980, 1),
    "alpha5_beta4": (0.024, 0.028, 0.155, 0.657, 0.968),
    "alpha10_beta9": (0.026, 0.027, 0.032, 0.077, 0.180),
}


@pytest.mark.slow
@pytest.mark.parametrize("law", TABLE)
def test_the_chain_of_vgg16(law):
    runs = torch.stack([matrix_chain(law, seed=seed) for seed in range(3)])
    found = runs.median(0).values[[0, 1, 2, 3, 6]]
    torch.testing.assert_close(
        found, torch.tensor(TABLE[law]).double(), atol=0.08, rtol=0
    )


def test_singular_ratio_against_the_dense_matrix():
    net, x = double(small_cnn())
    found = singular_ratio(net, x, COMPOSITES["zplus"], "7", "2")
    units = torch.eye(12, dtype=torch.float64)[:, None].expand(12, 2, 12)
    rows = explained_signals(net, x, hidden("zplus"), "7", ["2"], units)["2"]
    for i in range(2):
        s = torch.linalg.svdvals(rows[:, i].flatten(1))
        torch.testing.assert_close(found[i], s[1] / s[0])


def test_singular_ratio_of_a_part_of_the_vectors():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 300, bias=False)).double().eval()
    U, _, V = torch.linalg.svd(net[1].weight.detach(), full_matrices=False)
    net[1].weight.data = U * torch.tensor([1, 0.2, *[0.01] * 62]) @ V
    x = images(1, 1, 8, 8, dtype=torch.float64)
    exact = singular_ratio(net, x, "gradient", "1", "input")
    torch.testing.assert_close(exact, torch.tensor([0.2], dtype=torch.float64))
    near = [
        singular_ratio(net, x, "gradient", "1", "input", n_vectors=100, seed=s).item()
        for s in range(8)
    ]
    assert abs(np.mean(near) / 0.2 - 1) < 0.1 and np.std(near) < 3 * 0.2 * 0.08


def test_singular_ratio_refuses_what_is_not_linear():
    net, x = double(small_cnn())
    with pytest.raises(ValueError, match="linearly"):
        singular_ratio(net, x, COMPOSITES["guided_backprop"], "7", "2")
    with pytest.raises(ValueError, match="backward pass"):
        singular_ratio(net, x, smoothgrad, "7", "2")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: csc(Idle().eval(), x, "gradient", "idle", ["input"]),
            "run in a forward pass, got idle",
        ),
        (
            lambda m, x: singular_ratio(m, x, "gradient", "7", "2", n_vectors=1),
            "at least 2, got 1 and 12",
        ),
        (
            lambda m, x: matrix_chain("vanilla", [(3, 4)], n_vectors=1),
            "n_vectors must be at least 2, got 1",
        ),
    ],
)
def test_what_cannot_converge_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())


@pytest.mark.parametrize(
    "draw",
    [
        lambda s: torch.tensor(chance_csc(9, 50, s)),
        lambda s: matrix_chain("vanilla", [(9, 9)], 3, s),
        lambda s: singular_ratio(WIDE, images(1), "gradient", "1", "input", 20, s),
    ],
    ids=["chance_csc", "matrix_chain", "singular_ratio"],
)
def test_a_seed_is_a_draw(draw):
    torch.testing.assert_close(draw(0), draw(0), rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("name", ["rise", "occlusion", "score_cam", "ablation_cam"])
def test_a_method_that_only_looks_at_the_output_has_no_signals(name):
    few = {"rise": {"n_masks": 4}}.get(name, {})
    method = partial(METHODS[name], **few)
    with pytest.raises(ValueError, match="must go back through the model"):
        whole_map_csc(small_cnn(), images(1), method, "5", ["input"], 2)


def test_a_callers_model_keeps_its_modes():
    net = small_cnn()
    net[5].train()
    whole_map_csc(net, images(1), partial(smoothgrad, n_samples=2), "7", ["input"], 2)
    assert [m.training for m in net] == [k == 5 for k in range(len(net))]
