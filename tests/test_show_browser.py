"""The slider in headless Chromium, on a page opened from a file."""

import time

import pytest
from in_browser import insert_later
from matplotlib.figure import Figure

from xai_lib.show import Frames

pytestmark = pytest.mark.browser


def draw(value):
    figure = Figure((8, 3))
    figure.text(0.5, 0.5, str(value))
    return figure


def html(*sliders):
    # a first slider alone, then text, so that the second is parsed when the element
    # is already defined
    body = "<p>text between</p>".join(slider._repr_html_() for slider in sliders)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{head}{view}<body>{body}<p id='below'>below</p>"


@pytest.fixture(scope="module")
def sliders():
    one = Frames(
        "cutoff", [2, 4, 8, 16], draw, alt="Cut at {label}", unit="cycles", start=1
    )
    two = Frames("method", ["gradient", "rise"], draw, alt="Map of {value}", start=0)
    return one, two


@pytest.fixture
def page(chromium, sliders, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(html(*sliders), encoding="utf-8")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get_log("browser")  # what others left there
    chromium.get(file.as_uri())
    return chromium


def parts(page, index=0):
    """Return a slider's input and what it shows now."""
    element = page.find_elements("css selector", "xai-frames")[index]
    slider = element.find_element("css selector", "input[type=range]")
    img = element.find_element("css selector", "img")
    state = {
        "src": img.get_attribute("src"),
        "alt": img.get_attribute("alt"),
        "label": element.find_element("css selector", "output").text,
        "spoken": slider.get_attribute("aria-valuetext"),
    }
    return slider, state


def expected(frames, index):
    frame = frames.frames[index]
    label = {"label": frame["label"], "spoken": frame["label"]}
    return {"src": frame["src"], "alt": frame["alt"]} | label


def test_starts_where_told_and_stays_there(page, sliders):
    assert parts(page, 0)[1] == expected(sliders[0], 1)
    assert parts(page, 1)[1] == expected(sliders[1], 0)
    time.sleep(0.5)
    assert parts(page, 0)[1] == expected(sliders[0], 1)  # nothing plays by itself


def test_keyboard_moves_one_and_leaves_the_other(page, sliders):
    from selenium.webdriver.common.keys import Keys

    slider, _ = parts(page, 0)
    for key, index in [(Keys.ARROW_RIGHT, 2), (Keys.END, 3), (Keys.HOME, 0)]:
        slider.send_keys(key)
        assert parts(page, 0)[1] == expected(sliders[0], index)
        assert parts(page, 1)[1] == expected(sliders[1], 0)
    slider.send_keys(Keys.ARROW_LEFT)  # already at the end
    assert parts(page, 0)[1] == expected(sliders[0], 0)


def test_tab_reaches_both_sliders(page):
    from selenium.webdriver.common.keys import Keys

    names = []
    for _ in range(2):
        page.switch_to.active_element.send_keys(Keys.TAB)
        names.append(page.switch_to.active_element.accessible_name)
    assert names == ["cutoff", "method"]


def test_mouse_moves_the_second_alone(page, sliders):
    from selenium.webdriver import ActionChains

    slider, _ = parts(page, 1)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    right = slider.size["width"] // 2 - 6
    ActionChains(page).move_to_element_with_offset(slider, right, 0).click().perform()
    assert parts(page, 1)[1] == expected(sliders[1], 1)
    assert parts(page, 0)[1] == expected(sliders[0], 1)
    drag = ActionChains(page).move_to_element_with_offset(slider, right, 0)
    drag.click_and_hold().move_by_offset(-2 * right, 0).release().perform()
    assert parts(page, 1)[1] == expected(sliders[1], 0)


def test_page_does_not_jump_and_fits_a_phone(page, sliders):
    from selenium.webdriver.common.keys import Keys

    phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    slider, _ = parts(page, 0)
    below = page.find_element("css selector", "#below")
    top = below.location["y"]
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.END):
        slider.send_keys(key)
        assert below.location["y"] == top
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390
    assert slider.size["height"] >= 36 and slider.size["width"] >= 200  # for a thumb
    img = page.find_element("css selector", "xai-frames img")
    drawn = sliders[0].size
    assert abs(img.size["width"] / img.size["height"] - drawn[0] / drawn[1]) < 0.05


def test_pictures_are_decoded_and_shared_style_is_set_once(page):
    script = """return [...document.querySelectorAll("xai-frames")].map(
        (f) => f.loaded.every((i) => i.complete && i.naturalWidth > 0))"""
    assert page.execute_script(script) == [True, True]
    styles = page.find_elements("css selector", "style[data-xai-frames]")
    assert len(styles) == 1
    ids = page.execute_script(
        "return [...document.querySelectorAll('xai-frames [id]')].length"
    )
    assert ids == 0


def test_console_is_silent_and_nothing_is_fetched(page):
    assert page.get_log("browser") == []
    script = "return performance.getEntriesByType('resource').map((e) => e.name)"
    fetched = page.execute_script(script)
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_moving_a_slider_within_the_page_keeps_it_working(page, sliders):
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.body.append(document.querySelector('xai-frames'))")
    assert len(page.find_elements("css selector", "input[type=range]")) == 2
    slider, _ = parts(page, 1)  # the first one is now the second
    slider.send_keys(Keys.END)
    assert parts(page, 1)[1] == expected(sliders[0], 3)


def test_works_when_inserted_later_as_notebooks_do(page, sliders):
    insert_later(page, sliders[0]._repr_html_())
    assert parts(page, 0)[1] == expected(sliders[0], 1)


def test_without_javascript_the_picture_stays(page, sliders):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        img = page.find_element("css selector", "xai-frames img")
        assert img.is_displayed() and img.accessible_name == "Cut at 4 cycles"
        assert "cutoff: 4 cycles" in page.find_element("css selector", "body").text
        assert page.find_elements("css selector", "input") == []
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
