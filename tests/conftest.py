"""What several test files share."""

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
