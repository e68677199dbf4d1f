"""How good is a map: fidelity, sanity, and how far a gradient predicts."""

from xai_lib.evaluate.adversarial import sign_gradient_attack
from xai_lib.evaluate.fidelity import deletion, deletion_curve
from xai_lib.evaluate.linear import first_order_correlation, pearson
from xai_lib.evaluate.randomise import randomised
from xai_lib.evaluate.sanity import (
    cascading_randomisation,
    other_class,
    random_logit,
    reduction_of,
)
from xai_lib.evaluate.structural import clip_to_unit, similarity, ssim
from xai_lib.evaluate.sufficiency import (
    blurred,
    key_region,
    key_sufficiency,
    moved,
    transplant_rate,
)

__all__ = [
    "blurred",
    "cascading_randomisation",
    "clip_to_unit",
    "deletion",
    "deletion_curve",
    "first_order_correlation",
    "key_region",
    "key_sufficiency",
    "moved",
    "other_class",
    "pearson",
    "random_logit",
    "randomised",
    "reduction_of",
    "sign_gradient_attack",
    "similarity",
    "ssim",
    "transplant_rate",
]
