"""Sets of photographs, and any folder of your own."""

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .catalog import Asset, catalog
from .cifar_files import unpack_batch
from .fetch import obtain
from .transform import as_rgb

SIDE = 256
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes
    ----------
    x : (N, 3, 256, 256) float32 in [0, 1], not normalised; (N, 3, 32, 32) for CIFAR-10
    y : (N,) long, the class of each image, or None
    names : file name of each image
    """

    x: Tensor
    y: Tensor | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "ImageSet":
        if not isinstance(part, slice):
            raise TypeError(f"an ImageSet takes a slice, got {type(part).__name__}")
        y = None if self.y is None else self.y[part]
        return ImageSet(self.x[part], y, self.names[part])


def list_images() -> list[str]:
    """Return the names of the image sets; the path of a folder works as well."""
    return [name for name, asset in catalog().items() if asset.kind == "images"]


def load_images(
    name: str | Path = "photos", n: int | None = None, split: str | None = None
) -> ImageSet:
    """Load a set of images; fetch it if it is not in the cache.

    Parameters
    ----------
    name : one of `list_images`, or a folder of images with, if there are labels, a
        ``labels.csv`` of lines ``file,label`` (label: index of the class). "cifar10"
        are the 10,000 test images, "cifar10_train" the 50,000 for training.
    n : how many images, the first ones of the (half) set; None for all.
    split : "a" or "b" for one of two fixed halves without a common image, in each of
        which every source of the set has the same share; None for the whole set.

    Returns
    -------
    ImageSet
        ``.x`` (N, 3, 256, 256) in [0, 1]: short side resized to 256 (bilinear,
        antialiased), centre cropped. Grey, palette, CMYK and transparent images become
        RGB (on white); the orientation written by cameras is applied. The images of
        CIFAR-10 stay as they are, (N, 3, 32, 32).

    Raises
    ------
    ValueError
        If there is no such set, the folder holds no image, an image is corrupt, or n
        is larger than the set.

    Notes
    -----
    The images of ``photos`` are in a fixed order that mixes its two sources; those of
    CIFAR-10 keep the order of their files [krizhevsky2009]_, in which the classes are
    mixed.

    References
    ----------
    [krizhevsky2009]_

    Examples
    --------
    >>> photos = load_images("photos", n=4)
    >>> photos.x.shape
    torch.Size([4, 3, 256, 256])
    """
    if split not in (None, "a", "b"):
        raise ValueError(f"split must be 'a', 'b' or None, got {split!r}")
    files, labels, groups = _open_set(name)
    files = _choose(files, groups, split)
    if not files:
        raise ValueError(f"split {split!r} of {name} holds no image: it has only one")
    if n is not None and not (isinstance(n, int) and 1 <= n <= len(files)):
        raise ValueError(f"n must be in 1..{len(files)} (images in {name}), got {n!r}")
    names = list(files)[:n]
    pixels = np.stack([read_image(files[k], k) for k in names])  # (N, 256, 256, 3)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    y = None if labels is None else torch.tensor([labels[k] for k in names])
    return ImageSet(x, y, names)


def count_images(name: str | Path) -> int:
    """Return how many images `load_images` finds under a name or in a folder."""
    return len(_open_set(name)[0])


def read_image(source: bytes | Path | np.ndarray, name: str) -> np.ndarray:
    """Read one image as (256, 256, 3) bytes; say which one if it is corrupt.

    What already is an array stays as it is.
    """
    if isinstance(source, np.ndarray):
        return source
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source
        ) as f:
            image = as_rgb(f)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"image {name} cannot be read: {why}") from error
    scale = SIDE / min(image.size)
    size = tuple(max(SIDE, round(scale * side)) for side in image.size)
    image = image.resize(size, Image.Resampling.BILINEAR)  # antialiased
    left, top = ((side - SIDE) // 2 for side in size)
    image = image.crop((left, top, left + SIDE, top + SIDE))
    return np.array(image)


def _open_set(name):
    """Return the files by name, the labels by name or None, the groups by name."""
    asset = catalog().get(name) if isinstance(name, str) else None
    if asset is not None and asset.kind == "images":
        files = obtain(asset)
        if asset.info["labels"] == "cifar":
            return _open_batches(files)
        return files, _asset_labels(asset, files), _groups(asset, files)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"images must be one of {', '.join(list_images())}, or the path of a "
            f"folder, got {os.fspath(name)!r}"
        )
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
    found = sorted(p for p in found if p.is_file() and p.name[0] != ".")
    if not found:
        below = any(p.is_dir() for p in folder.iterdir())
        hint = "; its subfolders are not read" if below else ""
        raise ValueError(
            f"folder {folder} holds no image ({', '.join(SUFFIXES)}){hint}"
        )
    files = {path.name: path for path in found}
    return files, _csv_labels(folder / "labels.csv", files), dict.fromkeys(files, 0)


def _open_batches(batches: dict[str, bytes]):
    """Return the images of CIFAR-10 as arrays by name, in the order of the files."""
    files, labels = {}, {}
    for batch in sorted(batches):
        pixels, classes = unpack_batch(batches[batch])
        names = [f"{batch.removesuffix('.bin')}_{i:04d}" for i in range(len(pixels))]
        files |= zip(names, pixels, strict=True)
        labels |= zip(names, classes.tolist(), strict=True)
    return files, labels, dict.fromkeys(files, 0)


def _asset_labels(asset: Asset, files: dict) -> dict[str, int]:
    rule = asset.info["labels"]
    if rule == "rank":
        return {name: rank for rank, name in enumerate(sorted(files))}
    return {name: int(re.search(rule, name)[1]) for name in files}


def _groups(asset: Asset, files: dict) -> dict[str, bool]:
    """Tell the two sources of a set apart by their file names."""
    rule = asset.info.get("groups", "$^")
    return {name: bool(re.search(rule, name)) for name in files}


def _choose(files: dict, groups: dict, split: str | None) -> dict:
    """Mix the groups evenly; keep every second file of each group for a half."""
    places = []
    for group in set(groups.values()):
        members = sorted(name for name in files if groups[name] == group)
        for rank, name in enumerate(members):
            if split is None or rank % 2 == "ab".index(split):
                places.append(((rank + 0.5) / len(members), name))
    return {name: files[name] for _, name in sorted(places)}


def _csv_labels(path: Path, files: dict) -> dict[str, int] | None:
    """Read ``file,label`` lines; every image must have one."""
    if not path.is_file():
        return None
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8, got {error.reason}") from None
    if rows and [cell.strip() for cell in rows[0][:2]] == ["file", "label"]:
        rows = rows[1:]
    labels = {}
    for row in rows:
        if len(row) < 2 or not row[1].strip().isdecimal():
            line = ",".join(row)
            raise ValueError(
                f"{path} must hold lines file,label (an index), got {line!r}"
            )
        labels[row[0].strip()] = int(row[1])
    if missing := sorted(set(files) - set(labels)):
        raise ValueError(f"{path} must label every image, got none for {missing[0]}")
    return labels
