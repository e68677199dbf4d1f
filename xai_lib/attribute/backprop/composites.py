"""Composites as data: which operation gets which rule, in which method."""

from xai_lib._check import check_choice
from xai_lib.attribute.backprop.engine import Composite
from xai_lib.attribute.backprop.op import Rule
from xai_lib.attribute.backprop.reference_rules import (
    genomics_default,
    linear_rule,
    rescale,
    reveal_cancel,
    shared_linear,
    split_maximum,
)
from xai_lib.attribute.backprop.relevance_rules import (
    alpha_beta,
    clip,
    epsilon,
    excitation,
    flat,
    gamma,
    lrp_0,
    w_square,
    z_box,
    z_plus,
)
from xai_lib.attribute.backprop.rules import (
    deconv,
    gradient,
    guided,
    pass_through,
)

_HAND_ON = [("relu", pass_through), ("activation", pass_through)]
_OTHER = (
    "batch_norm", "norm", "add", "shift", "scale", "avg_pool", "matmul", "attention",
)  # fmt: skip


def relevance(
    conv: Rule, linear: Rule, first: Rule | None = None, other: Rule | None = None
) -> Composite:
    """Return a composite of relevance propagation from its rules for the weighted maps.

    A non-linearity hands relevance on, a max-pool gives all to the winner, and every
    other linear operation, a residual sum among them, shares by the epsilon rule.
    """
    head = [] if first is None else [("first", first)]
    rest = [(kind, other or epsilon()) for kind in _OTHER] + [("max_pool", gradient)]
    return head + [("conv", conv), ("linear", linear)] + _HAND_ON + rest


_WEIGHTS = ("conv", "linear", "batch_norm")
_OTHER_LINEAR = ("add", "shift", "scale", "matmul", "avg_pool")


def reference(weights: Rule, linear: Rule, nonlinearity: Rule) -> Composite:
    """Return a composite of DeepLIFT from its rules for the linear operations (those
    with weights, the others) and for the non-linearities.

    LayerNorm and attention are no fixed linear maps and have no rule.
    """
    return (
        [(kind, weights) for kind in _WEIGHTS]
        + [(kind, linear) for kind in _OTHER_LINEAR]
        + [("relu", nonlinearity), ("activation", nonlinearity)]
        + [("max_pool", split_maximum)]
    )


_FULL, _NO_CROSS = linear_rule(), linear_rule(cross=False)

COMPOSITES: dict[str, Composite] = {
    "lrp_0": relevance(lrp_0, lrp_0, other=lrp_0),
    "epsilon": relevance(epsilon(), epsilon()),
    "gamma": relevance(gamma(), gamma()),
    "zplus": relevance(z_plus(), z_plus()),
    "alpha2_beta1": relevance(alpha_beta(2, 1), alpha_beta(2, 1)),
    "alpha5_beta4": relevance(alpha_beta(5, 4), alpha_beta(5, 4)),
    "epsilon_plus": relevance(z_plus(), epsilon()),
    "epsilon_plus_box": relevance(z_plus(), epsilon(), z_box()),
    "epsilon_plus_flat": relevance(z_plus(), epsilon(), flat),
    "epsilon_alpha2_beta1": relevance(alpha_beta(2, 1), epsilon()),
    "epsilon_alpha2_beta1_flat": relevance(alpha_beta(2, 1), epsilon(), flat),
    "epsilon_gamma_box": relevance(gamma(), epsilon(), z_box()),
    "deep_taylor": [
        ("first", z_box()),
        ("last", w_square),
        ("conv", z_plus(bias=False)),
        ("linear", z_plus(bias=False)),
        ("batch_norm", w_square),
        ("any", gradient),
    ],
    "excitation_backprop": relevance(excitation(), excitation()),
    "deeplift_rescale": reference(gradient, shared_linear, rescale),
    "deeplift_reveal_cancel": reference(_FULL, _FULL, reveal_cancel),
    "deeplift_genomics_default": reference(_FULL, _FULL, genomics_default),
    "deeplift_ablation": reference(_NO_CROSS, _NO_CROSS, rescale),
    "guided_backprop": [("relu", guided), ("any", gradient)],
    "deconvnet": [("relu", deconv), ("any", gradient)],
    "gradient": [("any", gradient)],
}
"""Composites by name."""


def find_composite(composite: str | Composite) -> Composite:
    """Return a composite from its name, or the pairs themselves."""
    if isinstance(composite, str):
        check_choice("composite", composite, COMPOSITES)
        return COMPOSITES[composite]
    pairs = isinstance(composite, (list, tuple)) and all(
        isinstance(p, tuple) and len(p) == 2 and callable(p[1]) for p in composite
    )
    if not pairs or not composite:
        raise ValueError(
            "composite must be a name or a list of pairs (key, rule), "
            f"got {composite!r}"
        )
    return list(composite)


def clipped_joins(composite: str | Composite) -> Composite:
    """Return the composite with negative relevance deleted at every residual sum.

    The code of [sixt2020]_ clips what a sum sends back to [0, 1000].
    """
    return [
        (key, clip(rule) if key == "add" else rule)
        for key, rule in find_composite(composite)
    ]
