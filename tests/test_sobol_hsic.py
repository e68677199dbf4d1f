"""Sobol and HSIC: exact indices of simple functions of cells, and brute force."""

import random

import numpy as np
import pytest
import torch
from nets import Residual, images, linear_net, small_cnn
from torch import nn
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from xai_lib.attribute import grid_labels, hsic, sobol
from xai_lib.attribute.cells import hsic_scores

LABELS = torch.tensor([1, 3])
FEW = {sobol: {"grid": 3, "n_designs": 4}, hsic: {"grid": 3, "n_masks": 32}}
both = pytest.mark.parametrize("method", FEW)


class OfCells(nn.Module):
    """The logits (f, 0) of a function f of the 2 x 2 cells' means, (R, 4) -> (R,)."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        y = self.f(F.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1))
        return torch.stack([y, 0 * y], 1)


def of_cells(method, f, **own):
    """Return a method's four values for f, one per cell of an image of ones."""
    x, c = torch.ones(1, 3, 4, 4, dtype=torch.float64), torch.tensor([0])
    maps = method(OfCells(f).eval(), x, c, grid=2, **own)
    assert torch.equal(
        maps, maps[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    return maps[0, 0, ::2, ::2].flatten()


def close(found, wanted, tolerance):
    gap = (found - torch.as_tensor(wanted, dtype=found.dtype)).abs().max()
    assert gap < tolerance, f"{found.tolist()} is not {wanted}"


def test_sobol_of_a_sum_is_each_squared_weight():
    a = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    S = of_cells(sobol, lambda m: m @ a + 7, n_designs=2048)
    close(S, (a**2 / 14).tolist(), 5e-3)  # every cell's variance is a^2 / 12
    assert S[2] < 1e-20


def test_sobol_of_one_cell_is_zero_elsewhere():
    S = of_cells(sobol, lambda m: m[:, 2].exp(), n_designs=512)
    assert S[[0, 1, 3]].max() < 1e-20
    close(S[2], 1, 1e-2)


def test_sobol_counts_interactions_for_every_cell_in_them():
    # Var(m0 m1) = 7/144, of which 3/144 each alone and 1/144 together
    S = of_cells(sobol, lambda m: m[:, 0] * m[:, 1], n_designs=2048)
    close(S, [4 / 7, 4 / 7, 0, 0], 1e-2)
    S = of_cells(sobol, lambda m: (m[:, 0] - 0.5) * (m[:, 1] - 0.5), n_designs=2048)
    close(S, [1, 1, 0, 0], 2e-2)  # nothing but an interaction


def test_sobol_by_hand():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    b = images(1, seed=9, dtype=torch.float64)
    own = {"grid": 4, "n_designs": 4, "seed": 5}
    maps = sobol(model, x, LABELS, baseline=b, **own)
    points = SobolEngine(32, scramble=True, seed=5).draw(4).double()
    A, B = points[:, ::2], points[:, 1::2]  # (4, 16) both

    def f(rows):
        m = F.interpolate(rows.view(4, 1, 4, 4), scale_factor=4, mode="nearest")
        logits = [model(m * image + (1 - m) * b) for image in x]
        return torch.stack([y[:, c] for y, c in zip(logits, LABELS, strict=True)])

    for cell in range(16):
        C = A.clone()
        C[:, cell] = B[:, cell]
        wanted = ((f(A) - f(C)) ** 2).sum(1) / (2 * 4 * f(A).var(1))
        top, left = cell // 4 * 4, cell % 4 * 4
        block = maps[:, 0, top : top + 4, left : left + 4].flatten(1)
        torch.testing.assert_close(block, wanted[:, None].expand(2, 16))


def test_hsic_is_the_double_sum():
    y, bits = torch.randn(12, dtype=torch.float64), torch.rand(12, 3).round().double()
    found, sigma, n = hsic_scores(bits, y, torch.tensor(0.7)), 0.7, 12
    H = torch.eye(n, dtype=torch.float64) - 1 / n
    for i in range(3):
        K, L = torch.empty(2, n, n, dtype=torch.float64)
        for j in range(n):
            for k in range(n):
                K[j, k] = 0.5 - (bits[j, i] - bits[k, i]) ** 2
                L[j, k] = torch.exp(-((y[j] - y[k]) ** 2) / (2 * sigma**2))
        torch.testing.assert_close(found[i], torch.trace(K @ H @ L @ H) / n**2)


def test_hsic_of_one_bit_by_hand():
    own = {"n_masks": 256}  # as many zeros as ones
    far = np.exp(-1 / (2 * 1.5**2))  # the kernel of 1 and 2, the median is 1.5
    f = lambda m: 1 + m[:, 1]  # noqa: E731
    close(of_cells(hsic, f, **own), [0, (1 - far) / 4, 0, 0], 1e-12)
    far = np.exp(-1 / 2)  # the median distance is 1
    found = of_cells(hsic, f, bandwidth="distances", **own)
    close(found, [0, (1 - far) / 4, 0, 0], 1e-12)


def test_hsic_of_a_bit_that_does_nothing_is_nearly_zero():
    weights = torch.tensor([1.0, 0.0, 2.0, -3.0], dtype=torch.float64)
    score = of_cells(hsic, lambda m: 5 + m @ weights, n_masks=500)
    assert score[1] < 1e-3 * score[0] and score[0] < score[2] < score[3]


def test_hsic_sees_a_product_and_misses_an_exclusive_or():
    score = of_cells(hsic, lambda m: 1 + m[:, 0] * m[:, 3], n_masks=256)
    assert score[[1, 2]].max() < 1e-12 < 1e-3 < score[[0, 3]].min()
    either = lambda m: 2 + (2 * m[:, 0] - 1) * (2 * m[:, 3] - 1)  # noqa: E731
    assert of_cells(hsic, either, n_masks=256).max() < 1e-12


def test_hsic_of_shifted_logits():
    a = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    maps = {
        (name, shift): of_cells(
            hsic, lambda m, shift=shift: m @ a + shift, bandwidth=name
        )
        for name in ("outputs", "distances")
        for shift in (-1, 50)
    }
    close(maps["distances", -1], maps["distances", 50].tolist(), 1e-12)
    assert maps["outputs", -1].max() > 100 * maps["outputs", 50].max()
    negative = of_cells(hsic, lambda m: -50 - m @ a)  # its sign is lost
    close(negative, maps["outputs", 50].tolist(), 1e-12)


def test_hsic_by_hand():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    own = {"grid": 4, "n_masks": 64, "seed": 3}
    maps = hsic(model, x, LABELS, **own)
    bits = (SobolEngine(16, scramble=True, seed=3).draw(64) >= 0.5).double()
    m = F.interpolate(bits.view(64, 1, 4, 4), scale_factor=4, mode="nearest")
    for i, c in enumerate(LABELS):
        y = model(m * x[i])[:, c]
        wanted = hsic_scores(bits, y, y.quantile(0.5)).view(4, 4)
        torch.testing.assert_close(maps[i, 0, ::4, ::4], wanted)
        torch.testing.assert_close(maps[i, 0, 3::4, 3::4], wanted)


@both
def test_a_logit_that_never_changes_gets_zeros(method):
    own = {"n_designs": 4} if method is sobol else {"n_masks": 16}
    assert of_cells(method, lambda m: 0 * m[:, 0], **own).abs().max() == 0
    assert of_cells(method, lambda m: 0 * m[:, 0] + 3, **own).abs().max() == 0


def test_hsic_at_the_baseline_is_zero():
    model, x = small_cnn(), images()
    maps = hsic(model, x, LABELS, baseline=x, **FEW[hsic])
    assert maps.max() < 1e-5 < hsic(model, x, LABELS, **FEW[hsic]).max()


@both
def test_batch_is_loop_and_chunks_change_nothing(method, monkeypatch):
    model, x = small_cnn().double(), images(3, dtype=torch.float64)
    c = torch.arange(3)
    whole = method(model, x, c, **FEW[method])
    alone = [method(model, x[i : i + 1], c[i : i + 1], **FEW[method]) for i in c]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-9, atol=1e-12)
    path = "xai_lib.attribute._forward.rows_per_pass"
    monkeypatch.setattr(path, lambda model, x: 2)
    parts = method(model, x, c, **FEW[method])
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-12)


