"""LIME and KernelSHAP: exact on linear models, brute force on others."""

import math
import random
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from nets import Residual, images, linear_net, small_cnn

from xai_lib.attribute import feature_labels, grid_labels, kernel_shap, lime
from xai_lib.attribute.features import feature_sums, positions_of, without

pytest.importorskip("captum.attr")
LABELS = torch.tensor([1, 3])
FEW = {"grid": 3, "n_samples": 24}
both = pytest.mark.parametrize("method", [lime, kernel_shap])


def sums(maps, labels):
    """Return the sum over each feature of one image's map, (K,)."""
    return feature_sums(maps.flatten(), labels)


def parts():
    """Return labels (16, 16) of uneven features: 7 of them, and a row in none."""
    labels = grid_labels((16, 16), 3)
    labels[labels > 6] = 6
    labels[0] = -1
    return labels


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kernel_shap_of_a_linear_model_is_exact(shift):
    model, x = linear_net(bias=True).double(), images(dtype=torch.float64)
    baseline, labels = images(1, seed=4, dtype=torch.float64) + shift, parts()
    maps = kernel_shap(model, x, LABELS, features=labels, baseline=baseline)
    w = model[1].weight[LABELS].view_as(x)
    each = (w * (x - baseline)).sum(1)  # (B, H, W)
    for i in range(2):
        values = sums(each[i], labels)
        found = sums(maps[i, 0], labels)
        torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-3)
    assert maps[:, 0, 0].abs().max() == 0  # in no feature


@both
def test_positions_share_their_feature_equally(method):
    model, x, labels = linear_net(), images(1), parts()
    maps = method(model, x, LABELS[:1], features=labels, n_samples=24)
    for k in range(7):
        assert len(maps[0, 0][labels == k].unique()) == 1


def test_kernel_shap_sums_to_the_whole_change():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    total = kernel_shap(model, x, LABELS, grid=4, n_samples=100).sum((1, 2, 3))
    change = (model(x) - model(0 * x))[torch.arange(2), LABELS]
    torch.testing.assert_close(
        total, change, rtol=0, atol=1e-4 * change.abs().max().item()
    )


def shapley(score, K):
    """Return the K Shapley values of score (2^K bits) by their definition."""
    bits = torch.tensor([[n >> k & 1 for k in range(K)] for n in range(2**K)])
    f, values = score(bits), torch.zeros(K, dtype=torch.float64)
    for k in range(K):
        others = [j for j in range(K) if j != k]
        for size in range(K):
            weight = 1 / (K * math.comb(K - 1, size))
            for chosen in combinations(others, size):
                n = sum(1 << j for j in chosen)
                values[k] += weight * (f[n + (1 << k)] - f[n])
    return values


def test_kernel_shap_finds_the_shapley_values_of_a_network():
    model, x = small_cnn().double(), 3 * images(1, dtype=torch.float64)
    labels = grid_labels((16, 16), 2)

    def score(bits):
        gone = positions_of(bits == 0, labels)
        return model(without(x[0], gone))[:, 1].detach()

    wanted = shapley(score, 4)
    maps = kernel_shap(model, x, LABELS[:1], grid=2, n_samples=3000)
    gap = (sums(maps[0, 0], labels) - wanted).abs().max() / wanted.abs().max()
    assert gap < 0.03, f"relative difference {gap:.3f}"


def test_lime_of_a_linear_model():
    model, x = linear_net(bias=True).double(), images(1, dtype=torch.float64)
    labels, own = parts(), {"features": parts(), "n_samples": 300}
    w = model[1].weight[1].view_as(x)
    wanted = sums((w * x).sum(1)[0], labels)
    default = sums(lime(model, x, LABELS[:1], **own)[0, 0], labels)
    assert torch.equal(default.argsort(), wanted.argsort())
    assert (default.abs() < wanted.abs()).all()  # the ridge shrinks them
    free = sums(lime(model, x, LABELS[:1], ridge=1e-9, **own)[0, 0], labels)
    torch.testing.assert_close(free, wanted, rtol=1e-4, atol=1e-4)


def test_lime_is_the_weighted_ridge_regression():
    model, x = small_cnn().double(), 3 * images(1, dtype=torch.float64)
    own = {"n_samples": 60, "width": 0.3, "ridge": 0.7, "seed": 8}
    maps = lime(model, x, LABELS[:1], grid=3, **own)
    with torch.random.fork_rng(devices=[]):  # as captum draws
        torch.manual_seed(8)
        drawn = [torch.bernoulli(torch.full((1, 9), 0.5)) for _ in range(60)]
    bits, labels = torch.cat(drawn).double(), grid_labels((16, 16), 3)
    y = model(without(x[0], positions_of(bits == 0, labels)))[:, 1]
    ones = torch.ones_like(bits)
    distance = 1 - torch.cosine_similarity(bits, ones)
    W = (-(distance**2) / (2 * 0.3**2)).exp().diag()
    X = torch.cat([bits, ones[:, :1]], 1)  # the last column is the intercept
    penalty = 0.7 * torch.eye(10, dtype=torch.float64)
    penalty[-1, -1] = 0
    wanted = torch.linalg.solve(X.T @ W @ X + penalty, X.T @ W @ y)[:-1]
    torch.testing.assert_close(sums(maps[0, 0], labels), wanted, rtol=1e-4, atol=1e-5)


