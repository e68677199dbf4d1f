"""Cosine similarity convergence: do all signals from above end up alike?

Random vectors are put at the output of one layer and followed down. If below some layer
they all point the same way, the map there cannot depend on what lies above.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from xai_lib._check import check_images, check_model, check_positive
from xai_lib.analyse._signals import (
    is_input,
    output_shapes,
    plan_of,
    rows_of,
    sent_signals,
)
from xai_lib.attribute._forward import rows_per_pass

PERCENTILES = (0, 1, 5, 10, 20, 50, 80, 95, 99, 100)

CHAIN_COST = 4  # a chain that is kept holds this many times the memory of one pass

Cosines = dict[str, Tensor]


def abs_cosine(a: Tensor, b: Tensor, dim: int = -1) -> Tensor:
    """Return |cos| over a dimension, in float64; NaN where a vector is zero.

    Both are made unit vectors first, so nothing over- or underflows, and 1 minus the
    result is good to 1e-15.

    Examples
    --------
    >>> a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> b = torch.tensor([-1.0, 1e-6], dtype=torch.float64)
    >>> f"{1 - abs_cosine(a, b).item():.1e}"
    '5.0e-13'
    """
    return (_unit(a, dim) * _unit(b, dim)).sum(dim).abs().clamp(max=1)


def _unit(a: Tensor, dim: int) -> Tensor:
    a = a.double()
    return a / torch.linalg.vector_norm(a, dim=dim, keepdim=True)


def _per_position(R: Tensor) -> Tensor:
    """Return (V, B, C, h, w), (V, B, tokens, C), (V, B, C) as (V, B, C, positions)."""
    if R.ndim == 3:
        return R[..., None]
    return R.transpose(2, 3) if R.ndim == 4 else R.flatten(3)


def _per_map(R: Tensor) -> Tensor:
    return R.flatten(2)[..., None]  # (V, B, D, 1)


def _pairs(R: Tensor, layer: str, rows) -> Tensor:
    """Return |cos| for all pairs of vectors, (B, pairs, positions)."""
    if not R.isfinite().all():
        raise ValueError(f"signals must be finite, got NaN or infinity at {layer!r}")
    u = _unit(rows(R), 2)
    pairs = combinations(range(len(u)), 2)
    dots = [(u[i] * u[j]).sum(1).abs().clamp(max=1) for i, j in pairs]
    return torch.stack(dots, dim=1)


def _plan_layers(model, x, starts: list[str], layers: list[str], single: bool):
    """Return the shape of each start's output, and the layers that run before it."""
    shapes = output_shapes(model, x, [*layers, *starts])
    order = {layer: place for place, layer in enumerate(shapes)}
    place = {layer: -1 if is_input(layer) else order[layer] for layer in layers}
    below = {s: [k for k in layers if place[k] <= order[s]] for s in starts}
    for s in starts:
        missing = [k for k in layers if k not in below[s]]
        if (single and missing) or not below[s]:
            raise ValueError(f"layers must run before start {s!r}, got {missing}")
    return shapes, below


def _draw(images: int, n_vectors: int, shape, generator) -> Tensor:
    """Return (V, B, ...); an image's vectors do not depend on how many go together."""
    each = [
        torch.randn((n_vectors, *shape), generator=generator) for _ in range(images)
    ]
    return torch.stack(each, dim=1)


