"""Spectra and filters against what is known of them."""

import math

import numpy as np
import pytest
import torch
from nets import images

from xai_lib.analyse import (
    frequency_grid,
    high_frequency_ratio,
    low_pass,
    power_law_noise,
    power_spectrum,
    radial_spectrum,
    spectral_slope,
)

SIZES = [(16, 16), (15, 15), (16, 24), (15, 22), (24, 9)]


def maps(size, n=3, seed=0):
    return images(n, 1, *size, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_parseval(size):
    m = maps(size)
    power = power_spectrum(m, window="none", normalise=False)
    variance = m[:, 0].var((1, 2), correction=0)
    torch.testing.assert_close(power.mean((1, 2)), variance)
    unit = power_spectrum(m, window="none").mean((1, 2))
    torch.testing.assert_close(unit, torch.ones_like(unit))


@pytest.mark.parametrize("size", SIZES)
def test_spectrum_is_the_plain_double_sum(size):
    m = maps(size, 1)[0, 0].numpy()
    H, W = size
    wave = np.exp(-2j * np.pi * 2 * np.arange(H) / H)[:, None]
    wave = wave * np.exp(-2j * np.pi * 3 * np.arange(W) / W)[None]
    by_hand = abs(((m - m.mean()) * wave).sum()) ** 2 / (H * W)
    power = power_spectrum(torch.tensor(m)[None], window="none", normalise=False)
    assert math.isclose(power[0, H // 2 + 2, W // 2 + 3].item(), by_hand)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cycles", [1, 3])
def test_a_wave_stands_at_its_frequency(size, cycles):
    H, W = size
    side = min(size)
    along = torch.arange(W, dtype=torch.float64)
    if W > side:  # cycles per shorter side: the wave's length is side / cycles
        cycles_across = round(cycles * W / side)
        if cycles_across * side != cycles * W:
            pytest.skip("no whole number of waves fits")
    wave = torch.cos(2 * math.pi * cycles * along / side).expand(1, H, W)
    frequency, power = radial_spectrum(wave, window="none")
    assert frequency[power[0].argmax()] == cycles
    assert power[0].sum() - power[0].max() < 1e-9 * power[0].max()


@pytest.mark.parametrize("size", SIZES)
def test_every_coefficient_is_counted_once(size):
    frequency, power = radial_spectrum(maps(size), window="none", normalise=False)
    assert frequency.tolist() == list(range(1, min(size) // 2 + 1))
    ring = (frequency_grid(*size) * min(size)).round()
    whole = power_spectrum(maps(size), window="none", normalise=False)
    for k in range(1, min(size) // 2 + 1):
        torch.testing.assert_close(power[:, k - 1], whole[:, ring == k].mean(1))


def test_white_noise_is_flat():
    noise = power_law_noise(60, (64, 64), seed=3)
    for window in ("hann", "none"):
        _, power = radial_spectrum(noise, window=window)
        assert (power.mean(0)[2:] - 1).abs().max() < 0.12
        ratio = high_frequency_ratio(noise, window=window).mean()
        assert abs(ratio - (1 - math.pi / 16)) < 0.01
        assert abs(spectral_slope(noise, window=window).mean()) < 0.05


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_slope_recovers_the_exponent(exponent):
    noise = power_law_noise(40, (128, 96), exponent, seed=1)
    assert abs(spectral_slope(noise).mean() + exponent) < 0.15


def test_a_window_keeps_a_ramp_from_looking_rough():
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    plain = high_frequency_ratio(ramp, window="none")
    assert high_frequency_ratio(ramp, window="hann") < plain / 100


def test_scale_and_offset_do_not_matter():
    m = maps((20, 20))
    for f in (spectral_slope, high_frequency_ratio, lambda m: radial_spectrum(m)[1]):
        torch.testing.assert_close(f(m), f(5 - 3 * m))


def test_high_frequency_ratio_by_hand():
    along = torch.arange(32, dtype=torch.float64)
    low, high = (torch.cos(2 * math.pi * k * along / 32) for k in (4, 12))
    mixed = (low + 2 * high).expand(1, 32, 32)
    ratio = high_frequency_ratio(mixed, above=0.25, window="none")
    assert abs(ratio.item() - 0.8) < 1e-9  # powers 1 and 4
    assert high_frequency_ratio(mixed, above=0.4, window="none").item() < 1e-9


def test_power_law_noise():
    noise = power_law_noise(4, (3, 10, 14), 2.0, rms=0.3, seed=2)
    assert noise.shape == (4, 3, 10, 14)
    torch.testing.assert_close(noise.square().mean((1, 2, 3)), torch.full((4,), 0.09))
    assert noise.mean((2, 3)).abs().max() < 1e-6
    assert torch.equal(noise, power_law_noise(4, (3, 10, 14), 2.0, rms=0.3, seed=2))
    assert not torch.equal(noise, power_law_noise(4, (3, 10, 14), 2.0, rms=0.3, seed=3))
    rough = power_law_noise(4, (3, 10, 14), -2.0, rms=0.3)
    torch.testing.assert_close(rough.square().mean((1, 2, 3)), torch.full((4,), 0.09))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["disc", "gaussian"])
def test_low_pass(size, kind):
    m = maps(size) - 0.3
    smooth = low_pass(m, 3, kind)
    torch.testing.assert_close(smooth.mean((2, 3)), m.mean((2, 3)))
    assert (smooth.var((2, 3)) < m.var((2, 3))).all() and smooth.min() < 0
    torch.testing.assert_close(low_pass(3 * m, 3, kind), 3 * smooth)
    flipped = low_pass(m.flip(2, 3), 3, kind).flip(2, 3)
    torch.testing.assert_close(flipped, smooth)


@pytest.mark.parametrize("size", SIZES)
def test_disc_is_ideal(size):
    m = maps(size)
    half_diagonal = math.hypot(*size)  # above every frequency of the plane
    torch.testing.assert_close(low_pass(m, half_diagonal), m)
    smooth = low_pass(m, 3)
    torch.testing.assert_close(low_pass(smooth, 3), smooth)
    torch.testing.assert_close(low_pass(low_pass(m, 5), 3), smooth)
    grid = frequency_grid(*size) * min(size)
    power = power_spectrum(smooth, window="none", normalise=False)
    whole = power_spectrum(m, window="none", normalise=False)
    outside = grid > 3 + 1e-5  # a wave of exactly 3 stays, however it is rounded
    assert power[:, outside].max() < 1e-20
    torch.testing.assert_close(power[:, ~outside], whole[:, ~outside])


def test_gaussian_has_half_the_power_at_its_cutoff():
    wave = torch.cos(2 * math.pi * 4 * torch.arange(32.0) / 32).expand(1, 32, 32)
    ratio = low_pass(wave, 4, "gaussian").square().mean() / wave.square().mean()
    assert abs(ratio - 0.5) < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_spectrum(images()), r"one channel, got \(2, 3, 16, 16\)"),
        (lambda: power_spectrum(images()[0, 0]), r"\(B, H, W\), got \(16, 16\)"),
        (lambda: power_spectrum([1]), "tensor, got list"),
        (lambda: power_spectrum(torch.ones(2, 8, 8)), r"constant maps \[0, 1\]"),
        (lambda: power_spectrum(torch.full((1, 8, 8), math.nan)), "finite, got NaN"),
        (lambda: power_spectrum(maps((8, 3))), "4 pixels wide .* 'hann', got 8 x 3"),
        (lambda: radial_spectrum(maps((8, 8)), window="box"), "hann, none, got 'box'"),
        (lambda: high_frequency_ratio(maps((8, 8)), above=0.5), r"\[0, 0.5\), got 0.5"),
        (lambda: spectral_slope(maps((8, 8)), low=0.4, high=0.2), "ordered"),
        (lambda: spectral_slope(maps((8, 8)), low=0.3, high=0.4), "2 rings, got 1"),
        (lambda: low_pass(maps((8, 8)), 0), "cutoff must be above 0, got 0"),
        (lambda: low_pass(maps((8, 8)), 2, "box"), "disc, gaussian, kernel, got 'box'"),
        (lambda: low_pass(torch.ones(3), 2), r"\(\.\.\., H, W\)"),
        (lambda: power_law_noise(0, (4, 4)), "n must be above 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("waves", [(5, 12), (13, 0), (0, 13)])
def test_a_wave_at_the_threshold_is_not_above_it(waves):
    y, x = torch.meshgrid(*[torch.arange(52.0, dtype=torch.float64)] * 2, indexing="ij")
    wave = torch.cos(2 * math.pi * (waves[0] * y + waves[1] * x) / 52)[None]
    assert high_frequency_ratio(wave, window="none") < 1e-9  # its frequency is 1 / 4
