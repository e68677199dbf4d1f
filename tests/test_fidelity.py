"""Deletion, insertion, muFidelity and stability against known answers."""

import copy
from functools import partial

import pytest
import torch
from nets import Residual, images, linear_net, small_cnn
from torch import nn

from xai_lib.analyse import gaussian_smooth, low_pass
from xai_lib.assets import load_images, load_model
from xai_lib.attribute import METHODS, channel_sum, gradient, gradient_x_input
from xai_lib.attribute._forward import rows_per_forward
from xai_lib.attribute.features import feature_labels, grid_labels
from xai_lib.evaluate import (
    deletion,
    deletion_curve,
    faithfulness,
    insertion,
    insertion_curve,
    mean_of_defined,
    mu_fidelity,
    pearson,
    ranks,
    region_falls,
    region_rank_correlation,
    spearman,
    stability,
)

LABELS = torch.tensor([1, 3])
X = images(2, 3, 7, 5, dtype=torch.float64)
SIZES = [(7, 5), (9, 9), (16, 23), (2, 2), (1, 12)]
BASES = ("zero", "mean", "blur")


def net() -> nn.Module:
    return small_cnn().double()


def random_map(x=X, seed=5):
    return images(len(x), 1, *x.shape[2:], seed=seed, dtype=x.dtype)


def counted(model, x) -> list[int]:
    """Return a list that grows by the rows of every call of the model."""
    rows = []
    rows_per_forward(model, x)  # asks the model once
    model.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    return rows


# --- deletion and insertion -----------------------------------------------------------


def test_deletion_by_hand():
    model, x = net(), images(dtype=torch.float64)
    order = images(1, 2, seed=4, dtype=torch.float64)[0]  # (2, 16, 16)
    curve = deletion_curve(model, x, order, LABELS, steps=4)
    for i in range(2):
        for k in range(5):
            gone, changed = (
                order[i].flatten().argsort(descending=True)[: k * 64],
                x[i].clone(),
            )
            changed.flatten(1)[:, gone] = 0
            wanted = model(changed[None]).softmax(1)[0, LABELS[i]]
            torch.testing.assert_close(curve[i, k], wanted)


def test_insertion_by_hand_into_a_blur():
    """At 35 pixels and 4 steps, 9, 18, 27 are there: what is absent is rounded down."""
    model, m = net(), random_map()[:, 0]
    curve = insertion_curve(model, X, m, LABELS, steps=4)
    blur = gaussian_smooth(X, 3, "renormalise")
    for i in range(2):
        for s, k in enumerate([0, 9, 18, 27, 35]):
            there = m[i].flatten().argsort(descending=True)[:k]
            changed = blur[i].clone()
            changed.flatten(1)[:, there] = X[i].flatten(1)[:, there]
            wanted = model(changed[None]).softmax(1)[0, LABELS[i]]
            torch.testing.assert_close(curve[i, s], wanted)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
@pytest.mark.parametrize("baseline", BASES)
def test_ends_and_area(metric, baseline):
    curve_of, area_of = {
        "deletion": (deletion_curve, deletion),
        "insertion": (insertion_curve, insertion),
    }[metric]
    model, x = net(), images(dtype=torch.float64)
    end = {
        "zero": 0 * x,
        "mean": x.mean((2, 3), keepdim=True) + 0 * x,
        "blur": gaussian_smooth(x, 5, "renormalise"),
    }[baseline]
    curve, rows = curve_of(model, x, x[:, 0], LABELS, 3, baseline), torch.arange(2)
    if metric == "insertion":
        curve = curve.flip(1)
    torch.testing.assert_close(curve[:, 0], model(x).softmax(1)[rows, LABELS])
    torch.testing.assert_close(curve[:, -1], model(end).softmax(1)[rows, LABELS])
    gone = torch.tensor([0, 85, 170, 256]) / 256  # of 16 x 16 pixels, in three steps
    area = ((curve[:, 1:] + curve[:, :-1]) / 2 * gone.diff()).sum(1)
    torch.testing.assert_close(area_of(model, x, x[:, :1], LABELS, 3, baseline), area)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("baseline", BASES)
