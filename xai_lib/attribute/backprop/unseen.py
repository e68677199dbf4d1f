"""What goes past the engine: compiled modules, functions with their own backward pass.

torch offers neither to a ``TorchFunctionMode``. They would be passed by their plain
gradient, and nothing in the map would show it.
"""

import inspect

import torch
from torch import Tensor, nn


def check_modules(model: nn.Module) -> None:
    """Refuse a model with a part that is compiled."""
    for name, module in model.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or hasattr(module, "_orig_mod"):
            maker = "torch.jit" if scripted else "torch.compile"
            raise ValueError(
                f"model must be the one that was written, got module {name!r} made by "
                f"{maker}, whose operations have no rule"
            )


def check_functions(output: Tensor) -> None:
    """Refuse a graph with a ``torch.autograd.Function`` that the engine did not make.

    One whose backward pass is meant as a rule says so by an attribute ``is_rule``.
    """
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(parent for parent, _ in node.next_functions)
        function = getattr(node, "_forward_cls", None)
        if function is not None and not getattr(function, "is_rule", False):
            raise ValueError(f"{function.__name__} has no rule{_written(function)}")


def _written(function: type) -> str:
    try:
        line = inspect.getsourcelines(function)[1]
        return f" (a torch.autograd.Function, {inspect.getfile(function)}, line {line})"
    except (OSError, TypeError):  # made in a console
        return " (a torch.autograd.Function)"
