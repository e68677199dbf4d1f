"""DeepLIFT: what the difference from a reference input does to the logit."""

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice
from xai_lib.attribute._forward import fixed_target, reference_input, rows_per_pass
from xai_lib.attribute.backprop._run import run
from xai_lib.attribute.backprop.composites import COMPOSITES
from xai_lib.attribute.backprop.engine import ModifiedBackprop
from xai_lib.attribute.backprop.reference_rules import by_sign

RULES = ("rescale", "reveal_cancel", "ablation", "genomics_default")
LOST = 1e-2  # a larger share of the attributions that is missing is no rounding


def deeplift(
    model: nn.Module,
    x: Tensor,
    target: Target,
    baseline: Tensor | None = None,
    rule: str = "rescale",
    *,
    layer: str | None = None,
) -> Tensor:
    """Return DeepLIFT's attributions: multiplier times difference from a reference.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    baseline : the reference input, a Tensor that broadcasts to x; None is zero, in
        normalised space
    rule : "rescale"; "reveal_cancel"; "genomics_default", which is Rescale behind
        convolutions and RevealCancel behind linear maps; "ablation", which is Rescale
        without the cross terms of the linear rule

    Returns
    -------
    Tensor, signed; x's shape, or the shape of the layer's output. Except for
    "ablation" it sums to S_c(x) - S_c(baseline).

    Raises
    ------
    ValueError
        if an operation has no exact rule (LayerNorm, attention, a product of two
        signals); if the sum is not the change of the logit, so that the model mixes
        images or cuts off a part of its graph

    Notes
    -----
    Where z does not differ from its reference a multiplier is the slope there, as in
    kundajelab's code (below 1e-7); DeepExplain takes the slope at the midpoint below
    1e-5, here it stands wherever the quotient would be rounding. Max-pool: the change
    goes to the winner of the larger maximum, as in SHAP and Captum; kundajelab's and
    DeepExplain's plain gradient does not sum. RevealCancel asks for dz+ and dz-, which
    only linear operations give: behind anything else, and at the layer itself, it is
    Rescale. In the ablation every linear operation, BatchNorm and sums too, loses its
    cross terms; [sixt2020]_ gives them for convolutions and dense layers. A target
    function is asked once, at x.

    References
    ----------
    [shrikumar2017]_, [ancona2018]_, [lundberg2017]_, [sixt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x = torch.ones(1, 1, 2, 2)
    >>> total = deeplift(net, x, torch.tensor([0])).sum()
    >>> torch.allclose(total, net(x)[0, 0] - net(0 * x)[0, 0])
    True
    """
    check_call(model, x, target)
    check_choice("rule", rule, RULES)
    start, chosen = reference_input(x, baseline), fixed_target(model, x, target)
    rows = torch.arange(len(x), device=x.device)
    parts = rows.split(max(1, rows_per_pass(model, x) // 2))
    found = [
        _attributed(model, x[part], start[part], chosen[part], rule, layer)
        for part in parts
    ]
    return torch.cat(found)


def _attributed(model, x, start, target, rule: str, layer: str | None) -> Tensor:
    composite = COMPOSITES[f"deeplift_{rule}"]
    trace = rule in ("reveal_cancel", "genomics_default")
    engine = ModifiedBackprop(composite, model, pairs=len(x), trace=trace)
    h, score = run(engine, model, torch.cat([x, start]), target.repeat(2), layer)
    signal = torch.autograd.grad(score, h, torch.ones_like(score))[0]
    own, reference = h.detach().chunk(2)
    dh = own - reference
    R = dh * by_sign(dh, *signal.chunk(2))
    if layer in (None, "input") and rule != "ablation":
        _check_sum(R, score.detach())
    return R


def _check_sum(R: Tensor, score: Tensor) -> None:
    own, reference = score.double().chunk(2)
    R = R.double().flatten(1)
    lost = (R.sum(1) - (own - reference)).abs()
    if not (lost <= LOST * (R.abs().sum(1) + own.abs() + reference.abs())).all():
        raise ValueError(
            "model must send each image's change through operations with a rule, got "
            f"attributions that miss the change of the logit by {lost.max():.2g}: it "
            "mixes images, moves the batch dimension or detaches a part of its graph"
        )