def test_insertion_is_deletion_of_the_reversed_ranking_backwards(size, baseline):
    x = images(2, 3, *size, dtype=torch.float64)
    order = torch.stack([torch.randperm(x[0, 0].numel()) for _ in x]).view(2, *size)
    model, last = linear_net(x[0].numel()).double(), x[0, 0].numel() - 1
    for steps in (1, 4, 9):  # whole steps or not
        call = model, x, order, LABELS, steps, baseline
        reverse = model, x, last - order, LABELS, steps, baseline
        back = deletion_curve(*reverse).flip(1)
        assert torch.equal(insertion_curve(*call), back)
        torch.testing.assert_close(insertion(*call), deletion(*reverse))


def test_ties_and_a_constant_map():
    """Deletion takes the first pixel first; insertion is its mirror, ties included."""
    model, flat = net(), torch.zeros(2, 7, 5)
    rows = torch.arange(35.0).view(7, 5).expand(2, 7, 5)
    for baseline in ("zero", "blur"):
        call = LABELS, 5, baseline
        down = deletion_curve(model, X, flat, *call)
        assert torch.equal(down, deletion_curve(model, X, -rows, *call))
        up = insertion_curve(model, X, flat, *call)
        assert torch.equal(up, down.flip(1))
        assert torch.equal(up, insertion_curve(model, X, rows, *call))
        levels = (3 * random_map()[:, 0]).round()  # many ties
        assert torch.equal(
            insertion_curve(model, X, levels, *call),
            deletion_curve(model, X, -levels, *call).flip(1),
        )
        torch.testing.assert_close(  # a constant map gains nothing
            insertion(model, X, flat, *call), deletion(model, X, flat, *call)
        )


def test_only_the_order_counts_and_integers_are_maps():
    model, x = small_cnn(), images()
    m = channel_sum(gradient(model, x, LABELS))
    for metric in (deletion, insertion):
        wanted = metric(model, x, m, LABELS, 8)
        torch.testing.assert_close(metric(model, x, m.exp() * 7, LABELS, 8), wanted)
        whole = m.flatten(1).argsort(1).argsort(1).view_as(m).to(torch.uint8)
        torch.testing.assert_close(metric(model, x, whole, LABELS, 8), wanted)


def test_the_right_order_is_better_than_its_reverse():
    model, x = linear_net().double(), images(dtype=torch.float64)
    good = channel_sum(x * gradient(model, x, LABELS))
    assert (deletion(model, x, good, LABELS) < deletion(model, x, -good, LABELS)).all()
    better = insertion(model, x, good, LABELS, baseline="zero")
    assert (better > insertion(model, x, -good, LABELS, baseline="zero")).all()
    assert (
        faithfulness(model, x, good, LABELS) > faithfulness(model, x, -good, LABELS)
    ).all()


def test_faithfulness_is_the_difference():
    model, m = net(), random_map()
    wanted = insertion(model, X, m, LABELS, 6, "blur")
    wanted = wanted - deletion(model, X, m, LABELS, 6, "zero")
    assert torch.equal(faithfulness(model, X, m, LABELS, 6), wanted)
    best = model(X).argmax(1)
    torch.testing.assert_close(
        faithfulness(model, X, m, lambda logits: logits.argmax(1)),
        faithfulness(model, X, m, best),
    )


def test_batch_equals_loop_in_any_order_and_passes(monkeypatch):
    model, m = net(), random_map()
    for curve_of in (deletion_curve, insertion_curve):
        whole = curve_of(model, X, m, LABELS, 5)
        for i in range(2):
            one = slice(i, i + 1)
            alone = curve_of(model, X[one], m[one], LABELS[one], 5)
            torch.testing.assert_close(whole[one], alone)
        turned = curve_of(model, X.flip(0), m.flip(0), LABELS.flip(0), 5)
        torch.testing.assert_close(turned.flip(0), whole)
        with monkeypatch.context() as patch:
            where = "xai_lib.evaluate.fidelity.rows_per_forward"
            patch.setattr(where, lambda *_: 3)
            torch.testing.assert_close(curve_of(model, X, m, LABELS, 5), whole)


