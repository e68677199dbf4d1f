"""What a reader's browser does with the built site."""

import functools

import pytest
from reader import PAGES, requested, until, visit
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.browser
every_page = pytest.mark.parametrize("page", PAGES)
LOCAL = ("data:", "blob:", "about:", "chrome:")

WIDER_THAN_THE_SCREEN = """
const wide = [...document.querySelectorAll("main *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .filter(e => !e.closest("pre, table, mjx-container, .cell_output, .highlight"));
return wide.slice(0, 5).map(e => e.tagName + "." + e.className);
"""
RAW_TEX = r"""
const walker = document.createTreeWalker(
  document.querySelector("article, main"), NodeFilter.SHOW_TEXT);
const raw = [];
while (walker.nextNode()) {
  const node = walker.currentNode, parent = node.parentElement;
  if (parent.closest("pre, code, script, style, mjx-container, textarea")) continue;
  if (/\$[^$\n]+\$|\\[([]|\\(frac|sum|mathbb|partial|cdot)\b/.test(node.data))
    raw.push(node.data.trim().slice(0, 80));
}
return raw;
"""
MATH = """
const boxes = [...document.querySelectorAll("article .math, main .math")];
return {
  wanted: boxes.length,
  drawn: [...document.querySelectorAll("mjx-container")]
    .filter(m => m.getBoundingClientRect().width > 0).length,
  empty: boxes.filter(b => !b.querySelector("mjx-container mjx-math *")).length,
  errors: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
};
"""


@every_page
def test_nothing_is_requested_from_outside_and_the_console_is_clean(wide, base, page):
    visit(wide, f"{base}/{page}")
    asked = [u for u in requested(wide) if not u.startswith(LOCAL)]
    assert asked, "the performance log is empty"
    assert [u for u in asked if not u.startswith(base)] == []
    errors = [e["message"] for e in wide.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []


@every_page
def test_mathematics_is_drawn(wide, base, page):
    visit(wide, f"{base}/{page}")
    math = wide.execute_script(MATH)
    assert math["drawn"] >= math["wanted"]
    assert math["empty"] == 0
    assert math["errors"] == 0
    assert wide.execute_script(RAW_TEX) == []


def test_some_page_has_mathematics_and_its_fonts_arrive(wide, base):
    fonts = (
        "return [...document.fonts].filter(f => f.family.startsWith('MJX')"
        " && f.status == arguments[0]).length"
    )
    found = 0
    for page in PAGES:
        visit(wide, f"{base}/{page}")
        if wide.execute_script(MATH)["drawn"]:
            found += 1
            assert until(lambda: wide.execute_script(fonts, "loaded") > 0)
            assert wide.execute_script(fonts, "error") == 0
    assert found


def sliders(driver):
    return driver.find_elements(By.CSS_SELECTOR, "xai-frames input[type=range]")


def picture(driver, slider):
    """Return what a slider's figure shows: its source and its words."""
    script = (
        "const i = arguments[0].closest('xai-frames').querySelector('img');"
        "return [i.src, i.alt, arguments[0].getAttribute('aria-valuetext')];"
    )
    return driver.execute_script(script, slider)


def changes(driver, slider, act):
    """Act; tell whether picture, alternative text and spoken value all changed."""
    before = picture(driver, slider)
    act()
    return until(
        lambda: all(
            a != b for a, b in zip(before, picture(driver, slider), strict=True)
        )
    )


def test_every_slider_moves_its_figure_by_mouse_and_by_keyboard(wide, base):
    seen = 0
    for page in PAGES:
        visit(wide, f"{base}/{page}")
        for slider in sliders(wide):
            wide.execute_script(
                "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})",
                slider,
            )
            half = slider.size["width"] // 2 - 4
            away = half if slider.get_property("value") == "0" else -half
            click = ActionChains(wide).move_to_element_with_offset(slider, away, 0)
            assert changes(wide, slider, click.click().perform), f"{page}: mouse"
            drag = ActionChains(wide).move_to_element_with_offset(slider, away, 0)
            drag = drag.click_and_hold().move_by_offset(-2 * away, 0).release()
            assert changes(wide, slider, drag.perform), f"{page}: drag"
            key = Keys.ARROW_RIGHT if away > 0 else Keys.ARROW_LEFT
            press = functools.partial(slider.send_keys, key)
            assert changes(wide, slider, press), f"{page}: keyboard"
            seen += 1
    chapters = [page for page in PAGES if page.startswith("notebooks/")]
    assert seen >= len(chapters)


@every_page
def test_a_phone_never_scrolls_sideways(phone, base, page):
    visit(phone, f"{base}/{page}")
    phone.execute_script("scrollTo(200, 0)")
    width = phone.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390, phone.execute_script(WIDER_THAN_THE_SCREEN)
    assert phone.execute_script("return scrollX") == 0


def test_the_theme_turns_dark_and_back(wide, base):
    visit(wide, f"{base}/{PAGES[0]}")
    theme = "return document.documentElement.dataset.theme"
    colour = "return getComputedStyle(document.body).backgroundColor"
    button = next(
        b
        for b in wide.find_elements(By.CSS_SELECTOR, ".theme-switch-button")
        if b.is_displayed()
    )
    seen = {}
    for _ in range(4):
        button.click()
        seen[wide.execute_script(theme)] = wide.execute_script(colour)
    assert {"dark", "light"} <= set(seen)
    assert seen["dark"] != seen["light"]
