"""Grids of n x n images: putting cells together, taking them apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from xai_lib._check import check_images


def stitch(cells: Tensor | Sequence) -> Tensor:
    """Put the images of each grid together, row by row.

    Parameters
    ----------
    cells : Tensor, shape (B, n*n, C, H, W), or a list of grids, each a list of n*n
        images (C, H, W)

    Returns
    -------
    Tensor, shape (B, C, n*H, n*W)

    Raises
    ------
    ValueError
        if the images differ in size, or their number is no square of 2 or more

    Examples
    --------
    >>> stitch(torch.arange(4.0).view(1, 4, 1, 1, 1))[0, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    cells = as_cells(cells)
    B, count, C, H, W = cells.shape
    n = side(count)
    cells = cells.view(B, n, n, C, H, W).permute(0, 3, 1, 4, 2, 5)  # (B, C, n, H, n, W)
    return cells.reshape(B, C, n * H, n * W)


def unstitch(grid: Tensor, n: int) -> Tensor:
    """Cut grids (B, C, n*H, n*W) into their cells (B, n*n, C, H, W).

    Examples
    --------
    >>> unstitch(torch.zeros(2, 3, 8, 12), 2).shape
    torch.Size([2, 4, 3, 4, 6])
    """
    B, C, height, width = grid.shape
    if height % n or width % n:
        raise ValueError(
            f"grid must be divisible into {n} x {n} cells, got {tuple(grid.shape)}"
        )
    cells = grid.view(B, C, n, height // n, n, width // n).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(B, n * n, C, height // n, width // n)


def as_cells(cells: Tensor | Sequence) -> Tensor:
    """Return the images of grids as one tensor (B, n*n, C, H, W); refuse other ones."""
    if not isinstance(cells, Tensor):
        sizes = sorted({tuple(image.shape) for grid in cells for image in grid})
        if len(sizes) != 1:
            raise ValueError(
                f"the images of a grid must have one size, got {sizes}: resize them"
            )
        counts = sorted({len(grid) for grid in cells})
        if len(counts) != 1:
            raise ValueError(f"all grids must have as many cells, got {counts}")
        cells = torch.stack([torch.stack(list(grid)) for grid in cells])
    if cells.ndim != 5:
        raise ValueError(
            f"cells must have shape (B, n*n, C, H, W), got {tuple(cells.shape)}"
        )
    side(cells.shape[1])
    check_images(cells.flatten(0, 1))
    return cells


def side(count: int) -> int:
    """Return n for n * n cells."""
    n = round(count**0.5)
    if n < 2 or n * n != count:
        raise ValueError(f"a grid must have 4, 9, 16, ... cells, got {count}")
    return n


def heads_of(setting: str, n: int) -> tuple[int, ...]:
    """Return the cells whose class is explained: all in GridPG, else first and last.

    Examples
    --------
    >>> heads_of("grid_pg", 2), heads_of("di_full", 3)
    ((0, 1, 2, 3), (0, 8))
    """
    return tuple(range(n**2)) if setting == "grid_pg" else (0, n**2 - 1)


def cell_of(grid: Tensor, n: int, head: int) -> Tensor:
    """Return one cell of each grid, (B, C, H, W)."""
    H, W = (length // n for length in grid.shape[2:])
    top, left = head // n * H, head % n * W
    return grid[:, :, top : top + H, left : left + W]


def sliding(h: Tensor, window: tuple[int, int]) -> Tensor:
    """Return all windows of a map at stride 1, (B, places, K, *window)."""
    H, W = window
    down, across = (
        length - own + 1 for length, own in zip(h.shape[2:], window, strict=True)
    )
    places = [(top, left) for top in range(down) for left in range(across)]
    return torch.stack([h[:, :, t : t + H, s : s + W] for t, s in places], 1)
