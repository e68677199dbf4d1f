"""The rules of DeepLIFT: multipliers for the difference from a reference.

The batch holds x and, behind it, the reference. Backward, the first half of a signal is
m(pos), which multiplies what raised a unit, the second m(neg), for what lowered it.
"""

import torch
from torch import Tensor

from xai_lib.attribute.backprop.op import Op, Rule
from xai_lib.attribute.backprop.relevance_rules import negative, positive, split_weight

Pair = tuple[Tensor, Tensor]


def halves(op: Op, a: Tensor) -> Pair:
    """Return the rows of x and those of the reference; of a signal m(pos), m(neg)."""
    if not op.pairs:
        raise ValueError(
            "DeepLIFT's rules compare x with a baseline, got none: call deeplift, or "
            "Chain with a baseline"
        )
    if a.ndim == 0 or len(a) % (2 * op.pairs):
        raise ValueError(
            f"{op.kind} must have the images in its leading dimension, of a multiple "
            f"of {2 * op.pairs} rows, got shape {tuple(a.shape)}"
        )
    first, second = a.chunk(2)
    return first, second


def change(op: Op, x: Tensor) -> Tensor:
    """Return dx, by how much x differs from the reference."""
    own, reference = halves(op, x)
    return own - reference


def by_sign(dx: Tensor, pos: Tensor, neg: Tensor, still: Tensor | None = None):
    """Return pos where dx > 0, neg where dx < 0, elsewhere ``still``, or their mean."""
    still = (pos + neg) / 2 if still is None else still
    return torch.where(dx > 0, pos, torch.where(dx < 0, neg, still))


# --- linear operations ----------------------------------------------------------------


def check_factor(op: Op, x: Tensor) -> None:
    """Refuse a factor that is another for x than for the reference."""
    halves(op, x)
    w = op.weight
    per_row = op.kind in ("matmul", "scale") and w.ndim == x.ndim > 1
    if not per_row or len(w) != len(x) or (op.kind == "matmul" and w.ndim < 3):
        return
    if not op.once("factor", lambda: torch.equal(*halves(op, w))):
        raise ValueError(
            f"{op.kind} by a factor that depends on the input (as attention's weights "
            "do) has no exact DeepLIFT rule"
        )


def linear_rule(cross: bool = True) -> Rule:
    """DeepLIFT's linear rule, per sign of dx  [shrikumar2017]_.

    dx_i > 0: m_i = sum_j w_ij+ m_j(pos) + w_ij- m_j(neg); dx_i < 0: m_i = sum_j w_ij-
    m_j(pos) + w_ij+ m_j(neg); dx_i = 0: m_i = sum_j w_ij (m_j(pos) + m_j(neg)) / 2.
    Without ``cross`` the terms with w- are dropped where dx is not 0  [sixt2020]_.
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        check_factor(op, x)
        halves(op, R)
        back = op.linear([(x, w) for w in split_weight(op)], "signs")[1]
        (up_pos, up_neg), (down_pos, down_neg) = (m.chunk(2) for m in back(R))
        pos, neg = up_pos + down_neg, up_neg + down_pos
        if cross and op.source is not None:
            return torch.cat([pos, neg])
        still = (pos + neg) / 2
        if not cross:
            pos, neg = up_pos, up_neg
        m = by_sign(change(op, x), pos, neg, still)
        return torch.cat([m, m])

    return rule


def shared_linear(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """m_i = sum_j w_ij m_j, the linear rule where m(pos) = m(neg)."""
    check_factor(op, x)
    halves(op, R)
    return op.vjp(x, R)


def contributions(x: Tensor, op: Op) -> Pair:
    """Return dz+ and dz-, the change of a linear operation's output by its terms' sign.

    dz_j+ = sum_i (w_ij dx_i)+. A scale or shift of a linear map's output counts as part
    of that map.
    """

    def compute() -> Pair:
        if op.source is None:
            dx = change(op, x)
            plus, minus = positive(dx), negative(dx)
        else:
            plus, minus = contributions(*op.source)
        w_plus, w_minus = split_weight(op)
        both = torch.cat([plus, minus])
        (a, b), (c, d) = (op.function(both, w).chunk(2) for w in (w_plus, w_minus))
        plus, minus = a + d, b + c
        constant = op.bias
        per_row = op.kind == "shift" and constant.ndim == x.ndim
        if per_row and len(constant) == len(x):
            moved = change(op, constant)  # a skip connection around the layer
            plus, minus = plus + positive(moved), minus + negative(moved)
        return plus, minus

    return op.once("contributions", compute)


# --- non-linearities ------------------------------------------------------------------


def secant(op: Op, start: Tensor, end: Tensor) -> Tensor:
    """Return (f(end) - f(start)) / (end - start), element by element.

    Where the slope at the midpoint gives the same rise up to rounding it is taken
    instead: dy / dz would be noise there, or 0 / 0.
    """
    with torch.enable_grad():
        middle = ((start + end) / 2).detach().requires_grad_()
        slope = torch.autograd.grad(op(middle).sum(), middle)[0]
    low, high, run = op(start), op(end), end - start
    rounding = 4 * torch.finfo(run.dtype).eps * (low.abs() + high.abs())
    same = (slope * run - (high - low)).abs() <= rounding
    return torch.where(same, slope, (high - low) / run)


def average(op: Op, z: Tensor) -> Tensor:
    """g(z) = (f(z) - f(z0)) / (z - z0), for z = z0 the slope f'(z0); for both rows."""
    own, reference = halves(op, z)
    return secant(op, reference, own).repeat(2, *[1] * (z.ndim - 1))


def rescale(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Rescale: m_in = m_out (f(z) - f(z0)) / (z - z0), for both signs [shrikumar2017]_.

    For z = z0 the slope f'(z0).
    """
    return R * op.once("slopes", lambda: average(op, x))


def reveal_cancel(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """RevealCancel: m(pos) dy+ / dz+ and m(neg) dy- / dz-  [shrikumar2017]_.

    dy+ is the mean of what dz+ adds alone and what it adds after dz-; dy- likewise.
    Where the input is no linear operation's output, dz+ and dz- are unknown: Rescale.
    """
    if op.source is None:
        return rescale(op, x, R)

    def slopes() -> Tensor:
        z, z0 = halves(op, x)
        plus, minus = contributions(*op.source)
        up = secant(op, z0, z0 + plus) + secant(op, z0 + minus, z)
        down = secant(op, z0, z0 + minus) + secant(op, z0 + plus, z)
        return torch.cat([up, down]) / 2

    return R * op.once("slopes", slopes)


def genomics_default(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """RevealCancel behind a linear (dense) map, else Rescale."""
    source = op.source
    while source is not None and source[1].source is not None:
        source = source[1].source
    dense = source is not None and source[1].kind == "linear"
    return (reveal_cancel if dense else rescale)(op, x, R)


def split_maximum(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """A max-pool's change, given to the winner of x, or of the reference if it fell.

    With y = x_i and y0 = x0_k, m (y - y0) goes to i where y >= y0, else to k, so that
    m_i dx_i sums up to it  [lundberg2017]_. m(pos) = m(neg) above a max-pool.
    """
    y, y0 = halves(op, op.once("maxima", lambda: op(x)))
    rose, dx = y >= y0, change(op, x)
    m = sum(halves(op, R)) / 2

    def route(v: Tensor) -> Tensor:
        own, reference = op.vjp(x, torch.cat([v * rose, v * ~rose])).chunk(2)
        return own + reference

    m = torch.where(dx == 0, route(m), route(m * (y - y0)) / dx)
    return torch.cat([m, m])
