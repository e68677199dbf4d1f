"""Sensitivity-n against its definition; Occlusion-1; features; Quantus's namesake."""

import copy
import math
import sys

import numpy as np
import pytest
import torch
from nets import images, linear_net, small_cnn
from torch import nn

from xai_lib.assets import load_images
from xai_lib.assets.progress import LateProgress
from xai_lib.attribute import (
    feature_labels,
    gradient,
    gradient_x_input,
    integrated_gradients,
    lrp,
    occlusion,
    occlusion_1,
    superpixels,
)
from xai_lib.attribute._forward import rows_per_forward
from xai_lib.evaluate import (
    mean_of_defined,
    output_changes,
    quantus_sensitivity_n,
    random_subsets,
    sensitivity_curve,
    sensitivity_n,
    subset_sizes,
)

LABELS = torch.tensor([1, 3])
X = images(2, 3, 6, 5, dtype=torch.float64)
CELLS = torch.arange(6)[:, None] // 2 * 3 + torch.arange(5)[None] // 2  # (6, 5), 0..8
ONES = torch.ones(2, dtype=torch.float64)


def net() -> nn.Module:
    return small_cnn().double()


def random_map(x=X, seed=5):
    return images(len(x), 1, *x.shape[2:], seed=seed, dtype=torch.float64)


