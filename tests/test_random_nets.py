"""Laws of weights, and the alignment they lead to."""

import pytest
import torch
from nets import images, small_cnn
from torch import nn

from xai_lib.analyse import (
    WEIGHT_LAWS,
    alignment,
    alignment_law,
    predicted_alignment,
    random_mlp,
    redraw_weights,
)
from xai_lib.attribute.backprop import signals


@pytest.mark.parametrize(("n", "d"), [(200, 200), (50, 200), (500, 200)])
def test_the_size_of_weights(n, d):
    g = torch.Generator().manual_seed(0)
    for law, size in (("gaussian", 1.0), ("orthogonal", 1.0), ("shifted", 2.0)):
        rows = WEIGHT_LAWS[law](n, d, g)
        assert rows.shape == (n, d)
        assert abs((rows**2).sum(1).mean().item() - size) < 0.1


def test_orthogonal_rows_have_equal_norm_and_are_orthogonal_in_blocks():
    W = WEIGHT_LAWS["orthogonal"](250, 100, torch.Generator().manual_seed(0))
    torch.testing.assert_close(W.norm(dim=1), torch.ones(250).double())
    block = W[:100] @ W[:100].T
    torch.testing.assert_close(block, torch.eye(100).double(), atol=1e-10, rtol=0)
    assert (W[:100] @ W[100:200].T).abs().max() > 0.1  # another rotation


def test_shifted_weights_have_a_mean_of_one_deviation():
    W = WEIGHT_LAWS["shifted"](400, 100, torch.Generator().manual_seed(0)) * 10
    assert abs(W.mean() - 1) < 0.02 and abs(W.std() - 1) < 0.02


def test_redrawn_layers_lose_their_biases_and_norms_the_rest_stays():
    net = small_cnn()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    copy = redraw_weights(net, layers=["0", "1"])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not copy[0].bias.any() and not copy[1].running_mean.any()
    assert torch.equal(copy[4].weight, net[4].weight)
    everything = redraw_weights(net, "orthogonal", seed=1)
    assert not everything[8].bias.any()
    assert not torch.equal(everything[4].weight, net[4].weight)
    x = images(channels=8)
    torch.testing.assert_close(copy[1](x), x, atol=1e-4, rtol=1e-4)
    assert torch.equal(
        redraw_weights(net, seed=3)[0].weight, redraw_weights(net, seed=3)[0].weight
    )


def test_norms_of_every_kind_become_the_identity():
    norms = nn.GroupNorm(2, 8), nn.LayerNorm([8, 4, 4]), nn.BatchNorm2d(8, affine=False)
    net = nn.Sequential(*norms).eval()
    for p in net.parameters():
        p.data.fill_(7)
    net[2].running_mean.fill_(7)
    copy, x = redraw_weights(net), torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(copy[2](x), x, atol=1e-4, rtol=1e-4)
    for k in (0, 1):
        assert (copy[k].weight == 1).all() and not copy[k].bias.any()


def test_a_layer_without_weights_is_refused():
    with pytest.raises(ValueError, match="'0' must be no transposed convolution"):
        redraw_weights(nn.Sequential(nn.ConvTranspose2d(3, 2, 3)).eval())
    with pytest.raises(ValueError, match="'2' must have weights, got a ReLU"):
        redraw_weights(small_cnn(), layers=["2"])
    with pytest.raises(ValueError, match="law must be one of"):
        redraw_weights(small_cnn(), "uniform")
    with pytest.raises(ValueError, match="inputs and units"):
        random_mlp([3])


def test_a_weight_that_is_computed_from_others_is_refused():
    norm = nn.utils.parametrizations.weight_norm
    net = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 2))).eval()
    with pytest.raises(ValueError, match="'1' must hold its weight, not compute it"):
        redraw_weights(net)


def test_activations_of_a_random_net_keep_their_size():
    net = random_mlp([100, 400, 400, 400], seed=1)
    x = torch.randn(8, 100, 1, 1, dtype=torch.float64)
    h = net(x)
    assert 0.7 < (h**2).mean() / (x**2).mean() < 1.3
    assert h.dtype == torch.float64 and (h >= 0).all()


@pytest.mark.parametrize("law", ["equal", "positive"])
def test_the_prediction_is_the_law_for_its_signals(law):
    g = torch.Generator().manual_seed(0)
    c = torch.ones(10**6) if law == "equal" else torch.randn(10**6, generator=g).abs()
    found = predicted_alignment(c.view(1000, 1000), 27).mean().item()
    assert abs(found - alignment_law(law, 27, 1000)) < 1e-3
    assert abs(predicted_alignment(torch.tensor([1.0, -1.0]), 27)) < 1e-12
    assert predicted_alignment(-torch.ones(64), 27) < 0


@pytest.mark.parametrize("rectified", [False, True])
def test_guided_backpropagation_follows_the_prediction(rectified):
    g, n, d = torch.Generator().manual_seed(1), 1000, 50
    x = torch.randn(1, d, 1, 1, generator=g, dtype=torch.float64)
    v = torch.randn(20, 1, n, generator=g, dtype=torch.float64)
    v = v if rectified else v.abs()
    cosines = []
    for seed in range(20):
        net = random_mlp([d, n], seed=seed)
        sent = signals(net, x, "guided_backprop", "2", ["input"], v[seed][None])
        cosines.append(alignment(sent["input"][0], x))
    wanted = predicted_alignment(v.clamp(min=0), d).mean()
    assert abs(torch.cat(cosines).mean() - wanted) < 0.02


def test_a_random_net_is_a_sequence_of_modules_with_known_names():
    net = random_mlp([4, 8, 6])
    kinds = [type(m) for m in net]
    assert kinds == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]
    assert net[3].weight.shape == (6, 8) and net[3].bias is None
