"""Checks on a grid: what was wanted, what came."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from xai_lib._check import check_choice
from xai_lib.assets import list_images
from xai_lib.attribute import METHODS
from xai_lib.study.metrics import METRICS
from xai_lib.study.units import CONTROLS

if TYPE_CHECKING:
    from xai_lib.study.grid import Grid


def names(what: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; one text is one name."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{what} must be names, at least one, got {given!r}")
    return once(what, names)


def once(what: str, values: tuple) -> tuple:
    """Refuse values of which one is there twice."""
    if len(set(values)) < len(values):
        twice = [v for v in dict.fromkeys(values) if values.count(v) > 1]
        raise ValueError(f"{what} must differ, got {twice[0]!r} twice")
    return values


def cutoffs(given: Sequence[float]) -> tuple[float, ...]:
    """Return cutoffs as floats above 0."""
    try:
        found = tuple(float(cutoff) for cutoff in given)
    except (TypeError, ValueError):
        raise ValueError(f"cutoffs must be numbers, got {given!r}") from None
    if not found or not all(cutoff > 0 for cutoff in found):
        raise ValueError(f"cutoffs must be above 0, at least one, got {given!r}")
    return once("cutoffs", found)


def image_set(given: str | Path) -> str:
    """Return the name of an image set, of a folder the whole path.

    A text that names a set means the set, as for `load_images`, even where a folder of
    that name lies beside.
    """
    if isinstance(given, str) and given in list_images():
        return given
    folder = Path(given).expanduser()  # workers may run elsewhere
    return str(folder.resolve()) if folder.is_dir() else str(given)


def settings(given: Mapping[str, dict]) -> dict:
    """Return settings as a dict."""
    if not isinstance(given, Mapping):
        raise ValueError(f"settings must be a dict, got {given!r}")
    return dict(given)


def device(given: str) -> None:
    """Refuse what names no device."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(given)):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:1', got {given!r}")


def device_is_here(given: str) -> None:
    """Refuse a GPU that this machine has not."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = 0 if given == "cpu" else 1 + int(str(given).partition(":")[2] or 0)
    if wanted > there:
        known = ["'cpu'", *(f"'cuda:{k}'" for k in range(there))]
        raise ValueError(f"device must be {' or '.join(known)} here, got {given!r}")


def count(what: str, value: int, least: int) -> None:
    """Refuse what is no whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        wanted = f"{what} must be a whole number of at least {least}"
        raise ValueError(f"{wanted}, got {value!r}")


def accepted(name: str) -> list[str]:
    """Return the settings that a method, control or metric knows.

    Examples
    --------
    >>> accepted("gradient"), accepted("deletion")
    (['layer'], ['steps', 'baseline'])
    """
    if name in METRICS:
        parameters = list(inspect.signature(METRICS[name].function).parameters)
        return [] if METRICS[name].parts else parameters[4:]
    function: Callable = METHODS[name].function if name in METHODS else CONTROLS[name]
    return list(inspect.signature(function).parameters)[3:]


def check_settings(grid: Grid) -> None:
    """Refuse settings of what is not in the grid, and those that nothing knows."""
    for name, own in grid.settings.items():
        check_choice("settings", name, [*grid.methods, *grid.metrics])
        if not isinstance(own, dict):
            raise ValueError(f"settings of {name} must be a dict, got {own!r}")
        if name in METRICS and METRICS[name].parts:
            both = " and ".join(METRICS[name].parts)
            raise ValueError(f"settings must be those of {both}, got {name}'s")
        for key in own:
            check_choice(f"settings of {name}", key, accepted(name) or ["(none)"])
    try:
        json.dumps(grid.settings)
    except TypeError as error:
        wanted = "settings must be plain: numbers, texts, lists of them"
        raise ValueError(f"{wanted}, got {error}") from None
