"""Scoring many edited copies of each image: what the prediction family shares."""

import torch
from torch import Tensor

from xai_lib.attribute._forward import Tail, select


def score_copies(tail: Tail, h: Tensor, c: Tensor, edit, n: int, score, per_pass: int):
    """Yield (copies, scores (n', B)) for n edited copies of each image, in parts.

    edit(h, copies) returns (n', B, ...), the copies with those numbers.
    """
    images = torch.arange(len(h), device=h.device)
    for copies in torch.arange(n, device=h.device).split(max(1, per_pass // len(h))):
        changed = edit(h, copies)  # (n', B, C, H, W)
        rows = images.repeat(len(copies))
        with torch.no_grad():
            logits = tail(changed.flatten(0, 1), rows)
        yield copies, score(logits, c.repeat(len(copies))).view(len(copies), len(h))


def check_map(h: Tensor, name: str, layer: str | None) -> None:
    if h.ndim != 4:
        raise ValueError(
            f"{name} needs a layer with output (B, K, h, w), "
            f"got {tuple(h.shape)} from {layer!r}"
        )


def rows_of(tail: Tail, rows: Tensor) -> Tail:
    """Return the tail for a part of the images, numbered from 0."""
    return lambda h, local: tail(h, rows[local])


def logits_of(tail: Tail, h: Tensor, i: int, c: Tensor) -> Tensor:
    """Return the target logit of each row of h, all of them copies of image i."""
    rows = torch.full((len(h),), i, device=h.device)
    with torch.no_grad():
        return select(tail(h, rows), c[rows])
