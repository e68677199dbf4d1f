"""Modified backpropagation: one engine, its rules, and the methods made of them."""

from xai_lib.attribute.backprop.methods import guided_backprop

__all__ = ["guided_backprop"]
