"""How many directions does a chain of PatternAttribution's matrices keep?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from xai_lib.attribute.backprop.patterns import Patterns


def pattern_singular_ratios(
    patterns: Patterns, layers: list[str] | None = None
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return sigma1 / sigma2 of each W * A, and of each link of their chain.

    Parameters
    ----------
    patterns : from `estimate_patterns`
    layers : names of layers in a chain, in order; None for all

    Returns
    -------
    tuple of the ratios by layer, and by pair of layers that follow each other

    Raises
    ------
    ValueError
        if the layers form no chain: the inputs of one are not the outputs before it

    Notes
    -----
    A kernel stands for a matrix (outputs, inputs) by its centre tap, a linear map
    behind a flattened map by the centre position. With W * A = U S V^T, the link of
    layers l and l + 1 is S_(l+1)^(1/2) V_(l+1)^T U_l S_l^(1/2): the product of all
    layers is the product of the links between S^(1/2) V^T of the first and U S^(1/2)
    of the last. A large ratio is a link of almost one direction.

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> a, b = torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2)
    >>> patterns = Patterns({"1": a, "2": b}, {"1": b, "2": b})
    >>> pattern_singular_ratios(patterns)
    ({'1': 4.0, '2': 1.0}, {('1', '2'): 2.0})
    """
    chosen = list(patterns.data) if layers is None else layers
    unknown = [name for name in chosen if name not in patterns.data]
    if unknown or not chosen:
        known = ", ".join(patterns.data)
        raise ValueError(f"layers must be among {known}, got {chosen}")
    single, links, before = {}, {}, None
    for name, matrix in _matrices(patterns, chosen):
        U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
        single[name] = _ratio(S)
        if before is not None:
            last, right = before
            link = S.sqrt()[:, None] * Vh @ right
            links[last, name] = _ratio(torch.linalg.svdvals(link))
        before = name, U * S.sqrt()
    return single, links


def _matrices(patterns: Patterns, layers: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield each layer's W * A as a matrix in float64, (outputs, inputs)."""
    width = last = None
    for name in layers:
        w = (patterns.weights[name] * patterns.data[name]).double()
        flattened = w.ndim == 2 and width and w.shape[1] % width == 0
        side = round((w.shape[1] / width) ** 0.5) if flattened else 1
        if side > 1 and side * side * width == w.shape[1]:
            w = w.view(-1, width, side, side)
        w = w[(..., *(k // 2 for k in w.shape[2:]))]
        if width not in (None, w.shape[1]):
            raise ValueError(
                f"layers must form a chain, got {name!r} with {w.shape[1]} inputs "
                f"behind {last!r} with {width} outputs"
            )
        width, last = len(w), name
        yield name, w


def _ratio(S: Tensor) -> float:
    if len(S) < 2:
        raise ValueError("layers must have two inputs and outputs at least, got one")
    return (S[0] / S[1]).item()
