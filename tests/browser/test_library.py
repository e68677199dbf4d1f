"""The library's pages and the index of figures, as a reader meets them."""

import importlib
import re
from collections import Counter

import pytest
from reader import PAGES, SITE, requested, until, visit
from selenium.webdriver.common.by import By
from staging import ROOMS

pytestmark = pytest.mark.browser
each_room = pytest.mark.parametrize("room", ROOMS)
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]

IDS = "return [...document.querySelectorAll('dt.sig[id]')].map(e => e.id)"
CUT_OFF = """
return [...document.querySelectorAll("dt.sig, dt.sig *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.textContent.slice(0, 60));
"""
LISTS = """
return [...document.querySelectorAll("dl.field-list dd > dl")]
  .filter(list => list.querySelector("dt") && list.querySelector("dd")).length;
"""
LOADED = "return arguments[0].complete && arguments[0].naturalWidth > 0"
VIEW = "arguments[0].scrollIntoView({behavior: 'instant'})"


@each_room
def test_every_public_name_stands_once_and_its_signature_fits(phone, base, room):
    visit(phone, f"{base}/book/api/{room}.html")
    found = Counter(phone.execute_script(IDS))
    names = importlib.import_module(f"xai_lib.{room}").__all__
    counts = {name: found[f"xai_lib.{room}.{name}"] for name in names}
    assert counts == dict.fromkeys(names, 1)
    assert phone.execute_script(CUT_OFF) == []
    assert phone.execute_script(LISTS) > 0


def test_a_citation_leads_to_the_bibliography(wide, base):
    visit(wide, f"{base}/book/api/attribute.html")
    links = wide.find_elements(By.CSS_SELECTOR, ".bibtex-citation a")
    wide.execute_script("arguments[0].click()", links[0])
    assert until(lambda: "/book/bibliography.html#" in wide.current_url)
    entry = "return document.querySelector(':target') !== null"
    assert wide.execute_script(entry)


def test_every_figure_of_the_chapters_is_in_the_index_once(wide, base):
    visit(wide, f"{base}/book/figures.html")
    script = "return [...document.querySelectorAll('.figure-link')].map(e => e.href)"
    shown = Counter(wide.execute_script(script))
    wanted = 0
    for page in CHAPTERS:
        text = (SITE / page).read_text()
        names = re.findall(r'<figure [^>]*id="([^"]+)"', text)
        assert [n for n in names if shown[f"{base}/{page}#{n}"] != 1] == []
        wanted += len(names) + text.count("<xai-frames><figure>")
    assert sum(shown.values()) == wanted > 0


def test_pictures_of_the_index_come_when_they_are_reached(phone, base):
    visit(phone, f"{base}/book/figures.html")
    pictures = phone.find_elements(By.CSS_SELECTOR, ".figure-link img")
    assert not phone.execute_script(LOADED, pictures[-1])
    for picture in pictures[::10] + pictures[-1:]:
        phone.execute_script(VIEW, picture)
        assert until(lambda p=picture: phone.execute_script(LOADED, p))
    asked = [url for url in requested(phone) if not url.startswith(("data:", base))]
    assert asked == []


def test_a_picture_of_the_index_leads_to_its_place(wide, base):
    visit(wide, f"{base}/book/figures.html")
    link = wide.find_elements(By.CSS_SELECTOR, ".figure-link")[-1]
    place = link.get_attribute("href")
    wide.execute_script("arguments[0].click()", link)
    assert until(lambda: wide.current_url == place)
    assert wide.execute_script("return document.querySelector(':target') !== null")
