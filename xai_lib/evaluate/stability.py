"""Stability: how far does a map move when its input moves a little?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._forward import fixed_target
from xai_lib.attribute.registry import find_method
from xai_lib.evaluate.correlation import warn_of_undefined


def stability(
    model: nn.Module,
    x: Tensor,
    target: Target,
    method: str | Callable[..., Tensor],
    n_neighbours: int = 20,
    radius: float = 0.1,
    seed: int = 0,
    normalise: bool = False,
) -> Tensor:
    """Return the mean distance between an image's map and those of its neighbours.

    Parameters
    ----------
    model, x, target : as for every method; a target function is asked once, of x
    method : a name in METHODS, or a callable with the common signature, which may also
        reduce or filter the map
    n_neighbours : neighbours per image, x + u with u uniform in [0, radius) per value
    radius : in the units of the normalised input
    seed : of u, the same for every image, so a batch equals its images one by one
    normalise : divide each map by its length first; the distance lies in [0, 2] then

    Returns
    -------
    Tensor, shape (B,): mean over neighbours of the L2 distance over all of a map's
    values, lower is better; NaN, with a warning that counts them, where normalise meets
    a map of zeros

    Raises
    ------
    ValueError
        if the method returns maps that are not finite

    Notes
    -----
    Without normalise, as in Xplique, the distance is in the units of the map: a method
    with small values looks stable, and two methods cannot be compared. u is never
    negative, as in Xplique (2.0.2), so neighbours are brighter by radius / 2 on
    average; earlier code of Xplique squares the distance and does not use the radius.

    References
    ----------
    [bhatt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> stability(net, x, c, "gradient")  # of a linear model
    tensor([0.])
    """
    check_call(model, x, target)
    check_positive(n_neighbours=n_neighbours, radius=radius)
    function, c = find_method(method), fixed_target(model, x, target)
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand((n_neighbours, *x.shape[1:]), generator=generator).to(x)
    steps = torch.cat([torch.zeros_like(u[:1]), radius * u])  # the image itself first
    distances = []
    for image, own in zip(x, c, strict=True):
        maps = function(model, image + steps, own.expand(len(steps)))
        maps = _vectors(maps, len(steps), normalise)
        distances.append((maps[1:] - maps[0]).norm(dim=1).mean())
    found = torch.stack(distances).to(x)
    warn_of_undefined(found, "stability", "a map of zeros has no direction")
    return found


def _vectors(maps: Tensor, rows: int, normalise: bool) -> Tensor:
    """Return checked maps as vectors (rows, values); zeros become NaN if normalised."""
    if not isinstance(maps, Tensor) or maps.ndim < 2 or len(maps) != rows:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"method must return a map per image, {rows}, got {got}")
    if not maps.isfinite().all():
        raise ValueError("method must return finite maps, got NaN or infinity")
    maps = maps.detach().flatten(1).double()
    return maps / maps.norm(dim=1, keepdim=True) if normalise else maps