def test_several_maps_of_one_image_share_the_ends():
    model, maps = net(), images(6, 1, 7, 5, seed=3, dtype=torch.float64)
    x, c = X[:1].expand(6, -1, -1, -1), LABELS[:1].expand(6)
    rows, steps = counted(model, x), 4
    for metric in (deletion_curve, insertion_curve):
        rows.clear()
        together = metric(model, x, maps, c, steps)
        assert sum(rows) == 6 * (steps - 1) + 2
        for k in range(6):
            alone = metric(model, X[:1], maps[k : k + 1], LABELS[:1], steps)
            torch.testing.assert_close(together[k : k + 1], alone)
    mixed = torch.cat([X[:1], X, X[1:]])  # the runs 0 0 1 1, and another class
    c = torch.tensor([1, 1, 3, 2])
    rows.clear()
    curve = deletion_curve(model, mixed, maps[:4], c, steps)
    assert sum(rows) == 4 * (steps - 1) + 6
    for k in range(4):
        one = slice(k, k + 1)
        alone = deletion_curve(model, mixed[one], maps[one], c[one], steps)
        torch.testing.assert_close(curve[one], alone)


def test_the_blur_is_a_share_of_the_side_and_leaves_a_flat_image_alone():
    from xai_lib.evaluate.removal import BASELINES, blur_kernel

    sizes = [(32, 32), (224, 224), (224, 40), (7, 5), (1, 12)]
    assert [blur_kernel(size) for size in sizes] == [9, 57, 11, 3, 3]
    flat = torch.full((1, 3, 17, 24), 0.7, dtype=torch.float64)
    torch.testing.assert_close(BASELINES["blur"](flat), flat)
    assert (BASELINES["blur"](X).var((2, 3)) < X.var((2, 3))).all()


# --- muFidelity -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [2, 9])
def test_mu_fidelity_is_one_for_a_linear_model(size, grid):
    x = images(2, 3, *size, dtype=torch.float64)
    model = linear_net(x[0].numel(), bias=True).double()
    slope = gradient(model, x, LABELS)
    one, own = torch.ones(2).double(), {"n_subsets": 50, "grid": grid}
    R = x * slope
    for maps in (R, R.sum(1), channel_sum(R)):
        r = mu_fidelity(model, x, maps, LABELS, **own)
        torch.testing.assert_close(r, one, atol=1e-14, rtol=0)
    from_mean = (x - x.mean((2, 3), keepdim=True)) * slope
    r = mu_fidelity(model, x, -7 * from_mean, LABELS, baseline="mean", **own)
    torch.testing.assert_close(r, -one, atol=1e-14, rtol=0)


def ranks_by_hand(v):
    """Return 1 + how many are smaller + half of how many others are equal."""
    less, equal = v < v[:, None], v == v[:, None]
    return less.sum(1) + (equal.sum(1) + 1) / 2


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("baseline", BASES)
def test_mu_fidelity_by_hand(score, baseline):
    from xai_lib.evaluate.removal import BASELINES

    model, R = net(), images(2, 3, 7, 5, seed=9, dtype=torch.float64)
    own = {"n_subsets": 25, "grid": 3, "p": 0.3, "baseline": baseline, "score": score}
    regions, falls = region_falls(model, X, LABELS, **own)
    found = mu_fidelity(model, X, R, LABELS, **own)
    read = (lambda z: z.softmax(1)) if score == "probability" else (lambda z: z)
    for i, c in enumerate(LABELS):
        a, d = [], []
        for S in regions[i]:
            left = torch.where(S, BASELINES[baseline](X)[i], X[i])
            a.append(R[i][:, S].sum())
            d.append(read(model(X[i : i + 1]))[0, c] - read(model(left[None]))[0, c])
        torch.testing.assert_close(falls[i], torch.stack(d))
        pair = torch.stack([ranks_by_hand(torch.stack(v).detach()) for v in (a, d)])
        torch.testing.assert_close(found[i], torch.corrcoef(pair.double())[0, 1])
    again = region_rank_correlation(R, regions, falls)
    torch.testing.assert_close(again, found)


def test_regions_are_whole_cells_and_as_likely_as_p():
    x = images(1, 3, 20, 13)
    regions, _ = region_falls(small_cnn(), x, LABELS[:1], 400, 9, 0.2)
    labels = grid_labels((20, 13), 9)
    for k in labels.unique():
        cell = regions[0][:, labels == k]  # (400, pixels)
        assert (cell == cell[:, :1]).all()
    assert labels.max() == 80
    assert (regions.float().mean() - 0.2).abs() < 0.01
    assert regions.sum((2, 3)).unique().numel() > 10  # sizes differ


