"""Epsilon-LRP and DeepLIFT as they were published: layer by layer, from the top."""

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_choice
from xai_lib.attribute._forward import fixed_target, reference_input
from xai_lib.attribute.backprop.relevance_rules import EPSILON, stabilise

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
MOVES = (nn.Flatten, nn.Unflatten, nn.MaxPool2d)
POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.GELU, nn.SiLU, nn.Dropout, nn.Identity,
)  # fmt: skip


def layer_recursion(
    model: nn.Sequential,
    x: Tensor,
    target: Target,
    method: str,
    *,
    baseline: Tensor | None = None,
    eps: float = EPSILON,
) -> Tensor:
    """Return epsilon-LRP or DeepLIFT Rescale by their recursion over the layers.

    r_i = sum_j dh_i w_ji / (dz_j + eps sign(dz_j)) r_j at a linear layer h -> z, with
    dh = h and dz = z for epsilon-LRP, and the differences from the baseline's h and z
    for DeepLIFT. A non-linearity hands r on, a max-pool gives it to the winner. At the
    top r is the logit, or its difference.

    Parameters
    ----------
    model : Sequential of layers, x -> logits; Sequentials inside it are opened
    x, target : as `gradient`
    method : "lrp_epsilon" or "deeplift"
    baseline : for DeepLIFT: a Tensor that broadcasts to x; None is zero
    eps : the stabiliser

    Returns
    -------
    Tensor, signed, x's shape

    Raises
    ------
    ValueError
        for a layer of another kind, or a max-pool under DeepLIFT

    Notes
    -----
    For reading and for comparison; `lrp` and `deeplift` take any network.

    References
    ----------
    [bach2015]_, [shrikumar2017]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> total = layer_recursion(net.eval(), x, c, "deeplift").sum()
    >>> torch.allclose(total, net(x)[0, 0] - net(0 * x)[0, 0], atol=1e-3)
    True
    """
    check_call(model, x, target)
    check_choice("method", method, ("lrp_epsilon", "deeplift"))
    differs = method == "deeplift"
    if baseline is not None and not differs:
        raise ValueError("lrp_epsilon has no baseline, got one")
    layers = opened(model, differs)
    x = x.detach()
    b, c = reference_input(x, baseline), fixed_target(model, x, target)
    h, h0 = outputs(layers, x), outputs(layers, b)
    d = [a - a0 for a, a0 in zip(h, h0, strict=True)] if differs else h
    r = torch.zeros_like(d[-1]).scatter(1, c[:, None], d[-1].gather(1, c[:, None]))
    for i in reversed(range(len(layers))):
        if isinstance(layers[i], POINTWISE):
            continue
        if isinstance(layers[i], LINEAR):
            s = r / stabilise(d[i + 1], eps)
            r = d[i] * transposed(layers[i], h[i], s)
        else:
            r = transposed(layers[i], h[i], r)
    return r


def opened(model: nn.Module, differs: bool) -> list[nn.Module]:
    """Return the layers of a Sequential, those of inner ones in their place."""
    if isinstance(model, nn.Sequential):
        return [one for part in model for one in opened(part, differs)]
    known = LINEAR + POINTWISE + MOVES
    if not isinstance(model, known) or (differs and isinstance(model, nn.MaxPool2d)):
        raise ValueError(
            "model must be a Sequential of linear layers, element-wise functions, "
            f"{'' if differs else 'max-pools, '}Flatten and Dropout, "
            f"got a {type(model).__name__}"
        )
    return [model]


def outputs(layers: list[nn.Module], x: Tensor) -> list[Tensor]:
    """Return x and the output of each layer."""
    h = [x]
    with torch.no_grad():
        for layer in layers:
            h.append(layer(h[-1].clone()))  # an in-place ReLU may follow
    return h


def transposed(layer: nn.Module, h: Tensor, s: Tensor) -> Tensor:
    """Return W^T s, W the layer's matrix at h."""
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        return torch.autograd.grad(layer(h), h, s)[0]
