"""Methods that change the backward pass of the ReLUs alone."""

from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice
from xai_lib.attribute._forward import rows_per_pass
from xai_lib.attribute.backprop._run import backward
from xai_lib.attribute.backprop.composites import COMPOSITES
from xai_lib.attribute.backprop.engine import Composite
from xai_lib.attribute.backprop.rules import (
    gradient,
    rectify,
    redistribute_pool,
)


def guided_backprop(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the gradient with negative signals stopped at every ReLU.

    Parameters and Returns as `gradient`.

    Raises
    ------
    ValueError
        if the model runs no ReLU (or ReLU6) behind the layer: the map would be the
        plain gradient

    Notes
    -----
    Rule at a ReLU: R_in = f'(z) * max(R, 0). ReLU6 counts as a ReLU that is also flat
    above 6.

    References
    ----------
    [springenberg2015]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> guided_backprop(net, torch.ones(1, 1, 2, 2), torch.tensor([0])).min() >= 0
    tensor(True)
    """
    check_call(model, x, target)
    composite = COMPOSITES["guided_backprop"]
    return _through_relus("guided_backprop", model, x, target, layer, composite)[1]


def deconvnet(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the signal of a Deconvnet: negative parts stopped, no mask of the ReLUs.

    Parameters, Returns and Raises as `guided_backprop`.

    Notes
    -----
    Rule at a ReLU: R_in = max(R, 0). Max-pools use the switches of the forward pass.

    References
    ----------
    [zeiler2014]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> deconvnet(net, -torch.ones(1, 1, 2, 2), torch.tensor([0])).min() >= 0
    tensor(True)
    """
    check_call(model, x, target)
    composite = COMPOSITES["deconvnet"]
    return _through_relus("deconvnet", model, x, target, layer, composite)[1]


VARIANTS = ("sixt2020", "kim2019", "modified", "prr")


def rectgrad(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    percentile: float = 98.0,
    variant: str = "sixt2020",
) -> Tensor:
    """Return the rectified gradient: in every layer only the largest h * R pass.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    percentile : share of a layer's units, in percent, that is stopped
    variant : "sixt2020", the signal itself; "kim2019", the original: times the input,
        its 1-pixel border set to zero; "modified", which compares the size of h * R and
        is else "kim2019"; "prr", which redistributes at max-pools in proportion and is
        else "kim2019"

    Returns
    -------
    Tensor, signed, shaped as `gradient`'s

    Raises
    ------
    ValueError
        as `guided_backprop`; if the percentile is outside 0..100

    Notes
    -----
    Rule at a ReLU: R_in = f'(z) R where h R > tau, else 0; tau is a percentile of h R
    over the whole layer of each image. Where tau is below 0 the original lets units
    pass that were off; here f'(z) stops them. The original zeroes the border after each
    padded convolution; here it is zeroed once, in the map.

    References
    ----------
    [kim2019]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> rectgrad(net, torch.rand(1, 1, 2, 2), torch.tensor([0]), percentile=50).shape
    torch.Size([1, 1, 2, 2])
    """
    check_call(model, x, target)
    check_choice("variant", variant, VARIANTS)
    composite = rectgrad_composite(percentile, variant)
    h, R = _through_relus("rectgrad", model, x, target, layer, composite)
    if variant == "sixt2020":
        return R
    return without_border(h * R)


def rectgrad_composite(
    percentile: float = 98.0, variant: str = "sixt2020"
) -> Composite:
    """Return RectGrad's rules as pairs."""
    if not 0 <= percentile < 100:
        raise ValueError(f"percentile must lie in [0, 100), got {percentile}")
    relu = ("relu", rectify(percentile, magnitude=variant == "modified"))
    pool = [("max_pool", redistribute_pool)] if variant == "prr" else []
    return [relu, *pool, ("any", gradient)]


def without_border(maps: Tensor) -> Tensor:
    """Return the maps with their outermost ring of pixels set to zero."""
    inner = maps.new_zeros(maps.shape[-2:])
    inner[1:-1, 1:-1] = 1
    return maps * inner


def _through_relus(name: str, model, x, target, layer, composite):
    rows_per_pass(model, x)  # measured here, so that the engine sees our passes alone
    seen: dict = {}
    pair = backward(model, x, target, layer, composite, from_logit=False, seen=seen)
    if not seen.get("relu"):
        behind = "" if layer is None else f" behind layer {layer!r}"
        raise ValueError(
            f"{name} needs a model with ReLUs, got none in "
            f"{type(model).__name__}{behind}"
        )
    return pair
