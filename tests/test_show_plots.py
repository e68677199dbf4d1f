"""The plots: what they draw, and what they refuse."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from xai_lib.attribute import METHODS, NEED_PATTERNS
from xai_lib.show import (
    ABSOLUTE,
    SIGNED,
    curve_plot,
    interval_plot,
    method_colour,
    method_label,
    show_maps,
    signed_norm,
    spectra_plot,
    spectrum_image,
    use_style,
)
from xai_lib.show._axes import spread
from xai_lib.show.style import readable
from xai_lib.study.units import CONTROLS

WHITE = (1.0, 1.0, 1.0, 1.0)
K = np.arange(9.0)


def power(slope):
    return np.r_[2.0, K[1:] ** -slope]


def drawn(figure):
    """Render, so that nothing fails late, and return the first axes."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure.axes[0]


def texts(figure):
    return {text.get_text() for axis in figure.axes for text in axis.texts}


def test_zero_is_white_and_the_ends_are_not():
    norm = signed_norm(4.0)
    assert SIGNED(norm(0.0)) == WHITE
    assert ABSOLUTE(0.0) == WHITE
    low, high = SIGNED(norm(-4.0)), SIGNED(norm(4.0))
    assert low[2] > low[0] and high[0] > high[2]  # blue below, red above
    assert norm(-4.0) == 0 and norm(4.0) == 1
    with pytest.raises(ValueError, match="limit must be above 0, got 0"):
        signed_norm(0)