def _convergence(model, x, method, start, layers, n_vectors, seed, rows):
    check_model(model)
    check_images(x)
    if n_vectors < 2:
        raise ValueError(f"n_vectors must be at least 2, got {n_vectors}")
    single = isinstance(start, str)
    if not start or not layers:
        raise ValueError(f"start and layers must name modules, got {start}, {layers}")
    starts, layers = [start] if single else list(start), list(layers)
    shapes, below = _plan_layers(model, x, starts, layers, single)
    draws = {s: torch.Generator().manual_seed(seed) for s in starts}
    parts = {s: {layer: [] for layer in below[s]} for s in starts}
    planned, size = plan_of(method, x), max(1, rows_per_pass(model, x) // CHAIN_COST)
    for i in range(0, len(x), size):
        images, part = x[i : i + size], rows_of(planned, slice(i, i + size))
        vectors = {
            s: _draw(len(images), n_vectors, shapes[s], draws[s]).to(x) for s in starts
        }
        for s, signals in sent_signals(model, images, method, part, below, vectors):
            for layer, R in signals.items():
                parts[s][layer].append(_pairs(R, layer, rows).cpu())
    whole = {
        s: {layer: torch.cat(part) for layer, part in of.items()}
        for s, of in parts.items()
    }
    return whole[start] if single else whole


def csc(
    model: nn.Module,
    x: Tensor,
    method: str | Callable[..., Tensor] | list,
    start: str | Sequence[str],
    layers: Sequence[str],
    n_vectors: int = 5,
    seed: int = 0,
) -> Cosines | dict[str, Cosines]:
    """Return |cos| between the signals of random vectors, per position and layer.

    Parameters
    ----------
    model : Module in eval mode
    x : Tensor, shape (B, C, H, W), normalised as the model wants
    method : a name in METHODS, a callable ``method(model, x, target, *, layer)``, or a
        composite, a list of (key, rule)
    start : name of the module at whose output N(0, 1) vectors are put, independent over
        channels and positions; "output" is the logits. Or several names: they share
        the forward pass
    layers : names of modules that run before start (or start itself), or "input"
    n_vectors : vectors per image
    seed : of the vectors, drawn image by image; each start draws anew

    Returns
    -------
    dict of layer to Tensor, shape (B, pairs, positions), float64, on the CPU: in
    [0, 1], or NaN where a signal is zero at that position; 1 minus it is good to 1e-15.
    With several starts, a dict of start to such dicts, each with the layers before it

    Notes
    -----
    The absolute value counts a flipped sign as the same direction. Signals are taken at
    the outputs of the named modules: to compare with [sixt2020]_, whose layers are
    convolution and ReLU in one, name the ReLU. A dense layer has one position. What is
    no backward pass, such as SmoothGrad, explains for each vector a network that ends
    at start in a logit with this vector as its gradient: slow, but any method will do.

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Linear(16, 3)).eval()
    >>> cosines = csc(net, torch.ones(2, 2, 2, 2), "gradient", "2", ["1", "input"])
    >>> cosines["1"].shape, cosines["input"].shape
    (torch.Size([2, 10, 1]), torch.Size([2, 10, 4]))
    """
    return _convergence(model, x, method, start, layers, n_vectors, seed, _per_position)


def whole_map_csc(
    model: nn.Module,
    x: Tensor,
    method: str | Callable[..., Tensor] | list,
    start: str | Sequence[str],
    layers: Sequence[str],
    n_vectors: int = 5,
    seed: int = 0,
) -> Cosines | dict[str, Cosines]:
    """Return |cos| between the whole signals of random vectors, per layer.

    Parameters
    ----------
    As `csc`.

    Returns
    -------
    dict of layer to Tensor, shape (B, pairs), float64; with several starts, a dict of
    start to such dicts

    Notes
    -----
    The measure of [sixt2020]_ is per position, and blind to where the relevance lies:
    two signals may agree in direction everywhere and yet be strong at different places.
    Then `csc` is 1 and this is below 1; on rank one both are 1.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Linear(16, 3)).eval()
    >>> x = torch.ones(2, 2, 2, 2)
    >>> whole_map_csc(net, x, "gradient", "2", ["input"])["input"].shape
    torch.Size([2, 10])
    """
    found = _convergence(model, x, method, start, layers, n_vectors, seed, _per_map)
    if isinstance(start, str):
        return {layer: cosines[..., 0] for layer, cosines in found.items()}
    return {
        s: {layer: cosines[..., 0] for layer, cosines in of.items()}
        for s, of in found.items()
    }


def csc_summary(cosines: Tensor) -> dict[str, float]:
    """Summarise one layer's cosines; rows without relevance (NaN) are dropped.

    Parameters
    ----------
    cosines : Tensor of any shape, as `csc` returns for a layer

    Returns
    -------
    dict: median, mean, the percentiles p0 .. p100, n (values kept), dropped (NaN); all
    NaN if nothing is kept

    Notes
    -----
    Percentiles interpolate linearly, as numpy's do.

    References
    ----------
    [sixt2020]_, whose list of percentiles it is

    Examples
    --------
    >>> row = csc_summary(torch.tensor([0.2, 0.4, 0.9, torch.nan]))
    >>> round(row["median"], 3), row["n"], row["dropped"]
    (0.4, 3, 1)
    """
    flat = cosines.double().flatten()
    kept = flat[~flat.isnan()].sort().values
    counts = {"n": len(kept), "dropped": len(flat) - len(kept)}
    if not len(kept):
        nothing = dict.fromkeys(f"p{p}" for p in PERCENTILES)
        return dict.fromkeys(["median", "mean", *nothing], float("nan")) | counts

    def percentile(p: float) -> float:
        place = p / 100 * (len(kept) - 1)
        low = int(place)
        high = min(low + 1, len(kept) - 1)
        return torch.lerp(kept[low], kept[high], place - low).item()

    row = {"median": percentile(50), "mean": kept.mean().item()}
    return row | {f"p{p}": percentile(p) for p in PERCENTILES} | counts


def chance_csc(channels: int, n: int = 1000, seed: int = 0) -> float:
    """Return the median |cos| of pairs of independent Gaussian vectors.

    Parameters
    ----------
    channels : dimension of the vectors
    n : number of pairs
    seed : of the draws

    Returns
    -------
    float: 0.5 for 3 channels, about 0.67 / sqrt(channels) for many

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> round(chance_csc(512), 2)
    0.03
    """
    check_positive(channels=channels, n=n)
    pairs = torch.randn(2, n, channels, generator=torch.Generator().manual_seed(seed))
    return abs_cosine(*pairs).median().item()
