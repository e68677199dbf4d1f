"""The rules of signal methods: what an operation sends back instead of its gradient.

A rule is ``rule(op, x, R) -> R_in``: the operation, its input, the signal that comes
back to its output. A rule with settings is made by a function of these settings.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib.attribute.backprop.op import Op, Rule


def gradient(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Return R^T J, the plain gradient."""
    return op.vjp(x, R)


def pass_through(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Return R: an element-wise operation hands its relevance on  [bach2015]_."""
    return R


def guided(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Guided backpropagation: R_in = f'(x) * max(R, 0)  [springenberg2015]_."""
    return op.vjp(x, R.clamp(min=0))


def deconv(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """Deconvnet: R_in = max(R, 0), whatever the ReLU did forward  [zeiler2014]_."""
    return R.clamp(min=0)


def rectify(percentile: float = 98.0, magnitude: bool = False) -> Rule:
    """RectGrad: R_in = f'(x) R where h R > tau, tau a percentile of h R  [kim2019]_.

    h = f(x); the percentile is taken over the whole layer, per image. ``magnitude``
    compares \\|h R\\|, the original's modified variant.
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        if op.rows and len(x) != op.rows:
            raise ValueError(
                "rectgrad needs the images in the leading dimension of every ReLU, "
                f"{op.rows} of them, got shape {tuple(x.shape)}"
            )
        importance = op(x) * R
        importance = importance.abs() if magnitude else importance
        flat = importance.flatten(1)  # (B, units)
        tau = percentile_of(flat, percentile).view(-1, *[1] * (x.ndim - 1))
        return op.vjp(x, R * (importance > tau))

    return rule


def percentile_of(rows: Tensor, percentile: float) -> Tensor:
    """Return each row's percentile, (B,), linear between ranks; rows of any length."""
    rank = percentile / 100 * (rows.shape[1] - 1)
    low, share = int(rank), rank - int(rank)
    below = rows.kthvalue(low + 1, dim=1).values
    if not share:
        return below
    return below + share * (rows.kthvalue(low + 2, dim=1).values - below)


def redistribute_pool(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """RectGrad's proportional pool: x * avg_pool^T (R / avg_pool(x))  [kim2019]_."""
    window = {k: v for k, v in op.settings.items() if k != "dilation"}
    if x.ndim != 4 or not window or op.settings["dilation"] not in (1, (1, 1)):
        raise ValueError(
            f"{op.kind} without plain 2-D windows has no proportional rule"
        )
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        mean = F.avg_pool2d(leaf, **window)
    return x * torch.autograd.grad(mean, leaf, R / (mean.detach() + 1e-10))[0]


def random_mask(seed: int = 0) -> Rule:
    """Return a ReLU rule: R_in = m R, m random, as dense as the image's own mask."""
    generator = torch.Generator().manual_seed(seed)

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        def draw():
            density = (x > 0).flatten(1).double().mean(1)  # (B,)
            chance = torch.rand(x.shape, generator=generator, dtype=torch.float64)
            return (chance.flatten(1) < density.cpu()[:, None]).view(x.shape).to(x)

        return R * op.once("mask", draw)

    return rule


def random_switch(seed: int = 0) -> Rule:
    """Return a max-pool rule that sends R to a random position of its window."""
    generator = torch.Generator().manual_seed(seed)

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        def draw():
            return torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x)

        return op.vjp(op.once("noise", draw), R)

    return rule
