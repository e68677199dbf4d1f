"""The built site in headless Chromium, over http and straight from its files."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = """--headless=new --no-sandbox --disable-gpu --no-first-run --disable-quic
--disable-background-networking --disable-component-update --disable-sync
--hide-scrollbars --force-device-scale-factor=1 --disable-dev-shm-usage""".split()


def site():
    """Return the site's folder: XAI_LIB_SITE, else the one built last."""
    if chosen := os.environ.get("XAI_LIB_SITE"):
        return Path(chosen).resolve()
    built = [ROOT / "_build/html", *ROOT.glob("_build/*/html")]
    built = [folder for folder in built if (folder / "index.html").exists()]
    return max(built, key=lambda folder: folder.stat().st_mtime, default=None)


SITE = site()
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for folder in ("book", "notebooks")
    for path in (SITE / folder if SITE else Path("/nowhere")).rglob("*.html")
)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *message):
        pass


@contextlib.contextmanager
def serving(folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session", params=["http", "file"])
def base(request):
    """Return the site's address, over http or as a file."""
    if SITE is None:
        pytest.fail("no built site: make quick, or make book")
    if request.param == "file":
        yield SITE.as_uri()
    else:
        with serving(SITE) as address:
            yield address


@pytest.fixture(scope="session")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ARGUMENTS:
        options.add_argument(argument)
    logs = {"performance": "ALL", "browser": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    service = Service(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture
def wide(driver):
    """Return the driver with a window of a desk."""
    screen = {"width": 1400, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    return driver


@pytest.fixture
def phone(driver):
    """Return the driver with the screen of a phone, 390 px wide."""
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    return driver


def visit(driver, url):
    """Open a page, wait for its mathematics, forget the logs of the page before."""
    driver.get_log("performance"), driver.get_log("browser")
    driver.get(url)
    driver.execute_async_script(
        "const done = arguments[0];"
        "const ready = window.MathJax?.startup?.promise ?? Promise.resolve();"
        "ready.then(() => setTimeout(done, 100));"
    )


def requested(driver):
    """Return the addresses that the page asked for."""
    events = (
        json.loads(e["message"])["message"] for e in driver.get_log("performance")
    )
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [e["request"]["url"] for e in sent]


def until(condition, seconds=5.0):
    """Wait for a condition; tell whether it came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
