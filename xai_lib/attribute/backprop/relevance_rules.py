"""The rules of layer-wise relevance propagation and of deep Taylor decomposition.

Each sends back R_i = sum over j of a share of R_j, in proportion to a_i w_ij, where a
and w are parts of the input and of the weights. A bias keeps a share of its own.
"""

from collections.abc import Iterable
from functools import partial, reduce

import torch
from torch import Tensor

from xai_lib.attribute.backprop.op import Op, Rule

EPSILON = 1e-6


def stabilise(z: Tensor, eps: float = EPSILON) -> Tensor:
    """Return z + eps sign(z), with sign(0) = 1."""
    return z + torch.copysign(z.new_tensor(eps), z)


def positive(a: Tensor) -> Tensor:
    """Return a+ = max(a, 0)."""
    return a.clamp(min=0)


def negative(a: Tensor) -> Tensor:
    """Return a- = min(a, 0)."""
    return a.clamp(max=0)


Terms = list[tuple[Tensor, Tensor]]


def weight_of(op: Op) -> Tensor:
    """Return w; refuse a non-linearity, which has none to share by."""
    if op.weight is None:
        raise ValueError(
            f"{op.kind} is not linear: it needs a rule such as pass_through or gradient"
        )
    return op.weight


def share(
    op: Op,
    terms: Terms,
    R: Tensor,
    bias: Tensor | None,
    eps: float,
    key: str = "z",
    sign: int = 0,
) -> Tensor:
    """Return R_i = sum_t a_ti sum_j w_tij R_j / (sum_t sum_k w_tkj a_tk + b_j).

    terms : pairs (a, w) of inputs and weights
    sign : of all denominators, if it is known
    """
    return gathered(terms, sent(op, terms, R, bias, eps, key, sign))


def sent(
    op: Op,
    terms: Terms,
    R: Tensor,
    bias: Tensor | None,
    eps: float,
    key: str,
    sign: int,
    factor: float = 1.0,
) -> tuple[Tensor, ...]:
    """Return factor sum_j w_tij R_j / z_j for each term: `share` before its inputs."""
    z, back = op.linear(terms, key)
    b = z.new_zeros(()) if bias is None else bias

    def denominator() -> Tensor:
        if sign:  # one pass over z, not three
            return torch.add((b + sign * eps) / factor, z, alpha=1 / factor)
        return stabilise(z + b, eps)

    s = R / op.once(f"{key}, stabilised", denominator)
    if op.absorbed is not None:
        op.absorb(stabiliser=factor * R - (z + b) * s, bias=b * s)
    return back(s)


def gathered(terms: Terms, signals: Iterable[Tensor]) -> Tensor:
    """Return the sum over the terms of input times signal."""
    return reduce(torch.add, (a * t for (a, _), t in zip(terms, signals, strict=True)))


def part(op: Op, x: Tensor, w_plus: Tensor, w_minus: Tensor) -> Terms:
    """Return the terms x+ w+ and x- w-, without the second where no x is negative."""
    if not op.once("signed", lambda: bool(x.amin() < 0)):
        return [(x, w_plus)]
    return [(positive(x), w_plus), (negative(x), w_minus)]


def epsilon(eps: float = EPSILON) -> Rule:
    """LRP-epsilon: R_i = sum_j x_i w_ij R_j / (z_j + eps sign(z_j))  [bach2015]_."""

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        return share(op, [(x, weight_of(op))], R, op.bias, eps)

    return rule


lrp_0 = epsilon(1e-12)


