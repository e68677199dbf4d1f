"""Which composite a method goes back with, for the analysis of its backward chain."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from xai_lib.attribute.backprop.composites import COMPOSITES, find_composite
from xai_lib.attribute.backprop.engine import Composite
from xai_lib.attribute.backprop.methods import (
    deconvnet,
    guided_backprop,
    rectgrad,
    rectgrad_composite,
)
from xai_lib.attribute.backprop.pattern_methods import (
    pattern_attribution,
    pattern_composite,
    pattern_net,
)
from xai_lib.attribute.backprop.reference import deeplift
from xai_lib.attribute.backprop.relevance import (
    deep_taylor,
    excitation_backprop,
    lrp,
)
from xai_lib.attribute.gradients import gradient


@dataclass(frozen=True)
class Plan:
    """What `Chain` needs to go back as a method does."""

    composite: Composite
    paired: bool = False  # the rules compare x with a baseline


def _named(name: str) -> Callable[..., Composite]:
    return lambda: COMPOSITES[name]


_COMPOSITE_OF: dict[Callable, Callable[..., Composite]] = {
    gradient: _named("gradient"),
    guided_backprop: _named("guided_backprop"),
    deconvnet: _named("deconvnet"),
    rectgrad: rectgrad_composite,
    deep_taylor: _named("deep_taylor"),
    excitation_backprop: _named("excitation_backprop"),
    lrp: lambda composite="epsilon_plus": find_composite(composite),
    pattern_net: lambda patterns: pattern_composite(patterns),
    pattern_attribution: lambda patterns: pattern_composite(patterns, True),
    deeplift: lambda rule="rescale", baseline=None: COMPOSITES[f"deeplift_{rule}"],
}
_PAIRED: set[Callable] = {deeplift}


def plan(method: Callable) -> Plan:
    """Return the composite of a method that is one modified backward pass.

    Parameters
    ----------
    method : `gradient` or a public method of this room, a ``partial`` of one, or a row
        of ``METHODS``

    Raises
    ------
    ValueError
        if the method is no single backward pass

    Examples
    --------
    >>> [key for key, rule in plan(guided_backprop).composite]
    ['relu', 'any']
    """
    function, settings = unwrap(method)
    if function not in _COMPOSITE_OF:
        known = ", ".join(f.__name__ for f in _COMPOSITE_OF)
        name = getattr(function, "__name__", repr(function))
        raise ValueError(f"method must be one of {known}, or a partial, got {name}")
    return Plan(_COMPOSITE_OF[function](**settings), function in _PAIRED)


def unwrap(method: Callable) -> tuple[Callable, dict]:
    """Return the function and the settings of a partial or of a row of ``METHODS``."""
    if isinstance(method, partial):
        function, settings = unwrap(method.func)
        return function, settings | method.keywords
    if hasattr(method, "function"):
        return method.function, dict(method.settings)
    return method, {}
