"""The unified rule of P1: a chain rule in which every non-linearity has a slope g."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice, check_positive
from xai_lib.attribute._forward import fixed_target, reference_input, rows_per_pass
from xai_lib.attribute.backprop._run import backward, run
from xai_lib.attribute.backprop.engine import Composite, ModifiedBackprop
from xai_lib.attribute.backprop.op import Op, Rule
from xai_lib.attribute.backprop.reference_rules import average, halves, split_maximum
from xai_lib.attribute.backprop.relevance_rules import EPSILON, stabilise
from xai_lib.attribute.backprop.rules import gradient
from xai_lib.attribute.gradients import QUADRATURE

Slope = Callable[[Op, Tensor], Tensor]
"""``g(op, z)``: the slope of a non-linearity ``op`` at its input z, z's shape."""


def derivative(op: Op, z: Tensor) -> Tensor:
    """g(z) = f'(z): the plain gradient."""
    return op.vjp(z, torch.ones_like(z))


def ratio(op: Op, z: Tensor, eps: float = EPSILON) -> Tensor:
    """g(z) = f(z) / (z + eps sign(z)), the line through 0: epsilon-LRP."""
    return op(z) / stabilise(z, eps)


SLOPES: dict[str, Slope] = {
    "derivative": derivative,
    "ratio": ratio,
    "average": average,  # (f(z) - f(z0)) / (z - z0): DeepLIFT Rescale
}
"""The slopes by name."""


class Choice(NamedTuple):
    """What a method chooses in the unified formula."""

    slope: str
    difference: bool = False  # times x - b, not x
    path: bool = False  # mean of the points between b and x, not x alone


UNIFIED: dict[str, Choice] = {
    "gradient_x_input": Choice("derivative"),
    "integrated_gradients": Choice("derivative", difference=True, path=True),
    "lrp_epsilon": Choice("ratio"),
    "deeplift": Choice("average", difference=True),
}
"""The four methods of P1 as data."""


def with_slope(g: Slope) -> Rule:
    """R_in = R g(z)  [ancona2018]_."""

    def rule(op: Op, z: Tensor, R: Tensor) -> Tensor:
        return R * op.once("slope", lambda: g(op, z))

    return rule


def split_own(op: Op, z: Tensor, R: Tensor) -> Tensor:
    """DeepLIFT's rule of a max-pool for the signal of x alone."""
    own = halves(op, R)[0]
    return split_maximum(op, z, torch.cat([own, own]))


def composite_of(g: Slope) -> Composite:
    """Return the composite of a slope: everything else keeps its plain gradient."""
    pool = [("max_pool", split_own)] if g is average else []
    slope = with_slope(g)
    return [("relu", slope), ("activation", slope), *pool, ("any", gradient)]


def modified_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target,
    slope: str | Slope = "derivative",
    *,
    baseline: Tensor | None = None,
) -> Tensor:
    """Return d^g S_c/dx, the chain rule with g(z) for the slope of each non-linearity.

    Parameters
    ----------
    model, x, target : as `gradient`
    slope : "derivative", f'(z); "ratio", f(z)/z; "average", (f(z) - f(z0)) / (z - z0)
        with z0 the value at the baseline; or a function ``g(op, z)``, where ``op(z)``
        is f(z)
    baseline : for "average" or a function of your own: a Tensor that broadcasts to x.
        None is zero for "average"

    Returns
    -------
    Tensor, signed, x's shape

    Raises
    ------
    ValueError
        for an unknown slope, or a baseline that the slope does not use

    Notes
    -----
    Slopes replace ReLU, ReLU6, hardtanh, ELU, SELU, CELU, LeakyReLU, PReLU, sigmoid,
    tanh, softplus, GELU, SiLU and the like. All else keeps its gradient, as in
    DeepExplain: a max-pool, a product of two signals (the gates of an LSTM), softmax.
    One exception: with "average" a max-pool hands on its change by DeepLIFT's rule
    (`deeplift`), without which the attributions do not sum. A function that gets a
    baseline sees x and behind it the baseline in one batch.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Softplus(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([1])
    >>> own = modified_gradient(net, x, c, lambda op, z: op(z) / z)
    >>> torch.allclose(own, modified_gradient(net, x, c, "ratio"), atol=1e-4)
    True
    """
    check_call(model, x, target)
    if not callable(slope):
        check_choice("slope", slope, SLOPES)
    g = slope if callable(slope) else SLOPES[slope]
    if g in (derivative, ratio) and baseline is not None:
        raise ValueError(f"slope {slope!r} has no baseline, got one")
    composite = composite_of(g)
    if g is not average and baseline is None:
        return backward(model, x, target, None, composite, from_logit=False)[1]
    start, chosen = reference_input(x, baseline), fixed_target(model, x, target)
    rows = torch.arange(len(x), device=x.device)
    parts = rows.split(max(1, rows_per_pass(model, x) // 2))
    return torch.cat(
        [_beside(model, x[i], start[i], chosen[i], composite) for i in parts]
    )


def _beside(model, x, start, target, composite: Composite) -> Tensor:
    """Return the signal at x of a pass of x and the baseline in one batch."""
    engine = ModifiedBackprop(composite, model, pairs=len(x))
    both, twice = torch.cat([x, start]), target.repeat(2)
    h, score = run(engine, model, both, twice, None)
    return torch.autograd.grad(score, h, torch.ones_like(score))[0][: len(x)]


def unified(
    model: nn.Module,
    x: Tensor,
    target: Target,
    method: str,
    *,
    baseline: Tensor | None = None,
    steps: int = 32,
) -> Tensor:
    """Return one of P1's four methods from the unified formula.

    R_i = (x_i - b_i) sum_k w_k d^g S_c/dx_i, taken at b + a_k (x - b)

    Parameters
    ----------
    model, x, target : as `gradient`
    method : "gradient_x_input", "integrated_gradients", "lrp_epsilon" or "deeplift";
        `UNIFIED` holds what each chooses: the slope g, whether there is a baseline b,
        whether there is a path (else k = 1, a = w = 1)
    baseline : for integrated gradients and DeepLIFT: a Tensor that broadcasts to x;
        None is zero
    steps : points on the path, Gauss-Legendre

    Returns
    -------
    Tensor, signed, x's shape

    Raises
    ------
    ValueError
        for an unknown method, or a baseline for one that has none

    Notes
    -----
    The library's own functions of these names do not use this formula: `lrp` shares
    relevance layer by layer, `deeplift` carries multipliers by sign. The book compares
    them. On networks with gates (LSTM) this is the only form that runs: there, as in
    [ancona2018]_, a product keeps its gradient and nothing sums any more.

    References
    ----------
    [ancona2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> same = unified(net.eval(), x, c, "gradient_x_input")
    >>> torch.allclose(same, unified(net, x, c, "lrp_epsilon"), atol=1e-4)
    True
    """
    check_call(model, x, target)
    check_choice("method", method, UNIFIED)
    check_positive(steps=steps)
    chosen = UNIFIED[method]
    if baseline is not None and not chosen.difference:
        raise ValueError(f"{method} has no baseline, got one")
    x = x.detach()
    b, c = reference_input(x, baseline), fixed_target(model, x, target)
    own = {"baseline": b} if chosen.slope == "average" else {}
    nodes, weights = QUADRATURE["gauss_legendre"](steps) if chosen.path else ([1], [1])
    total = torch.zeros_like(x)
    for a, w in zip(nodes, weights, strict=True):
        point = b + float(a) * (x - b)
        total += float(w) * modified_gradient(model, point, c, chosen.slope, **own)
    return (x - b) * total
