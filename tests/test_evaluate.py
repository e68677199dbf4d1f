"""The first-order test against known answers."""

import pytest
import torch
from nets import images, linear_net, small_cnn

from xai_lib.analyse import low_pass, power_law_noise
from xai_lib.attribute import gradient
from xai_lib.evaluate import (
    first_order_correlation,
    pearson,
)

LABELS = torch.tensor([1, 3])


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
