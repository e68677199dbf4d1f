"""Layer-wise relevance propagation, deep Taylor, excitation backpropagation."""

from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.attribute._forward import rows_per_pass
from xai_lib.attribute.backprop._run import backward, budget_of
from xai_lib.attribute.backprop.composites import COMPOSITES, find_composite
from xai_lib.attribute.backprop.engine import Composite


def lrp(
    model: nn.Module,
    x: Tensor,
    target: Target,
    composite: str | Composite = "epsilon_plus",
    layer: str | None = None,
) -> Tensor:
    """Return the relevance of layer-wise relevance propagation.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    composite : which operation gets which rule: the name of one in `COMPOSITES`, or a
        list of pairs (key, rule); the first key that matches wins. A key is a layer's
        name, "first" or "last" (convolution or linear map), a kind of operation
        (`KINDS`), or "any"

    Returns
    -------
    Tensor, signed; x's shape, or the shape of the layer's output. Its sum is the target
    logit less what biases and stabilisers keep (`relevance_budget`).

    Raises
    ------
    ValueError
        if an operation that carries relevance has no rule in the composite; the error
        names it and the line of code that called it

    Notes
    -----
    The logit itself is propagated, not 1. BatchNorm behind a convolution is folded into
    it, as zennit's canonizers do; iNNvestigate has a rule of its own. LayerNorm's
    deviation and attention's weights are held constant [ali2022]_. Every rule with w+
    splits the input by sign as well: Captum's Alpha1_Beta0_Rule does not, and is wrong
    where x < 0. The box rule without bounds takes each image's own range by channel.

    References
    ----------
    [bach2015]_, [montavon2017]_, [kohlbrenner2020]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> R = lrp(net, x, c, composite="epsilon")
    >>> torch.allclose(R.sum(), net(x)[0, 0], atol=1e-3)
    True
    """
    check_call(model, x, target)
    return backward(model, x, target, layer, find_composite(composite))[1]


def deep_taylor(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the deep Taylor decomposition with pixels in a box.

    Parameters
    ----------
    model, x, target, layer : as `gradient`

    Returns
    -------
    Tensor, signed; x's shape, or the shape of the layer's output. Its sum is not bound
    to the logit: see the notes.

    Notes
    -----
    z+ without bias; at the first convolution the box rule on the image's own range; at
    the last linear map, which has no ReLU behind it, w^2; BatchNorm that cannot be
    folded, w^2; elsewhere the plain gradient, as iNNvestigate does. [sixt2020]_ takes
    the range of one example image for all.

    The plain gradient hands the whole signal to either branch of a residual sum, so a
    residual network's map sums to a multiple of the logit, and an average pool hands
    some to units that were not active, where it is lost. It takes any operation:
    nothing is refused, where `lrp` would refuse what has no rule.

    References
    ----------
    [montavon2017]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> deep_taylor(net.eval(), torch.rand(1, 1, 2, 2), torch.tensor([0])).shape
    torch.Size([1, 1, 2, 2])
    """
    check_call(model, x, target)
    return backward(model, x, target, layer, COMPOSITES["deep_taylor"])[1]


def excitation_backprop(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the winning probabilities of excitation backpropagation.

    Parameters, Returns and Raises as `lrp`.

    Notes
    -----
    z+ without bias at every convolution and linear map, started with 1 at the target,
    so that the map sums to 1 where all shares are defined. The contrastive variant is
    not built.

    References
    ----------
    [zhang2018]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> excitation_backprop(net, torch.ones(1, 1, 2, 2), torch.tensor([0])).min() >= 0
    tensor(True)
    """
    check_call(model, x, target)
    composite = COMPOSITES["excitation_backprop"]
    return backward(model, x, target, layer, composite, from_logit=False)[1]


def relevance_budget(
    model: nn.Module,
    x: Tensor,
    target: Target,
    composite: str | Composite = "epsilon_plus",
) -> dict[str, float]:
    """Return where the relevance of a batch of logits went, summed over the batch.

    Parameters
    ----------
    model, x, target, composite : as `lrp`

    Returns
    -------
    dict with "logit" (the sum of the target logits), "input", "bias" (kept by biases
    and constants) and "stabiliser"; the last three add up to the first

    Notes
    -----
    Shares are computed by the rule's own formula, b_j R_j / z_j for a bias, so that
    their sum is a test. Rules that do not share by proportion (a plain gradient through
    a non-linearity, ``clip``) lose relevance without a name.

    References
    ----------
    [bach2015]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> budget = relevance_budget(net, torch.ones(1, 1, 2, 2), torch.tensor([0]))
    >>> kept = budget["input"] + budget["bias"] + budget["stabiliser"]
    >>> abs(kept - budget["logit"]) < 1e-5
    True
    """
    check_call(model, x, target)
    rows_per_pass(model, x)
    return budget_of(model, x, target, find_composite(composite))
