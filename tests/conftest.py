"""What several test files share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root():
    """Return the repository's root."""
    return Path(__file__).resolve().parent.parent
