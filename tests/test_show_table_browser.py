"""The table that sorts in headless Chromium, on a page opened from a file."""

import pytest
from in_browser import insert_later

from xai_lib.show import sortable_table

pytestmark = pytest.mark.browser

NETS = ("resnet18", "cifar_vit")
SCORES = {"beta": 0.126, "alpha": 0.1251, "gamma": None, "delta": -3.0, "eps": 10.0}
PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
TEXTS = """
return [...document.querySelectorAll("table")[arguments[0]].tBodies[0].rows]
  .filter((row) => row.getBoundingClientRect().height > 0)
  .map((row) => [...row.cells].map((cell) => cell.innerText));
"""
SORTED = """
return [...document.querySelectorAll("table")[arguments[0]].tHead.rows[0].cells]
  .map((head) => head.getAttribute("aria-sort"));
"""


def rows():
    columns = {f"metric {i}": i / 10 for i in range(9)}
    return [
        {"method": name, "network": net, "score": (score, "± 0.1")} | columns
        for net in NETS
        for name, score in SCORES.items()
    ]


def long():
    """Return a table that is higher than its box and has no filter."""
    return [{"place": i, "square": -(i**2)} for i in range(60)]


@pytest.fixture(scope="module")
def content():
    """Two tables, hence the style and the script twice."""
    start = {"network": "resnet18", "method": None}
    one = sortable_table(rows(), filters=start, noun="results", caption="Scores")
    two = sortable_table(long(), height="20rem")
    return f"{one.data}<p>text between</p>{two.data}"


@pytest.fixture
def page(chromium, content, tmp_path):
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    file = tmp_path / "page.html"
    file.write_text(f"{head}{view}<body>{content}", encoding="utf-8")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get_log("browser")
    chromium.get(file.as_uri())
    return chromium


def texts(page, table=0):
    return page.execute_script(TEXTS, table)


def names(page):
    return [row[0] for row in texts(page)]


def button(page, head, table=0):
    found = page.find_elements("css selector", "table")[table]
    buttons = found.find_elements("css selector", "thead button")
    return next(one for one in buttons if one.text.startswith(head))


def choose(page, name, value):
    from selenium.webdriver.support.ui import Select

    select = page.find_element("css selector", f".xai-filter [name={name}]")
    Select(select).select_by_visible_text(value)


def test_starts_filtered_as_told_and_in_the_given_order(page):
    assert names(page) == list(SCORES)
    assert {row[1] for row in texts(page)} == {"resnet18"}
    assert page.find_element("css selector", "output").text == "5 of 10 results"
    assert page.execute_script(SORTED, 0) == [None] * 12  # by no column
    assert page.execute_script(SORTED, 1) == ["ascending", None]


def test_sorts_by_value_by_mouse_and_by_keyboard_dashes_last(page):
    from selenium.webdriver.common.keys import Keys

    score = button(page, "score")
    score.click()
    assert names(page) == ["delta", "alpha", "beta", "eps", "gamma"]
    assert page.execute_script(SORTED, 0)[2] == "ascending"
    score.send_keys(Keys.ENTER)
    assert names(page) == ["eps", "beta", "alpha", "delta", "gamma"]
    assert page.execute_script(SORTED, 0)[2] == "descending"
    button(page, "method").send_keys(Keys.SPACE)
    assert names(page) == ["alpha", "beta", "delta", "eps", "gamma"]
    assert page.execute_script(SORTED, 0)[:3] == ["ascending", None, None]
    assert len(texts(page, 1)) == 60  # the other one is left alone
    assert page.execute_script(SORTED, 1) == ["ascending", None]


def test_filters_by_two_columns_and_counts(page):
    count = page.find_element("css selector", "output")
    choose(page, "network", "all")
    assert len(names(page)) == 10 and count.text == "10 of 10 results"
    choose(page, "method", "gamma")
    assert [row[:3] for row in texts(page)] == [
        ["gamma", net, "–\n± 0.1"] for net in NETS
    ]
    choose(page, "network", "cifar_vit")
    assert count.text == "1 of 10 results"
    button(page, "score").click()
    assert len(names(page)) == 1  # sorting keeps the choice


def test_each_table_is_set_up_once(page):
    script = "return [...document.scripts].map((one) => one.textContent)"
    (first, second) = page.execute_script(script)
    assert first == second
    for _ in range(2):
        page.execute_script(first)
    count = "return [...document.querySelectorAll(arguments[0])].length"
    assert page.execute_script(count, ".xai-filter") == 1
    assert page.execute_script(count, "thead button") == 12 + 2
    button(page, "score").click()
    assert page.execute_script(SORTED, 0)[2] == "ascending"  # clicked once, not twice


def test_tab_reaches_choices_and_heads(page):
    from selenium.webdriver.common.keys import Keys

    found = []
    for _ in range(5):
        page.switch_to.active_element.send_keys(Keys.TAB)
        found.append(page.switch_to.active_element.accessible_name)
    assert found[:3] == ["network", "method", "Scores"]  # then the box itself
    assert [name[:7] for name in found[3:]] == ["method\N{NO-BREAK SPACE}", "network"]


def test_the_head_stays_above_its_rows_and_sorting_goes_to_the_top(page):
    box = page.find_elements("css selector", ".xai-scroll")[1]
    assert box.size["height"] <= 20 * 16 + 2
    page.execute_script("arguments[0].scrollTop = 600", box)
    head = page.find_elements("css selector", "table")[1]
    head = head.find_element("css selector", "thead th")
    assert abs(head.rect["y"] - box.rect["y"]) <= 2
    page.execute_script("arguments[0].scrollIntoView()", box)
    button(page, "square", 1).click()
    assert texts(page, 1)[0] == ["59", "−3481"]
    assert page.execute_script("return arguments[0].scrollTop", box) == 0


def test_a_phone_never_scrolls_sideways_and_keeps_the_first_column(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390
    box = page.find_element("css selector", ".xai-scroll")
    inside = page.execute_script("return arguments[0].scrollWidth", box)
    assert inside > box.size["width"]  # the table itself is wider
    page.execute_script("arguments[0].scrollLeft = 300", box)
    for row in ("thead", "tbody"):
        first = page.find_element("css selector", f"{row} th")
        assert abs(first.rect["x"] - box.rect["x"]) <= 2
        assert first.size["width"] < 150
    assert button(page, "metric 8").size["height"] >= 32  # for a thumb


def test_console_is_silent_and_nothing_is_fetched(page):
    button(page, "score").click()
    assert page.get_log("browser") == []
    script = "return performance.getEntriesByType('resource').map((e) => e.name)"
    assert page.execute_script(script) == []


def test_works_when_inserted_later_as_notebooks_do(page, content):
    insert_later(page, content)
    assert names(page) == list(SCORES)
    button(page, "score").click()
    assert names(page)[0] == "delta"


def test_without_javascript_it_is_the_whole_table(page):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert page.find_elements("css selector", "button, select") == []
        shown = texts(page)
        assert [row[0] for row in shown] == [*SCORES, *SCORES]
        assert shown[0] == ["beta", "resnet18", "0.13\n± 0.1"] + [
            f"{i / 10:.2f}" for i in range(9)
        ]
        assert len(texts(page, 1)) == 60
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
