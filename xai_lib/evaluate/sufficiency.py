"""Key-information sufficiency: is what a map marks as key enough for the decision?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import (
    Target,
    check_call,
    check_images,
    check_maps,
    check_positive,
)
from xai_lib.attribute._forward import fixed_target, rows_per_pass, select


def key_region(maps: Tensor, share: float = 0.1) -> Tensor:
    """Return the strongest pixels that together hold a share of the map's energy.

    Parameters
    ----------
    maps : Tensor, shape (B, H, W) or (B, 1, H, W); the energy of a pixel is its square
    share : of the energy, in (0, 1]

    Returns
    -------
    Tensor, bool, shape (B, H, W): the smallest such set; empty for an empty map

    Examples
    --------
    >>> key_region(torch.tensor([[[3.0, 1.0], [1.0, 1.0]]]), 0.5)
    tensor([[[ True, False],
             [False, False]]])
    """
    maps = check_maps(maps)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    energy = maps.double().flatten(1) ** 2
    largest, order = energy.sort(dim=1, descending=True, stable=True)
    before = largest.cumsum(1) - largest  # held by the stronger pixels
    needed = share * energy.sum(1, keepdim=True)
    kept = (before < needed * (1 - 1e-12)) & (largest > 0)
    kept |= (largest > 0) & (share == 1)
    return torch.zeros_like(kept).scatter_(1, order, kept).view_as(maps)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return images behind a Gaussian blur, the border mirrored.

    Parameters
    ----------
    x : Tensor, shape (B, C, H, W)
    sigma : standard deviation, in pixels; the kernel ends at 3 sigma, or where the
        mirrored image does, per side. A side of one pixel is not blurred

    Examples
    --------
    >>> x = torch.full((1, 1, 8, 8), 2.0)
    >>> torch.allclose(blurred(x, 1.0), x)
    True
    """
    check_positive(sigma=sigma)
    rows = x.flatten(0, 1)[:, None]  # (B C, 1, H, W)
    for axis, side in ((2, x.shape[2]), (3, x.shape[3])):
        reach = min(int(3 * sigma + 0.5), side - 1)
        place = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-(place**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        if axis == 2:
            kernel, padding = kernel[:, None], (0, 0, reach, reach)
        else:
            kernel, padding = kernel[None], (reach, reach, 0, 0)
        padded = F.pad(rows, padding, mode="reflect")
        rows = F.conv2d(padded, kernel[None, None])
    return rows.view_as(x)


def key_sufficiency(
    model: nn.Module,
    x: Tensor,
    region: Tensor,
    target: Target,
    sigma: float | None = None,
) -> Tensor:
    """Return the share of the target logit that a region of the image keeps alone.

    Parameters
    ----------
    model, x, target : as for every method
    region : Tensor, bool, shape (B, H, W), for instance `key_region`
    sigma : of the blur that replaces the rest, in pixels; None is an eighth of the
        height

    Returns
    -------
    Tensor, shape (B,): S_c(kept) / S_c(x). Above 1 if the rest spoke against the
    class; without meaning where S_c(x) is near 0, and read the other way round where
    it is below

    Notes
    -----
    A candidate of ours: the formula of [zheng2025]_ for key information sufficiency is
    not known to us. Blur leaves the colours of the rest, so an empty region does not
    give 0: compare with the same region elsewhere (`moved`). A constant that is added
    to all logits changes no decision and changes the share, so two networks cannot be
    compared.

    References
    ----------
    [zheng2025]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    >>> x, c = torch.rand(1, 1, 4, 4), torch.tensor([0])
    >>> everything = torch.ones(1, 4, 4, dtype=torch.bool)
    >>> key_sufficiency(net, x, everything, c).round(decimals=5)
    tensor([1.])
    """
    check_call(model, x, target)
    _check_region(region, x)
    sigma = x.shape[2] / 8 if sigma is None else sigma
    kept = torch.where(region[:, None], x, blurred(x, sigma))
    c = fixed_target(model, x, target)
    return _logit(model, kept, c) / _logit(model, x, c)


def _check_region(region: Tensor, x: Tensor) -> None:
    if region.shape != (len(x), *x.shape[2:]) or region.dtype != torch.bool:
        raise ValueError(
            f"region must be bool of shape {(len(x), *x.shape[2:])}, "
            f"got {region.dtype} of {tuple(region.shape)}"
        )


def _logit(model: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    size = rows_per_pass(model, x)
    with torch.no_grad():
        pairs = zip(x.split(size), c.split(size), strict=True)
        return torch.cat([select(model(a), b) for a, b in pairs])


def moved(region: Tensor, seed: int = 0) -> Tensor:
    """Return each region at a random place, wrapped around the border.

    Examples
    --------
    >>> region = torch.eye(4, dtype=torch.bool)[None]
    >>> moved(region).sum().item()
    4
    """
    g = torch.Generator().manual_seed(seed)
    steps = [torch.randint(n, (len(region),), generator=g) for n in region.shape[1:]]
    pairs = zip(region, *(s.tolist() for s in steps), strict=True)
    return torch.stack([one.roll((i, j), (0, 1)) for one, i, j in pairs])


def transplant_rate(
    model: nn.Module, x: Tensor, region: Tensor, target: Target, hosts: Tensor
) -> Tensor:
    """Return how often an image with the region pasted in has the target class.

    Parameters
    ----------
    model, x, region, target : as `key_sufficiency`
    hosts : Tensor, shape (K, C, H, W): images that the network takes for other classes;
        one that already has the target class counts as well, so leave such out

    Returns
    -------
    Tensor, shape (B,), in [0, 1]

    Raises
    ------
    ValueError
        if a region or the hosts do not have the shape of x

    Notes
    -----
    The second candidate: nothing of the own image is left outside the region.

    References
    ----------
    [zheng2025]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> everything = torch.ones(3, 2, 2, dtype=torch.bool)
    >>> rate = transplant_rate(net, x, everything, net(x).argmax(1), x)
    >>> rate
    tensor([1., 1., 1.])
    """
    check_call(model, x, target)
    _check_region(region, x)
    if hosts.ndim != 4 or hosts.shape[1:] != x.shape[1:] or not len(hosts):
        C, H, W = x.shape[1:]
        wanted = f"hosts must have shape (K, {C}, {H}, {W}), one at least"
        raise ValueError(f"{wanted}, got {tuple(hosts.shape)}")
    check_images(hosts, "hosts")
    c, rates = fixed_target(model, x, target), []
    _logit(model, x, c)  # refuses a class that the model does not have
    size = rows_per_pass(model, x)
    for image, inside, own in zip(x, region, c, strict=True):
        pasted = torch.where(inside, image, hosts)  # (K, C, H, W)
        with torch.no_grad():
            found = torch.cat([model(part).argmax(1) for part in pasted.split(size)])
        rates.append((found == own).double().mean())
    return torch.stack(rates).to(x.dtype)