class Of(nn.Module):
    """A function of the flat input as a network with one logit."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x):
        return self.function(x.flatten(1))[:, None]


# --- the metric -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("features", ["pixels", CELLS])
def test_a_linear_model_scores_one_at_every_n(bias, features):
    model, c = linear_net(90, bias=bias).double(), LABELS
    slope = gradient(model, X, c)
    maps = {
        "w x": X * slope,
        "integrated gradients": integrated_gradients(model, X, c, steps=4),
        "Occlusion-1": occlusion_1(model, X, c, features),
    }
    last = int(feature_labels(X, features)[1].min()) - 1
    curve = sensitivity_curve(model, X, c, maps, [1, 2, last // 2, last], 20, features)
    for name, values in curve.items():
        torch.testing.assert_close(values, torch.ones_like(values), msg=name)
    wrong = sensitivity_n(model, X, c, -X * slope, 3, 20, features)
    torch.testing.assert_close(wrong, -ONES)


@pytest.mark.parametrize("n", [1, 7, 24])
def test_by_hand_from_the_subsets_that_were_drawn(n):
    model, R = net(), images(2, 3, 6, 5, seed=9, dtype=torch.float64)
    subsets, falls = output_changes(model, X, LABELS, n, 30)
    assert (subsets.sum((2, 3)) == n).all() and subsets.shape == (2, 30, 6, 5)
    for i, c in enumerate(LABELS):
        a, d = [], []
        for S in subsets[i]:
            left = X[i].clone()
            left[:, S] = 0
            a.append(sum(R[i, k][S].sum() for k in range(3)))
            d.append(model(X[i : i + 1])[0, c] - model(left[None])[0, c])
        torch.testing.assert_close(falls[i], torch.stack(d))
        wanted = torch.corrcoef(torch.stack([torch.stack(a), torch.stack(d)]))[0, 1]
        found = sensitivity_n(model, X, LABELS, R, n, 30)
        torch.testing.assert_close(found[i], wanted)


def test_superpixels_by_hand_and_positions_in_no_feature():
    labels = torch.stack([CELLS, CELLS.clamp(max=6)])  # 9 features, and 7
    labels[1, 0, 0] = -1
    model, R = net(), random_map()
    subsets, falls = output_changes(model, X, LABELS, 2, 25, labels)
    assert not subsets[1, :, 0, 0].any()
    for i in range(2):
        for S in subsets[i]:  # two features, whole
            gone = labels[i][S].unique()
            assert len(gone) == 2 and torch.isin(labels[i], gone).equal(S)
        a = (subsets[i] * R[i]).sum((1, 2))
        wanted = torch.corrcoef(torch.stack([a, falls[i]]))[0, 1]
        found = sensitivity_n(model, X, LABELS, R, 2, 25, labels)[i]
        torch.testing.assert_close(found, wanted)


def test_x1_times_x2():
    """Occlusion-1 and gradient x input meet n = 1, integrated gradients meet n = N."""
    model, c = Of(lambda x: x[:, 0] * x[:, 1]), torch.tensor([0])
    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    maps = [gradient_x_input(model, x, c), occlusion_1(model, x, c)]
    for R in maps:
        torch.testing.assert_close(R, x)
    half = integrated_gradients(model, x, c, steps=4)
    torch.testing.assert_close(half, x / 2)
    subsets, falls = output_changes(model, x, c, 1, 10)
    assert torch.equal(falls, ONES[:1].expand(1, 10))
    assert torch.equal(subsets[0, :, 0].sum(1), torch.ones(10).long())
    with pytest.warns(UserWarning, match="undefined, NaN, for 1 of 1"):
        assert sensitivity_n(model, x, c, maps[0], 1, 10).isnan().all()


def test_no_map_is_perfect_on_a_product_at_every_n():
    model, c = Of(lambda x: x[:, 0] * x[:, 1] + x[:, 2]), torch.tensor([0])
    x = torch.tensor([1.0, 1.0, 3.0, 0.0], dtype=torch.float64).view(1, 1, 1, 4)
    maps = {"one": occlusion_1(model, x, c), "all": integrated_gradients(model, x, c)}
    curve = sensitivity_curve(model, x, c, maps, [1, 2, 3])
    assert curve["one"][0].item() == pytest.approx(1)
    for values in curve.values():
        assert values.min() < 0.99 and values.min() > 0.5


@pytest.mark.parametrize(("composite", "mark"), [("lrp_0", 1e-9), ("epsilon", 1e-4)])
def test_gradient_x_input_and_lrp_have_one_curve_on_a_relu_net(composite, mark):
    model = net()
    maps = {
        "a": gradient_x_input(model, X, LABELS),
        "b": lrp(model, X, LABELS, composite=composite),
    }
    curve = sensitivity_curve(model, X, LABELS, maps, [1, 5, 24])
    torch.testing.assert_close(curve["a"], curve["b"], atol=mark, rtol=0)


def test_a_random_map_is_near_zero_and_occlusion_1_best_at_one():
    x = images(12, 3, 8, 8, dtype=torch.float64)
    model, c = net(), torch.arange(12) % 5
    maps = {
        "random": random_map(x),
        "Occlusion-1": occlusion_1(model, x, c),
        "gradient x input": gradient_x_input(model, x, c),
    }
    curve = sensitivity_curve(model, x, c, maps, [1, 51])
    assert curve["random"].mean(1).abs().max() < 0.15
    torch.testing.assert_close(curve["Occlusion-1"][0], torch.ones_like(c).double())
    assert curve["Occlusion-1"][1].mean() < 0.99
    assert curve["gradient x input"][0].max() < 1


def test_batch_equals_loop_and_one_n_equals_the_curve():
    model, R = net(), random_map()
    curve = sensitivity_curve(model, X, LABELS, {"R": R}, [2, 9], 30)["R"]
    for p, n in enumerate((2, 9)):
        assert torch.equal(sensitivity_n(model, X, LABELS, R, n, 30), curve[p])
        for i in range(2):
            one = slice(i, i + 1)
            alone = sensitivity_n(model, X[one], LABELS[one], R[one], n, 30)
            torch.testing.assert_close(alone[0], curve[p, i])
    turned = sensitivity_n(model, X.flip(0), LABELS.flip(0), R.flip(0), 9, 30)
    torch.testing.assert_close(turned.flip(0), curve[1])


def test_images_have_subsets_of_their_own_and_the_seed_counts():
    model, own = net(), (LABELS, 9, 20)
    subsets, _ = output_changes(model, X, *own)
    assert not torch.equal(subsets[0], subsets[1])
    assert torch.equal(output_changes(model, X, *own)[0], subsets)
    assert not torch.equal(output_changes(model, X, *own, seed=1)[0], subsets)
    single = output_changes(model.float(), X.float().double().float(), *own)[0]
    again = output_changes(model.double(), X.float().double(), *own)[0]
    assert torch.equal(single, again)  # a float image and its double


def test_rows_per_pass_do_not_matter(monkeypatch):
    model, R = net(), random_map()
    before = sensitivity_n(model, X, LABELS, R, 4, 33)
    monkeypatch.setattr("xai_lib.evaluate.removal.rows_per_forward", lambda *_: 7)
    torch.testing.assert_close(sensitivity_n(model, X, LABELS, R, 4, 33), before)


def test_forms_of_maps_labels_and_targets():
    model, R = net(), images(2, 3, 6, 5, seed=3, dtype=torch.float64)
    wanted = sensitivity_n(model, X, LABELS, R, 3, 20)
    for one in (R.sum(1), R.sum(1, keepdim=True)):
        torch.testing.assert_close(sensitivity_n(model, X, LABELS, one, 3, 20), wanted)
    pixels = torch.arange(30).view(6, 5).to(torch.int32)
    for labels in (pixels, pixels.expand(2, 6, 5)):
        found = sensitivity_n(model, X, LABELS, R, 3, 20, labels)
        torch.testing.assert_close(found, wanted)
    best = model(X).argmax(1)
    torch.testing.assert_close(
        sensitivity_n(model, X, lambda logits: logits.argmax(1), R, 3, 20),
        sensitivity_n(model, X, best, R, 3, 20),
    )


def test_texts_are_pictures_of_tokens():
    torch.manual_seed(0)
    x = images(2, 8, 1, 12, dtype=torch.float64)  # (B, E, 1, T)
    model = nn.Sequential(nn.Flatten(), nn.Linear(96, 20), nn.Tanh(), nn.Linear(20, 2))
    model, c = model.double().eval(), torch.tensor([0, 1])
    padded = torch.arange(12).view(1, 1, 12).repeat(2, 1, 1)
    padded[1, 0, 9:] = -1
    assert feature_labels(x, padded)[1].tolist() == [12, 9]
    R = occlusion_1(model, x, c, padded)
    assert R.shape == (2, 1, 1, 12) and (R[1, 0, 0, 9:] == 0).all()
    torch.testing.assert_close(sensitivity_n(model, x, c, R, 1, 40, padded), ONES)
    subsets, _ = output_changes(model, x, c, 8, 20, padded)
    assert not subsets[1, :, 0, 9:].any() and subsets[0, :, 0, 9:].any()


def test_n_of_each_images_own():
    labels = torch.stack([CELLS, CELLS.clamp(max=4)])  # 9 features, and 5
    sizes = subset_sizes(feature_labels(X, labels)[1], points=4)
    assert sizes.tolist() == [[1, 1], [3, 2], [5, 3], [7, 4]]
    model, R = net(), random_map()
    curve = sensitivity_curve(model, X, LABELS, {"R": R}, sizes, 20, labels)["R"]
    assert curve.shape == (4, 2)
    own = sensitivity_n(model, X, LABELS, R, sizes[2], 20, labels)
    assert torch.equal(own, curve[2])
    assert own[1] == sensitivity_n(model, X, LABELS, R, 3, 20, labels)[1]


def test_the_model_stays_as_it_is_and_dtypes_come_back():
    model = small_cnn(inplace=True)
    state, x = copy.deepcopy(model.state_dict()), X.float()
    kept = x.clone()
    r = sensitivity_n(model, x, LABELS, random_map().float(), 3, 10)
    assert r.dtype == torch.float32 and not r.requires_grad
    assert occlusion_1(model, x, LABELS).dtype == torch.float32
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(x, kept) and not model.training
    assert not any(m._forward_hooks for m in model.modules())
    double = sensitivity_n(net(), x.double(), LABELS, random_map(), 3, 10)
    torch.testing.assert_close(r.double(), double, atol=1e-4, rtol=0)


# --- what is undefined ----------------------------------------------------------------


def test_a_constant_output_is_nan_counted_and_dropped():
    constant = Of(lambda x: 0 * x[:, 0] + 3)
    c, maps = torch.zeros(2).long(), {"R": random_map(), "S": X}
    with pytest.warns(UserWarning, match="NaN, for 8 of 8: all falls") as seen:
        curve = sensitivity_curve(constant, X, c, maps, [1, 2], 10)
    assert len(seen) == 1 and all(v.isnan().all() for v in curve.values())
    mean, dropped = mean_of_defined(curve["R"])
    assert mean.isnan().all() and dropped.tolist() == [2, 2]


def test_a_constant_map_is_nan_and_the_others_stay():
    R = random_map().float()
    R[1] = 0.1
    with pytest.warns(UserWarning, match="NaN, for 1 of 2"):
        r = sensitivity_n(small_cnn(), X.float(), LABELS, R, 7, 20)
    assert r.isnan().tolist() == [False, True]
    mean, dropped = mean_of_defined(r)
    assert mean == r[0] and dropped == 1
    assert mean_of_defined(torch.ones(3, 2))[1].tolist() == [0, 0, 0]


def test_rounding_is_no_signal():
    """A net that depends on nothing but its own rounding, and a map likewise."""
    torch.manual_seed(0)
    noise = Of(lambda x: 3 + 2e-7 * torch.rand(len(x)))
    x, R = X.float(), 1 + 1e-7 * random_map().float()
    for model, maps in ((noise, random_map().float()), (small_cnn(), R)):
        c = torch.zeros(2).long()
        with pytest.warns(UserWarning, match="NaN, for 2 of 2"):
            assert sensitivity_n(model, x, c, maps, 9, 20).isnan().all()


def test_a_small_signal_on_a_large_logit_is_kept():
    model = Of(lambda x: 100 + 1e-3 * x.sum(1))
    x = X.float()
    r = sensitivity_n(model, x, torch.zeros(2).long(), x, 3, 50)
    assert (r > 0.99).all()


# --- bad input ------------------------------------------------------------------------

BAD = {
    "n above": (dict(n=31), "below the number of features, 30 in image 0, got 31$"),
    "n equal": (dict(n=30), "30 in image 0, got 30; all features make one subset"),
    "n of superpixels": (dict(n=9, features=CELLS), "9 in image 0, got 9"),
    "n zero": (dict(n=0), "n must be at least 1, got 0"),
    "n shape": (dict(n=torch.tensor([1, 2, 3])), r"shape \(P,\) or \(P, 2\), got"),
    "few subsets": (dict(n_subsets=2), "n_subsets must be at least 3, got 2"),
    "map size": (
        dict(maps=X[..., 1:]),
        r"\(2, 3, 6, 5\), \(2, 1, 6, 5\) or \(2, 6, 5\)",
    ),
    "map NaN": (dict(maps=X / 0), "map must be finite"),
    "word": (
        dict(features="superpixels"),
        "'pixels' or a tensor of labels, got 'super",
    ),
    "labels' shape": (dict(features=CELLS.T), r"\(2, 6, 5\) or \(6, 5\), got \(5, 6\)"),
    "labels below": (dict(features=CELLS - 2), "labels must be at least -1, got -2"),
    "no feature": (dict(features=0 * CELLS - 1), "image 0 has no feature"),
    "gap": (dict(features=2 * CELLS), "0 to 16 without gaps, got none of 1 in image 0"),
    "target": (dict(target=LABELS + 5), "target must lie in 0..4, got"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    own, message = BAD[name]
    call = {"target": LABELS, "maps": X, "n": 3, "n_subsets": 10} | own
    with pytest.raises(ValueError, match=message):
        sensitivity_n(net(), X, **call)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (dict(n=1.5), "n must be whole numbers, got torch.float"),
        (dict(features=CELLS.float()), "labels must be whole numbers, got torch.float"),
        (dict(maps="gradient"), "map must be a tensor, got str"),
    ],
)
def test_bad_types(own, message):
    call = {"target": LABELS, "maps": X, "n": 3} | own
    with pytest.raises(TypeError, match=message):
        sensitivity_n(net(), X, **call)


def test_logits_that_are_no_numbers():
    broken = Of(lambda x: (x == 0).any(1) / x[:, 0])
    with pytest.raises(
        ValueError, match="finite logits, got NaN or infinity for image"
    ):
        sensitivity_n(broken, X, torch.zeros(2).long(), X, 20, 50)


def test_a_curve_wants_maps_by_name():
    for maps, got in ((X, "Tensor"), ({}, "none")):
        with pytest.raises(TypeError, match=f"dict of name to map, got {got}"):
            sensitivity_curve(net(), X, LABELS, maps, [1])
    with pytest.raises(ValueError, match=r"n must have shape .* got \(0,\)"):
        sensitivity_curve(net(), X, LABELS, {"R": X}, torch.empty(0).long())


# --- subsets and sizes ----------------------------------------------------------------


def test_subsets_are_uniform_without_replacement():
    S = random_subsets(6, 2, 6000, seed=0)
    assert (S.sum(1) == 2).all()
    pairs = (S.double().T @ S.double()) / 6000
    assert (pairs.diagonal() - 1 / 3).abs().max() < 0.03
    apart = pairs[~torch.eye(6, dtype=torch.bool)]
    assert (apart - 1 / 15).abs().max() < 0.015


def test_sizes():
    assert subset_sizes(1024).tolist()[:2] == [1, 56]
    assert len(subset_sizes(1024)) == 16 and subset_sizes(1024)[-1] == 819
    assert subset_sizes(5).tolist() == [1, 2, 3, 4]  # neighbours fall together
    assert subset_sizes(50176, spacing="log")[:3].tolist() == [1, 2, 4]
    assert subset_sizes(2).tolist() == [1]
    assert subset_sizes(torch.tensor([10, 20]), 3).tolist() == [[1, 1], [4, 8], [8, 16]]
    for own, message in (
        (dict(features=1), "features must be at least 2, got 1"),
        (dict(features=9, most=1.0), r"most must lie in \(0, 1\), got 1.0"),
        (dict(features=9, points=0), "points must be above 0"),
        (dict(features=9, spacing="geom"), "linear, log, got 'geom'"),
    ):
        with pytest.raises(ValueError, match=message):
            subset_sizes(**own)


def test_more_rows_fit_a_pass_without_a_graph():
    model = Of(lambda x: x.sum(1))
    rows = [rows_per_forward(model, torch.zeros(1, 3, s, s)) for s in (32, 128, 224)]
    assert rows == [64, 21, 8]


def test_progress_shows_late(capsys, monkeypatch):
    quiet = LateProgress("sums", 4, "rows")
    quiet.more(4)
    quiet.end()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(LateProgress, "SILENT_SECONDS", -1.0)
    sensitivity_n(net(), X, LABELS, X, 3, 10)
    assert "Sensitivity-n: done after" in capsys.readouterr().err


# --- Occlusion-1 ----------------------------------------------------------------------


def test_occlusion_1_is_occlusion_with_a_window_of_one():
    model = net()
    wanted = occlusion(model, X, LABELS, window=1, stride=1)
    torch.testing.assert_close(occlusion_1(model, X, LABELS), wanted)


def test_occlusion_1_of_superpixels_sums_to_the_fall_and_is_even():
    model, labels = net(), torch.stack([CELLS, CELLS.clamp(max=6) - 1])
    R = occlusion_1(model, X, LABELS, labels)
    for i, c in enumerate(LABELS):
        for k in range(int(labels[i].max()) + 1):
            inside, left = labels[i] == k, X[i].clone()
            left[:, inside] = 0
            fall = (model(X[i : i + 1]) - model(left[None]))[0, c]
            torch.testing.assert_close(R[i, 0][inside].sum(), fall)
            assert R[i, 0][inside].unique().numel() == 1
    assert (R[1, 0][labels[1] == -1] == 0).all()


def test_occlusion_1_alone_in_a_batch_and_at_a_layer():
    model = net()
    R = occlusion_1(model, X, LABELS)
    torch.testing.assert_close(occlusion_1(model, X[1:], LABELS[1:]), R[1:])
    inside = occlusion_1(model, X, LABELS, layer="3")
    wanted = occlusion(model, X, LABELS, window=1, stride=1, layer="3")
    torch.testing.assert_close(inside, wanted)
    with pytest.raises(ValueError, match="'pixels' or a tensor of labels"):
        occlusion_1(model, X, LABELS, "tokens")


# --- superpixels ----------------------------------------------------------------------


def test_superpixels_of_photographs():
    pytest.importorskip("skimage")
    x = load_images("photos", 2).x
    labels = superpixels(x)
    assert labels.shape == (2, 256, 256) and labels.dtype == torch.long
    counts = feature_labels(x, labels)[1]  # no gaps
    assert ((counts > 75) & (counts < 225)).all(), counts
    assert torch.equal(superpixels(x[1:]), labels[1:])
    few = feature_labels(x, superpixels(x, n_segments=20))[1]
    assert (few < counts / 2).all()
    inside = torch.stack([x[0][:, labels[0] == k].var(1) for k in range(counts[0])])
    assert inside.mean() < 0.5 * x[0].flatten(1).var(1).mean()  # alike in colour


def test_superpixels_refuse_what_is_no_photograph(monkeypatch):
    for bad in (X.float(), torch.rand(1, 1, 8, 8)):
        with pytest.raises(
            ValueError, match=r"\(B, 3, H, W\) and lie in \[0, 1\], got"
        ):
            superpixels(bad)
    with pytest.raises(ValueError, match="n_segments must be above 0"):
        superpixels(torch.rand(1, 3, 8, 8), 0)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        superpixels(torch.rand(1, 3, 8, 8))


# --- Quantus --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen(root):
    """Return the net, images, labels, maps and scores of make_quantus.py."""
    data = np.load(root / "tests" / "references" / "quantus.npz")
    own = {name: torch.from_numpy(data[name]) for name in data.files}
    layers = nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 3)
    model = nn.Sequential(nn.Flatten(), *layers).eval().requires_grad_(False)
    for layer, name in ((model[1], "first"), (model[3], "second")):
        layer.weight.copy_(0.2 * own[name])
        layer.bias.zero_()
    return model.double(), own["x"].double(), own["labels"], own["maps"].double(), own


@pytest.mark.parametrize("step", [1, 4])
def test_quantuss_namesake_is_quantuss(frozen, step):
    *call, own = frozen
    found = quantus_sensitivity_n(*call, features_in_step=step)
    torch.testing.assert_close(found, own[f"step{step}"].double(), atol=2e-6, rtol=0)


def test_a_linear_model_shows_that_it_is_another_metric(frozen):
    """There every map w x is exact; Quantus's number is far from 1."""
    _, x, labels, *_ = frozen
    model = linear_net(108, bias=True).double()
    R = x * gradient(model, x, labels)
    ours = sensitivity_n(model, x, labels, R, 9)
    torch.testing.assert_close(ours, torch.ones_like(ours))
    theirs = quantus_sensitivity_n(model, x, labels, R)
    assert theirs.max() < 0.999 and theirs.mean().abs() < 0.8
    assert not math.isnan(theirs.sum())


def test_quantuss_namesake_refuses_bad_input(frozen):
    model, x, labels, R, _ = frozen
    with pytest.raises(ValueError, match="must divide 36 and x hold at least 2"):
        quantus_sensitivity_n(model, x, labels, R, features_in_step=5)
    with pytest.raises(ValueError, match="at least 2 images, got 1 and 1"):
        quantus_sensitivity_n(model, x[:1], labels[:1], R[:1])
    with pytest.raises(ValueError, match=r"maps must have shape \(7, 3, 6, 6\)"):
        quantus_sensitivity_n(model, x, labels, R[:, :2])
