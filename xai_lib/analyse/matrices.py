"""Products of random matrices: when does a chain of factors become rank one?"""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from xai_lib._check import check_choice
from xai_lib.analyse.convergence import abs_cosine

VGG16_CHAIN = (
    (1000, 4096),
    (4096, 4096),
    (4096, 512),
    *[(512, 512)] * 5,
    (512, 256),
    *[(256, 256)] * 2,
    (256, 128),
    (128, 128),
    (128, 64),
    (64, 64),
    (64, 3),
)
"""(channels above, channels below) of VGG-16's layers, from the logits to the image."""


def alpha_beta_law(alpha: float) -> Callable[[Tensor], Tensor]:
    """Return W -> alpha W+ + beta W-, beta = alpha - 1 on the negative weights."""
    return lambda W: alpha * W.clamp(min=0) + (alpha - 1) * W.clamp(max=0)


MATRIX_LAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "vanilla": lambda W: W,
    "relu": lambda W: W,
    "stochastic": lambda W: W.abs() / W.abs().sum(0),
    "positive": lambda W: W.abs(),
    "non_negative": lambda W: W.clamp(min=0),
    **{f"alpha{a}_beta{a - 1}": alpha_beta_law(a) for a in range(1, 11)},
}
"""What becomes of a matrix W with N(0, 1) entries before the vectors meet it."""

CLIPPED = ("relu",)
"""The laws under which the vectors are clipped at zero after each factor."""


def matrix_chain(
    law: str,
    shapes: Sequence[tuple[int, int]] = VGG16_CHAIN,
    n_vectors: int = 32,
    seed: int = 0,
) -> Tensor:
    """Follow random vectors through a chain of random matrices.

    Parameters
    ----------
    law : one of MATRIX_LAWS: "vanilla", "relu", "stochastic", "positive",
        "non_negative", "alpha1_beta0" .. "alpha10_beta9"
    shapes : (rows, columns) of each factor, so that each fits the one before
    n_vectors : row vectors with N(0, 1) entries
    seed : of vectors and matrices

    Returns
    -------
    Tensor, shape (len(shapes) + 1,), float64: mean |cos| over all pairs of vectors,
    before the first factor and after each

    Notes
    -----
    A vector is a row, r W. "stochastic" makes each column sum to 1. As in [sixt2020]_'s
    simulation there are no activations and no normalisers, and the negative part enters
    as alpha W+ + beta W-, with W- the negative weights; LRP itself subtracts that part.

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> square = [(20, 20)] * 8
    >>> bool(matrix_chain("positive", square)[-1] > 0.999)
    True
    >>> bool(matrix_chain("vanilla", square)[-1] < 0.9)
    True
    """
    check_choice("law", law, MATRIX_LAWS)
    fits = all(a[1] == b[0] for a, b in zip(shapes, shapes[1:], strict=False))
    if not shapes or not fits:
        raise ValueError(f"shapes must chain (a, b), (b, c), ..., got {list(shapes)}")
    if n_vectors < 2:
        raise ValueError(f"n_vectors must be at least 2, got {n_vectors}")
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(n_vectors, shapes[0][0], generator=g).double()
    means = [_mean_cosine(rows)]
    for shape in shapes:
        rows = rows @ MATRIX_LAWS[law](torch.randn(shape, generator=g).double())
        rows = rows.clamp(min=0) if law in CLIPPED else rows
        means.append(_mean_cosine(rows))
    return torch.stack(means)


def _mean_cosine(rows: Tensor) -> Tensor:
    i, j = torch.tensor(list(combinations(range(len(rows)), 2))).T
    return abs_cosine(rows[i], rows[j]).nanmean()
