"""Where data and cache lie, and the published tables."""

import sys
from pathlib import Path

import pytest

from xai_lib import _paths
from xai_lib.study import recorded


def test_data_is_the_checkout_s():
    assert (_paths.DATA / "claims.toml").is_file()
    assert Path(__file__).resolve().parents[1] / "data" == _paths.DATA


@pytest.mark.parametrize(
    ("platform", "variable", "ending"),
    [
        ("linux", "XDG_CACHE_HOME", "xai_lib"),
        ("win32", "LOCALAPPDATA", "xai_lib"),
        ("darwin", None, "Library/Caches/xai_lib"),
    ],
)
def test_the_cache_follows_the_platform(platform, variable, ending, monkeypatch):
    monkeypatch.delenv("XAI_LIB_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    base = Path.home()
    if variable:
        base = Path("/somewhere/else")
        monkeypatch.setenv(variable, str(base))
    assert _paths.cache_dir() == base / ending


def test_the_cache_is_where_the_reader_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path))
    assert _paths.cache_dir() == tmp_path


def test_a_recorded_table_brings_its_provenance():
    table = recorded("spectra")
    assert {"script", "commit", "date", "versions", "device"} <= set(table.attrs)
    assert table["high_frequency_ratio"].between(0, 1).all()


def test_an_unknown_table_lists_those_there():
    with pytest.raises(ValueError, match=r"deletion, .*, got 'spectres'"):
        recorded("spectres")
