"""Where the library finds its data and keeps what it fetched."""

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent / "data"

DATA = _CHECKOUT if (_CHECKOUT / "assets.toml").is_file() else _PACKAGE / "_data"
"""The data folder: ``data/`` in a checkout, ``xai_lib/_data`` in an installed wheel."""


def cache_dir() -> Path:
    """Return the cache folder: ``XAI_LIB_CACHE``, else the platform's own."""
    if chosen := os.environ.get("XAI_LIB_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(base).expanduser() / "xai_lib"
