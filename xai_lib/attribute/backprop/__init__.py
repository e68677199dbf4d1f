"""Modified backpropagation: one engine, its rules, and the methods made of them."""

from xai_lib.attribute.backprop.chain import Chain, signals
from xai_lib.attribute.backprop.composites import COMPOSITES, clipped_joins
from xai_lib.attribute.backprop.engine import KINDS, ModifiedBackprop
from xai_lib.attribute.backprop.methods import deconvnet, guided_backprop, rectgrad
from xai_lib.attribute.backprop.pattern_chain import pattern_singular_ratios
from xai_lib.attribute.backprop.pattern_methods import (
    pattern_attribution,
    pattern_composite,
    pattern_net,
)
from xai_lib.attribute.backprop.patterns import Patterns, estimate_patterns
from xai_lib.attribute.backprop.plans import Plan, plan
from xai_lib.attribute.backprop.recursion import layer_recursion
from xai_lib.attribute.backprop.reference import deeplift
from xai_lib.attribute.backprop.relevance import (
    deep_taylor,
    excitation_backprop,
    lrp,
    relevance_budget,
)
from xai_lib.attribute.backprop.slopes import (
    SLOPES,
    UNIFIED,
    modified_gradient,
    unified,
)

__all__ = [
    "COMPOSITES",
    "KINDS",
    "Chain",
    "ModifiedBackprop",
    "Patterns",
    "Plan",
    "SLOPES",
    "UNIFIED",
    "clipped_joins",
    "deconvnet",
    "deep_taylor",
    "deeplift",
    "estimate_patterns",
    "excitation_backprop",
    "guided_backprop",
    "layer_recursion",
    "lrp",
    "modified_gradient",
    "pattern_attribution",
    "pattern_composite",
    "pattern_net",
    "pattern_singular_ratios",
    "plan",
    "rectgrad",
    "relevance_budget",
    "signals",
    "unified",
]
