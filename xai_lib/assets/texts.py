"""Sets of texts with their labels."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from .catalog import catalog
from .fetch import obtain
from .text_files import CLASSES, file_name, unpack_reviews

SPLITS = ("train", "test")


@dataclass(frozen=True)
class TextSet:
    """Texts with their labels.

    Attributes
    ----------
    texts : the texts, each on one line
    y : (N,) long, the class of each text
    names : of the texts: part of the corpus, class, place in the corpus
    """

    texts: list[str]
    y: Tensor
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "TextSet":
        if not isinstance(part, slice):
            raise TypeError(f"a TextSet takes a slice, got {type(part).__name__}")
        return TextSet(self.texts[part], self.y[part], self.names[part])


def list_texts() -> list[str]:
    """Return the names of the text sets."""
    return [name for name, asset in catalog().items() if asset.kind == "texts"]


def load_texts(
    name: str = "imdb", n: int | None = None, split: str | None = None
) -> TextSet:
    """Load a set of texts; fetch it if it is not in the cache.

    Parameters
    ----------
    name : one of `list_texts`. "imdb" are 50,000 film reviews [maas2011]_.
    n : how many texts, the first ones of the part; None for all.
    split : "test" (also for None) or "train", the corpus's own two halves.

    Returns
    -------
    TextSet
        ``.texts`` without line breaks and control characters; ``.y`` is 0 for
        negative and 1 for positive, in turn.

    Raises
    ------
    ValueError
        If there is no such set or part, or n is larger than the part.
    AssetError
        If the texts cannot be had from anywhere.

    Notes
    -----
    The order within a class is that of a hash of the text, so the first n are as good
    as drawn at random; the corpus itself puts reviews of one film side by side. The
    place there is in ``.names``.

    References
    ----------
    [maas2011]_

    Examples
    --------
    >>> reviews = load_texts("imdb", n=4)
    >>> reviews.y
    tensor([0, 1, 0, 1])
    """
    if name not in list_texts():
        raise ValueError(
            f"texts must be one of {', '.join(list_texts())}, got {name!r}"
        )
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be 'train', 'test' or None, got {split!r}")
    split = split or "test"
    files = obtain(catalog()[name])
    both = [_mixed(files[file_name(split, label)]) for label in (0, 1)]
    size = sum(map(len, both))
    if n is not None and not (isinstance(n, int) and 1 <= n <= size):
        raise ValueError(f"n must be in 1..{size} ({split} texts in {name}), got {n!r}")
    found = [one for pair in zip(*both, strict=True) for one in pair][:n]
    y = torch.arange(len(found)) % 2
    names = [f"{split}_{CLASSES[k % 2]}_{i:05d}" for k, (i, _) in enumerate(found)]
    return TextSet([text for _, text in found], y, names)


def _mixed(blob: bytes) -> list[tuple[int, str]]:
    """Return the texts of a file with their places in it, in a fixed mixed order."""
    reviews = list(enumerate(unpack_reviews(blob)))
    return sorted(reviews, key=lambda r: hashlib.sha256(r[1].encode()).digest())
