"""What a reader's browser does with the built site."""

import functools

import pytest
from reader import PAGES, requested, until, visit
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.browser
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
every_page = pytest.mark.parametrize("page", PAGES)
LOCAL = ("data:", "blob:", "about:", "chrome:")

WIDER_THAN_THE_SCREEN = """
const wide = [...document.querySelectorAll("main *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .filter(e => !e.closest("pre, table, mjx-container, .cell_output, .highlight"));
return wide.slice(0, 5).map(e => e.tagName + "." + e.className);
"""
SLIDERS_OVER_THEIR_ENDS = """
const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1;
return [...document.querySelectorAll("xai-frames .xai-bar")].filter(bar => {
  const track = bar.querySelector("input").getBoundingClientRect();
  return track.width < 40 || [...bar.querySelectorAll(".xai-end")]
    .some(end => over(track, end.getBoundingClientRect()));
}).map(bar => bar.innerText);
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


def test_the_icons_are_drawn_by_a_font_and_no_script(wide, base):
    drawn = """
    const icons = [...document.querySelectorAll("i[class*='fa-'], span[class*='fa-']")];
    const signs = icons.map(e => getComputedStyle(e, "::before").content);
    const font = [...document.fonts].filter(f => /Awesome/.test(f.family));
    return [signs.filter(s => s.length == 3).length, icons.length,
            font.some(f => f.status == "loaded")];
    """
    visit(wide, f"{base}/book/intro.html")
    assert until(lambda: wide.execute_script(drawn)[2])
    signs, icons, _ = wide.execute_script(drawn)
    assert signs == icons > 5
    assert not [u for u in requested(wide) if "fontawesome.js" in u]


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
    seen = set()
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
            seen.add(page)
    assert CHAPTERS and set(CHAPTERS) <= seen


@every_page
def test_a_phone_never_scrolls_sideways(phone, base, page):
    visit(phone, f"{base}/{page}")
    phone.execute_script("scrollTo(200, 0)")
    width = phone.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390, phone.execute_script(WIDER_THAN_THE_SCREEN)
    assert phone.execute_script("return scrollX") == 0


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_slider_on_a_phone_lies_between_its_ends(phone, base, page):
    visit(phone, f"{base}/{page}")
    assert until(lambda: sliders(phone))
    assert phone.execute_script(SLIDERS_OVER_THEIR_ENDS) == []


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


# ---- the page of verdicts ------------------------------------------------------------

VERDICTS = "book/verdicts.html"
CLAIMS = 33
SHOWN = """
return [...document.querySelectorAll(".xai-verdicts tbody tr")]
  .filter(row => row.getBoundingClientRect().height > 0)
  .map(row => [...row.cells].map(cell => cell.innerText.trim()));
"""
KEYS = """
return [...document.querySelectorAll(".xai-verdicts tbody tr")]
  .map(row => row.cells[arguments[0]].dataset.sort);
"""
SORTED = """
return [...document.querySelectorAll(".xai-verdicts thead th")]
  .map(head => head.getAttribute("aria-sort"));