def test_signed_colours_darken_evenly_on_both_sides():
    """Distance from white must tell the size, whichever the sign."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    light = SIGNED(np.linspace(0, 1, 257))[:, :3] @ weights
    assert (np.diff(light[:129]) > -1e-9).all() and (np.diff(light[128:]) < 1e-9).all()
    assert np.abs(light - light[::-1]).max() < 0.2


def test_use_style_sets_white_background_and_100_dpi():
    with plt.rc_context():
        plt.rcParams["figure.dpi"] = 50
        use_style()
        assert plt.rcParams["figure.dpi"] == 100
        assert plt.rcParams["figure.facecolor"] == "white"


def test_plots_leave_the_style_and_pyplot_alone():
    before, numbers = dict(plt.rcParams), plt.get_fignums()
    curve_plot(K, {"a": K}, xlabel="x", ylabel="y")
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == numbers  # an open one would be drawn twice


def test_methods_bring_label_and_colour():
    name = next(iter(METHODS))
    assert method_label(name) == METHODS[name].label
    assert method_colour(name) == METHODS[name].colour
    for other, method in NEED_PATTERNS.items():
        assert method_label(other) == method.label
        assert method_colour(other) == method.colour
    every = [m.colour for m in (METHODS | NEED_PATTERNS).values()]
    assert len(set(every)) == len(every)
    for control in CONTROLS:
        assert method_colour(control, 0) == method_colour(control, 5) not in every
    assert method_label("my own") == "my own"
    assert method_colour("my own", 0) != method_colour("my own", 1)
    figure = curve_plot(K, {name: K}, xlabel="x", ylabel="y")
    line = figure.axes[0].lines[0]
    assert to_hex(line.get_color()) == METHODS[name].colour.lower()
    assert METHODS[name].label in texts(figure)


@pytest.mark.parametrize("colour", ["#ffffff", "#f0a30a", "#93d3c6", "#08306b"])
def test_letters_have_contrast(colour):
    rgb = np.array([int(readable(colour)[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 4.3


def test_curve_plot_has_labels_bands_references_and_marks():
    figure = curve_plot(
        K[1:],
        {"a": K[1:], "b": 2 * K[1:]},
        bands={"a": (K[1:] - 0.5, K[1:] + 0.5)},
        references={"chance": 0.5, "control": power(1)[1:]},
        marks={"here": 4},
        labels={"b": "second"},
        xlabel="cutoff (cycles per image)",
        ylabel="correlation",
        log="x",
        ylim=(0, 20),
    )
    axis = drawn(figure)
    assert axis.get_xlabel() == "cutoff (cycles per image)"
    assert axis.get_ylabel() == "correlation"
    assert {"a", "second", "chance", "control", "here"} == texts(figure)
    assert axis.get_xscale() == "log" and axis.get_yscale() == "linear"
    assert axis.get_ylim() == (0, 20) and len(axis.collections) == 1


def test_family_key_only_where_families_differ():
    def key(names):
        figure = curve_plot(K, {n: K for n in names}, xlabel="x", ylabel="y")
        return [t.get_text() for legend in figure.legends for t in legend.texts]

    assert key(["gradient", "smoothgrad"]) == []
    assert key(["gradient", "rise"]) == ["gradient", "prediction"]


def test_flat_and_empty_curves_are_drawn():
    flat, gaps = np.ones_like(K), np.full_like(K, np.nan)
    figure = curve_plot(K, {"flat": flat, "gaps": gaps}, xlabel="x", ylabel="y")
    drawn(figure)
    assert texts(figure) == {"flat"}
    assert texts(curve_plot(K, {"gaps": gaps}, xlabel="x", ylabel="y")) == set()


def test_spectra_plot_is_log_log_without_the_zero_frequency():
    tensor = torch.from_numpy(power(2.0))
    figure = spectra_plot(
        torch.from_numpy(K),
        {"gradient": tensor, "zero": np.zeros(9)},
        bands={"gradient": (tensor * 0.9, tensor * 1.1)},
        references={"white noise": 0.1},
    )
    axis = drawn(figure)
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert "cycles per image" in axis.get_xlabel() and axis.get_ylabel()
    curve = next(line for line in axis.lines if line.get_linestyle() == "-")
    assert curve.get_xdata().min() == 1
    np.testing.assert_allclose(curve.get_ydata(), power(2.0)[1:])
    assert texts(figure) == {METHODS["gradient"].label, "white noise"}


def test_interval_plot_draws_each_interval_and_its_dot():
    values = {"gradient": {"r": (1.0, 0.8, 1.3), "m": (2.0, (1.5, 2.1))}, "own": {}}
    values["own"]["m"] = (3.0, 2.5, 3.5)
    figure = interval_plot(
        values, groups=["r", "m"], xlabel="slope", reference={"noise": 0.0}
    )
    axis = drawn(figure)
    assert axis.get_xlabel() == "slope" and "noise" in texts(figure)
    assert [t.get_text() for t in axis.get_yticklabels()] == ["Gradient", "own"]
    dots = [tuple(li.get_xdata()) for li in axis.lines if li.get_marker() in "os"]
    assert [(1.0,), (2.0,), (3.0,)] == [dot for dot in dots if dot]
    ends = [tuple(li.get_xdata()) for li in axis.lines if len(li.get_xdata()) == 2]
    assert {(0.8, 1.3), (1.5, 2.1), (2.5, 3.5)} <= set(ends)
    assert [t.get_text() for t in figure.legends[0].texts] == ["r", "m"]


def test_every_group_has_its_dots_however_many_there_are():
    groups = [f"net{k}" for k in range(8)]
    values = {"a": {group: (k, k - 1, k + 1) for k, group in enumerate(groups)}}
    figure = interval_plot(values, groups=groups, xlabel="slope")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == groups


def test_interval_plot_without_groups_has_no_legend():
    figure = interval_plot({"a": (1, 0, 2)}, xlabel="share", reference=0.5)
    drawn(figure)
    assert figure.legends == []


def test_show_maps_draws_a_photograph_and_a_map_each():
    images = torch.rand(2, 3, 8, 10)
    maps = {"gradient": torch.randn(2, 8, 10), "coarse": torch.randn(2, 1, 2, 2)}
    figure = show_maps(images, maps, rows=["cat", "dog"])
    drawn(figure)
    pictures = [axis.images[0] for axis in figure.axes[:6]]
    shapes = [picture.get_array().shape for picture in pictures]
    assert shapes == [(8, 10, 3), (8, 10), (2, 2)] * 2
    assert all(
        list(p.get_extent()) == [0, 10, 8, 0] for p in (pictures[1], pictures[2])
    )
    assert figure.axes[1].get_title() == METHODS["gradient"].label
    assert figure.axes[0].get_ylabel() == "cat"
    assert SIGNED(pictures[1].norm(0.0)) == WHITE
    assert "99.5th percentile" in figure.axes[-1].get_xlabel()


def test_show_maps_scales_each_map_by_its_own_percentile():
    small = torch.randn(1, 8, 8)
    maps = {"small": small, "large": 1e6 * small}
    figure = show_maps(torch.rand(1, 3, 8, 8), maps, percentile=100)
    first, second = (figure.axes[i].images[0].get_array() for i in (1, 2))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert np.abs(first).max() == 1


def test_show_maps_absolute_and_faint_photograph():
    figure = show_maps(
        torch.rand(1, 1, 8, 8), -torch.ones(1, 8, 8), signed=False, image_alpha=0.4
    )
    drawn(figure)
    values, shade = (picture.get_array() for picture in figure.axes[1].images)
    assert values.min() == 1 and shade.shape == (8, 8, 4)
    assert shade[..., 3].max() <= 0.4


def test_show_maps_breaks_lines_and_survives_a_zero_map():
    maps = {f"m{i}": torch.zeros(2, 4, 4) for i in range(5)}
    figure = show_maps(torch.rand(2, 3, 4, 4), maps, columns=3)
    drawn(figure)
    assert sum(bool(axis.images) for axis in figure.axes) == 2 + 10
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"m{i}" for i in range(5)] * 2


def test_spectrum_image_puts_zero_frequency_in_the_middle():
    spectrum = torch.full((8, 9), 1e-4)
    spectrum[0, 0] = 1.0
    both = {"gradient": spectrum, "own": spectrum}
    figure = spectrum_image(both, centred=False)
    axis = drawn(figure)
    shown = axis.images[0].get_array()
    assert shown[4, 4] == 0 and np.allclose(np.sort(shown.ravel())[:-1], -4)
    left, right, bottom, top = axis.images[0].get_extent()
    assert (left, right, bottom, top) == (-4.5, 4.5, 3.5, -4.5)  # a pixel per frequency
    assert axis.get_xlabel() == axis.get_ylabel() == "cycles per image"
    kept = spectrum_image(spectrum).axes[0].images[0].get_array()
    assert kept[0, 0] == 0


def test_spread_keeps_apart_in_order_and_within():
    wanted = np.array([0.5, 0.5, 0.52, 0.9, 0.0])
    out = spread(wanted, 0.1, 0.0, 1.0)
    assert (np.diff(np.sort(out)) >= 0.1 - 1e-12).all()
    assert out.min() >= 0 and out.max() <= 1
    assert (np.argsort(out, kind="stable") == np.argsort(wanted, kind="stable")).all()
    np.testing.assert_allclose(out[3:], wanted[3:])  # the free ones stay


X = torch.rand(2, 3, 4, 4)
M = torch.zeros(2, 4, 4)
BAD = {
    "images must have shape": lambda: show_maps(X[0], M),
    r"images must lie in \[0, 1\], got": lambda: show_maps(9 * X, M),
    r"maps\['g'\]: maps must have one channel": lambda: show_maps(X, {"g": X}),
    r"must hold 2 maps, one per image, got 1": lambda: show_maps(X, M[:1]),
    "maps must be finite": lambda: show_maps(X, M / 0),
    "titles must hold 1 names, got 2": lambda: show_maps(X, M, titles=["a", "b"]),
    "rows must hold 2 names, got 1": lambda: show_maps(X, M, rows=["a"]),
    "image_alpha must lie in": lambda: show_maps(X, M, image_alpha=1.0),
    "columns must be at least 1": lambda: show_maps(X, M, columns=0),
    "percentile must lie in": lambda: show_maps(X, M, percentile=0),
    "curves must name at least one": lambda: curve(K, {}),
    r"curves\['a'\] must have shape \(9,\), got \(8,\)": lambda: curve(K, {"a": K[1:]}),
    "x must have 1 dimensions": lambda: curve(X, {"a": K}),
    r"curves\['a'\] must be numbers, got": lambda: curve(K, {"a": "words"}),
    "bands must name curves, got 'b'": lambda: curve(K, {"a": K}, bands={"b": (K, K)}),
    r"bands\['a'\] must be two": lambda: curve(
        K, {"a": K}, bands={"a": (K[1:], K[1:])}
    ),
    "log must be": lambda: curve(K, {"a": K}, log="z"),
    "frequency must reach above 0": lambda: spectra_plot([0, 0], {"a": [1, 1]}),
    r"power_by_method\['a'\] must have shape": lambda: spectra_plot(K, {"a": K[1:]}),
    "a must be": lambda: interval_plot({"a": 3}, xlabel="x"),
    "a must have low <= high": lambda: interval_plot({"a": (1, 2, 0)}, xlabel="x"),
    "must be non-negative": lambda: spectrum_image(-torch.ones(4, 4)),
    "must have 2 dimensions": lambda: spectrum_image(torch.ones(4)),
    "decades must be above 0": lambda: spectrum_image(torch.ones(4, 4), decades=0),
}


def curve(x, curves, **more):
    return curve_plot(x, curves, xlabel="x", ylabel="y", **more)


@pytest.mark.parametrize("message", BAD)
def test_bad_input_gets_one_clear_line(message):
    with pytest.raises(ValueError, match=message) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)


def test_a_list_of_curves_is_refused():
    with pytest.raises(
        TypeError, match="curves must be a mapping from names, got list"
    ):
        curve(K, [K])