def test_the_grid():
    for size in [(9, 9), (224, 224), (7, 5), (1, 12), (10, 31)]:
        labels = grid_labels(size, 9)
        count = min(9, size[0]) * min(9, size[1])
        assert feature_labels(torch.rand(1, 1, *size), labels)[1].item() == count
        for side, line in ((0, labels[:, 0]), (1, labels[0])):
            lengths = line.unique(return_counts=True)[1]
            assert lengths.max() - lengths.min() <= 1, (size, side)
        assert torch.equal(labels.flip(0, 1), labels.max() - labels)  # symmetric


def test_all_maps_meet_the_same_regions_with_one_set_of_passes():
    model, maps = net(), images(6, 1, 7, 5, seed=3, dtype=torch.float64)
    x, c = X[:1].expand(6, -1, -1, -1), LABELS[:1].expand(6)
    rows = counted(model, x)
    together = mu_fidelity(model, x, maps, c, 50)
    assert sum(rows) == 51 and together.shape == (6,)
    regions, falls = region_falls(model, X[:1], LABELS[:1], 50)
    for form in (maps, maps[:, 0]):
        torch.testing.assert_close(
            region_rank_correlation(form, regions, falls), together
        )
    for k in range(6):
        alone = mu_fidelity(model, X[:1], maps[k : k + 1], LABELS[:1], 50)
        torch.testing.assert_close(alone, together[k : k + 1])


def test_mu_fidelity_of_a_batch_equals_a_loop_and_the_seed_counts(monkeypatch):
    model, R = net(), random_map()
    call = partial(mu_fidelity, model, n_subsets=33, grid=4)
    whole = call(X, R, LABELS)
    for i in range(2):
        one = slice(i, i + 1)
        torch.testing.assert_close(call(X[one], R[one], LABELS[one]), whole[one])
    turned = call(X.flip(0), R.flip(0), LABELS.flip(0))
    torch.testing.assert_close(turned.flip(0), whole)
    assert not torch.equal(call(X, R, LABELS, seed=1), whole)
    torch.testing.assert_close(call(X, R, lambda z: z.argmin(1) * 0 + LABELS), whole)
    monkeypatch.setattr("xai_lib.evaluate.removal.rows_per_forward", lambda *_: 7)
    torch.testing.assert_close(call(X, R, LABELS), whole)


def test_a_random_map_is_near_zero_and_a_good_one_above():
    x, model, c = images(6, 3, 12, 12), small_cnn(), torch.arange(6) % 5
    maps = torch.stack([gradient_x_input(model, x, c).sum(1), random_map(x)[:, 0]], 1)
    twice = x.repeat_interleave(2, 0), maps.flatten(0, 1), c.repeat_interleave(2)
    good, random = mu_fidelity(model, *twice, 100).view(6, 2).mean(0)
    assert random.abs() < 0.2 < 0.4 < good


def test_what_is_undefined_is_nan_and_counted():
    R = random_map()
    R[1] = 0
    with pytest.warns(UserWarning, match="muFidelity is undefined, NaN, for 1 of 2"):
        r = mu_fidelity(net(), X, R, LABELS)
    assert r.isnan().tolist() == [False, True]
    assert mean_of_defined(r)[1] == 1

    torch.manual_seed(0)
    for model in (Constant(), Constant(noise=2e-7)):  # and up to rounding
        with pytest.warns(UserWarning, match="for 2 of 2: all falls of the score, or"):
            r = mu_fidelity(model, X.float(), random_map().float(), LABELS)
        assert r.isnan().all()
        assert (region_falls(model, X.float(), LABELS)[1] == 0).all()


class Constant(nn.Module):
    """The same logits for every image, but for noise."""

    def __init__(self, noise=0.0):
        super().__init__()
        self.noise = noise
        self.eval()

    def forward(self, x):
        return 3 + self.noise * torch.rand(len(x), 5)


def test_a_constant_map_ranks_regions_by_size():
    model, x = net(), images(2, 3, 12, 12, dtype=torch.float64)
    own = {"n_subsets": 60, "grid": 4, "seed": 2}
    regions, falls = region_falls(model, x, LABELS, **own)
    found = mu_fidelity(model, x, torch.full((2, 12, 12), 0.1).double(), LABELS, **own)
    for i in range(2):
        size = regions[i].sum((1, 2)).double()  # whole numbers: ties are exact
        torch.testing.assert_close(found[i], spearman(size, falls[i]))


