"""The engine: every torch call inside the block is offered to a rule of its own.

A ``TorchFunctionMode`` sees functional and module calls alike, in place or not, reused
or not. Nothing in the model is hooked, replaced or restored.
"""

import os
import traceback
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from xai_lib.attribute.backprop.heads import attention_weights, mix_values
from xai_lib.attribute.backprop.op import Op, Rule
from xai_lib.attribute.backprop.operations import (
    READERS,
    ROUTES,
    carries,
    fold,
    out_of_place,
)
from xai_lib.attribute.backprop.rules import gradient

Composite = list[tuple[str, Rule]]
"""Pairs (key, rule), the first key that matches wins.

A key is a layer's name, "first" or "last" (the first, the last convolution or linear
map of the pass), a kind of operation, or "any".
"""

WEIGHTED = ("conv", "linear")
KINDS = {
    "conv": "convolutions, a BatchNorm behind them folded in",
    "linear": "linear maps, likewise",
    "batch_norm": "BatchNorm behind anything else",
    "norm": "LayerNorm and GroupNorm, their standard deviation held constant",
    "add": "a sum or difference of two signals",
    "shift": "a constant added",
    "scale": "a constant factor",
    "matmul": "a product with a constant matrix; attention's weights are held constant",
    "attention": "scaled dot-product attention, its weights held constant",
    "avg_pool": "average pooling, mean and sum",
    "max_pool": "max-pooling",
    "relu": "ReLU and ReLU6",
    "activation": "any other element-wise non-linearity",
}
"""The kinds of operation. Reshaping, slicing, padding and the like need no rule."""


class _Ruled(torch.autograd.Function):
    """Forward: the value that was computed. Backward: the rule."""

    @staticmethod
    def forward(ctx, compute, op: Op, find, x: Tensor) -> Tensor:
        ctx.op, ctx.find = op, find
        ctx.save_for_backward(x)
        return compute()

    @staticmethod
    def backward(ctx, R: Tensor):
        return None, None, None, ctx.find(ctx.op)(ctx.op, *ctx.saved_tensors, R)


