"""From a text to words, to numbers, to the picture that a text net takes."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .._paths import DATA

LENGTH = 200
PADDING, UNKNOWN = 0, 1
VOCABULARY = "imdb_vocabulary.txt"

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def tokenize(text: str) -> list[str]:
    """Split a text into its words, in lower case.

    Parameters
    ----------
    text : any text.

    Returns
    -------
    list of str
        Runs of letters and digits. Apostrophes inside a word belong to it, curled ones
        become straight; all else separates.

    Examples
    --------
    >>> tokenize("Don't miss it: 10/10, \\u2018superb\\u2019!")
    ["don't", 'miss', 'it', '10', '10', 'superb']
    """
    return _WORD.findall(text.lower().replace("\u2019", "'"))


@cache
def vocabulary(sha256: str = "") -> dict[str, int]:
    """Return the number of each word that the text nets know, from 2 on.

    The words stand in ``data/models/imdb_vocabulary.txt``, the most frequent first.

    Raises
    ------
    ValueError
        If the file has not the given sha256.
    """
    blob = (DATA / "models" / VOCABULARY).read_bytes()
    if sha256 and hashlib.sha256(blob).hexdigest() != sha256:
        raise ValueError(
            f"{VOCABULARY} in {DATA / 'models'} is not that of the card "
            f"(sha256 differs); restore {VOCABULARY}"
        )
    lines = blob.decode().splitlines()
    return {word: k for k, word in enumerate(lines, UNKNOWN + 1)}


def first_words(text: str, length: int = LENGTH, name: str = "text") -> list[str]:
    """Return the first words of a text, with "" in front if they are fewer.

    Raises
    ------
    ValueError
        If the text has no word.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, got {type(text).__name__}")
    words = tokenize(text)[:length]
    if not words:
        raise ValueError(f"{name} must have at least one word, got {text[:40]!r}")
    return [""] * (length - len(words)) + words


def encode(texts: Iterable[str], words: dict[str, int], length: int = LENGTH) -> Tensor:
    """Return the numbers of the first words of each text, (B, length).

    Parameters
    ----------
    texts : B texts.
    words : the number of each known word.
    length : how many words of a text count.

    Returns
    -------
    Tensor
        (B, length) long. 0 is the padding, which stands in front; 1 is any word that
        is not known.

    Raises
    ------
    ValueError
        If a text has no word; the message says which one.

    Examples
    --------
    >>> encode(["A good film", "Good!"], {"good": 2, "film": 3}, 4)
    tensor([[0, 1, 2, 3],
            [0, 0, 0, 2]])
    """
    known = words | {"": PADDING}
    rows = [
        [known.get(word, UNKNOWN) for word in first_words(text, length, f"text {k}")]
        for k, text in enumerate(texts)
    ]
    return torch.tensor(rows, dtype=torch.long).view(-1, length)


@dataclass(frozen=True, eq=False)
class TextTransform:
    """Look the words of a text up; the result is a picture of height 1.

    Called with a text, a list of B texts or their numbers (B, T), it returns
    (B, E, 1, T): the E coordinates of a word take the place of an image's channels,
    the T = `length` positions that of its columns. So every metric of the library and
    every method works on texts (the CAMs where a layer has positions), and
    `channel_sum` gives one value per word. Padding is zero, and the zero picture is the
    text without words.
    """

    embedding: Tensor = field(repr=False)  # (words, E), row 0 is zero
    words: dict[str, int] = field(repr=False)
    length: int = LENGTH

    def __call__(self, text: str | list[str] | Tensor) -> Tensor:
        ids = text if isinstance(text, Tensor) else self.ids(text)
        self._check(ids)
        return F.embedding(ids, self.embedding).transpose(1, 2)[:, :, None]

    def ids(self, text: str | list[str]) -> Tensor:
        """Return the number of each word, (B, T); see `encode`."""
        texts = [text] if isinstance(text, str) else text
        return encode(texts, self.words, self.length)

    def tokens(self, text: str) -> list[str]:
        """Return the T words of a text as it is shown to the net, "" for padding.

        A word outside the vocabulary stays as it is; its number is 1.
        """
        return first_words(text, self.length)

    def _check(self, ids: Tensor) -> None:
        if ids.ndim != 2 or ids.dtype != torch.long or len(ids) == 0:
            raise ValueError(
                "text must be a str, a list of str or numbers (B, T) of torch.long, "
                f"got {tuple(ids.shape)} of {ids.dtype}"
            )
        if ids.min() < 0 or ids.max() >= len(self.embedding):
            raise ValueError(
                f"numbers of words must lie in 0..{len(self.embedding) - 1}, "
                f"got {int(ids.min())}..{int(ids.max())}"
            )


def most_frequent(texts: Iterable[str], size: int) -> list[str]:
    """Return the most frequent words of the texts, those as frequent by alphabet.

    Examples
    --------
    >>> most_frequent(["b a", "c b"], 2)
    ['b', 'a']
    """
    counts: dict[str, int] = {}
    for text in texts:
        for word in tokenize(text):
            counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[:size]
