"""The bootstrap against what is known about it."""

import math
from dataclasses import dataclass

import pytest
import torch

from xai_lib.study import bootstrap


def test_matches_the_normal_interval_of_a_large_sample():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(1)) * 3 + 5
    low, high = bootstrap(values)
    half = 1.96 * float(values.std()) / math.sqrt(2000)
    assert low == pytest.approx(float(values.mean()) - half, abs=0.02)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.02)


def test_covers_the_true_mean_about_as_often_as_it_says():
    draws = torch.randn(200, 40, generator=torch.Generator().manual_seed(2))
    ends = [bootstrap(draw, n_resamples=300, level=0.8) for draw in draws]
    covered = sum(low < 0 < high for low, high in ends) / 200
    assert 0.70 < covered < 0.88


def test_two_values_give_the_four_means_that_can_occur():
    assert bootstrap([0.0, 1.0]) == (0.0, 1.0)


def test_median_of_an_even_number_is_the_middle_of_two():
    low, high = bootstrap([0.0, 0.0, 1.0, 1.0], lambda v: v.median(dim=1).values)
    assert {low, high} <= {0.0, 1.0}
    same = bootstrap([2.0, 4.0, 2.0, 4.0], "median", n_resamples=4000, level=0.2)
    assert same == (3.0, 3.0)


def test_the_median_ignores_an_outlier_that_moves_the_mean():
    values = [1.0] * 30 + [1000.0]
    assert bootstrap(values, "median") == (1.0, 1.0)
    assert bootstrap(values, "mean")[1] > 30


def test_a_callable_sees_resamples_in_rows():
    low, high = bootstrap([1.0, 2.0, 4.0], lambda v: v.log().mean(dim=1).exp())
    assert 1.0 <= low < 2.0 < high <= 4.0


def test_same_seed_same_interval_other_seed_other_interval():
    values = torch.rand(50, generator=torch.Generator().manual_seed(3))
    assert bootstrap(values) == bootstrap(values.tolist())
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    bootstrap([1.0, 2.0, 3.0])
    assert torch.equal(torch.rand(3), expected)


def test_chunks_give_the_interval_of_one_piece(monkeypatch):
    values = list(range(20))
    whole = bootstrap(values, n_resamples=500)
    monkeypatch.setattr("xai_lib.study.statistics._CHUNK", 20 * 7)
    pieces = bootstrap(values, n_resamples=500)
    assert pieces == whole and pieces[0] < 9.5 < pieces[1]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, r"shape \(N,\) with N >= 2, got \(1,\)"),
        ([[1.0, 2.0]], {}, r"got \(1, 2\)"),
        ([1.0, math.nan], {}, r"finite, got NaN or infinity at \[1\]"),
        ([1.0, 2.0], {"statistic": "mode"}, "mean, median or callable, got 'mode'"),
        ([1.0, 2.0], {"statistic": lambda v: v.mean()}, r"statistic must map"),
        ([1.0, 2.0], {"statistic": lambda v: v[:, 0] * math.nan}, "got NaN"),
        ([1.0, 2.0], {"n_resamples": 0}, "at least 1, got 0"),
        ([1.0, 2.0], {"level": 95}, "between 0 and 1, got 95"),
    ],
)
def test_bad_input_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(values, **options)


def test_values_of_a_group_are_drawn_together():
    """Copies of a value within its group add no knowledge."""
    values = torch.randn(20, generator=torch.Generator().manual_seed(0))
    single = bootstrap(values)
    repeated = bootstrap(values.repeat_interleave(5), groups=torch.arange(100) // 5)
    assert repeated == pytest.approx(single)
    naive = bootstrap(values.repeat_interleave(5))
    assert naive[1] - naive[0] < 0.6 * (single[1] - single[0])


def test_a_statistic_may_be_any_callable():
    @dataclass
    class Quantile:
        q: float

        def __call__(self, values):
            return values.quantile(self.q, dim=1)

    values, groups = [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1]
    found = bootstrap(values, Quantile(0.5), 50, groups=groups)
    assert found == bootstrap(values, "median", 50, groups=groups)


def test_groups_may_differ_in_size():
    values, groups = [0.0, 0.0, 0.0, 1.0], [7, 7, 7, 3]
    low, high = bootstrap(values, groups=groups)
    assert (low, high) == (0, 1)  # both draws may hit one group
    median = bootstrap(values, "median", groups=groups)
    assert median == (0, 1)


@pytest.mark.parametrize("name", ["mean", "median"])
def test_groups_of_unequal_size_are_padded_with_nothing(name, monkeypatch):
    values = torch.rand(40, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(40) ** 2 // 160  # of 13 to 1 values
    own = {
        "mean": lambda v: v.mean(dim=1),
        "median": lambda v: v.quantile(0.5, dim=1),
    }
    wanted = bootstrap(values, own[name], 200, groups=groups)
    assert bootstrap(values, name, 200, groups=groups) == pytest.approx(wanted)
    monkeypatch.setattr("xai_lib.study.statistics._CHUNK", 2000)  # in pieces
    assert bootstrap(values, name, 200, groups=groups) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "groups, said",
    [([1, 2], r"shape \(4,\), got \(2,\)"), ([1, 1, 1, 1], "at least 2, got 1")],
)
def test_groups_are_refused(groups, said):
    with pytest.raises(ValueError, match=said):
        bootstrap([0.0, 1, 2, 3], groups=groups)
