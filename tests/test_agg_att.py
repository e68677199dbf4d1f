"""AggAtt, the sampling of grids, smoothing."""

import pytest
import torch
from nets import images, small_cnn

from xai_lib.analyse import gaussian_smooth, low_pass
from xai_lib.evaluate import agg_att, bin_members, confident, sample_grids


def ladder(count=100):
    """Map k of a 2 x 2 grid: k parts in the first cell, the rest in the last."""
    maps = torch.zeros(count, 2, 2)
    maps[:, 0, 0] = torch.linspace(0, 1, count)
    maps[:, 1, 1] = 1 - maps[:, 0, 0]
    return maps.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_bins_go_from_the_best_to_the_worst():
    found = agg_att(ladder(), 2)
    assert [len(part) for part in found.members] == [2, 3, 45, 45, 3, 2]
    assert found.members[0].tolist() == [99, 98] and found.members[5][-1] == 0
    assert (found.share[:-1] > found.share[1:]).all()
    assert found.example == [99, 96, 72, 27, 3, 1]
    want = torch.linspace(0, 1, 100)[[99, 98]].mean()
    torch.testing.assert_close(found.share[0], want)


def test_ties_are_broken_by_the_mass_inside():
    maps = torch.zeros(100, 8, 8)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    maps[:, :4, :4] = (1 + order.float()).view(-1, 1, 1)  # all score 1
    found = agg_att(maps, 2)
    assert order[torch.cat(found.members)].tolist() == [*range(99, -1, -1)]


def test_one_scale_for_all_bins_and_only_positive_parts():
    maps = ladder() * torch.linspace(1, 2, 100).view(-1, 1, 1) - 0.1
    found = agg_att(maps, 2)
    means = [maps[part].clamp(min=0).mean(0) for part in found.members]
    whole = torch.stack(means)
    assert found.scale == pytest.approx(whole.quantile(0.995).item(), rel=0.01)
    torch.testing.assert_close(found.mean, (whole / found.scale).clamp(max=1))


def test_a_head_other_than_the_first():
    found = agg_att(ladder(), 2, head=3)
    assert found.members[0].tolist() == [0, 1]


def test_agg_att_of_nothing_is_nothing():
    found = agg_att(torch.zeros(100, 4, 4), 2)
    assert found.mean.abs().max() == 0 and found.share.abs().max() == 0


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: agg_att(torch.ones(10, 4, 4), 2), "a map in every bin.*got 10 maps"),
        (lambda: agg_att(torch.ones(4, 4), 2), r"shape \(N, n\*H, n\*W\)"),
        (lambda: agg_att(torch.ones(100, 4, 4), 2, percentile=0), r"in \(0, 100\]"),
        (lambda: agg_att(torch.ones(100, 5, 4), 2), "cannot be cut into 2 x 2"),
    ],
)
def test_agg_att_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_bin_members_are_a_partition():
    scores = torch.rand(200, generator=torch.Generator().manual_seed(1))
    members = torch.cat(bin_members(scores, torch.ones(200)))
    assert sorted(members.tolist()) == [*range(200)]
    assert (scores[members][:-1] >= scores[members][1:]).all()


# ------------------------------------------------------------------------ sampling

CLASSES = torch.arange(12).repeat(5)


@pytest.mark.parametrize("n", [2, 3])
def test_grid_pg_takes_different_classes_and_every_image_once(n):
    drawn = sample_grids(CLASSES, n, 60 // n**2)
    assert all(len(set(row)) == n * n for row in CLASSES[drawn].tolist())
    counts = drawn.flatten().bincount(minlength=60)
    assert counts.max() <= 2 and (counts == 1).sum() >= 48


@pytest.mark.parametrize("setting", ["di_full", "di_part"])
@pytest.mark.parametrize("n", [2, 3])
def test_the_last_cell_repeats_the_first_class_with_another_image(setting, n):
    drawn = sample_grids(CLASSES, n, 40, setting)
    y = CLASSES[drawn]
    assert (y[:, 0] == y[:, -1]).all() and (drawn[:, 0] != drawn[:, -1]).all()
    assert all(len(set(row)) == n * n - 1 for row in y.tolist())
    assert drawn[:, 0].unique().numel() == 40  # each leads one grid


def test_a_seed_is_a_draw():
    one, same, other = (sample_grids(CLASSES, 2, 9, seed=s) for s in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    before = sample_grids(CLASSES, 2, 5)
    assert torch.equal(before, one[:5])  # more grids begin with the same ones


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: sample_grids(torch.arange(3), 2, 1), "needs 4 images, got 3"),
        (
            lambda: sample_grids(torch.zeros(9).long(), 2, 1),
            "grid_pg needs 4 classes, got 1",
        ),
        (
            lambda: sample_grids(torch.arange(9), 2, 1, "di_full"),
            "di_full needs two images of one class, got none",
        ),
        (lambda: sample_grids(torch.zeros(2, 2), 2, 1), r"shape \(N,\)"),
    ],
)
def test_sampling_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_confident_images_are_right_and_come_surest_first():
    net, x = small_cnn(), images(30)
    p = net(x).softmax(1)
    sure, y = p.max(1)
    y = y.clone()
    y[::3] = (y[::3] + 1) % 5  # these are wrong
    kept = confident(net, x, y, threshold=float(sure.median().detach()))
    assert all(k % 3 for k in kept.tolist())
    assert (sure[kept] >= sure.median()).all()
    assert (sure[kept][:-1] >= sure[kept][1:]).all()
    right = torch.tensor([i % 3 > 0 for i in range(30)]) & (sure >= sure.median())
    assert len(kept) == right.sum()