class ModifiedBackprop(TorchFunctionMode):
    """Apply a composite to the forward passes of a block; go back outside of it.

    Parameters
    ----------
    composite : list of (key, rule)
    model : its parameters give the layers' names
    keep : remember forward values, for many backward vectors
    tally : sum up in ``absorbed`` what biases and stabilisers keep, and collect in
        ``constants`` the constants that a tensor was joined with

    Attributes
    ----------
    seen : number of ruled calls by kind
    """

    def __init__(
        self,
        composite: Composite,
        model: nn.Module | None = None,
        keep: bool = False,
        tally: bool = False,
    ):
        super().__init__()
        self.composite, self.keep = list(composite), keep
        self.names = _parameter_names(model)
        self.seen: Counter = Counter()
        self.absorbed: dict[str, Tensor] | None = {} if tally else None
        self.constants: list[Tensor] = []
        self._weighted: list[Op] = []
        self._started = False
        self._sources = WeakTensorKeyDictionary()  # output -> (its input, its Op)
        self._renewed = WeakTensorKeyDictionary()  # changed in place -> what it became

    def __exit__(self, *error):
        if self._weighted:
            self._weighted[-1].last = True
        return super().__exit__(*error)

    def find(self, op: Op) -> Rule:
        """Return the rule of an operation, or raise."""
        for key, rule in self.composite:
            if key in ("any", op.kind) or (key == op.name and op.name):
                return rule
            if (key == "first" and op.first) or (key == "last" and op.last):
                return rule
        raise ValueError(f"{op.kind} has no rule in this composite{_where()}")

    def expose(self, output: Tensor) -> None:
        """Keep a BatchNorm behind this output apart: relevance is wanted here."""
        self._sources.pop(output, None)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = self._renew(args, kwargs or {})
        first = self._is_first(func)
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        if not torch.is_grad_enabled() or not any(map(carries, tensors)):
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            weights, call = attention_weights(args, kwargs)
            with self:
                return mix_values(weights, call)
        func, args, kwargs, changed = out_of_place(func, args, kwargs)
        if func in READERS:
            result = self._read(func, args, kwargs, first)
        else:
            result = self._route(func, args, kwargs)
        if changed is not None:
            self._renewed[changed] = result
            if changed._is_view() and changed._base is not None:
                self._renewed[changed._base] = None
        return result

    def _read(self, func, args, kwargs, first: bool) -> Tensor:
        x, op = _located(READERS[func], *args, **kwargs)
        op.first, op.name = first, self.names.get(id(op.weight), "")
        source = op.kind == "batch_norm" and self._sources.get(x)
        if source:
            x, op = source[0], fold(source[1], op)
            self._weighted.remove(source[1])
        rule = self.find(op)
        if op.kind in WEIGHTED:
            self._weighted.append(op)
        self.seen[op.kind] += 1
        if rule is gradient and not (op.kind in WEIGHTED and self._asks_for_last()):
            return func(*args, **kwargs)
        op.absorbed = self.absorbed
        if self.keep:
            op.keep()

        def compute() -> Tensor:
            plain = tree_map(_detached, (args, kwargs))
            return func(*plain[0], **plain[1])

        result = _Ruled.apply(compute, op, self.find, x)
        if not source and _takes_norm(op, x):
            self._sources[result] = x, op
        return result

    def _asks_for_last(self) -> bool:
        return any(key == "last" for key, _ in self.composite)

    def _route(self, func, args, kwargs):
        """Call what only moves values, or what no rule is known for."""
        if func in ROUTES:
            if self.absorbed is not None:
                args, kwargs = tree_map(self._as_leaf, (args, kwargs))
            return func(*args, **kwargs)
        anything = any(key == "any" for key, _ in self.composite)
        changes = _name(func).endswith(("_", "__setitem__")) and not _reads(func)
        result = None if changes and not anything else func(*args, **kwargs)
        lost = changes or any(map(carries, tree_leaves(result)))
        if lost and not anything:
            raise ValueError(f"{_name(func)} has no rule{_where()}")
        return result

    def _as_leaf(self, a):
        """Make a constant a leaf, so that what it receives can be counted."""
        if not isinstance(a, Tensor) or a.requires_grad or not a.is_floating_point():
            return a
        self.constants.append(a.detach().requires_grad_())
        return self.constants[-1]

    def _renew(self, args, kwargs):
        """Put what a tensor became in place of the tensor that was to be changed."""
        if not self._renewed:
            return args, kwargs

        def newest(a):
            while isinstance(a, Tensor) and a in self._renewed:
                a = self._renewed[a]
                if a is None:
                    what = "a tensor changed in place through a view"
                    raise ValueError(f"{what} has no rule{_where()}")
            return a

        return tree_map(newest, (args, kwargs))

    def _is_first(self, func) -> bool:
        """Note the first convolution or linear map, also where no graph is built."""
        if self._started or getattr(READERS.get(func), "weighted", False) is False:
            return False
        self._started = True
        return True


def _takes_norm(op: Op, x: Tensor) -> bool:
    """Return whether a BatchNorm behind it can be folded into its weights."""
    if op.kind == "linear":
        return x.ndim == 2
    return op.kind == "conv" and not op.settings.get("transposed")


def _detached(a):
    return a.detach() if isinstance(a, Tensor) else a


def _parameter_names(model: nn.Module | None) -> dict[int, str]:
    """Return the name of the module of each weight, by the weight's id."""
    if model is None:
        return {}
    return {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}


def _located(reader, *args, **kwargs):
    try:
        return reader(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{error}{_where()}") from None


def _name(func) -> str:
    return getattr(func, "__name__", str(func))


def _reads(func) -> bool:
    return _name(func).startswith("__") and _name(func) != "__setitem__"


def _where() -> str:
    """Return the line of the model's code that made the call, as " (file, line)"."""
    inside = tuple(
        f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__)
    )
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(inside):
            return f" ({frame.filename}, line {frame.lineno}: {frame.line})"
    return ""
