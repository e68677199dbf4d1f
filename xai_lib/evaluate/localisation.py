"""Does a map lie where it must? GridPG, DiFull, DiPart and their score."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib._check import check_model
from xai_lib.attribute.registry import Method, find_method
from xai_lib.evaluate.cells import as_cells, heads_of, side, stitch
from xai_lib.evaluate.grids import GridNet
from xai_lib.evaluate.sanity import reduction_of

NOTHING = 1e-7
"""A map whose positive mass is at most this scores 0."""


def cell_shares(maps: Tensor, n: int) -> Tensor:
    """Return the share of the positive mass that lies in each cell of a grid.

    Parameters
    ----------
    maps : Tensor, shape (..., n*H, n*W), signed
    n : cells per side

    Returns
    -------
    Tensor, shape (..., n*n), in [0, 1]; all 0 where the positive mass is at most 1e-7

    Notes
    -----
    L_i = sum of A+ in cell i over the sum of A+, A+ the positive part. A uniform map
    scores 1/n^2 in every cell. The guard of the denominator is that of the paper's
    code; it is absolute, so a map in tiny units scores 0.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> cell_shares(torch.ones(4, 4), 2)
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return shares_of(cell_masses(maps, n))


def shares_of(masses: Tensor) -> Tensor:
    """Return masses (..., n*n) over their sum; all 0 where that is at most 1e-7.

    Examples
    --------
    >>> shares_of(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    tensor([[0.2500, 0.7500],
            [0.0000, 0.0000]])
    """
    total = masses.sum(-1, keepdim=True)
    return torch.where(total > NOTHING, masses / total.clamp(min=NOTHING), 0.0)


