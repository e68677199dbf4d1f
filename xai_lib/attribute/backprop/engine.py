"""The engine: every torch call inside the block is offered to a rule of its own.

A ``TorchFunctionMode`` sees functional and module calls alike, in place or not, reused
or not. Nothing in the model is hooked, replaced or restored.
"""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from xai_lib.attribute.backprop.calls import (
    located,
    name_of,
    parameter_names,
    reads,
    where,
)
from xai_lib.attribute.backprop.heads import attention_weights, mix_values
from xai_lib.attribute.backprop.in_place import Changes, out_of_place
from xai_lib.attribute.backprop.op import Op, Rule
from xai_lib.attribute.backprop.operations import carries, fold, zero_padding
from xai_lib.attribute.backprop.rules import gradient
from xai_lib.attribute.backprop.tables import READERS, ROUTES
from xai_lib.attribute.backprop.unseen import check_functions, check_modules

Composite = list[tuple[str, Rule]]
"""Pairs (key, rule), the first key that matches wins.

A key is a layer's name, "first" or "last" (the first, the last convolution or linear
map of the pass), a kind of operation, or "any".
"""

WEIGHTED = ("conv", "linear")
ELEMENTWISE = ("relu", "activation", "batch_norm", "scale", "shift")
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

    is_rule = True

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
    pairs : rows of x in a batch that holds x and behind it a reference, or 0
    rows : images of the batch, for rules that look at one image at a time, or 0
    trace : note which linear operation made the input of an element-wise one

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
        pairs: int = 0,
        trace: bool = False,
        rows: int = 0,
    ):
        super().__init__()
        self.composite, self.keep = list(composite), keep
        self.names = parameter_names(model)
        self._lenient = ("any", gradient) in self.composite  # unknown calls are passed
        self._check(model)
        self.pairs, self.trace, self.rows = pairs, trace, rows
        self.seen: Counter = Counter()
        self.absorbed: dict[str, Tensor] | None = {} if tally else None
        self.constants: list[Tensor] = []
        self._weighted: list[Op] = []
        self._started = False
        self._sources = WeakTensorKeyDictionary()  # output -> (its input, its Op)
        self._padded = WeakTensorKeyDictionary()  # output -> (its input, the padding)
        self._makers = WeakTensorKeyDictionary()  # as _sources, if traced
        self._changes = Changes()
        self._depth = 0

    def __enter__(self):
        self._depth += 1
        return super().__enter__()

    def __exit__(self, *error):
        self._depth -= 1
        if not self._depth:  # attention enters it once more
            self._close()
        return super().__exit__(*error)

    def _close(self) -> None:
        """Mark the last map; let go of all tensors, whose graph holds the engine."""
        for op in self._weighted:
            op.last = op is self._weighted[-1]
        for notes in (self._sources, self._padded, self._makers):
            notes.clear()
        self._changes = Changes()

    def _check(self, model: nn.Module | None) -> None:
        """Refuse keys that can match nothing, and a model that cannot be seen into."""
        if model is None:
            return
        known = {"first", "last", "any", *KINDS, *self.names.values()}
        for key, _ in self.composite:
            if key not in known:
                raise ValueError(
                    "a composite's key must be first, last, any, a layer with "
                    f"parameters or one of {', '.join(KINDS)}, got {key!r}"
                )
        if any(rule is not gradient for _, rule in self.composite):
            check_modules(model)

    def find(self, op: Op) -> Rule:
        """Return the rule of an operation, or raise."""
        for key, rule in self.composite:
            if key in ("any", op.kind) or (key == op.name and op.name):
                return rule
            if (key == "first" and op.first) or (key == "last" and op.last):
                return rule
        raise ValueError(f"{op.kind} has no rule in this composite{where()}")

    def expose(self, output: Tensor) -> Tensor:
        """Return a module's output, its in-place changes done, to be gone back to.

        A BatchNorm behind it is kept apart: relevance is wanted in between.
        """
        output = self._changes.newest(output)
        self._sources.pop(output, None)
        self._padded.pop(output, None)
        return output

    def check(self, output: Tensor) -> Tensor:
        """Return the model's output; refuse one that an unknown function led to."""
        output = self._changes.newest(output)
        if not self._lenient and isinstance(output, Tensor):
            check_functions(output)
        return output

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = located(self._changes.renew, args, kwargs or {})
        first = self._is_first(func)
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        if not torch.is_grad_enabled() or not any(map(carries, tensors)):
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward and not self._plain_attention():
            weights, call = located(attention_weights, args, kwargs)
            with self:
                return mix_values(weights, call)
        func, args, kwargs, changed = out_of_place(func, args, kwargs)
        if func in READERS:
            result = self._read(func, args, kwargs, first)
        else:
            result = self._route(func, args, kwargs)
        if changed is not None:
            self._changes.note(changed, result)
        return result

    def _read(self, func, args, kwargs, first: bool) -> Tensor:
        try:
            x, op = located(READERS[func], *args, **kwargs)
        except (ValueError, TypeError) as error:
            if self._lenient:
                return func(*args, **kwargs)
            if isinstance(error, ValueError):
                raise
            what = f"{name_of(func)} has no rule for these arguments"
            raise ValueError(f"{what}{where()}") from None
        op.first, op.name = first, self._name_of(args, kwargs)
        op.hold_constant()
        x, op, folded = self._merge(x, op)
        rule = self.find(op)
        if op.kind in WEIGHTED:
            self._weighted.append(op)
        self.seen[op.kind] += 1
        if rule is gradient and not self._rules(op):
            return func(*args, **kwargs)
        op.absorbed, op.pairs, op.rows = self.absorbed, self.pairs, self.rows
        if self.trace and op.kind in ELEMENTWISE:
            op.source = self._makers.get(x)
        if self.keep:
            op.keep()

        def compute() -> Tensor:
            plain = tree_map(_detached, (args, kwargs))
            return func(*plain[0], **plain[1])

        result = _Ruled.apply(compute, op, self.find, x)
        if not folded and _takes_norm(op, x):
            self._sources[result] = x, op
        if self.trace and op.weight is not None:
            self._makers[result] = x, op
        return result

    def _merge(self, x: Tensor, op: Op) -> tuple[Tensor, Op, bool]:
        """Merge a BatchNorm with the weights before it, a convolution with its padding.

        Also return whether it was a BatchNorm.
        """
        if op.kind == "conv" and x in self._padded:
            x, pad = self._padded[x]
            return x, op.behind(pad), False
        if op.kind != "batch_norm" or x not in self._sources:
            return x, op, False
        x, conv = self._sources[x]
        self._weighted = [one for one in self._weighted if one is not conv]
        return x, fold(conv, op), True

    def _rules(self, op: Op) -> bool:
        """Return whether a gradient is a rule: it may change, or be asked for often."""
        if op.kind == "max_pool":
            return self.keep
        last = any(key == "last" for key, _ in self.composite)
        return op.kind in WEIGHTED and last

    def _route(self, func, args, kwargs):
        """Call what only moves values, or what no rule is known for."""
        if func in ROUTES:
            if self.absorbed is not None:
                args, kwargs = tree_map(self._as_leaf, (args, kwargs))
            result = func(*args, **kwargs)
            if func is F.pad and (pad := zero_padding(*args, **kwargs)):
                self._padded[result] = (args or [kwargs["input"]])[0], pad
            return result
        changes = name_of(func).endswith(("_", "__setitem__")) and not reads(func)
        result = None if changes and not self._lenient else func(*args, **kwargs)
        lost = changes or any(map(carries, tree_leaves(result)))
        if lost and not self._lenient:
            raise ValueError(f"{name_of(func)} has no rule{where()}")
        return result

    def _as_leaf(self, a):
        """Make a constant a leaf, so that what it receives can be counted."""
        if not isinstance(a, Tensor) or a.requires_grad or not a.is_floating_point():
            return a
        self.constants.append(a.detach().requires_grad_())
        return self.constants[-1]

    def _name_of(self, args, kwargs) -> str:
        """Return the name of the module whose parameter is among the arguments."""
        ids = (id(a) for a in tree_leaves((args, kwargs)))
        return next((self.names[i] for i in ids if i in self.names), "")

    def _plain_attention(self) -> bool:
        """Return whether the gradient goes through attention, its weights included."""
        steps = ("linear", "matmul")
        return self._lenient and all(
            self.find(Op(kind, torch.mul)) is gradient for kind in steps
        )

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
