"""Where data and cache lie, and the published tables."""

import math
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

from xai_lib import _paths
from xai_lib.study import recorded, scores_by_cutoff


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


def halves(*rows):
    """Return a table of rows (cutoff, half, scores)."""
    told = [(c, half, " ".join(map(str, values))) for c, half, values in rows]
    return pandas.DataFrame(told, columns=["cutoff", "half", "faithfulness"])


def test_scores_of_halves_find_their_images():
    table = halves(
        (math.inf, "all", range(100)),
        (4.0, "even", range(0, 100, 2)),
        (2.0, "odd", range(1, 100, 2)),
        (math.inf, "more", [100, 101, 102]),
    )
    cutoffs, scores, choosing = scores_by_cutoff(table)
    assert cutoffs == [2, 4, math.inf] and scores.shape == (3, 103)
    assert (scores[2] * 1e4).round().tolist() == [*range(103)]
    assert np.isfinite(scores[1]).nonzero()[0].tolist() == [*range(0, 100, 2)]
    assert np.isfinite(scores[0]).nonzero()[0].tolist() == [*range(1, 100, 2)]
    assert choosing.nonzero()[0].tolist() == [*range(0, 100, 2)]


def test_scores_of_halves_that_do_not_fit_are_refused():
    short = halves((4.0, "even", range(49)))
    with pytest.raises(ValueError, match="'even' must have 50 scores .*, got 49"):
        scores_by_cutoff(short)
    with pytest.raises(ValueError, match="half must be one of all, .*, got 'third'"):
        scores_by_cutoff(halves((4.0, "third", range(50))))
    with pytest.raises(ValueError, match="column must be one of .*, got 'F'"):
        scores_by_cutoff(short, "F")
