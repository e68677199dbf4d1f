"""Grids, AggAtt, boxes, matrices, wiring: what they draw, and what they refuse."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from xai_lib.evaluate import agg_att
from xai_lib.show import (
    agg_att_figure,
    box_panels,
    matrix_panels,
    method_colour,
    show_grid,
    wiring,
)

GRID = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))


def frames(axis):
    return [p for p in axis.patches if isinstance(p, Rectangle)]


def test_the_explained_cell_is_framed_on_the_grid_and_on_each_map():
    maps = {"gradient": torch.randn(8, 12), "grad_cam": torch.randn(2, 3)}
    figure = show_grid(GRID, maps, n=2, head=3, notes=["0.9", "0.2"])
    photo, first, second, _ = figure.axes
    for axis in (photo, first, second):
        (frame,) = frames(axis)
        assert (frame.get_x(), frame.get_y()) == (6, 4)
        assert (frame.get_width(), frame.get_height()) == (6, 4)
    assert [a.get_title() for a in (first, second)] == ["Gradient", "Grad-CAM"]
    assert second.get_xlabel() == "0.2"
    assert second.images[0].get_extent() == [0, 12, 8, 0]  # blocks over the same area


def test_maps_of_several_heads_leave_the_grid_without_a_frame():
    figure = show_grid(GRID, {"a": GRID[0], "b": GRID[1]}, n=2, head=[0, 1])
    assert not frames(figure.axes[0])
    assert [frames(a)[0].get_x() for a in figure.axes[1:3]] == [0, 6]


def test_zero_is_white_and_the_sign_keeps_its_colour():
    one = torch.zeros(4, 4)
    one[0, 0], one[3, 3] = 1, -1
    image = show_grid(GRID, {"m": one}, n=2, head=0).axes[1].images[0]
    assert image.norm.vmin == -1 and image.norm.vmax == 1
    assert float(image.get_array()[1, 1]) == 0


@pytest.mark.parametrize("own", [{"head": [0]}, {"titles": ["a"]}, {"notes": ["a"]}])
def test_show_grid_wants_one_word_per_map(own):
    options = {"n": 2, "head": 0} | own
    with pytest.raises(ValueError, match="must be 2, one per map"):
        show_grid(GRID, {"a": GRID[0], "b": GRID[1]}, **options)


def test_agg_att_shows_means_examples_and_their_maps():
    g = torch.Generator().manual_seed(1)
    maps, grids = torch.rand(100, 8, 8, generator=g), torch.rand(100, 3, 8, 8)
    found = agg_att(maps, 2)
    figure = agg_att_figure(found, grids, maps, n=2)
    axes = np.array(figure.axes[:18]).reshape(3, 6)
    for k in range(6):
        np.testing.assert_allclose(axes[0, k].images[0].get_array(), found.mean[k])
        photo = grids[found.example[k]].permute(1, 2, 0)
        np.testing.assert_allclose(axes[1, k].images[0].get_array(), photo)
        want = (maps[found.example[k]] / found.scale).clamp(max=1)
        np.testing.assert_allclose(axes[2, k].images[0].get_array(), want)
    assert axes[0, 0].get_title() == "0 to 2 %"
    share = f"{100 * float(found.share[0]):.0f} % inside"
    assert axes[0, 0].get_xlabel() == share


def test_agg_att_figure_wants_a_pair_per_bin():
    maps = torch.rand(100, 8, 8)
    with pytest.raises(ValueError, match="bins must hold 6 pairs, got 1"):
        agg_att_figure(
            agg_att(maps, 2), torch.rand(100, 3, 8, 8), maps, n=2, bins=[(0, 100)]
        )


def test_boxes_are_quartiles_without_outliers():
    scores = [0.0, 0.4, 0.5, 0.6, 5.0]
    figure = box_panels(
        {"gradient": {"a": scores}, "rise": {"a": scores, "b": scores}},
        panels=["a", "b"],
        xlabel="score",
        xlim=(0, 1),
        references={"uniform map": 0.25},
    )
    first, second = figure.axes[:2]
    box = first.patches[1 - 1]  # the box of the gradient
    xs = box.get_path().vertices[:, 0]
    assert (xs.min(), xs.max()) == (0.4, 0.6)
    assert to_hex(box.get_facecolor()) == method_colour("gradient")
    drawn = max(np.max(line.get_xdata()) for line in first.lines)
    assert drawn < 1  # 5.0 lies outside the whiskers
    assert len(first.patches) == 2 + 1 and len(second.patches) == 1 + 1  # and the band
    assert [t.get_text() for t in first.get_yticklabels()] == ["Gradient", "RISE"]
    with pytest.raises(ValueError, match="needs scores, got none"):
        box_panels({"a": {"p": []}}, panels=["p"], xlabel="", xlim=(0, 1))


def test_a_matrix_writes_its_numbers_and_leaves_nan_empty():
    one = np.array([[np.nan, np.nan], [0.5, np.nan]])
    figure = matrix_panels({"a": one, "b": one}, names=["x", "y"], label="rho")
    first, second, bar = figure.axes
    assert [t.get_text() for t in first.texts] == ["0.50"]
    assert (first.get_title(), second.get_title()) == ("a", "b")
    assert bar.get_ylabel() == "rho"
    with pytest.raises(ValueError, match=r"b must have shape \(2, 2\), got \(1, 1\)"):
        matrix_panels({"b": [[1.0]]}, names=["x", "y"], label="")


def test_the_wiring_shows_four_pieces_of_the_grid_three_times():
    figure = wiring(GRID, classes=("P", "Q", "R", "T"))
    assert [len(axis.images) for axis in figure.axes] == [4, 4, 4]
    words = [{t.get_text() for t in axis.texts} for axis in figure.axes]
    assert "$S_{P}$ $S_{Q}$ $S_{R}$ $S_{T}$" in words[0]
    assert {"head 1", "head 4", "$S_{P}$"} <= words[1] & words[2]
    networks = [sum(t.get_text() == "network" for t in a.texts) for a in figure.axes]
    assert networks == [1, 4, 1]


def test_wiring_wants_photographs():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        wiring(10 * GRID)
