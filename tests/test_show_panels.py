"""Small multiples: what they draw, and what they refuse."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from xai_lib.show import curve_panels, dot_panels, method_colour

VALUES = {
    "gradient": {"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.5), "c": (0.1, 0.1, 0.2)},
    "lrp_zplus": {"a": (1e-12, 1e-13, 1e-11), "c": (1e-3, 1e-4, 1e-2)},
}
OPTIONS = {"xlabel": "1 - CSC", "xlim": (1e-8, 1.0), "log": True}


def lines(axis, colour):
    return [line for line in axis.lines if to_hex(line.get_color()) == colour]


def test_each_dot_stands_in_its_panel_in_its_row():
    figure = dot_panels(VALUES, panels=["a", "b", "c"], **OPTIONS)
    figure.canvas.draw()
    colour = method_colour("lrp_zplus")
    a, b, c = figure.axes
    assert not lines(b, colour)  # it has no value there
    interval, dot = lines(c, colour)
    assert list(interval.get_xdata()) == [1e-4, 1e-2]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1e-3, 1)
    assert [t.get_text() for t in a.get_yticklabels()] == ["Gradient", "LRP z+"]


def test_what_lies_below_the_axis_is_an_arrow_head_at_its_edge():
    figure = dot_panels(VALUES, panels=["a"], **OPTIONS)
    (_, dot) = lines(figure.axes[0], method_colour("lrp_zplus"))
    assert dot.get_marker() == "<" and dot.get_xdata()[0] == 1e-8
    (_, inside) = lines(figure.axes[0], method_colour("gradient"))
    assert inside.get_marker() == "o"


def test_references_may_differ_from_panel_to_panel():
    references = {"chance": {"a": 0.9, "b": 0.4}, "pass rule": 0.01}
    options = OPTIONS | {"references": references}
    figure = dot_panels(VALUES, panels=["a", "b", "c"], **options)
    drawn = [
        {line.get_label(): line.get_xdata()[0] for line in axis.lines}
        for axis in figure.axes
    ]
    assert [one.get("chance") for one in drawn] == [0.9, 0.4, None]
    assert {one["pass rule"] for one in drawn} == {0.01}
    (legend,) = figure.legends
    texts = sorted(text.get_text() for text in legend.get_texts())
    assert texts == ["chance", "pass rule"]  # once each


@pytest.mark.parametrize("xlim", [(1.0, 1e-8), (0.0, 1.0)])
def test_dot_panels_refuse_limits_that_have_no_axis(xlim):
    with pytest.raises(ValueError, match="xlim must rise, above 0"):
        dot_panels(VALUES, panels=["a"], **(OPTIONS | {"xlim": xlim}))


def test_curves_keep_their_own_x_and_are_clipped_to_the_axis():
    curves = {
        "a": {"gradient": ([0, 1, 3], [0.5, 0.4, 1e-12])},
        "b": {"gradient": ([0, 2], [0.3, 0.2], [0.2, 0.1], [0.4, 0.3])},
    }
    figure = curve_panels(
        curves, xlabel="layers", ylabel="1 - CSC", ylim=(1e-8, 1.0), log=True
    )
    figure.canvas.draw()
    a, b = figure.axes
    assert np.allclose(a.lines[0].get_ydata(), [0.5, 0.4, 1e-8])
    assert list(b.lines[0].get_xdata()) == [0, 2]
    assert not a.collections and len(b.collections) == 1  # the band
    assert len(figure.legends[0].get_texts()) == 1


def test_curve_panels_write_the_names_of_places():
    figure = curve_panels(
        {"a": {"x": ([0, 1], [0.1, 0.2])}},
        xlabel="weights made random",
        ylabel="SSIM",
        ylim=(0, 1),
        ticks=["none", "fc"],
    )
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert labels == ["none", "fc"]


def test_panels_refuse_nothing_and_no_columns():
    with pytest.raises(ValueError, match="values must name at least one entry"):
        dot_panels({}, panels=["a"], **OPTIONS)
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        dot_panels(VALUES, panels=["a"], columns=0, **OPTIONS)


def test_curve_panels_draw_the_dashes_of_every_family():
    curves = {
        "net": {"guided_backprop": ([0, 1], [0.2, 0.4]), "rise": ([0, 1], [1, 1])}
    }
    options = {"xlabel": "layers", "ylabel": "cosine", "ylim": (0, 1)}
    lines = curve_panels(curves, **options).axes[0].lines
    assert lines[0].get_linestyle() != "-" and lines[0].get_marker() == "o"