def gamma(gamma: float = 0.25, eps: float = EPSILON) -> Rule:
    """LRP-gamma: weights w + gamma w+ where z_j >= 0, mirrored where z_j < 0.

    For z_j > 0 the positive products x_i w_ij count 1 + gamma times, for z_j < 0 the
    negative ones; this is the form for signed inputs.  [montavon2019]_
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        w, b = weight_of(op), op.bias
        up, down = w + gamma * positive(w), w + gamma * negative(w)
        b_up = None if b is None else b + gamma * positive(b)
        b_down = None if b is None else b + gamma * negative(b)
        z = op.once("output", lambda: op(x))
        above = part(op, x, up, down)
        if len(above) == 1:
            below = [(x, down)]
        else:
            below = [(positive(x), down), (negative(x), up)]
        return share(op, above, R * (z >= 0), b_up, eps, "z up") + share(
            op, below, R * (z < 0), b_down, eps, "z down"
        )

    return rule


def alpha_beta(alpha: float, beta: float, eps: float = EPSILON) -> Rule:
    """LRP-alpha-beta: alpha times the shares of positive products, minus beta negative.

    R_i = sum_j [ alpha (x_i w_ij)+ / z_j+ - beta (x_i w_ij)- / z_j- ] R_j, with alpha -
    beta = 1; both signs of x count.  [bach2015]_
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        b = op.bias
        b_plus, b_minus = (None, None) if b is None else (positive(b), negative(b))
        w_plus, w_minus = split_weight(op)
        up = part(op, x, w_plus, w_minus)
        signals = sent(op, up, R, b_plus, eps, "z plus", 1, alpha)
        if beta:
            down = [(a, w_plus if w is w_minus else w_minus) for a, w in up]
            lowered = sent(op, down, R, b_minus, eps, "z minus", -1, -beta)
            signals = map(torch.add, signals, lowered)
        return gathered(up, signals)

    return rule


def split_weight(op: Op) -> tuple[Tensor, Tensor]:
    """Return w+ and w-."""
    w = weight_of(op)
    return op.once("split", lambda: (positive(w), negative(w)))


def z_plus(bias: bool = True, eps: float = EPSILON) -> Rule:
    """z+: R_i = sum_j (x_i w_ij)+ / (z_j+ + b_j+) R_j, alpha 1 beta 0  [montavon2017]_.

    ``bias=False`` leaves b out, as deep Taylor decomposition does.
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        b = positive(op.bias) if bias and op.bias is not None else None
        return share(op, part(op, x, *split_weight(op)), R, b, eps, "z plus", 1)

    return rule


def z_box(
    low: Tensor | float | None = None, high: Tensor | float | None = None
) -> Rule:
    """zB, pixels in [l, u]: shares x_i w_ij - l_i w_ij+ - u_i w_ij-  [montavon2017]_.

    Without bounds, the smallest and largest value of each image and channel; of each
    image where x is (B, features).
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        room = tuple(range(min(2, x.ndim - 1), x.ndim))
        lower = (
            x.amin(room, keepdim=True) if low is None else torch.as_tensor(low).to(x)
        )
        upper = (
            x.amax(room, keepdim=True) if high is None else torch.as_tensor(high).to(x)
        )
        w_plus, w_minus = split_weight(op)
        terms = [
            (x, weight_of(op)),
            (-lower.expand_as(x), w_plus),
            (-upper.expand_as(x), w_minus),
        ]
        return share(op, terms, R, None, EPSILON, "z box")

    return rule


def w_square(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """w^2: R_i = sum_j w_ij^2 / sum_k w_kj^2 R_j  [montavon2017]_.

    zennit's default adds b_j^2 to the sum.
    """
    terms = [(torch.ones_like(x), weight_of(op) ** 2)]
    return share(op, terms, R, None, 1e-12, "w square", 1)


def flat(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Flat: every input of j gets the same share of R_j  [lapuschkin2019]_."""
    ones = torch.ones_like(weight_of(op))
    return share(op, [(torch.ones_like(x), ones)], R, None, 1e-12, "flat", 1)


def clip(rule: Rule, low: float = 0.0, high: float = 1000.0) -> Rule:
    """Clip what a rule sends back to [low, high], as the code of [sixt2020]_ does at
    the joins of a residual network."""

    def clipped(op: Op, x: Tensor, R: Tensor) -> Tensor:
        return rule(op, x, R).clamp(low, high)

    return clipped


excitation = partial(z_plus, bias=False)
"""Excitation backpropagation's share: z+ without bias  [zhang2018]_."""
