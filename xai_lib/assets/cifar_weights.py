"""The weights of our own nets, in files small enough for git, each with a card."""

import io
import json
from pathlib import Path

import torch
from torch import Tensor

from .store import digest_tensors, write_whole

LIMIT = 7_500_000  # bytes of tensors in one file


def read_shards(folder: Path, files: list[str]) -> dict[str, Tensor]:
    """Join the tensors of several files, row after row, in float32."""
    state: dict[str, Tensor] = {}
    for file in files:
        part = torch.load(folder / file, map_location="cpu", weights_only=True)
        for key, rows in part.items():
            rows = rows.float() if rows.is_floating_point() else rows
            state[key] = torch.cat([state[key], rows]) if key in state else rows
    return state


def read_weights(folder: Path, card: dict) -> dict[str, Tensor]:
    """Return the weights a card describes; refuse others.

    Raises
    ------
    ValueError
        If a file is missing, damaged, or another than the card's.
    """
    try:
        state = read_shards(folder, card["files"])
    except Exception as error:  # a damaged file fails in many ways: all mean the same
        raise ValueError(
            f"weights of {card['name']} in {folder} cannot be read: "
            f"{type(error).__name__}; restore {', '.join(card['files'])}"
        ) from error
    if digest_tensors(state) != card["digest"]:
        raise ValueError(
            f"weights of {card['name']} in {folder} are not those of the card "
            f"(digest differs); restore {', '.join(card['files'])}"
        )
    return state


def write_shards(folder: Path, name: str, state: dict[str, Tensor]) -> list[str]:
    """Write a state dict as one file or several of limited size; return their names."""
    parts: list[dict[str, Tensor]] = [{}]
    free = LIMIT
    for key, tensor in state.items():
        while (fit := _rows_that_fit(tensor, free)) < _rows(tensor):
            if fit:
                parts[-1][key] = tensor[:fit].clone()
                tensor = tensor[fit:]
            parts.append({})
            free = LIMIT
        parts[-1][key] = tensor.clone()
        free -= tensor.nbytes
    files = [f"{name}.pt"]
    if len(parts) > 1:
        files = [f"{name}-{i}.pt" for i in range(1, len(parts) + 1)]
    for file, part in zip(files, parts, strict=True):
        blob = io.BytesIO()
        torch.save(part, blob)
        write_whole(folder / file, blob.getvalue())
    return files


def _rows(tensor: Tensor) -> int:
    return len(tensor) if tensor.ndim else 1


def _rows_that_fit(tensor: Tensor, free: int) -> int:
    """Return how many rows of a tensor fit into so many bytes."""
    size = tensor.nbytes // _rows(tensor)
    return min(_rows(tensor), free // size)


def write_card(folder: Path, card: dict) -> None:
    """Write a card as toml; strings, numbers and lists of them are all it holds."""
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in card.items()]
    write_whole(folder / f"{card['name']}.toml", "".join(lines).encode())