def test_confident_refuses():
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        confident(small_cnn(), images(), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        confident(small_cnn(), images(), torch.tensor([1, 2]), threshold=99)


# ------------------------------------------------------------------------ smoothing


def spike(H=21, W=26, dtype=torch.float64):
    maps = torch.zeros(2, 1, H, W, dtype=dtype)
    maps[0, 0, 10, 12], maps[1, 0, 9, 11] = 1, -2
    return maps


def test_smoothing_with_one_pixel_is_the_identity():
    maps = images(2, 1, 9, 12)
    torch.testing.assert_close(gaussian_smooth(maps, 1), maps)


@pytest.mark.parametrize("kernel", [3, 9, 15])
def test_signed_mass_is_kept_away_from_the_border(kernel):
    smooth = gaussian_smooth(spike(), kernel)
    torch.testing.assert_close(smooth.sum((1, 2, 3)), spike().sum((1, 2, 3)))


def test_the_kernel_is_a_gaussian_of_a_quarter_of_its_side():
    smooth = gaussian_smooth(spike(), 9)[0, 0]
    place = torch.arange(-4.0, 5, dtype=torch.float64)
    g = torch.exp(-(place**2) / (2 * (9 / 4) ** 2))
    want = torch.outer(g, g) / torch.outer(g, g).sum()
    torch.testing.assert_close(smooth[6:15, 8:17], want)
    assert smooth[:6].abs().max() == 0 and smooth[:, :8].abs().max() == 0


def test_what_happens_at_the_border():
    ones = torch.ones(1, 8, 8)
    lost = gaussian_smooth(ones, 5)
    assert lost[0, 0, 0] < lost[0, 4, 4] and lost[0, 4, 4] == pytest.approx(1)
    torch.testing.assert_close(gaussian_smooth(ones, 5, "renormalise"), ones)
    wide = gaussian_smooth(ones, 33)  # a kernel wider than the map
    assert wide.shape == ones.shape and wide.max() < 1


def test_smoothing_away_from_the_border_is_near_the_low_pass_it_is_said_to_be():
    maps = torch.zeros(1, 129, 129)
    maps[0, 64, 64] = 1
    ours = gaussian_smooth(maps, 17)
    theirs = low_pass(maps, 0.54 * 129 / 17, "gaussian")
    assert (ours - theirs).abs().max() < 0.1 * ours.max()


@pytest.mark.parametrize(
    "kernel, error, said",
    [
        (4, ValueError, "odd and at least 1, got 4"),
        (-1, ValueError, "odd"),
        (2.5, TypeError, "whole number of pixels, got 2.5"),
        (True, TypeError, "whole number"),
    ],
)
def test_smoothing_refuses_other_kernels(kernel, error, said):
    with pytest.raises(error, match=said):
        gaussian_smooth(torch.ones(1, 8, 8), kernel)


def test_smoothing_refuses_other_maps_and_borders():
    with pytest.raises(ValueError, match=r"shape \(..., H, W\)"):
        gaussian_smooth(torch.ones(8), 3)
    with pytest.raises(ValueError, match="border must be one of zero, renormalise"):
        gaussian_smooth(torch.ones(8, 8), 3, "reflect")


def test_the_bins_and_the_percentile_that_are_asked_for_are_taken():
    maps = torch.rand(20, 8, 8, generator=torch.Generator().manual_seed(0))
    halves = agg_att(maps, 2, bins=((0, 50), (50, 100)), percentile=50)
    mean = torch.stack([maps[part].mean(0) for part in halves.members])
    assert [len(part) for part in halves.members] == [10, 10]
    assert halves.scale == float(mean.flatten().sort().values[63])  # 0.5 * 127


def test_scores_that_are_no_numbers_make_no_bins():
    scores = torch.rand(100)
    with pytest.raises(ValueError, match="without NaN"):
        bin_members(torch.where(scores > 0.9, torch.nan, scores), scores)
    with pytest.raises(ValueError, match="one shape"):
        bin_members(scores, scores[:50])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"setting": "GridPG"}, "setting must be one of"),
        ({"n": 1}, "n must be at least 2"),
        ({"grids": 0}, "grids must be above 0"),
    ],
)
def test_a_grid_that_is_none_is_refused(call, said):
    y = torch.arange(10).repeat(3)
    with pytest.raises(ValueError, match=said):
        sample_grids(**({"y": y, "n": 2, "grids": 3} | call))


def test_the_partner_of_a_pair_is_drawn():
    y = torch.arange(4).repeat(6)
    drawn = sample_grids(y, 2, 40, "di_full")
    assert len({(int(a) - int(b)) % 24 for a, b in drawn[:, [3, 0]]}) > 3
