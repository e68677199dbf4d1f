"""What several test files share."""

import shutil
from pathlib import Path

import pytest

collect_ignore = ["conftest.py", "browser/conftest.py"]  # no doctests to look for


@pytest.fixture(scope="session")
def root():
    """Return the repository's root."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_address_from_outside(monkeypatch):
    """Keep a fork's CI from changing what the tests see."""
    monkeypatch.delenv("XAI_LIB_REPOSITORY", raising=False)


@pytest.fixture(scope="session")
def chromium():
    """Return headless Chromium, for pages opened from a file."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (binary and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()
