"""Patterns: the direction of each neuron's signal, learned from data."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xai_lib._check import check_images, check_model, check_positive
from xai_lib.assets.progress import LateProgress
from xai_lib.attribute._forward import rows_per_pass
from xai_lib.attribute.backprop._run import frozen
from xai_lib.attribute.backprop.engine import ModifiedBackprop
from xai_lib.attribute.backprop.op import Op
from xai_lib.attribute.backprop.rules import gradient


@dataclass(frozen=True)
class Patterns:
    """What `estimate_patterns` learned, by layer, in the order in which they run.

    Attributes
    ----------
    data : patterns, each shaped like its layer's weight
    weights : the weights they were learned for, a BatchNorm behind them folded in
    rectified : layers with a ReLU directly behind, whose patches were chosen
    """

    data: dict[str, Tensor] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)
    rectified: tuple[str, ...] = ()


def estimate_patterns(
    model: nn.Module, x: Tensor, *, batch: int | None = None
) -> Patterns:
    """Learn from images which direction of its input each neuron's signal has.

    Parameters
    ----------
    model : Module in eval mode, of convolutions and linear maps
    x : Tensor, shape (N, C, H, W), normalised as the model wants
    batch : images in one pass; None as memory allows

    Returns
    -------
    Patterns, w^T a = 1 for every neuron

    Raises
    ------
    ValueError
        if a convolution or linear map runs twice in a pass, is transposed, or has a
        weight that is no parameter of the model

    Notes
    -----
    a = (E+[x y] - E+[x] E[y]) / w^T (E+[x y] - E+[x] E[y]), where y = w^T x without
    bias, E is the mean over all patches of all images, and E+ that over patches where
    y + b > 0, if a ReLU follows directly. Else (the last layer, a convolution in front
    of a residual sum, other non-linearities) E+ is E: the estimator for linear neurons.
    BatchNorm behind a convolution is folded into it. A neuron that is never positive
    gets the pattern 0. Two passes over x: the means, then the sums of x (y - E[y]).

    References
    ----------
    [kindermans2018]_

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> patterns = estimate_patterns(net, torch.randn(50, 1, 2, 2))
    >>> (patterns.data["1"] * net[1].weight).sum(1).allclose(torch.ones(2))
    True
    """
    check_model(model)
    check_images(x)
    if batch is not None:
        check_positive(batch=batch)
    moments: dict[str, _Moments] = {}
    parts = x.split(batch or rows_per_pass(model, x))
    line = LateProgress("patterns", 2 * len(x), "images")
    for add in (_add_mean, _add_product):
        for part in parts:
            _record(model, part, add, moments)
            line.more(len(part))
    line.end("estimated")
    if not moments:
        raise ValueError(
            f"model must have convolutions or linear maps, got {type(model).__name__}"
        )
    for name, one in moments.items():
        if one.runs != len(parts):
            raise ValueError(f"layer {name!r} must run once in a forward pass")
    ordered = dict(reversed(moments.items()))  # they were met on the way back
    return Patterns(
        {name: one.pattern().to(x) for name, one in ordered.items()},
        {name: one.weight for name, one in ordered.items()},
        tuple(name for name, one in ordered.items() if one.rectified),
    )


@dataclass
class _Moments:
    """Sums over patches for one layer."""

    weight: Tensor
    rectified: bool
    runs: int = 0
    patches: int = 0
    y: Tensor | float = 0.0  # sum of y, (outputs,), float64
    product: Tensor | float = 0.0  # sum of x (y - E[y]), like the weight, float64

    def pattern(self) -> Tensor:
        w = self.weight.double()
        norm = (w * self.product).flatten(1).sum(1)
        norm = norm.view(-1, *[1] * (w.ndim - 1))
        return torch.where(norm == 0, 0, self.product / norm)


def _record(model: nn.Module, x: Tensor, add: Callable, moments: dict) -> None:
    """Run forward and, without any signal, back, so that every layer adds its sums."""
    rectified: list[Op] = []

    def note(op: Op, x: Tensor, R: Tensor) -> Tensor:
        if op.source is not None:
            rectified.append(op.source[1])
        return R

    def record(op: Op, x: Tensor, R: Tensor) -> Tensor:
        _check_layer(op)
        one = moments.get(op.name)
        if one is None:
            behind = any(op is other for other in rectified)
            one = moments[op.name] = _Moments(op.weight.detach().clone(), behind)
        add(one, op, x)
        return torch.zeros_like(x)

    composite = [("conv", record), ("linear", record), ("relu", note)]
    engine = ModifiedBackprop([*composite, ("any", gradient)], model, trace=True)
    leaf = x.detach().requires_grad_()
    with frozen(model), torch.enable_grad(), engine:
        logits = model(leaf)
    torch.autograd.grad(logits, leaf, torch.zeros_like(logits))


def _check_layer(op: Op) -> None:
    if op.settings.get("transposed"):
        raise ValueError("patterns of a transposed convolution are not defined")
    if not op.name:
        raise ValueError(f"{op.kind} must have a parameter of the model as its weight")


def _per_output(op: Op, a: Tensor) -> Tensor:
    """Return a layer's output with its channels last, (patches, outputs)."""
    return (a.movedim(1, -1) if op.kind == "conv" else a).flatten(0, -2)


def _add_mean(one: _Moments, op: Op, x: Tensor) -> None:
    y = _per_output(op, op.function(x, op.weight))
    one.y = one.y + y.double().sum(0)
    one.patches += len(y)
    one.runs += 1


def _add_product(one: _Moments, op: Op, x: Tensor) -> None:
    with torch.enable_grad():
        w = op.weight.detach().requires_grad_()
        out = op.function(x, w)
    y, mean = out.detach(), (one.y / one.patches).to(x)
    if op.kind == "conv":
        mean = mean.view(-1, *[1] * (y.ndim - 2))
    v = y - mean
    if one.rectified:
        v = v * ((y if op.bias is None else y + op.bias) > 0)
    one.product = one.product + torch.autograd.grad(out, w, v)[0].double()