def test_ranks_share_their_mean_and_slack_makes_ties():
    draw = (4 * images(1, 3, 1, 40, dtype=torch.float64)[0, :, 0]).round()  # ties
    wanted = torch.stack([ranks_by_hand(row) for row in draw]).double()
    assert torch.equal(ranks(draw), wanted)
    assert torch.equal(ranks(draw[1]), wanted[1])
    torch.testing.assert_close(
        spearman(draw[0], draw[1].exp()), torch.corrcoef(wanted[:2])[0, 1]
    )
    near = torch.tensor([0.3, 0.1 + 0.2, 0.7], dtype=torch.float64)
    assert ranks(near).tolist() == [1, 2, 3]
    assert ranks(near, 1e-15).tolist() == [1.5, 1.5, 3]
    assert ranks(torch.zeros(1, 4)).tolist() == [[2.5] * 4]


# --- stability ------------------------------------------------------------------------


def test_stability_by_hand():
    model, generator = net(), torch.Generator().manual_seed(3)
    u = torch.rand((6, 3, 7, 5), generator=generator).double()
    for name in ("gradient", gradient_x_input):
        function = METHODS["gradient"] if name == "gradient" else name
        found = stability(model, X, LABELS, name, 6, 0.5, seed=3)
        for i, c in enumerate(LABELS):
            here = function(model, X[i : i + 1], c[None])
            far = [function(model, (X[i] + 0.5 * k)[None], c[None]) - here for k in u]
            wanted = torch.stack([step.square().sum().sqrt() for step in far]).mean()
            torch.testing.assert_close(found[i], wanted)


def test_stability_of_a_linear_model():
    """Its gradient stands still; gradient x input moves by the length of w * u."""
    model = linear_net(105).double()
    still = stability(model, X, LABELS, "gradient")
    torch.testing.assert_close(still, torch.zeros(2).double(), atol=1e-12, rtol=0)
    u = torch.rand((20, 105), generator=torch.Generator().manual_seed(0)).double()
    wanted = [(0.1 * u * model[1].weight[c]).norm(dim=1).mean() for c in LABELS]
    found = stability(model, X, LABELS, "gradient_x_input")
    torch.testing.assert_close(found, torch.stack(wanted).detach())


def test_normalised_stability_does_not_see_the_scale():
    model = net()

    def large(*call):
        return 1000 * gradient(*call)

    def smooth(*call):
        return low_pass(gradient(*call), 1)

    plain = [stability(model, X, LABELS, f, 5) for f in (gradient, large)]
    torch.testing.assert_close(plain[1], 1000 * plain[0])
    own = [
        stability(model, X, LABELS, f, 5, normalise=True)
        for f in (gradient, large, smooth)
    ]
    torch.testing.assert_close(own[1], own[0])
    assert all(((r > 0) & (r < 2)).all() for r in own)
    maps = gradient(model, X + 0, LABELS).flatten(1)  # opposite maps are 2 apart

    def turned(model, x, c):
        sign = torch.ones(len(x), 1, dtype=x.dtype)
        sign[1:] = -1
        return sign * maps[:1]

    twice = stability(model, X[:1], LABELS[:1], turned, normalise=True)
    torch.testing.assert_close(twice, torch.tensor([2.0]).double())


def test_stability_of_a_batch_equals_a_loop_and_fixes_the_class():
    model = net()
    own = {"n_neighbours": 4, "radius": 2.0}
    whole = stability(model, X, LABELS, "gradient", **own)
    for i in range(2):
        one = slice(i, i + 1)
        alone = stability(model, X[one], LABELS[one], "gradient", **own)
        torch.testing.assert_close(whole[one], alone)
    assert not torch.equal(
        stability(model, X, LABELS, "gradient", seed=1, **own), whole
    )
    best = stability(model, X, lambda logits: logits.argmax(1), "gradient", **own)
    torch.testing.assert_close(
        best, stability(model, X, model(X).argmax(1), "gradient", **own)
    )
    near = stability(model, X, LABELS, "gradient", 4, radius=0.02)
    assert (whole > near).all()


def test_maps_of_zeros_have_no_direction():
    def nothing(model, x, c):
        return 0 * x

    assert (stability(net(), X, LABELS, nothing) == 0).all()
    with pytest.warns(
        UserWarning, match="stability is undefined, NaN, for 2 of 2: a m"
    ):
        assert stability(net(), X, LABELS, nothing, normalise=True).isnan().all()


# --- all of them ----------------------------------------------------------------------