def cell_masses(maps: Tensor, n: int) -> Tensor:
    """Return the sum of the positive part of maps (..., n*H, n*W) in each cell.

    Examples
    --------
    >>> cell_masses(torch.tensor([[2.0, -1.0], [0.0, 3.0]]), 2)
    tensor([2., 0., 0., 3.])
    """
    if not isinstance(maps, Tensor) or maps.ndim < 2:
        raise ValueError("maps must be a tensor of shape (..., n*H, n*W)")
    H, W = maps.shape[-2:]
    if H % n or W % n:
        raise ValueError(f"maps of {H} x {W} cannot be cut into {n} x {n} cells")
    if not maps.isfinite().all():
        raise ValueError("maps must be finite, got NaN or infinity")
    mass = maps.clamp(min=0).unflatten(-2, (n, H // n)).unflatten(-1, (n, W // n))
    kind = torch.promote_types(maps.dtype, torch.float32)  # halves would overflow
    return mass.sum((-3, -1), dtype=kind).flatten(-2)


def grid_maps(
    setting: str,
    model: nn.Module,
    cells: Tensor | Sequence,
    targets: Tensor,
    method: str | Callable[..., Tensor],
    layer: str | None = None,
    heads: Sequence[int] | None = None,
) -> Tensor:
    """Return a method's maps of grids, one per head, as they are scored.

    Parameters
    ----------
    setting : "grid_pg", "di_full" or "di_part"
    model, cells, targets, method, layer : as `di_full`
    heads : cells whose class is explained; None for the paper's choice, all cells in
        GridPG, the first and the last one else

    Returns
    -------
    Tensor, shape (B, heads, n*H, n*W): the sum over channels, of absolute values for
    gradient-like methods, bilinearly upsampled to the grid; signed for all others

    Notes
    -----
    In the order of the paper's code: channels, upsampling; the score then clamps and
    sums. Upsampling after clamping would give other numbers. The paper takes absolute
    values for the gradient and Guided BP; here also for the other methods that do not
    multiply by the input (SmoothGrad, Deconvnet, RectGrad).

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells, targets = torch.randn(2, 4, 1, 8, 8), torch.tensor([[0, 1, 2, 0]] * 2)
    >>> grid_maps("di_full", net, cells, targets, "gradient_x_input").shape
    torch.Size([2, 2, 16, 16])
    """
    check_model(model)
    cells = as_cells(cells)
    n = side(cells.shape[1])
    check_targets(targets, len(cells), n, setting)
    heads = heads_of(setting, n) if heads is None else tuple(heads)
    net = GridNet(model, tuple(cells.shape[2:]), n, setting, layer)
    net.heads, explain = heads, at_layer(method, layer)
    h, maps = net.before(stitch(cells)), []
    for head in heads:
        net.head = head
        found = explain(net, h, targets[:, head], layer="input")  # (B, C', h', w')
        maps.append(as_scored(found, method, tuple(n * k for k in cells.shape[3:])))
    return torch.cat(maps, 1)


def at_layer(method: str | Callable, layer: str | None) -> Callable[..., Tensor]:
    """Return a method with its paper's settings for that layer."""
    function = find_method(method)
    inside = layer not in (None, "input")
    if not (inside and isinstance(function, Method)):
        return function
    return lambda *call, **own: function(*call, **{**function.inside, **own})


def as_scored(
    maps: Tensor, method: str | Callable[..., Tensor], size: tuple[int, int]
) -> Tensor:
    """Return maps as they are scored: one channel, of the grid's size.

    Parameters
    ----------
    maps : Tensor, shape (B, C, h, w), signed
    method : decides whether absolute values are summed, as for `grid_maps`
    size : (height, width) of the grid

    Returns
    -------
    Tensor, shape (B, 1, height, width)

    Examples
    --------
    >>> as_scored(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1), "gradient", (1, 1)).item()
    3.0
    """
    if reduction_of(method).__name__ == "channel_max_abs":
        maps = maps.abs()
    maps = maps.sum(1, keepdim=True)
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def check_targets(targets: Tensor, grids: int, n: int, setting: str) -> None:
    """Refuse classes that do not fit the cells or are repeated where they must not."""
    if not isinstance(targets, Tensor) or targets.dtype != torch.long:
        raise TypeError("targets must be a tensor of class indices (torch.long)")
    if targets.shape != (grids, n**2):
        raise ValueError(
            f"targets must have shape ({grids}, {n**2}), the class of every cell, "
            f"got {tuple(targets.shape)}"
        )
    corners = "the first and the last cell may share theirs"
    for i, row in enumerate(targets.tolist()):
        others = row if setting == "grid_pg" else row[:-1]
        outside = setting == "grid_pg" or row[-1] not in row[1:-1]
        if len(set(others)) != len(others) or not outside:
            allowed = "" if setting == "grid_pg" else f" ({corners})"
            raise ValueError(
                f"the classes of a {setting} grid must differ{allowed}, "
                f"got {row} in grid {i}"
            )


def _score(setting, model, cells, targets, method, layer) -> Tensor:
    cells = as_cells(cells)
    n = side(cells.shape[1])
    maps = grid_maps(setting, model, cells, targets, method, layer)  # (B, heads, ., .)
    shares = cell_shares(maps, n)  # (B, heads, n*n)
    heads = heads_of(setting, n)
    return shares[:, range(len(heads)), heads]  # of each head, its own cell


def grid_pg(
    model: nn.Module,
    cells: Tensor | Sequence,
    targets: Tensor,
    method: str | Callable[..., Tensor],
    layer: str | None = None,
) -> Tensor:
    """Return GridPG: how much of each class's map lies in the cell of that class.

    Parameters
    ----------
    model, cells, method, layer : as `di_full`
    targets : Tensor of class indices, shape (B, n*n), all different in a grid

    Returns
    -------
    Tensor, shape (B, n*n), in [0, 1]; a uniform map scores 1/n^2

    Raises
    ------
    ValueError
        as `di_full`; if the model cannot run on the whole grid

    Notes
    -----
    The grid runs through the model as one image; one logit per class. A head that only
    pools takes the larger map as it is, a dense one slides over it (`GridNet`).

    References
    ----------
    [boehle2021]_, [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells, targets = torch.randn(2, 4, 1, 8, 8), torch.tensor([[0, 1, 2, 3]] * 2)
    >>> grid_pg(net, cells, targets, "gradient").shape
    torch.Size([2, 4])
    """
    return _score("grid_pg", model, cells, targets, method, layer)


def di_full(
    model: nn.Module,
    cells: Tensor | Sequence,
    targets: Tensor,
    method: str | Callable[..., Tensor],
    layer: str | None = None,
) -> Tensor:
    """Return DiFull: how much of a map lies in the only cell that its head can see.

    Parameters
    ----------
    model : Module in eval mode, images (B, C, H, W) -> logits (B, classes)
    cells : Tensor, shape (B, n*n, C, H, W), normalised as the model wants; or a list of
        grids, each a list of n*n images (C, H, W) of one size
    targets : Tensor of class indices, shape (B, n*n). The paper repeats the class of
        the first cell in the last one, with another image; all others differ
    method : a name in METHODS or a callable with the common signature
    layer : name of a module that all paths go through, or None (also "input")

    Returns
    -------
    Tensor, shape (B, 2), in [0, 1]: the heads of the first and of the last cell

    Raises
    ------
    ValueError
        if the images of a grid differ in size, are no square number, or repeat a class
        where classes must differ; if a skip connection goes round the layer, or its
        output has no positions

    Notes
    -----
    Every cell goes through the model alone, so whatever lies outside a head's cell
    cannot have influenced it. At a layer, the outputs of all cells are stitched and are
    the input that is explained; nothing before them gets a gradient. With a name for
    method, occlusion's window is the paper's for layers.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells, targets = torch.randn(2, 4, 1, 8, 8), torch.tensor([[0, 1, 2, 0]] * 2)
    >>> di_full(net, cells, targets, "gradient")
    tensor([[1., 1.],
            [1., 1.]])
    """
    return _score("di_full", model, cells, targets, method, layer)


def di_part(
    model: nn.Module,
    cells: Tensor | Sequence,
    targets: Tensor,
    method: str | Callable[..., Tensor],
    layer: str | None = None,
) -> Tensor:
    """Return DiPart: as DiFull, but receptive fields may cross the cells' borders.

    Parameters, Returns and Raises as `di_full`; also if the model cannot run on the
    whole grid.

    Notes
    -----
    The grid runs through the model up to its last layer with positions; each head gets
    the part of that map that lies in its cell. In a transformer that layer is the last
    one with tokens, so attention crosses all borders.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells, targets = torch.randn(2, 4, 1, 8, 8), torch.tensor([[0, 1, 2, 0]] * 2)
    >>> di_part(net, cells, targets, "gradient").min() < 1  # a border of one pixel
    tensor(True)
    """
    return _score("di_part", model, cells, targets, method, layer)


SCORES = {"grid_pg": grid_pg, "di_full": di_full, "di_part": di_part}
"""The three scores by the name of their setting."""


def ml_att(
    setting: str,
    model: nn.Module,
    cells: Tensor | Sequence,
    targets: Tensor,
    methods: Sequence[str | Callable[..., Tensor]],
    layers: dict[str, str | None],
) -> dict[tuple[str, str], Tensor]:
    """Return ML-Att: the scores of all methods at all layers, compared layer by layer.

    Parameters
    ----------
    setting : "grid_pg", "di_full" or "di_part"
    model, cells, targets : as `di_full`
    methods : names in METHODS or callables
    layers : names of layers by what they are called, as in a classifier's ``.layers``

    Returns
    -------
    dict, (what the layer is called, method's name) -> Tensor (B, heads)

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells, targets = torch.randn(1, 4, 1, 8, 8), torch.tensor([[0, 1, 2, 3]])
    >>> scores = ml_att("grid_pg", net, cells, targets, ["gradient"], {"final": "0"})
    >>> scores["final", "gradient"]  # behind it a mean: the same slope everywhere
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return {
        (called, getattr(method, "name", None) or str(method)): _score(
            setting, model, cells, targets, method, layer
        )
        for called, layer in layers.items()
        for method in methods
    }
