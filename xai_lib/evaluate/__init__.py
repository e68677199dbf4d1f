"""How good is a map: fidelity, sanity, and how far a gradient predicts."""

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

__all__ = [
    "cascading_randomisation",
    "clip_to_unit",
    "deletion",
    "deletion_curve",
    "first_order_correlation",
    "other_class",
    "pearson",
    "random_logit",
    "randomised",
    "reduction_of",
    "similarity",
    "ssim",
]
