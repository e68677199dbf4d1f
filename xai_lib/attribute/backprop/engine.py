"""The engine: every torch call inside the block is offered to a rule of its own.

A ``TorchFunctionMode`` sees functional and module calls alike, in place or not, reused
or not. Nothing in the model is hooked, replaced or restored.
"""

from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xai_lib.attribute.backprop.rules import Op, Rule

OPERATIONS = {
    F.relu: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    Tensor.relu: "relu",
    Tensor.relu_: "relu",
    F.relu6: "relu",
    F.hardtanh: "relu",  # nn.ReLU6 calls it
}
"""Which torch function is which operation."""


class _Ruled(torch.autograd.Function):
    """Forward: op(x). Backward: rule(op, x, R)."""

    @staticmethod
    def forward(ctx, op: Op, rule: Rule, x: Tensor) -> Tensor:
        ctx.op, ctx.rule = op, rule
        ctx.save_for_backward(x)
        return op(x)

    @staticmethod
    def backward(ctx, R: Tensor):
        return None, None, ctx.rule(ctx.op, *ctx.saved_tensors, R)


class ModifiedBackprop(TorchFunctionMode):
    """Apply a composite, pairs of (operation, rule), to the forward passes of a block.

    ``seen`` counts the ruled calls by operation.
    """

    def __init__(self, composite: list[tuple[str, Rule]]):
        super().__init__()
        self.rules, self.seen = dict(composite), Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operation = OPERATIONS.get(func)
        rule = self.rules.get(operation)
        x = args[0] if args else kwargs.get("input")
        if rule is None or not (torch.is_grad_enabled() and x.requires_grad):
            return func(*args, **kwargs)
        self.seen[operation] += 1
        plain = {k: v for k, v in kwargs.items() if k not in ("input", "inplace")}
        return _Ruled.apply(
            lambda x: _out_of_place(func)(x, *args[1:], **plain), rule, x
        )


def _out_of_place(func):
    return {torch.relu_: torch.relu, Tensor.relu_: torch.relu}.get(func, func)
