"""One image's maps, read at every cutoff and judged by every metric."""

import math
import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xai_lib.study.metrics import METRICS, READINGS
from xai_lib.study.provenance import PACKAGE

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


def judge(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    maps: Tensor,
    explain: Explain,
    *,
    cutoffs: tuple[float, ...],
    kind: str,
    metrics: dict[str, tuple[str, dict]],
) -> tuple[dict[str, list[float]], list[str]]:
    """Score one image's map at every cutoff.

    Parameters
    ----------
    model, x, target : as for every method, one image
    maps : Tensor, signed, shape (1, C, H, W)
    explain : ``(model, x, target)`` -> such maps, for the metrics that ask for more
    cutoffs, kind : as `low_pass`
    metrics : name -> (reading, settings), in `METRICS`; the parts of each among them

    Returns
    -------
    values : dict of metric to one float per cutoff, NaN where there is none
    notes : why there is none, a text per cutoff
    """
    explain, values = remembered(explain), {}
    notes: list[list[str]] = [[] for _ in cutoffs]

    def value(name: str) -> list[float]:
        if name not in values:
            if parts := METRICS[name].parts:
                a, b = (value(part) for part in parts)
                values[name] = [p - q for p, q in zip(a, b, strict=True)]
            else:
                reading, own = metrics[name]
                read = partial(READINGS[reading], kind=kind)
                call = partial(_score, name, model, x, target, maps, explain, read, own)
                values[name] = _each(call, cutoffs, name, notes)
        return values[name]

    found = {name: value(name) for name in metrics}
    return found, ["; ".join(note) for note in notes]


def _score(name, model, x, target, maps, explain, read, own, cutoffs) -> list[float]:
    """Return one metric of one image at some cutoffs, for maps all of them together."""
    function, n = METRICS[name].function, len(cutoffs)
    if METRICS[name].needs == "maps":
        versions = torch.cat([read(maps, cutoff) for cutoff in cutoffs])
        x, target = x.expand(n, -1, -1, -1), target.expand(n)
        return function(model, x, versions, target, **own).tolist()

    def method(cutoff: float) -> Explain:
        return lambda model, x, target: read(explain(model, x, target), cutoff)

    return [function(model, x, method(k), target, **own).item() for k in cutoffs]


def _each(call: Callable, cutoffs, name: str, notes: list[list[str]]) -> list[float]:
    """Score all cutoffs together; if that is refused, one by one, and note why."""
    try:
        found = call(cutoffs)
        told = ["undefined" * math.isnan(value) for value in found]
    except ValueError:
        alone = [_alone(call, cutoff) for cutoff in cutoffs]
        found, told = map(list, zip(*alone, strict=True))
    for note, why in zip(notes, told, strict=True):
        note += [f"{name}: {why}"] if why else []
    return found


def _alone(call: Callable, cutoff: float) -> tuple[float, str]:
    try:
        (found,) = call((cutoff,))
    except ValueError as error:
        return math.nan, reason(error)
    return found, "undefined" * math.isnan(found)


def remembered(method: Explain) -> Explain:
    """Return the method, which runs once for each input that it meets.

    Examples
    --------
    >>> calls = []
    >>> explain = remembered(lambda model, x, target: calls.append(1) or 2 * x)
    >>> x, c = torch.ones(1), torch.tensor([0])
    >>> explain(None, x, c) is explain(None, x.clone(), c), len(calls)
    (True, 1)
    """
    held: list[tuple[Tensor, Tensor, Tensor]] = []

    def call(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        for seen, wanted, maps in held:
            if torch.equal(seen, x) and torch.equal(wanted, target):
                return maps
        held.append((x, target, method(model, x, target)))
        return held[-1][-1]

    return call


def reason(error: BaseException) -> str:
    """Return what an error says, on one line of at most 200 characters.

    Paths in the library are shortened, so that it says the same on every machine.

    Examples
    --------
    >>> reason(ValueError("too\\n  long")), reason(KeyboardInterrupt())
    ('too long', 'KeyboardInterrupt')
    """
    text = str(error).replace(f"{PACKAGE.parent}{os.sep}", "")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
