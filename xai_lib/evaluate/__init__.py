"""How good is a map: fidelity, and how far a gradient predicts."""

from xai_lib.evaluate.fidelity import deletion, deletion_curve
from xai_lib.evaluate.linear import first_order_correlation, pearson

__all__ = ["deletion", "deletion_curve", "first_order_correlation", "pearson"]
