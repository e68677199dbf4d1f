"""The cache: digests, files that appear whole or not at all, one lock per asset."""

import contextlib
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .._paths import cache_dir
from .catalog import Asset

Content = dict[str, Tensor] | dict[str, bytes]


def digest_tensors(state: dict[str, Tensor]) -> str:
    """Return the sha256 over name, dtype, shape and bytes of the sorted tensors.

    Batch counters of batch norms are left out: they change no output, and some files
    carry them while others do not.
    """
    total = hashlib.sha256()
    for name in sorted(n for n in state if not n.endswith("num_batches_tracked")):
        tensor = state[name].detach().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def digest_files(files: dict[str, bytes]) -> str:
    """Return the sha256 over name, length and bytes of the sorted files."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {len(files[name])}\n".encode())
        total.update(files[name])
    return total.hexdigest()


def digest_of(asset: Asset, content: Content) -> str:
    """Return the digest of an asset's content, tensors or files."""
    return (digest_tensors if asset.kind == "model" else digest_files)(content)


def pack(asset: Asset, content: Content) -> bytes:
    """Return the one file that the cache keeps of an asset."""
    blob = io.BytesIO()
    if asset.kind == "model":
        torch.save({"digest": digest_tensors(content), "state": content}, blob)
    else:
        with zipfile.ZipFile(blob, "w") as archive:
            for name in sorted(content):
                archive.writestr(name, content[name])
    return blob.getvalue()


def unpack_cached(asset: Asset, path: Path) -> Content:
    """Read a file that `pack` made; raise ValueError if it is damaged."""
    try:
        if asset.kind == "model":
            saved = torch.load(path, map_location="cpu", weights_only=True)
            content, recorded = saved["state"], saved["digest"]
        else:
            with zipfile.ZipFile(path) as archive:
                content = {n: archive.read(n) for n in archive.namelist()}
            recorded = ""
        found = digest_of(asset, content)
    except Exception as error:  # a damaged file fails in many ways: all mean the same
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
    if found != (asset.digest or recorded):
        raise ValueError(f"{path} is damaged: its digest is not the recorded one")
    return content


def read_cached(asset: Asset) -> Content | None:
    """Return what the cache holds of an asset; None if nothing, or if damaged."""
    if not os.path.exists(asset.path):
        return None
    try:
        return unpack_cached(asset, asset.path)
    except ValueError as error:
        print(f"{asset.name}: {error}; fetching it again", file=sys.stderr)
        return None


def write_whole(path: Path, blob: bytes) -> None:
    """Write a file so that others see all of it or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        left_over.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def workspace(asset: Asset) -> Path:
    """Return the folder for this asset's unfinished downloads."""
    folder = cache_dir() / "partial" / asset.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(asset: Asset) -> Iterator[None]:
    """Hold the asset's lock between processes; the system frees it at any exit."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{asset.name}.lock", "a+b") as file:
        if not _try_lock(file):
            print(f"{asset.name}: another process fetches it", file=sys.stderr)
            _wait_for_lock(file)
        yield


if os.name == "nt":  # pragma: no cover
    import msvcrt
    import time

    def _try_lock(file) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_for_lock(file) -> None:
        while not _try_lock(file):
            time.sleep(0.2)

else:
    import fcntl

    def _try_lock(file) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _wait_for_lock(file) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
