"""Taps and gains of down-sampling on the way back, counted and drawn."""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from nets import images
from torch.nn import functional as F

from xai_lib.analyse import (
    UPSAMPLING_GAINS,
    share_above,
    tap_counts,
    upsampling_gain,
)
from xai_lib.analyse.sampling import PLACES, shared_maximum
from xai_lib.assets.downsample import DOWNSAMPLERS, binomial

N = 16


def taps_by_hand(kernel, stride, padding, size):
    """Count the windows that hold each position of a row."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return [sum(s <= i < s + kernel for s in starts) for i in range(size)]


@pytest.mark.parametrize(
    "layer",
    [(1, 2, 0), (2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 2, 1), (7, 2, 3), (11, 4, 2)],
)
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_taps_are_counted(layer, size):
    rows, columns = (torch.tensor(taps_by_hand(*layer, n)) for n in size)
    assert torch.equal(tap_counts([layer], size), torch.outer(rows, columns))


def test_the_textbook_patterns():
    three = tap_counts([(3, 2, 1)], 16)[1:-1, 1:-1]
    assert three.unique().tolist() == [1, 2, 4]
    one = tap_counts([(1, 2, 0)], 16)
    assert (one == 0).double().mean() == 3 / 4
    assert (tap_counts([(4, 2, 1)], 16)[1:-1, 1:-1] == 4).all()


def test_a_chain_counts_ways_back():
    layers, size = [(7, 2, 3), (3, 2, 1), (3, 1, 1), (1, 2, 0)], (32, 27)
    x = torch.ones(1, 1, *size, requires_grad=True)
    z = x
    for kernel, stride, padding in layers:
        z = F.conv2d(z, torch.ones(1, 1, kernel, kernel), None, stride, padding)
    z.sum().backward()
    found = tap_counts(layers, size)
    assert found.dtype == torch.long and torch.equal(found.float(), x.grad[0, 0])
    assert (tap_counts([], 4) == 1).all()


def test_a_kernel_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match="fit into its map of .2, 2., padded by 0, got 3"
    ):
        tap_counts([(2, 2, 0), (3, 1, 0)], 4)
    with pytest.raises(ValueError, match="stride"):
        tap_counts([(2, 0, 0)], 4)
    with pytest.raises(ValueError, match="below 2.53"):
        tap_counts([(15, 1, 7)] * 8, 15)


# --- gains ----------------------------------------------------------------------------


def torus(filter_: torch.Tensor, n: int) -> torch.Tensor:
    """Return a filter with stride 2 on a ring of n places as a matrix (n / 2, n)."""
    A = torch.zeros(n // 2, n, dtype=torch.float64)
    for i in range(n // 2):
        for tap, weight in enumerate(filter_):
            A[i, (2 * i + tap) % n] += weight
    return A


@pytest.mark.parametrize(
    ("kind", "length"), [("stride", 1), ("average", 2), ("blur", 4)]
)
@pytest.mark.parametrize("size", [(16, 16), (8, 12), (4, 6)])
def test_linear_gains_are_exact(kind, length, size):
    """E |F U r|^2 is the diagonal of F U U^T F^*, one factor for each direction."""
    factors = []
    for n in size:
        FU = torch.fft.fft(torus(binomial(length), n).T, dim=0)  # (n, n / 2)
        factors.append((FU.abs() ** 2).sum(1) / n)
    wanted = torch.fft.fftshift(torch.outer(*factors))
    torch.testing.assert_close(upsampling_gain(kind, *size), wanted)


def white(draws, n=N, seed=0):
    return images(draws, 1, n, n, seed=seed, dtype=torch.float64)[:, 0]


def up(kind, R, generator):
    """Send R back through a down-sampler on a torus, its choices drawn for each map."""
    n = 2 * R.shape[1]
    if kind in ("average", "blur", "max_blur"):
        A = torus(binomial(2 if kind == "average" else 4), n)
        fine = A.T @ R @ A
        return behind_maxima(fine, 1) if kind == "max_blur" else fine
    if kind == "max":
        return behind_maxima(R, 2)
    fine = torch.zeros(len(R), n, n, dtype=R.dtype)
    fine[:, ::2, ::2] = R
    w = torch.randn(len(R), 3, 3, generator=generator, dtype=R.dtype) / 3
    return sum(
        w[:, i, j, None, None] * fine.roll((i, j), (1, 2))
        for i in range(3)
        for j in range(3)
    )


def behind_maxima(R, stride):
    """Send R back through a 2x2 max-pool of noise."""
    n = R.shape[1] * stride
    x = white(len(R), n, seed=1).requires_grad_()
    wide = F.pad(x[:, None], (0, 1, 0, 1), mode="circular")
    z = F.max_pool2d(wide, 2, stride)[:, 0, : len(R[0]), : len(R[0])]
    return torch.autograd.grad(z, x, R)[0]


@pytest.mark.parametrize("d", [(0, 0), (0, 1), (-1, 0), (1, 1), (1, -1)])
def test_the_chances_of_shared_maxima_are_those_of_all_orders(d):
    second = [(i + d[0], j + d[1]) for i, j in PLACES]
    pixels = sorted({*PLACES, *second})
    counts = Counter()
    for order in permutations(range(len(pixels))):
        rank = dict(zip(pixels, order, strict=True)).__getitem__
        counts[max(PLACES, key=rank), max(second, key=rank)] += 1
    for p, q, chance in shared_maximum(d):
        assert chance * math.factorial(len(pixels)) == pytest.approx(counts[p, q])


@pytest.mark.parametrize("kind", UPSAMPLING_GAINS)
def test_gains_are_what_draws_give(kind):
    generator = torch.Generator().manual_seed(1)
    draws = 4000
    fine = up(kind, white(draws, 8), generator)
    power = torch.fft.fftshift(torch.fft.fft2(fine).abs() ** 2, dim=(1, 2)) / N**2
    mean, error = power.mean(0), power.std(0) / math.sqrt(draws)
    z = (mean - upsampling_gain(kind, N, N)) / error.clamp(min=1e-12)
    assert z.abs().max() < 5 and 0.7 < z[error > 1e-12].std() < 1.3


def test_white_and_ordered_ratios():
    ratio = {
        kind: share_above(upsampling_gain(kind, 256, 256)[None]).item()
        for kind in UPSAMPLING_GAINS
    }
    assert ratio["max"] == ratio["stride"]
    assert abs(ratio["max"] - (1 - math.pi / 16)) < 1e-3
    assert ratio["max"] > ratio["max_blur"] > ratio["average"] > ratio["blur"]
    assert [*UPSAMPLING_GAINS] == [*DOWNSAMPLERS]
    sums = [upsampling_gain(kind, N, N).mean().item() for kind in ("average", "blur")]
    assert sums == pytest.approx([1 / 16, (20 / 64) ** 2 / 4])


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="even and at least 4, got 5, 4"):
        upsampling_gain("max", 5, 4)
    with pytest.raises(ValueError, match="at least 4, got 4, 2"):
        upsampling_gain("max", 4, 2)
    with pytest.raises(ValueError, match="kind must be one of"):
        upsampling_gain("bilinear", 4, 4)