"""


def heads(driver):
    return driver.find_elements(By.CSS_SELECTOR, ".xai-verdicts thead button")


def in_order(keys, down=False):
    """Tell whether keys are sorted: numbers by value, words by letter, none last."""
    filled = [key for key in keys if key]
    if keys[: len(filled)] != filled:
        return False
    try:
        values = [float(key) for key in filled]
    except ValueError:
        values = [key.lower() for key in filled]
    return values == sorted(values, reverse=down)


def test_the_verdicts_are_sorted_by_every_head_by_mouse_and_by_keyboard(wide, base):
    visit(wide, f"{base}/{VERDICTS}")
    assert wide.execute_script(SORTED)[0] == "ascending"
    count = len(heads(wide))
    for column in [*range(1, count), 0]:  # the page comes in the order of column 0
        button = heads(wide)[column]
        button.click()
        assert in_order(wide.execute_script(KEYS, column)), button.text
        button.send_keys(Keys.ENTER)
        assert in_order(wide.execute_script(KEYS, column), down=True), button.text
        state = wide.execute_script(SORTED)
        assert state[column] == "descending" and state.count(None) == count - 1
        assert wide.execute_script("return document.activeElement.textContent")
        button.send_keys(Keys.SPACE)
        assert wide.execute_script(SORTED)[column] == "ascending"
    assert len(wide.execute_script(SHOWN)) == CLAIMS


def test_the_verdicts_are_filtered_by_paper_and_verdict(wide, base):
    visit(wide, f"{base}/{VERDICTS}")
    rows = wide.execute_script(SHOWN)
    paper, verdict = (
        Select(wide.find_element(By.CSS_SELECTOR, f".xai-filter [name={name}]"))
        for name in ("paper", "verdict")
    )
    count = wide.find_element(By.CSS_SELECTOR, ".xai-filter output")
    assert count.text == f"{CLAIMS} of {CLAIMS} claims"
    paper.select_by_index(1)
    chosen = paper.first_selected_option.text.split()[0]
    mine = [row for row in rows if row[1] == chosen]
    assert 0 < len(mine) < CLAIMS and wide.execute_script(SHOWN) == mine
    verdict.select_by_visible_text(mine[-1][2])
    both = [row for row in mine if row[2] == mine[-1][2]]
    assert wide.execute_script(SHOWN) == both
    assert count.text == f"{len(both)} of {CLAIMS} claims"
    for select in (paper, verdict):
        select.select_by_visible_text("all")
    assert wide.execute_script(SHOWN) == rows


def test_the_verdicts_are_complete_without_a_script(wide, base):
    visit(wide, f"{base}/{VERDICTS}")
    rows = wide.execute_script(SHOWN)
    wide.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        wide.get(f"{base}/{VERDICTS}")
        assert not heads(wide) and not wide.find_elements(By.CLASS_NAME, "xai-filter")
        assert wide.execute_script(SHOWN) == rows
    finally:
        wide.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(rows) == CLAIMS and all(all(row) for row in rows)


def test_the_verdicts_are_cards_on_a_phone(phone, base):
    visit(phone, f"{base}/{VERDICTS}")
    cut = """return [...document.querySelectorAll(".xai-verdicts :is(div, button)")]
      .filter(e => e.getBoundingClientRect().right > innerWidth).length;"""
    assert phone.execute_script(cut) == 0
    rows = phone.execute_script(SHOWN)
    assert len(rows) == CLAIMS
    by_checks = next(head for head in heads(phone) if "Checks" in head.text)
    by_checks.click()
    assert phone.execute_script(SHOWN) != rows
    column = heads(phone).index(by_checks)
    assert in_order(phone.execute_script(KEYS, column))


def test_every_claim_of_the_verdicts_leads_to_its_block(wide, base):
    visit(wide, f"{base}/{VERDICTS}")
    link = wide.find_elements(By.CSS_SELECTOR, ".xai-verdicts tbody th a")[-1]
    link.click()
    heading = wide.find_element(By.CSS_SELECTOR, ":target + :is(h2, h3)")
    assert heading.text.startswith(f"{link.text.split()[0]}: ")
    inside = "const y = arguments[0].getBoundingClientRect().top;"
    inside += "return 0 <= y && y < innerHeight;"
    assert until(lambda: wide.execute_script(inside, heading))


def test_the_front_page_leads_to_the_verdicts(wide, base):
    visit(wide, f"{base}/book/intro.html")
    links = wide.find_elements(By.CSS_SELECTOR, ".xai-summary td a")
    assert len({link.text for link in links}) == CLAIMS
    claim = links[0].text
    links[0].click()
    heading = wide.find_element(By.CSS_SELECTOR, ":target + :is(h2, h3)")
    assert heading.text.startswith(f"{claim}: ")
