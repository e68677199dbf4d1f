"""The slider's output, read as a page would read it, and the live widget."""

import html.parser
import json
import sys

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from xai_lib.show import Frames, curve_plot, explore

NASTY = 'Cut at {label}: "quoted" </script><b>'


def draw(value):
    figure = Figure((2, 1))
    figure.text(0.5, 0.5, str(value))
    return figure


class Page(html.parser.HTMLParser):
    """Collect the elements and the scripts of an HTML fragment."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.lasttag == "script" and self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def frames():
    return Frames(
        'the "cutoff"',
        [4, 8, 16.5],
        draw,
        alt=NASTY,
        caption='A <i>caption</i> & "more"',
        unit="cycles per image",
        start=1,
    )


@pytest.fixture(scope="module")
def page(frames):
    return Page(frames._repr_html_())


def test_json_is_valid_and_complete(frames, page):
    data = json.loads(page.scripts[0])
    assert data["start"] == 1 and data["name"] == 'the "cutoff"'
    assert [f["short"] for f in data["frames"]] == ["4", "8", "16.5"]
    assert data["frames"][2]["label"] == "16.5 cycles per image"
    words = NASTY.replace("{label}", "16.5 cycles per image")
    assert data["frames"][2]["alt"] == words
    assert "src" not in data["frames"][1]  # it stands in the img already
    assert data["frames"][0]["src"].startswith("data:image/webp;base64,")


def test_works_as_a_plain_picture_without_javascript(frames, page):
    (img,) = page.all("img")
    assert img["src"] == frames.frames[1]["src"]
    assert img["alt"] == NASTY.replace("{label}", "8 cycles per image")
    assert (int(img["width"]), int(img["height"])) == frames.size == (180, 90)
    assert 'the "cutoff": 8 cycles per image' in page.text
    assert 'A <i>caption</i> & "more"' in page.text
    assert len(page.all("figcaption")) == 1


def test_nothing_escapes_and_nothing_is_fetched(frames, page):
    text = frames._repr_html_()
    assert "http" not in text and "//cdn" not in text
    assert len(page.all("script")) == 2 and page.all("b") == page.all("i") == []
    assert " id=" not in text  # several on one page share nothing


def test_same_input_same_bytes(frames):
    again = Frames("n", [4, 8], draw, alt="{value}")
    assert [f["src"] for f in again.frames] == [f["src"] for f in frames.frames[:2]]
    assert again.frames[0]["src"] != again.frames[1]["src"]


def test_notebook_picks_html_and_text(frames):
    from IPython.core.formatters import DisplayFormatter

    bundle, _ = DisplayFormatter().format(frames)
    assert set(bundle) == {"text/html", "text/plain"}
    words = "<Frames 'the \"cutoff\"': 4, 8, 16.5 cycles per image>"
    assert bundle["text/plain"] == words


def test_start_defaults_to_the_middle_and_methods_print_their_label():
    shown = Frames("method", ["gradient", "own", "rise"], draw, alt="{value}")
    assert shown.start == 1
    assert [f["alt"] for f in shown.frames] == ["Gradient", "own", "RISE"]
    assert "<figcaption" not in shown._repr_html_()


def test_frames_of_our_plots_leave_no_figure_open():
    def plot(value):
        return curve_plot(
            [1, 2], {"a": [0, value]}, xlabel="x", ylabel="y", ylim=(0, 9)
        )

    def pyplot(value):
        figure, _ = plt.subplots(figsize=(2, 1), dpi=200)
        return figure

    assert len({f["src"] for f in Frames("v", [1, 5], plot, alt="{value}").frames}) == 2
    Frames("v", [1, 5], pyplot, alt="{value}")
    assert plt.get_fignums() == []


def other_size(value):
    return Figure((2, value))


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "values must be 2 to 9, got 1", {"values": [1]}),
        (ValueError, "values must be 2 to 9, got 10", {"values": range(10)}),
        (ValueError, "start must lie in 0 to 1, got 2", {"start": 2}),
        (ValueError, "start must lie in 0 to 1, got -1", {"start": -1}),
        (ValueError, r"alt must hold \{value\} .* got neither", {"alt": "a map"}),
        (ValueError, r"alt must hold .* got \{x\}", {"alt": "{x}"}),
        (TypeError, "alt must be a format string, got NoneType", {"alt": None}),
        (TypeError, "draw must return a .* got NoneType", {"draw": lambda v: None}),
        (
            ValueError,
            r"figures of one size, \(180, 90\) .* for 2",
            {"draw": other_size},
        ),
    ],
)
def test_bad_input_gets_one_clear_line(error, message, kwargs):
    given = {"values": [1, 2], "draw": draw, "alt": "{value}"} | kwargs
    with pytest.raises(error, match=message) as caught:
        Frames("n", **given)
    assert "\n" not in str(caught.value)


@pytest.fixture
def displayed(monkeypatch):
    """Collect what is displayed, outside a notebook."""
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


def test_explore_draws_once_and_lets_sliders_rest(displayed):
    pytest.importorskip("ipywidgets")

    def pyplot(cutoff):
        figure, _ = plt.subplots()
        figure.suptitle(str(cutoff))
        return figure

    drawn = []

    def noted(cutoff):
        drawn.append(cutoff)
        return pyplot(cutoff)

    assert explore(noted, cutoff=(2, 8, 2)) is None
    (panel,) = displayed
    slider, picture = panel.children
    assert drawn == [slider.value] and plt.get_fignums() == []
    assert slider.continuous_update is False and slider.description == "cutoff"
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    slider.value = 8
    assert drawn[-1] == 8 and len(drawn) == 2 and bytes(picture.value) != before


def test_explore_refuses_to_display_what_is_no_figure(displayed):
    pytest.importorskip("ipywidgets")
    with pytest.raises(TypeError, match="Figure, got str"):
        explore(lambda cutoff: "words", cutoff=(2, 8))
    assert not displayed


def test_explore_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="explore needs at least one control"):
        explore(draw)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="explore needs ipywidgets"):
        explore(draw, value=(1, 2))
