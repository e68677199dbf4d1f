"""Deletion and the first-order test against known answers."""

import pytest
import torch
from nets import images, linear_net, small_cnn

from xai_lib.analyse import low_pass, power_law_noise
from xai_lib.attribute import channel_sum, gradient
from xai_lib.evaluate import (
    deletion,
    deletion_curve,
    first_order_correlation,
    pearson,
)

LABELS = torch.tensor([1, 3])


def test_deletion_by_hand():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    ranks = images(1, 2, seed=4, dtype=torch.float64)[0]  # (2, 16, 16)
    curve = deletion_curve(model, x, ranks, LABELS, steps=4)
    for i in range(2):
        for k in range(5):
            gone, changed = (
                ranks[i].flatten().argsort(descending=True)[: k * 64],
                x[i].clone(),
            )
            changed.flatten(1)[:, gone] = 0
            wanted = model(changed[None]).softmax(1)[0, LABELS[i]]
            torch.testing.assert_close(curve[i, k], wanted)


def test_deletion_ends():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    for baseline, end in {
        "zero": 0 * x,
        "mean": x.mean((2, 3), keepdim=True) + 0 * x,
    }.items():
        curve = deletion_curve(model, x, x[:, 0], LABELS, steps=3, baseline=baseline)
        rows = torch.arange(2)
        torch.testing.assert_close(curve[:, 0], model(x).softmax(1)[rows, LABELS])
        torch.testing.assert_close(curve[:, -1], model(end).softmax(1)[rows, LABELS])
        area = (curve[:, 1:] + curve[:, :-1]).sum(1) / 6
        torch.testing.assert_close(
            deletion(model, x, x[:, :1], LABELS, 3, baseline), area
        )


def test_only_the_order_counts():
    model, x = small_cnn(), images()
    m = channel_sum(gradient(model, x, LABELS))
    torch.testing.assert_close(
        deletion(model, x, m, LABELS), deletion(model, x, m.exp() * 7, LABELS)
    )


def test_the_right_order_is_better_than_its_reverse():
    model, x = linear_net().double(), images(dtype=torch.float64)
    contribution = channel_sum(x * gradient(model, x, LABELS))
    assert (
        deletion(model, x, contribution, LABELS)
        < deletion(model, x, -contribution, LABELS)
    ).all()


def test_first_order_is_exact_for_a_linear_net():
    model, x = linear_net(bias=True).double(), images(dtype=torch.float64)
    noise = power_law_noise(20, x.shape[1:]).double()
    g = gradient(model, x, LABELS)
    r = first_order_correlation(model, x, LABELS, torch.stack([g, -g, 7 * g], 1), noise)
    torch.testing.assert_close(
        r, torch.tensor([[1.0, -1.0, 1.0]]).double().expand(2, 3)
    )


def test_first_order_by_hand_and_below_the_cutoff():
    model, x = small_cnn().double(), images(dtype=torch.float64)
    noise = low_pass(power_law_noise(30, x.shape[1:], 2.0, rms=0.1).double(), 4)
    g = gradient(model, x, LABELS)
    r = first_order_correlation(
        model, x, LABELS, torch.stack([g, low_pass(g, 4)], 1), noise
    )
    change = model(x[1] + noise)[:, 3] - model(x[1:])[0, 3]
    by_hand = torch.corrcoef(torch.stack([(g[1] * noise).sum((1, 2, 3)), change]))[0, 1]
    torch.testing.assert_close(r[1, 0], by_hand)
    torch.testing.assert_close(r[:, 0], r[:, 1])  # the filter cannot matter there


def test_pearson_of_a_constant_is_undefined_not_zero():
    assert pearson(torch.ones(5), torch.randn(5)).isnan()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: deletion(m, x, x, LABELS), "one channel"),
        (
            lambda m, x: deletion(m, x, x[:1, 0], LABELS),
            r"\(2, 16, 16\), got \(1, 16, 16\)",
        ),
        (
            lambda m, x: deletion(m, x, x[:, 0], LABELS, steps=0),
            "steps must be above 0",
        ),
        (
            lambda m, x: deletion(m, x, x[:, 0], LABELS, baseline="x"),
            "zero, mean, got 'x'",
        ),
        (lambda m, x: deletion(m, x, x[:, 0], LABELS + 5), "lie in 0..4"),
        (
            lambda m, x: first_order_correlation(m, x, LABELS, x, x),
            r"\(B, G, C, H, W\)",
        ),
        (lambda m, x: first_order_correlation(m, x, LABELS, x[:, None], x), "E >= 3"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_cnn(), images())
