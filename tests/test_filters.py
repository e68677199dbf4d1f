"""Rectified filters, P3's smoothing set by a frequency, and the choice of a cutoff."""

import math

import pytest
import torch

from xai_lib.analyse import (
    best_cutoff,
    gaussian_smooth,
    low_pass,
    rectified_low_pass,
)


def maps(*size):
    g = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, *size, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["disc", "gaussian", "kernel"])
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_no_filter_is_the_identity(size, kind):
    torch.testing.assert_close(low_pass(maps(*size), math.inf, kind), maps(*size))


def test_the_kernel_is_that_of_the_cutoff():
    m = maps(65, 65)
    for cutoff, kernel in ((0.54 * 65 / 17, 17), (0.54 * 65 / 5, 5), (200, 1)):
        torch.testing.assert_close(
            low_pass(m, cutoff, "kernel"), gaussian_smooth(m, kernel)
        )


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (7, 7)])
def test_rectified_low_pass_in_its_own_letters(size):
    m = maps(*size)
    expected = low_pass(m.mean(1, keepdim=True).abs(), 2).abs()
    torch.testing.assert_close(rectified_low_pass(m, 2), expected)
    torch.testing.assert_close(rectified_low_pass(-m, 2), expected)
    cancels = torch.cat([m[:, :1], -m[:, :1]], 1)
    assert rectified_low_pass(cancels, 2).abs().max() < 1e-12
    whole = rectified_low_pass(m, math.inf)
    torch.testing.assert_close(whole, m.mean(1, keepdim=True).abs())


def test_the_share_of_coefficients_that_the_disc_keeps():
    """The fractions of papers.md 5.2 for 224 px."""
    spike = torch.zeros(224, 224, dtype=torch.float64)
    spike[0, 0] = 1
    for cutoff, share in ((5, 0.0016), (15, 0.0141), (30, 0.056), (112, 0.785)):
        kept = (torch.fft.fft2(low_pass(spike, cutoff)).abs() > 0.5).double().mean()
        assert abs(float(kept) - share) < 0.01 * share + 5e-5


def test_the_cutoff_is_chosen_on_one_half_and_judged_on_the_other():
    scores = torch.tensor(
        [[9.0, 0.0, 9.0, 1.0], [1.0, 5.0, 1.0, 6.0], [2.0, 3.0, 2.0, 3.0]]
    )
    found = best_cutoff(scores, [1, 2, math.inf])
    assert found.cutoff == 1 and found.gain.tolist() == [-3.0, -2.0]
    other = best_cutoff(scores, [1, 2, math.inf], torch.tensor([0, 1, 0, 1]).bool())
    assert other.cutoff == 2 and other.gain.tolist() == [-1.0, -1.0]


def test_images_to_judge_on_may_lack_scores_at_cutoffs_that_are_not_chosen():
    scores = torch.tensor([[1.0, math.nan], [5.0, 2.0], [0.0, math.nan], [3.0, 1.5]])
    found = best_cutoff(scores, [1, 2, 4, math.inf])
    assert found.cutoff == 2 and found.gain.tolist() == [0.5]
    assert best_cutoff(scores[[0, 3]], [1, math.inf]).gain.tolist() == [0.0]
    assert best_cutoff(scores[[1, 2]], [1, math.inf]).gain.isnan().all()


def test_of_equal_scores_the_least_filter_wins():
    found = best_cutoff(torch.ones(3, 4), [1, 2, 3])
    assert found.cutoff == 3 and not found.gain.any()


def test_a_gain_on_noise_is_none():
    """Chosen and judged on the same images, noise seems to gain; here it does not."""
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(200, 10, 40, generator=g, dtype=torch.float64)
    gains = torch.stack([best_cutoff(one, range(10)).gain.mean() for one in scores])
    assert gains.mean().abs() < 4 * gains.std() / 200**0.5
    half = scores[:, :, ::2].mean(2)
    assert (half.max(1).values - half[:, -1]).mean() > 0.2


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: best_cutoff(torch.ones(2, 4), [1]), r"shape \(1, B\), got \(2, 4\)"),
        (lambda: best_cutoff(torch.ones(2, 4), [2, 1]), "must ascend, got"),
        (lambda: best_cutoff(torch.ones(2, 1), [1, 2]), "remain to choose on"),
        (lambda: best_cutoff(torch.full((1, 4), math.nan), [1]), "by must be fin"),
        (
            lambda: best_cutoff(torch.ones(1, 4), [1], torch.ones(4)),
            r"bool of shape \(4,\)",
        ),
        (lambda: rectified_low_pass(torch.ones(4, 4), 2), r"\(B, C, H, W\)"),
        (lambda: low_pass(torch.ones(4, 4), math.nan), "cutoff must be above 0"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("kind", ["disc", "gaussian", "kernel"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_maps_of_whole_numbers_are_refused(kind, dtype):
    with pytest.raises(TypeError, match="maps must be floating, got torch"):
        low_pass(torch.ones(1, 8, 8, dtype=dtype), 2, kind)


def test_a_cutoff_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="cutoffs must ascend"):
        best_cutoff(torch.rand(3, 4), [4, math.nan, 8])
