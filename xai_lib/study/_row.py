"""Checks on one row of the ledger: what was wanted, what came."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

Control = None | str | float | Mapping[str, str | float]


def choice(what: str, value: str, choices: Iterable[str]) -> str:
    """Return the value if it is one of the choices."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}, got {value!r}")
    return value


def name(what: str, value: str) -> str:
    """Return the value if it is a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a text such as 'resnet18', got {value!r}")
    return value


def number(what: str, value: float) -> float:
    """Return the value as a finite float."""
    try:
        result = float(value)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise ValueError(f"{what} must be one number, got {kind} {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"{what} must be finite, got {result}")
    return result


def interval(value: float, ends: Sequence[float]) -> list[float]:
    """Return [low, high], which must contain the value up to rounding."""
    ends = [number("interval", end) for end in ends]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise ValueError(f"interval must be (low, high), got {tuple(ends)}")
    slack = 1e-9 * max(abs(value), abs(ends[0]), abs(ends[1]))
    if not ends[0] - slack <= value <= ends[1] + slack:
        raise ValueError(f"interval must contain the value {value}, got {tuple(ends)}")
    return [min(ends[0], value), max(ends[1], value)]


def count(what: str, value: int) -> int:
    """Return the value if it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a positive integer, got {value!r}")
    return value


def models(value: str | Sequence[str]) -> list[str]:
    """Return the names of the models; a text is split at commas."""
    names = value.split(",") if isinstance(value, str) else list(value)
    names = [one.strip() for one in names if one.strip()]
    if not names:
        raise ValueError(f"models must name at least one model, got {value!r}")
    return names


def control(value: Control) -> None | str | float | dict[str, str | float]:
    """Return the control's outcome as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): control(one) for key, one in value.items()}
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Real) or hasattr(value, "item"):
        return number("control", value)
    kind = type(value).__name__
    raise ValueError(f"control must be a number, a text or a mapping, got {kind}")
