"""The rules: what an operation sends back instead of its vector-Jacobian product.

A rule is ``rule(op, x, R) -> R_in``: the operation, its input, the signal that comes
back to its output.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Op = Callable[[Tensor], Tensor]
Rule = Callable[[Op, Tensor, Tensor], Tensor]


def vjp(op: Op, x: Tensor, v: Tensor) -> Tensor:
    """Return v^T J, the plain backward pass of op at x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(op(x), x, v)[0]


def guided(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Guided backpropagation: R_in = f'(x) * max(R, 0)  [springenberg2015]_."""
    return vjp(op, x, R.clamp(min=0))
