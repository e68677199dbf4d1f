"""The built site in headless Chromium, over http and straight from its files."""

import shutil

import pytest
from reader import SITE, serving
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ARGUMENTS = """--headless=new --no-sandbox --disable-gpu --no-first-run --disable-quic
--disable-background-networking --disable-component-update --disable-sync
--hide-scrollbars --force-device-scale-factor=1 --disable-dev-shm-usage""".split()


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