METRICS = {
    "deletion": lambda model, x, m, c: deletion(model, x, m, c, 5),
    "insertion": lambda model, x, m, c: insertion(model, x, m, c, 5),
    "faithfulness": lambda model, x, m, c: faithfulness(model, x, m, c, 5),
    "mu_fidelity": lambda model, x, m, c: mu_fidelity(model, x, m, c, 20),
    "stability": lambda model, x, m, c: stability(model, x, c, "gradient", 3),
}


@pytest.mark.parametrize("name", METRICS)
def test_the_model_stays_as_it_is_and_dtypes_come_back(name):
    model = Residual()
    state, x, m = copy.deepcopy(model.eval().state_dict()), X.float(), random_map()
    kept, order = x.clone(), m.clone()
    single = METRICS[name](model, x, m, LABELS)
    assert single.shape == (2,) and single.dtype == torch.float32
    assert not single.requires_grad and single.isfinite().all()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(x, kept) and torch.equal(m, order) and not model.training
    assert not any(part._forward_hooks for part in model.modules())
    double = METRICS[name](model.double(), x.double(), m, LABELS)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=0.02, rtol=1e-3)


CURVES = {
    "channels": (dict(maps=X), "one channel"),
    "images": (dict(maps=X[:1, 0]), r"\(2, 7, 5\), got \(1, 7, 5\)"),
    "size": (dict(maps=X[..., 1:].sum(1)), r"\(2, 7, 5\), got \(2, 7, 4\)"),
    "map NaN": (dict(maps=X[:, 0] / 0), "maps must be finite"),
    "steps": (dict(steps=0), "steps must be above 0"),
    "baseline": (dict(baseline="x"), "zero, mean, blur, got 'x'"),
    "target": (dict(target=LABELS + 5), "target must lie in 0..4"),
}


@pytest.mark.parametrize("metric", [deletion, insertion])
@pytest.mark.parametrize("name", CURVES)
def test_bad_input_of_curves(name, metric):
    own, message = CURVES[name]
    with pytest.raises(ValueError, match=message):
        metric(net(), X, **({"maps": X[:, 0], "target": LABELS} | own))


MU = {
    "size": (dict(maps=X[..., 1:]), r"\(2, 3, 7, 5\), \(2, 1, 7, 5\) or \(2, 7, 5\)"),
    "map NaN": (dict(maps=X / 0), "map must be finite"),
    "few": (dict(n_subsets=2), "n_subsets must be at least 3, got 2"),
    "grid": (dict(grid=0), "grid must be above 0, got 0"),
    "p": (dict(p=1), r"p must lie in \(0, 1\), got 1"),
    "no p": (dict(p=0.0), "p must be above 0"),
    "baseline": (dict(baseline="noise"), "zero, mean, blur, got 'noise'"),
    "score": (dict(score="loss"), "logit, probability, got 'loss'"),
}


@pytest.mark.parametrize("name", MU)
def test_bad_input_of_mu_fidelity(name):
    own, message = MU[name]
    with pytest.raises(ValueError, match=message):
        mu_fidelity(net(), X, **({"maps": X, "target": LABELS} | own))


