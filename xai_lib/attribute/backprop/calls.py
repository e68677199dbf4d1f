"""Names: of a call, of its line in the model's code, of the layer it belongs to."""

import os
import traceback
from pathlib import Path

import torch
from torch import nn


def parameter_names(model: nn.Module | None) -> dict[int, str]:
    """Return the name of the module of each weight, by the weight's id."""
    if model is None:
        return {}
    return {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}


def located(function, *args, **kwargs):
    """Return function(...); let its refusals say where the call stands."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{error}{where()}") from None


def name_of(func) -> str:
    """Return the name of a torch function, or of an attribute of tensors."""
    if getattr(func, "__name__", "") == "__get__":  # an attribute, such as h.real
        func = func.__self__
    return getattr(func, "__name__", str(func))


def reads(func) -> bool:
    """Return whether an operator leaves its arguments as they are."""
    return name_of(func).startswith("__") and name_of(func) != "__setitem__"


def where() -> str:
    """Return the line of the model's code that made the call, as " (file, line)"."""
    inside = tuple(
        f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__)
    )
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(inside):
            return f" ({frame.filename}, line {frame.lineno}: {frame.line})"
    return ""