@both
def test_labels_of_every_image_its_own(method):
    model, x = linear_net().double(), images(dtype=torch.float64)
    labels = torch.stack([parts(), grid_labels((16, 16), 2)])
    maps = method(model, x, LABELS, features=labels, n_samples=40)
    for i in range(2):
        alone = {"features": labels[i], "n_samples": 40}
        one = method(model, x[i : i + 1], LABELS[i : i + 1], **alone)
        torch.testing.assert_close(maps[i : i + 1], one, rtol=1e-6, atol=1e-9)


@both
def test_the_grid_is_eight_by_eight(method):
    model, x = linear_net(), images(1)
    squares, _ = feature_labels(x, grid_labels((16, 16), 8))
    maps = method(model, x, LABELS[:1], n_samples=80)
    same = method(model, x, LABELS[:1], n_samples=80, features=squares)
    assert torch.equal(maps, same)


@both
def test_batch_is_loop_and_chunks_change_nothing(method, monkeypatch):
    model, x = small_cnn().double(), images(3, dtype=torch.float64)
    c = torch.arange(3)
    whole = method(model, x, c, **FEW)
    alone = [method(model, x[i : i + 1], c[i : i + 1], **FEW) for i in c]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-5, atol=1e-8)
    path = "xai_lib.attribute._forward.rows_per_pass"
    monkeypatch.setattr(path, lambda model, x: 2)
    parts = method(model, x, c, **FEW)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-8)


@both
def test_a_seed_is_a_map_and_no_global_state_moves(method):
    model, x = small_cnn(), images()
    torch.manual_seed(11)
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    one, again = (method(model, x, LABELS, seed=1, **FEW) for _ in range(2))
    other = method(model, x, LABELS, seed=2, **FEW)
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())


@both
def test_odd_sizes_and_a_layer(method):
    x = images(1, height=15, width=22, dtype=torch.float64)
    model = small_cnn().double()
    assert method(model, x, LABELS[:1], **FEW).shape == (1, 1, 15, 22)
    maps = method(model, x, LABELS[:1], layer="3", **FEW)
    assert maps.shape == (1, 1, 7, 11)
    rest = method(model[4:].eval(), model[:4](x).detach(), LABELS[:1], **FEW)
    torch.testing.assert_close(maps, rest, rtol=1e-6, atol=1e-9)


@both
def test_dtype_target_function_and_a_model_left_alone(method):
    model, x = Residual().double().eval(), images(dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept, best = x.clone(), model(x).argmax(1)
    maps = method(model, x, lambda logits: logits.argmax(1), **FEW)
    assert maps.dtype == torch.float64 and not maps.requires_grad
    assert torch.equal(maps, method(model, x, best, **FEW))
    assert torch.equal(x, kept)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


@both
def test_without_captum_the_error_says_what_to_install(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=rf"{method.__name__} needs captum: pip "):
        method(small_cnn(), images(), LABELS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: lime(m, x, LABELS, n_samples=0), "n_samples must be above 0"),
        (lambda m, x: lime(m, x, LABELS, width=0), "width must be above 0, got 0"),
        (lambda m, x: lime(m, x, LABELS, ridge=-1), "ridge must be above 0, got -1"),
        (lambda m, x: lime(m, x, LABELS, grid=0), "grid must be above 0, got 0"),
        (
            lambda m, x: kernel_shap(m, x, LABELS, n_samples=64),
            "fewer than n_samples = 64, got 64",
        ),
        (lambda m, x: kernel_shap(m, x, LABELS, grid=1), "at least 2 .*, got 1"),
        (lambda m, x: lime(m, x, LABELS, layer="7"), r"lime .*got \(2, 12\) from '7'"),
        (
            lambda m, x: kernel_shap(m, x, LABELS, features=torch.zeros(3, 3).long()),
            r"labels must have shape .*got \(3, 3\)",
        ),
        (lambda m, x: lime(m, x, LABELS, features="slic"), "got 'slic'"),
        (
            lambda m, x: lime(m, x, LABELS, baseline=torch.zeros(5)),
            r"broadcast to .*\(2, 3, 16, 16\), got \(5,\)",
        ),
        (lambda m, x: kernel_shap(m, x, LABELS + 3), "lie in 0..4, got"),
        (lambda m, x: lime(m.train(), x, LABELS), "train mode"),
        (lambda m, x: lime(m, x[0], LABELS), r"\(B, C, H, W\), got \(3, 16, 16\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())
