"""Does a gradient predict how the output moves? The first-order test."""

import math

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.attribute._forward import fixed_target, rows_per_pass, select
from xai_lib.evaluate.correlation import is_flat, pearson, warn_of_undefined


def first_order_correlation(
    model: nn.Module, x: Tensor, target: Target, slopes: Tensor, noise: Tensor
) -> Tensor:
    """Correlate f(x + e) - f(x) with the product e g over small perturbations e.

    Parameters
    ----------
    model, x, target : as for every method; f is the target logit
    slopes : Tensor, shape (B, G, C, H, W): G candidates g per image, such as the
        gradient and filtered gradients
    noise : Tensor, shape (E, C, H, W): the perturbations, the same for every image

    Returns
    -------
    Tensor, shape (B, G), Pearson correlation over the E perturbations; NaN where a
    candidate or the network does not answer to any of them

    Notes
    -----
    Filtering the gradient or filtering the noise is the same thing: e . LP(g) equals
    LP(e) . g for a symmetric filter. So for noise below the cutoff the test cannot tell
    a filtered gradient from the whole one.

    References
    ----------
    the test is ours; the claim it decides is [muzellec2024]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c, noise = torch.ones(1, 1, 2, 2), torch.tensor([0]), torch.randn(9, 1, 2, 2)
    >>> slopes = net[1].weight[0].detach().view(1, 1, 1, 2, 2)
    >>> bool((first_order_correlation(net, x, c, slopes, noise) - 1).abs() < 1e-3)
    True
    """
    check_call(model, x, target)
    if slopes.ndim != 5 or slopes.shape[:1] + slopes.shape[2:] != x.shape:
        raise ValueError(
            f"slopes must have shape (B, G, C, H, W) for x {tuple(x.shape)}, "
            f"got {tuple(slopes.shape)}"
        )
    if noise.ndim != 4 or noise.shape[1:] != x.shape[1:] or len(noise) < 3:
        raise ValueError(
            f"noise must have shape (E, C, H, W) for x {tuple(x.shape)} with E >= 3, "
            f"got {tuple(noise.shape)}"
        )
    for name, given in (("slopes", slopes), ("noise", noise)):
        if not given.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    noise, slopes = noise.to(x), slopes.detach()
    predicted = torch.einsum("bgd,ed->bge", slopes.flatten(2), noise.flatten(1))
    after = torch.empty(len(x), 1, len(noise), dtype=x.dtype, device=x.device)
    before = after[..., 0].clone()  # (B, 1)
    per_pass = rows_per_pass(model, x)
    for i, c in enumerate(fixed_target(model, x, target)):
        parts = [_score(model, x[i] + part, c) for part in noise.split(per_pass)]
        after[i, 0], before[i] = torch.cat(parts), _score(model, x[i : i + 1], c)
    if not (after.isfinite().all() and before.isfinite().all()):
        raise ValueError("the model must return finite logits, got NaN or infinity")
    flat = is_flat(after, torch.finfo(after.dtype).eps * after.abs())  # (B, 1)
    found = pearson(predicted, after - before[..., None]).masked_fill(flat, math.nan)
    warn_of_undefined(found, "first_order_correlation", "nothing answers to the noise")
    return found


def _score(model: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    with torch.no_grad():
        return select(model(x.clone()), c.expand(len(x)))
