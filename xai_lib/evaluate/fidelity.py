"""Does the map rank the pixels as the network uses them? Deletion and insertion."""

import torch
from torch import Tensor, nn

from xai_lib._check import (
    Target,
    check_call,
    check_choice,
    check_maps,
    check_positive,
)
from xai_lib.attribute._forward import fixed_target, rows_per_forward, select
from xai_lib.attribute.features import without
from xai_lib.evaluate.removal import BASELINES, ends_of, runs


def deletion_curve(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "zero",
) -> Tensor:
    """Return the target's probability while pixels are removed, highest map first.

    Parameters
    ----------
    model, x, target : as for every method; for several maps of one image,
        ``x.expand(M, -1, -1, -1)`` and ``target.expand(M)``
    maps : Tensor, shape (B, H, W) or (B, 1, H, W), of x's height and width
    steps : number of equal steps from the whole image to the baseline, to whole pixels
    baseline : "zero"; "mean", per image and channel; or "blur", a Gaussian over a
        quarter of the shorter side (`gaussian_smooth`: 9 of 32 pixels, 57 of 224); in
        the units of x

    Returns
    -------
    Tensor, shape (B, steps + 1), softmax probability of the target

    Notes
    -----
    Only the order of the pixels counts; of equal ones the first, row by row, goes
    first. Captum has no deletion; Xplique scores the logit unless a softmax is asked
    for, in 10 steps.

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> deletion_curve(net, x, x, c, steps=4).shape
    torch.Size([1, 5])
    """
    return _curve(model, x, maps, target, steps, baseline, descending=True)


def insertion_curve(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "blur",
) -> Tensor:
    """Return the target's probability while pixels come back, highest map first.

    Parameters
    ----------
    As `deletion_curve`; the steps lead from the baseline to the whole image.

    Returns
    -------
    Tensor, shape (B, steps + 1), softmax probability of the target

    Notes
    -----
    Of equal pixels the last, row by row, comes first. So `insertion_curve` of a map is
    always `deletion_curve` of the negative map read backwards, with the same baseline.
    The code of [petsiuk2018]_ blurs 224 pixels with a kernel of 11 and deviation 5,
    zeros outside, which leaves a network more of the class than the quarter here.
    Xplique starts from zero unless told otherwise.

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> back = deletion_curve(net, x, -x, c, 4, "zero").flip(1)
    >>> torch.equal(insertion_curve(net, x, x, c, 4, "zero"), back)
    True
    """
    return _curve(model, x, maps, target, steps, baseline, descending=False).flip(1)


def _curve(model, x, maps, target, steps, baseline, descending) -> Tensor:
    """Return the probability while pixels give way to the baseline, in order."""
    check_call(model, x, target)
    check_positive(steps=steps)
    check_choice("baseline", baseline, BASELINES)
    rank = _places(check_maps(maps), x, descending)  # (B, H, W)
    c = fixed_target(model, x, target)
    first, run = runs(x, c)
    end = ends_of(baseline, x[first])  # (R, C, H, W)
    removed = _removed(rank[0].numel(), steps).to(x.device)
    needed = torch.ones(len(x), steps + 1, dtype=torch.bool, device=x.device)
    needed[:, [0, -1]] = False  # but once for each run: no map matters there
    needed[first[:, None], [0, -1]] = True
    curve = x.new_empty(needed.shape)
    for part in needed.nonzero().split(rows_per_forward(model, x)):
        i, s = part.T
        gone = rank[i] < removed[s].view(-1, 1, 1)
        left = without(x[i], gone, None if end is None else end[run[i]])
        with torch.no_grad():
            logits = model(left)
        curve[i, s] = select(logits.softmax(1), c[i])
    curve[:, 0], curve[:, -1] = curve[first[run], 0], curve[first[run], -1]
    if not curve.isfinite().all():
        raise ValueError("the model must return finite logits, got NaN or infinity")
    return curve


def _places(maps: Tensor, x: Tensor, descending: bool) -> Tensor:
    """Return every pixel's place in its image's order, from 0, as (B, H, W)."""
    wanted = (len(x), *x.shape[2:])
    if maps.shape != wanted:
        raise ValueError(f"maps must have shape {wanted}, got {tuple(maps.shape)}")
    flat = maps.detach().to(x.device).flatten(1)
    order = flat.argsort(dim=1, descending=descending, stable=True)
    place = torch.arange(order.shape[1], dtype=torch.int32, device=x.device)
    places = torch.empty_like(order, dtype=torch.int32)
    places.scatter_(1, order, place.expand_as(order))
    return places.view(wanted)


def deletion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "zero",
) -> Tensor:
    """Return the area under the deletion curve; lower is better.

    Parameters
    ----------
    As `deletion_curve`.

    Returns
    -------
    Tensor, shape (B,), in [0, 1]: trapezoids over the share of deleted pixels

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> deletion(net, x, x, c).shape
    torch.Size([1])
    """
    return _area(deletion_curve(model, x, maps, target, steps, baseline), x)


def insertion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Target,
    steps: int = 28,
    baseline: str = "blur",
) -> Tensor:
    """Return the area under the insertion curve; higher is better.

    Parameters
    ----------
    As `insertion_curve`.

    Returns
    -------
    Tensor, shape (B,), in [0, 1]: trapezoids over the share of inserted pixels

    References
    ----------
    [petsiuk2018]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> insertion(net, x, x, c).shape
    torch.Size([1])
    """
    curve = insertion_curve(model, x, maps, target, steps, baseline)
    return _area(curve.flip(1), x)  # over what is still deleted


def _area(curve: Tensor, x: Tensor) -> Tensor:
    """Return the area under a curve over the share of deleted pixels."""
    pixels = x[0, 0].numel()
    share = _removed(pixels, curve.shape[1] - 1).double() / pixels  # halves overflow
    return torch.trapezoid(curve, share.to(curve), dim=1)


def _removed(pixels: int, steps: int) -> Tensor:
    """Return how many pixels are gone after each step, (steps + 1,)."""
    return torch.arange(steps + 1) * pixels // steps


def faithfulness(
    model: nn.Module, x: Tensor, maps: Tensor, target: Target, steps: int = 28
) -> Tensor:
    """Return F, insertion minus deletion; higher is better.

    Parameters
    ----------
    As `deletion_curve`.

    Returns
    -------
    Tensor, shape (B,), in [-1, 1]: `insertion` into a blur minus `deletion` to zero

    Notes
    -----
    An independent group describes the F of [muzellec2024]_ so; the settings of the
    paper are not known to us. A random map does not score 0: the two baselines differ.

    References
    ----------
    [muzellec2024]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> faithfulness(net, x, x, c).shape
    torch.Size([1])
    """
    check_call(model, x, target)
    call = model, x, maps, fixed_target(model, x, target), steps
    return insertion(*call) - deletion(*call)
