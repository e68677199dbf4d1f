"""One call of an operation, as a rule meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

Rule = Callable[["Op", Tensor, Tensor], Tensor]


class _OneByOne(torch.autograd.Function):
    """v -> back(v), which vmap runs for each v: its own rule for pools is slow."""

    @staticmethod
    def forward(v: Tensor, back) -> Tensor:
        return back(v)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, v: Tensor, back):
        rows = [back(one) for one in v.movedim(in_dims[0], 0)]
        return torch.cat(rows).unflatten(0, (len(rows), -1)), 0


@dataclass(eq=False)
class Op:
    """An operation with everything fixed but the input that relevance goes back to.

    Attributes
    ----------
    kind : what it is: "conv", "linear", "add", "relu", "max_pool", ...
    function : f(x) for a non-linearity; f(x, w) without bias, linear in x, else
    weight : w, or None for a non-linearity
    bias : what is added to f(x, w), broadcast to its shape, or None
    settings : of a pooling, as `avg_pool2d` takes them
    name : the module whose weight it is, or ""
    first, last : whether it is the first, the last of the convolutions and linear maps
    pairs : rows of x in a batch that holds x and behind it a reference, or 0
    rows : images of the batch, or 0 where that does not matter
    source : the linear operation that made the input, as (its input, its Op), if traced
    """

    kind: str
    function: Callable[..., Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    settings: dict = field(default_factory=dict)
    name: str = ""
    first: bool = False
    last: bool = False
    pairs: int = 0
    rows: int = 0
    source: tuple[Tensor, Op] | None = field(default=None, repr=False)
    absorbed: dict[str, Tensor] | None = field(default=None, repr=False)
    _kept: dict | None = field(default=None, repr=False)

    def hold_constant(self) -> None:
        """Keep weight and bias out of every graph, whatever trains them."""
        self.weight = None if self.weight is None else self.weight.detach()
        self.bias = None if self.bias is None else self.bias.detach()

    def behind(self, before: Callable[[Tensor], Tensor]) -> Op:
        """Return this operation with another one before it."""
        return replace(self, function=lambda x, w: self.function(before(x), w))

    def __call__(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return self.function(x)
        z = self.function(x, self.weight)
        return z if self.bias is None else z + self.bias

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v^T J, the plain backward pass at x."""
        z, (x,) = self._graph("plain", self, [x])

        def back(v: Tensor) -> Tensor:
            keep = self._kept is not None
            return torch.autograd.grad(z, x, v, retain_graph=keep)[0]

        return _OneByOne.apply(v, back) if self.kind == "max_pool" else back(v)

    def linear(self, terms: list[tuple[Tensor, Tensor]], key: str):
        """Return z = sum of f(a, w) over the terms, and back: s -> [W^T s for each]."""
        weights = [w for _, w in terms]
        dim = self._joins(terms)

        def total(*inputs):
            if dim is not None:  # many channels at once cost less
                return self.function(torch.cat(inputs, dim), torch.cat(weights, 1))
            parts = zip(inputs, weights, strict=True)
            return reduce(torch.add, (self.function(a, w) for a, w in parts))

        z, inputs = self._graph(key, total, [a for a, _ in terms])

        def back(s: Tensor) -> tuple[Tensor, ...]:
            keep = self._kept is not None
            return torch.autograd.grad(z, inputs, s, retain_graph=keep)

        return z.detach(), back

    def _joins(self, terms: list[tuple[Tensor, Tensor]]) -> int | None:
        """Return the dimension along which the inputs of terms make one, if any."""
        x, w = terms[0]
        dim = {"conv": 1, "linear": -1}.get(self.kind)
        if len(terms) == 1 or dim is None or self.settings.get("transposed"):
            return None
        return dim if w.shape[1] == x.shape[dim] else None  # else in groups

    def absorb(self, **shares: Tensor) -> None:
        """Note what does not go back to the input, by name, if anybody asked."""
        if self.absorbed is not None:
            for name, share in shares.items():
                self.absorbed[name] = self.absorbed.get(name, 0) + share.sum()

    def keep(self) -> None:
        """Remember forward values for the next backward vector."""
        if self._kept is None:
            self._kept = {}

    def once(self, key: str, compute: Callable[[], object]):
        """Return compute(), remembered if the op is kept."""
        if self._kept is None:
            return compute()
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def _graph(self, key: str, function, inputs: list[Tensor]):
        def compute():
            with torch.enable_grad():
                leaves = [a.detach().requires_grad_() for a in inputs]
                return function(*leaves), leaves

        return self.once(key, compute)
