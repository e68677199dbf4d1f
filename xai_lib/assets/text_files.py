"""The review corpus from its package to one file per part and class.

A file holds one review per line, cleaned, in the order of the official file names
(``0_2.txt``, ``10000_4.txt``, ...), in which reviews of one film stand together.
"""

import json
import re

CLASSES = ("negative", "positive")
BLOCKS = (("test", 0), ("train", 0), ("test", 1), ("train", 1))  # of the json file

_BREAK = re.compile(r"<br\s*/?>")


def _mended(code: int) -> str:
    """Return what a control character was meant to be: cp1252's, or a space."""
    return bytes([code]).decode("cp1252", "replace").replace("\ufffd", " ")


_CONTROL = {code: _mended(code) if code > 127 else " " for code in range(160)}
_CONTROL = {code: to for code, to in _CONTROL.items() if code < 32 or code > 126}


def clean(text: str) -> str:
    """Return a review as one line: no line breaks, no control characters.

    Examples
    --------
    >>> clean("Slavoj \\x8ei\\x9eek<br /><br />on film")
    'Slavoj Žižek on film'
    """
    return " ".join(_BREAK.sub(" ", text).translate(_CONTROL).split())


def file_name(split: str, label: int) -> str:
    """Return the name of the file with one class of one part of the corpus."""
    return f"{split}_{CLASSES[label]}.txt"


def pack_reviews(reviews: list[str]) -> bytes:
    """Write reviews as cleaned lines."""
    return "\n".join(map(clean, reviews)).encode()


def unpack_reviews(blob: bytes) -> list[str]:
    """Read the reviews of one file."""
    return blob.decode().split("\n")


def from_reviews_json(members: dict[str, bytes]) -> dict[str, bytes]:
    """Read a list of {"t": text, "s": label} in four blocks of equal length."""
    (blob,) = members.values()
    reviews = json.loads(blob)
    size = len(reviews) // len(BLOCKS)
    files = {}
    for k, (split, label) in enumerate(BLOCKS):
        block = reviews[k * size : (k + 1) * size]
        if {review["s"] for review in block} != {label}:
            raise ValueError(f"block {k + 1} must have label {label} throughout")
        files[file_name(split, label)] = pack_reviews([r["t"] for r in block])
    return files
