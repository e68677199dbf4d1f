"""How close to rank one is a backward chain? Its two largest singular values."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import check_images, check_model
from xai_lib.analyse._signals import back_all, output_shapes, plan_of, rows_of
from xai_lib.attribute.backprop import Chain

LINEAR = 1e-3  # a larger relative error is no rounding
TOGETHER = 8  # vectors in one backward pass


def singular_ratio(
    model: nn.Module,
    x: Tensor,
    method: str | Callable[..., Tensor] | list,
    start: str,
    layer: str,
    n_vectors: int = 512,
    seed: int = 0,
) -> Tensor:
    """Return the second over the first singular value of the chain, per image.

    Parameters
    ----------
    model : Module in eval mode
    x : Tensor, shape (B, C, H, W)
    method : a method with linear rules (gradient, LRP, DeepLIFT, ...), by its name or
        as a callable, or a composite
    start : name of the module whose output the chain starts from
    layer : name of a module before it, or "input", where the chain ends
    n_vectors : vectors sent down. If start has no more units than that, each unit is
        sent and the result is exact; else random orthonormal vectors
    seed : of the vectors

    Returns
    -------
    Tensor, float64, shape (B,), in [0, 1]: 0 is rank one

    Raises
    ------
    ValueError
        if the chain is not linear in its vector (Guided BP, Deconvnet, RectGrad), or
        the method is no backward pass

    Notes
    -----
    For a given image a linear rule is one matrix from start to layer; all positions
    and channels of the layer count. With fewer vectors than units the relative error
    of the ratio is about ``sqrt((1 - n_vectors / units) / n_vectors)``, 4 % for 512 of
    many, and the ratio comes out too large where many singular values are as large as
    the second. Ratios below 1e-8 are rounding (1e-7 in float32). Memory: n_vectors
    times the layer's size.

    References
    ----------
    [sixt2020]_, [halko2011]_

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)).eval()
    >>> found = singular_ratio(net, torch.ones(1, 1, 2, 2), "gradient", "2", "input")
    >>> s = torch.linalg.svdvals(net[2].weight @ net[1].weight)
    >>> torch.allclose(found.float(), s[1] / s[0])
    True
    """
    check_model(model)
    check_images(x)
    planned = plan_of(method, x)
    if planned is None:
        raise ValueError(f"method must be a backward pass, got {method!r}")
    shape = output_shapes(model, x, [layer, start])[start]
    units = int(torch.tensor(shape).prod())
    if min(n_vectors, units) < 2:
        raise ValueError(
            f"n_vectors and the units of {start!r} must be at least 2, "
            f"got {n_vectors} and {units}"
        )
    vectors = _orthonormal(min(n_vectors, units), units, seed).to(x)
    ratios = []
    for i in range(len(x)):
        composite, baseline = rows_of(planned, slice(i, i + 1))
        chain = Chain(model, x[i : i + 1], composite, [start, layer], baseline)
        ratios.append(_ratio(_sent(chain, start, layer, vectors.view(-1, 1, *shape))))
    return torch.stack(ratios)


def _orthonormal(n: int, units: int, seed: int) -> Tensor:
    """Return (n, units) with orthonormal rows: the units themselves if n is all."""
    if n == units:
        return torch.eye(units)
    g = torch.Generator().manual_seed(seed)
    draws = torch.randn(units, n, generator=g, dtype=torch.float64)
    return torch.linalg.qr(draws).Q.T


def _sent(chain: Chain, start: str, layer: str, vectors: Tensor) -> Tensor:
    """Return the signals as rows (V, D), after a test that the chain is linear."""
    rows, done = None, 0
    for part in vectors.split(TOGETHER):
        found = back_all(chain, start, part, [layer])[layer].flatten(1)
        if rows is None:
            rows = found.new_empty(len(vectors), found.shape[1])
        rows[done : done + len(part)] = found
        done += len(part)
    weights = torch.linspace(-1, 1, len(vectors)).to(rows)
    mixed = torch.einsum("v,v...->...", weights, vectors)
    found = chain.back(start, mixed, [layer])[layer].flatten()
    error = (found - weights @ rows).norm() / (weights.norm() * rows.norm())
    if not error < LINEAR:
        raise ValueError(
            "method must send signals back linearly, got one whose signal for a sum "
            f"of vectors is off by {error:.1g} of their norm"
        )
    return rows


def _ratio(rows: Tensor) -> Tensor:
    gram = sum(part.double() @ part.double().T for part in rows.split(2**16, dim=1))
    second, first = torch.linalg.eigvalsh(gram)[-2:].clamp(min=0).sqrt()
    return (second / first).cpu()
