"""PatternNet and PatternAttribution: back with patterns in place of weights."""

from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.attribute.backprop._run import backward
from xai_lib.attribute.backprop.engine import Composite
from xai_lib.attribute.backprop.op import Op, Rule
from xai_lib.attribute.backprop.patterns import Patterns
from xai_lib.attribute.backprop.rules import gradient


def pattern_composite(patterns: Patterns, attribution: bool = False) -> Composite:
    """Return the rules of PatternNet, or of PatternAttribution, as pairs."""
    rule = project(patterns, attribution)
    return [("conv", rule), ("linear", rule), ("any", gradient)]


def project(patterns: Patterns, attribution: bool) -> Rule:
    """R_in = A^T R, or (W * A)^T R, in place of W^T R  [kindermans2018]_."""

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        a = patterns.data.get(op.name)
        if a is None or a.shape != op.weight.shape:
            have = "none" if a is None else f"one of shape {tuple(a.shape)}"
            raise ValueError(
                f"patterns must have one for {op.kind} {op.name!r}, of shape "
                f"{tuple(op.weight.shape)}, got {have}"
            )
        a = a.to(op.weight)
        w = op.weight * a if attribution else a
        return op.linear([(x, w)], "pattern")[1](R)[0]

    return rule


def pattern_net(
    model: nn.Module,
    x: Tensor,
    target: Target,
    patterns: Patterns,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return PatternNet's signal: the logit sent back with patterns for weights.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    patterns : from `estimate_patterns` of the same model

    Returns
    -------
    Tensor, signed, shaped as `gradient`'s

    Raises
    ------
    ValueError
        if the patterns lack a layer that the model runs, or are another model's

    Notes
    -----
    The signal starts as the logit itself. ReLU, max-pool, average pool, sums and every
    other operation send back their plain gradient. [kindermans2018]_ and [sixt2020]_
    use nets in a chain, such as VGG; residual nets are our extension, the pattern of
    each convolution being that of its own input.

    References
    ----------
    [kindermans2018]_

    Examples
    --------
    >>> import torch
    >>> from xai_lib.attribute.backprop import estimate_patterns
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x = torch.randn(50, 1, 2, 2)
    >>> R = pattern_net(net, x[:1], torch.tensor([0]), estimate_patterns(net, x))
    >>> (R.flatten() @ net[1].weight[0]).allclose(net(x[:1])[0, 0])  # w^T a y = y
    True
    """
    return _projected(model, x, target, patterns, layer, attribution=False)


def pattern_attribution(
    model: nn.Module,
    x: Tensor,
    target: Target,
    patterns: Patterns,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return PatternAttribution: the logit sent back with weights times patterns.

    Parameters, Returns, Raises and Notes as `pattern_net`; it is the root point of
    Taylor's expansion that the patterns choose.

    References
    ----------
    [kindermans2018]_

    Examples
    --------
    >>> import torch
    >>> from xai_lib.attribute.backprop import estimate_patterns
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.randn(50, 1, 2, 2), torch.tensor([0])
    >>> R = pattern_attribution(net, x[:1], c, estimate_patterns(net, x))
    >>> R.sum().allclose(net(x[:1])[0, 0])  # the weights w * a of a neuron sum to 1
    True
    """
    return _projected(model, x, target, patterns, layer, attribution=True)


def _projected(model, x, target, patterns, layer, attribution: bool) -> Tensor:
    check_call(model, x, target)
    if not isinstance(patterns, Patterns):
        raise TypeError(f"patterns must be Patterns, got {type(patterns).__name__}")
    modules = dict(model.named_modules())
    strange = [name for name in patterns.data if name not in modules]
    if strange:
        raise ValueError(f"patterns must be the model's own, got layers {strange}")
    composite = pattern_composite(patterns, attribution)
    return backward(model, x, target, layer, composite)[1]