@both
def test_a_seed_is_a_map_and_no_global_state_moves(method):
    model, x = small_cnn(), images()
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    one, again = (method(model, x, LABELS, seed=1, **FEW[method]) for _ in range(2))
    other = method(model, x, LABELS, seed=2, **FEW[method])
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())


@both
@pytest.mark.parametrize("size", [(15, 22), (2, 9)])
def test_odd_sizes_have_the_cells_of_grid_labels(method, size):
    x = images(1, height=size[0], width=size[1], dtype=torch.float64)
    model = linear_net(3 * size[0] * size[1]).double()
    maps = method(model, x, LABELS[:1], **FEW[method])
    labels = grid_labels(size, 3)
    assert maps.shape == (1, 1, *size) and maps.min() >= 0
    for k in range(int(labels.max()) + 1):
        cell = maps[0, 0][labels == k]
        assert cell.max() == cell.min() and cell.max() > 0


@both
def test_a_layer_is_masked_like_the_input_of_the_rest(method):
    model, x = small_cnn().double(), images(dtype=torch.float64)
    maps = method(model, x, LABELS, layer="3", **FEW[method])
    h = model[:4](x).detach()
    assert maps.shape == (2, 1, 8, 8)
    wanted = method(model[4:].eval(), h, LABELS, **FEW[method])
    torch.testing.assert_close(maps, wanted)