def test_bad_input_of_region_rank_correlation():
    regions, falls = region_falls(net(), X, LABELS, 5)
    for maps, message in (
        (X[:1], r"maps must have shape \(2, 7, 5\), or with channels, got \(1, 3, 7"),
        (X[..., 1:], r"\(2, 7, 5\), or with channels, got \(2, 3, 7, 4\)"),
        (X[0, 0], r"got \(7, 5\)"),
        (X / 0, "maps must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            region_rank_correlation(maps, regions, falls)
    with pytest.raises(ValueError, match=r"shape \(M, 7, 5\), or with channels, got"):
        region_rank_correlation(X[..., 1:], regions[:1], falls[:1])


def test_bad_input_of_stability():
    for own, message in (
        (dict(n_neighbours=0), "n_neighbours must be above 0"),
        (dict(radius=0), "radius must be above 0"),
        (dict(method="no method"), "method must be a callable or one of"),
        (dict(method=lambda *_: X), r"a map per image, 21, got \(2, 3, 7, 5\)"),
        (dict(method=lambda *_: None), "a map per image, 21, got NoneType"),
        (dict(method=lambda model, x, c: x / 0), "finite maps, got NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            stability(net(), X, LABELS, **({"method": "gradient"} | own))


def test_logits_that_are_no_numbers():
    class Broken(nn.Module):
        def forward(self, x):
            return (x == 0).flatten(1)[:, :5] / x.flatten(1)[:, :5]

    for metric in (deletion, mu_fidelity):
        with pytest.raises(ValueError, match="finite logits, got NaN or infinity"):
            metric(Broken().eval(), X, X[:, 0], LABELS)


# --- a real network -------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    net, cifar = load_model("cifar_cnn"), load_images("cifar10", 8)
    x = net.transform(cifar.x)
    with torch.no_grad():
        c = net.model(x).argmax(1)
    good = channel_sum(METHODS["integrated_gradients"](net.model, x, c, steps=4))
    maps = torch.stack([good, images(len(x), 1, 32, 32)], 1).flatten(0, 1)
    return net.model, x, c, maps  # maps: of each image a good one, a random one


def test_an_informative_map_beats_a_random_one_on_real_images(real):
    model, x, c, maps = real
    twice, own = x.repeat_interleave(2, 0), c.repeat_interleave(2)
    better, worse = insertion(model, twice, maps, own, 7).view(8, 2).T
    assert (better - worse).mean() > 0.1 and (better > worse).float().mean() > 0.7
    mu = mu_fidelity(model, twice[:8], maps[:8], own[:8], 50).view(4, 2)
    assert (mu[:, 0] - mu[:, 1]).mean() > 0.2


def test_the_blur_halves_the_probability_of_a_real_network(real):
    model, x, c, maps = real
    start = insertion_curve(model, x, x[:, 0], c, 1)[:, 0]
    with torch.no_grad():
        whole = model(x).softmax(1).gather(1, c[:, None])[:, 0]
    assert start.mean() < whole.mean() / 2


@pytest.mark.parametrize("steps", [5, 12, 28])
def test_the_area_of_a_straight_fall_is_a_half_whatever_the_steps(steps):
    class Straight(torch.nn.Module):
        def forward(self, x):
            p = 0.1 + 0.8 * x.mean((1, 2, 3))
            return torch.stack([p, 1 - p], 1).log()

    x, c = torch.ones(1, 1, 1, 12, dtype=torch.float64), torch.tensor([0])
    maps = torch.arange(12.0)[None, None]
    for found in (
        deletion(Straight().eval(), x, maps, c, steps, "zero"),
        insertion(Straight().eval(), x, maps, c, steps, "zero"),
    ):
        torch.testing.assert_close(found, torch.tensor([0.5], dtype=torch.float64))


def test_the_area_of_a_large_image_in_half_precision():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)).eval()
    x, c = torch.rand(1, 1, 300, 300), torch.tensor([0])
    wanted = deletion(net, x, x, c, 4)
    found = deletion(net.half(), x.half(), x, c, 4)
    torch.testing.assert_close(found.float(), wanted, atol=0.01, rtol=0)


def test_a_model_that_fails_on_the_whole_image_alone_is_told():
    class Fails(torch.nn.Module):
        def forward(self, x):
            whole = (x != 0).flatten(1).all(1)
            logits = x.flatten(1)[:, :3]
            return torch.where(whole[:, None], torch.inf, logits)

    x = torch.rand(1, 1, 4, 4) + 0.1
    with pytest.raises(
        ValueError, match="finite logits, got NaN or infinity for image"
    ):
        mu_fidelity(Fails().eval(), x, x[:, 0], torch.tensor([0]), grid=2)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e18])
def test_stability_of_normalised_maps_knows_no_scale(scale):
    model, x = linear_net(), images()
    own = lambda model, x, target, **kw: x * scale  # noqa: E731
    found = stability(model, x, torch.tensor([0, 1]), own, 3, normalise=True)
    plain = stability(
        model, x, torch.tensor([0, 1]), lambda m, x, t, **kw: x, 3, normalise=True
    )
    torch.testing.assert_close(found, plain)


def test_correlations_of_constants_and_of_nan_are_undefined():
    assert pearson(torch.full((9,), 0.1), torch.full((9,), 0.3)).isnan()
    assert pearson(torch.arange(9), torch.arange(9) * 2) == 1
    assert pearson(torch.tensor([1e20, 2e20, 3e20]), torch.tensor([1.0, 2.0, 3.0])) == 1
    values = torch.tensor([1.0, torch.nan, 2.0, 3.0])
    assert ranks(values).isnan().all() and spearman(values, torch.arange(4.0)).isnan()
