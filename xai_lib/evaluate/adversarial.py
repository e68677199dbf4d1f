"""An image changed a little so that the network decides otherwise."""

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._forward import fixed_target, rows_per_pass, select


def sign_gradient_attack(
    model: nn.Module,
    x: Tensor,
    target: Target,
    size: float | Tensor,
    steps: int = 10,
) -> Tensor:
    """Return images near x that the network takes for another class.

    Parameters
    ----------
    model, x : as for every method
    target : the class to be left
    size : largest change of a pixel in the units of x: a number, or a tensor that
        broadcasts to x, for instance (1, C, 1, 1) for channels of different scale
    steps : number of steps; each moves every pixel by a quarter of the size, at least
        by size / steps

    Returns
    -------
    Tensor, shaped as x

    Notes
    -----
    x <- clip(x + a sign(d loss / dx), x0 - size, x0 + size), from x0 itself, no random
    start. The loss is the logarithm of the target's odds against it, whose gradient has
    the sign of the cross entropy's and does not vanish where the network is sure. The
    range of valid pixels is not known here and not enforced; for an untouched range
    clamp the result.

    References
    ----------
    [madry2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> changed = sign_gradient_attack(net, x, c, size=0.1)
    >>> bool((net(changed).softmax(1)[0, 0] < net(x).softmax(1)[0, 0]).item())
    True
    """
    check_call(model, x, target)
    check_positive(steps=steps)
    size = torch.as_tensor(size, dtype=x.dtype, device=x.device)
    if not (size > 0).all():
        raise ValueError(f"size must be above 0, got {size.min().item()}")
    try:
        size = size.expand_as(x)
    except RuntimeError:
        wanted = f"size must broadcast to x, {tuple(x.shape)}"
        raise ValueError(f"{wanted}, got {tuple(size.shape)}") from None
    c = fixed_target(model, x, target)
    changed = []
    for rows in torch.arange(len(x), device=x.device).split(rows_per_pass(model, x)):
        start, most = x[rows].detach(), size[rows]
        now, step = start.clone(), most * max(0.25, 1 / steps)
        for _ in range(steps):
            now.requires_grad_()
            with torch.enable_grad():
                loss = _odds_against(model(now.clone()), c[rows]).sum()
            uphill = torch.autograd.grad(loss, now)[0].sign()
            now = (now.detach() + step * uphill).clamp(start - most, start + most)
        changed.append(now)
    return torch.cat(changed)


def _odds_against(logits: Tensor, c: Tensor) -> Tensor:
    """Return log((1 - p_c) / p_c), (R,)."""
    own = select(logits, c)
    if logits.shape[1] < 2:
        raise ValueError(
            f"the model must have at least 2 classes, got {logits.shape[1]}"
        )
    rest = logits.scatter(1, c[:, None], -torch.inf)
    return rest.logsumexp(1) - own
