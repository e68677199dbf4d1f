"""What the plots accept: tensors, arrays and lists, checked with one-line errors."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def as_array(value, name: str, ndim: int | None = None) -> np.ndarray:
    """Return a tensor, an array or a list as float64, refusing the wrong rank."""
    value = value.detach().cpu() if isinstance(value, Tensor) else value
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        got = type(value).__name__
        raise ValueError(f"{name} must be numbers, got {got}") from None
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    return array


def as_named(values, name: str) -> dict:
    """Return a mapping as a dict, refusing anything else and the empty one."""
    if not isinstance(values, Mapping):
        wanted = f"{name} must be a mapping from names"
        raise TypeError(f"{wanted}, got {type(values).__name__}")
    if not values:
        raise ValueError(f"{name} must name at least one entry, got none")
    return dict(values)


def as_curves(curves, length: int, name: str) -> dict[str, np.ndarray]:
    """Return named curves, each of the length of the x axis."""
    arrays = {key: as_array(c, f"{name}[{key!r}]", 1) for key, c in curves.items()}
    for key, array in arrays.items():
        if len(array) != length:
            wanted = f"{name}[{key!r}] must have shape ({length},)"
            raise ValueError(f"{wanted}, got {array.shape}")
    return arrays


def as_bands(bands, curves, length: int) -> dict[str, np.ndarray]:
    """Return named (2, K) bands, each for a curve that is there."""
    out = {}
    for key, pair in (bands or {}).items():
        if key not in curves:
            raise ValueError(f"bands must name curves, got {key!r} without a curve")
        low, high = pair
        out[key] = np.stack([as_array(low, "low", 1), as_array(high, "high", 1)])
        if out[key].shape != (2, length):
            wanted = f"bands[{key!r}] must be two of shape ({length},)"
            raise ValueError(f"{wanted}, got {out[key].shape}")
    return out


def as_images(images) -> Tensor:
    """Return photographs as (B, 3, H, W) or (B, 1, H, W) in [0, 1]."""
    images = torch.as_tensor(images).detach().float().cpu()
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must have shape (B, 3, H, W), got {tuple(images.shape)}"
        )
    low, high = images.min().item(), images.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"images must lie in [0, 1], got {low:.3g} to {high:.3g}: "
            "pass the photographs, not the model's normalised input"
        )
    return images.clamp(0, 1)


def as_triple(value, name: str) -> tuple[float, float, float]:
    """Return (value, low, high) from that or from (value, (low, high))."""
    try:
        middle, *rest = value
        low, high = rest[0] if len(rest) == 1 else rest
        triple = float(middle), float(low), float(high)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be (value, low, high), got {value!r}") from None
    if not triple[1] <= triple[2]:
        raise ValueError(f"{name} must have low <= high, got {triple[1:]}")
    return triple
