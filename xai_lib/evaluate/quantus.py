"""What Quantus calls Sensitivity-N, to show that it is another quantity."""

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._forward import fixed_target, rows_per_forward, select
from xai_lib.evaluate.correlation import pearson


def quantus_sensitivity_n(
    model: nn.Module,
    x: Tensor,
    target: Target,
    maps: Tensor,
    features_in_step: int = 1,
    most: float = 0.8,
) -> Tensor:
    """Return the metric that Quantus 0.6 calls Sensitivity-N, with its defaults.

    Parameters
    ----------
    model, x, target : as for every method; at least two images
    maps : Tensor, signed, shape (B, C, H, W), or (B, 1, H, W): the same per channel
    features_in_step : values removed in one step; it must divide H W
    most : the steps end at this share of H W values

    Returns
    -------
    Tensor, shape (steps,): a correlation over images for each step; NaN where all
    images agree

    Notes
    -----
    It is not the metric of the paper (`sensitivity_n`). A feature is a channel value.
    Nothing is drawn: values are removed in descending order of the map, and stay
    removed. At step k, d is the fall of the softmax probability since the start, a only
    the sum of the map over what step k removed. Removed is not zero but the smallest
    value of the image. a and d are correlated over images, not over subsets. Quantus
    divides the maps by the largest value of the batch, which changes no correlation,
    uses only its first batch of 64 images, and reports the mean over the steps.

    References
    ----------
    [hedstrom2023]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    >>> x, c = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 0, 1, 1])
    >>> quantus_sensitivity_n(net, x, c, x, features_in_step=4).shape
    torch.Size([3])
    """
    check_call(model, x, target)
    check_positive(features_in_step=features_in_step, most=most)
    if maps.shape not in (x.shape, (len(x), 1, *x.shape[2:])):
        wanted = f"maps must have shape {tuple(x.shape)}, or one channel"
        raise ValueError(f"{wanted}, got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError("maps must be finite, got NaN or infinity")
    maps, pixels = maps.detach(), x[0, 0].numel()
    if pixels % features_in_step or len(x) < 2:
        raise ValueError(
            f"features_in_step must divide {pixels} and x hold at least 2 images, "
            f"got {features_in_step} and {len(x)}"
        )
    R, left = maps.expand_as(x).flatten(1), x.flatten(1).clone()  # (B, C H W)
    order, lowest = R.argsort(1, descending=True), left.amin(1, keepdim=True)
    c, a, d = fixed_target(model, x, target), [], []
    before = _probability(model, x, c)
    steps = int(most * pixels // features_in_step)
    for gone in order.split(features_in_step, 1)[:steps]:
        left.scatter_(1, gone, lowest.expand_as(gone))
        a.append(R.gather(1, gone).sum(1))
        d.append(before - _probability(model, left.view_as(x), c))
    return pearson(torch.stack(a), torch.stack(d))


def _probability(model: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    size = rows_per_forward(model, x)
    with torch.no_grad():
        pairs = zip(x.split(size), c.split(size), strict=True)
        return torch.cat([select(model(a).softmax(1), b) for a, b in pairs])
