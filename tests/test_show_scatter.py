"""Scatter panels: what is drawn where, and in which colour."""

import pytest

from xai_lib.show import method_colour, scatter_panels

OPTIONS = {"xlabel": "a", "ylabel": "b", "xlim": (0, 1), "ylim": (0, 1)}
POINTS = {
    "one": {"gradient": (0.2, 0.5), "deconvnet": ([0.1, 0.9], [0.3, 0.8])},
    "two": {"gradient": (0.4, 0.6)},
}


def dots(axis):
    return [line for line in axis.lines if line.get_marker() == "o"]


def test_points_stand_where_they_belong():
    figure = scatter_panels(POINTS, **OPTIONS)
    first, second = figure.axes
    one, many = dots(first)
    assert one.get_xydata().tolist() == [[0.2, 0.5]]
    assert many.get_xydata().tolist() == [[0.1, 0.3], [0.9, 0.8]]
    assert len(dots(second)) == 1
    assert one.get_color() == method_colour("gradient")


@pytest.mark.parametrize(
    ("point", "head", "place"),
    [
        ((-1.0, 0.5), "<", (0.0, 0.5)),
        ((3.0, 0.5), ">", (1.0, 0.5)),
        ((0.5, -1.0), "v", (0.5, 0.0)),
        ((0.5, 1.5), "^", (0.5, 1.0)),
        ((2.0, 2.0), ">", (1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("hollow", [[], ["gradient"]])
def test_a_point_outside_is_one_arrow_head_at_the_edge(point, head, place, hollow):
    points = {"one": {"gradient": point, "deconvnet": (0.5, 0.5)}}
    figure = scatter_panels(points, hollow=hollow, **OPTIONS)
    heads = [line for line in figure.axes[0].lines if line.get_marker() in "<>v^"]
    assert [line.get_marker() for line in heads] == [head]
    assert heads[0].get_xydata().tolist() == [list(place)]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["Gradient", "Deconvnet"]


def test_rings_lines_and_references():
    figure = scatter_panels(
        POINTS,
        hollow=["deconvnet"],
        lines={"one": (0.1, 2.0)},
        references={"chance": {"two": 0.3}},
        **OPTIONS,
    )
    one, many = dots(figure.axes[0])
    assert many.get_markerfacecolor() == "none" != one.get_markerfacecolor()
    fitted = [line for line in figure.axes[0].lines if line not in (one, many)]
    assert len(fitted) == 1 and fitted[0].get_slope() == 2.0
    assert any(line.get_label() == "chance" for line in figure.axes[1].lines)


def test_each_name_stands_once_in_the_legend():
    figure = scatter_panels(POINTS, labels={"deconvnet": "DN"}, **OPTIONS)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Gradient", "DN"]


def test_points_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="must name at least one"):
        scatter_panels({}, **OPTIONS)
    with pytest.raises((ValueError, TypeError), match="gradient must be numbers"):
        scatter_panels({"one": {"gradient": ("x", 1)}}, **OPTIONS)


def test_outer_labels_stand_at_the_middle_of_the_panels_below_the_legend():
    names = [f"a method with a long name {i}" for i in range(12)]
    figure = scatter_panels({"net": {n: (0.5, 0.5) for n in names}}, **OPTIONS)
    figure.canvas.draw()
    box = figure.axes[0].get_position()
    assert abs(figure._supylabel.get_position()[1] - (box.y0 + box.y1) / 2) < 0.02
    assert abs(figure._supxlabel.get_position()[0] - (box.x0 + box.x1) / 2) < 0.02


def test_words_stand_beside_their_points_on_the_side_with_room():
    words = {"one": {"left": (0.2, 0.5), "right": (0.9, 3.0)}}
    figure = scatter_panels(POINTS, texts=words, **OPTIONS)
    found = {text.get_text(): text for text in figure.axes[0].texts}
    assert found["left"].get_ha() == "left" and found["left"].xy == (0.2, 0.5)
    assert found["right"].get_ha() == "right" and found["right"].xy == (0.9, 1.0)
    assert not figure.axes[1].texts
