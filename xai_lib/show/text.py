"""A text whose words are coloured by their attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from xai_lib.show._data import as_array

if TYPE_CHECKING:
    from IPython.display import HTML

RED, BLUE = "202, 44, 62", "38, 112, 190"
STRONGEST = 0.75  # opacity: the letters are readable on a dark page as well


def show_text(
    tokens: Sequence[str], maps: Mapping[str, object], *, percentile: float = 99.5
) -> HTML:
    """Show a text once per map, each word on a ground of its colour.

    Parameters
    ----------
    tokens : T words; "" (padding) is left out
    maps : dict of method, or any name, to T signed values, one per word: red counts for
        the class, blue against it
    percentile : of the absolute values, per map, that gets the full colour

    Returns
    -------
    IPython HTML: let it be the last expression of a cell. The value of a word shows
    when the pointer rests on it.

    Raises
    ------
    ValueError
        if the number of values is not the number of words

    Notes
    -----
    Colours are half transparent, so that the page's own letters and ground stay, light
    or dark.

    Examples
    --------
    >>> shown = show_text(["a", "<fine>", "film"], {"gradient": [0.0, 2.0, -1.0]})
    >>> "&lt;fine&gt;" in shown.data, "rgba(38, 112, 190, 0.38)" in shown.data
    (True, True)
    """
    from IPython.display import HTML

    from xai_lib.show.style import method_label

    parts = []
    for name, values in maps.items():
        values = as_array(values, name).ravel()
        if len(values) != len(tokens):
            raise ValueError(
                f"{name} must have a value per word, {len(tokens)}, got {len(values)}"
            )
        scale = np.percentile(np.abs(values), percentile) or 1.0
        words = (
            _word(token, value, value / scale)
            for token, value in zip(tokens, values, strict=True)
            if token
        )
        label = escape(method_label(name))
        parts.append(
            f"<figure class='xai-text'><figcaption><strong>{label}</strong>"
            f"</figcaption><p>{' '.join(words)}</p></figure>"
        )
    return HTML("\n".join(parts))


def _word(token: str, value: float, share: float) -> str:
    opacity = STRONGEST * min(1.0, abs(share))
    ground = f"rgba({RED if share > 0 else BLUE}, {opacity:.2f})"
    style = f"background-color: {ground}; border-radius: 2px; padding: 0 1px"
    return f"<span style='{style}' title='{value:+.3g}'>{escape(token)}</span>"