@both
def test_dtype_target_function_and_a_model_left_alone(method):
    model, x = Residual().double().eval(), images(dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept, best = x.clone(), model(x).argmax(1)
    maps = method(model, x, lambda logits: logits.argmax(1), **FEW[method])
    assert maps.dtype == torch.float64 and not maps.requires_grad
    assert torch.equal(maps, method(model, x, best, **FEW[method]))
    assert torch.equal(x, kept)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: sobol(m, x, LABELS, n_designs=1),
            "n_designs must be .* 2, got 1",
        ),
        (lambda m, x: sobol(m, x, LABELS, grid=0), "grid must be above 0, got 0"),
        (lambda m, x: hsic(m, x, LABELS, grid=-1), "grid must be above 0, got -1"),
        (lambda m, x: hsic(m, x, LABELS, n_masks=0), "n_masks must be above 0"),
        (lambda m, x: hsic(m, x, LABELS, n_masks=64), "tell 64 cells apart, got 64"),
        (
            lambda m, x: hsic(m, x, LABELS, bandwidth="median"),
            "one of outputs, distances, got 'median'",
        ),
        (
            lambda m, x: sobol(m, x, LABELS, layer="7"),
            r"sobol .*got \(2, 12\) from '7'",
        ),
        (lambda m, x: hsic(m, x, LABELS, layer="7"), r"hsic needs .*got \(2, 12\)"),
        (
            lambda m, x: sobol(m, x, LABELS, baseline=torch.zeros(5)),
            r"broadcast to .*\(2, 3, 16, 16\), got \(5,\)",
        ),
        (lambda m, x: hsic(m, x, LABELS + 3, n_masks=512), "lie in 0..4, got"),
        (lambda m, x: sobol(m.train(), x, LABELS), "train mode"),
        (lambda m, x: hsic(m, x[0], LABELS), r"\(B, C, H, W\), got \(3, 16, 16\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())
