"""A table that sorts and filters in the page: it needs no kernel and no network."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from xai_lib._check import check_choice
from xai_lib.show.frames import _figcaption

if TYPE_CHECKING:
    from IPython.display import HTML

_CSS, _JS = (
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("sortable.css", "sortable.js")
)
BEHAVIOUR = f"<style>\n{_CSS}</style>\n<script>\n{_JS}</script>"
"""What makes every ``table.xai-sortable`` of a page sort and filter."""


def sortable_table(
    rows: Sequence[Mapping],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    *,
    fmt: Mapping[str, str | Callable] | None = None,
    filters: Sequence[str] | Mapping[str, object] = (),
    noun: str = "rows",
    caption: str | None = None,
    height: str = "30rem",
) -> HTML:
    """Show rows as a table that the reader sorts and filters.

    The same output works in Jupyter, in Colab, on the static site and from a file.
    Without JavaScript it is the same table, whole.

    Parameters
    ----------
    rows : sequence of dicts
        A cell is a number, a word, or a pair ``(value, text)`` whose text stands below
        the value in small print, for instance an interval. None, NaN, "" and a key that
        a row lacks are printed as a dash.
    columns : sequence of keys, or dict of key to head
        All keys of the first row by default. The first column stays in sight.
    fmt : dict of key to format string or function of the value
        By default whole numbers are printed as they are, others with two decimals.
    filters : sequence of keys, or dict of key to a value
        Columns that get a choice above the table; the value is the one chosen at first,
        None is all.
    noun : str
        What the rows are, for the count above the table.
    caption : str, optional
        Plain text below the table.
    height : str
        A CSS length; a longer table scrolls in its own box, below its head.

    Returns
    -------
    IPython HTML: let it be the last expression of a cell.

    Raises
    ------
    TypeError, ValueError
        In one line: what was wanted, what came.

    Notes
    -----
    Numbers are sorted by value, not as printed, and words by the alphabet; dashes, and
    words in a column of numbers, come last in both directions.

    Examples
    --------
    >>> rows = [
    ...     {"method": "gradient", "network": "vgg16", "score": (0.25, "0.2 to 0.3")},
    ...     {"method": "rise", "network": "vit_b_16", "score": None},
    ... ]
    >>> start = {"network": "vgg16"}
    >>> shown = sortable_table(rows, filters=start, noun="results")
    >>> "<td data-sort=0>0.25<small>0.2 to 0.3</small></td>" in shown.data
    True
    """
    from IPython.display import HTML

    rows = _checked_rows(rows)
    heads = _heads(rows, columns)
    formats = fmt or {}
    for name, keys in (("fmt", formats), ("filters", filters)):
        for key in keys:
            check_choice(name, key, heads)
    if not re.fullmatch(r"\d+(\.\d+)?(px|r?em|vh)", str(height)):
        raise ValueError(f"height must be a CSS length like '30rem', got {height!r}")
    cells = {key: [_pair(row.get(key)) for row in rows] for key in heads}
    chosen = _chosen(filters, cells, heads, formats)
    drawn = [
        _column(heads[key], column, formats.get(key), "td" if i else "th")
        for i, (key, column) in enumerate(cells.items())
    ]
    top, *body = ("".join(line) for line in zip(*drawn, strict=True))
    words = {
        "name": escape(caption or f"Table of {noun}"),
        "height": height,
        "filters": escape(json.dumps(chosen, ensure_ascii=False)),
        "noun": escape(noun),
        "head": top,
        "body": "\n".join(f"<tr>{line}</tr>" for line in body),
        "caption": _figcaption(caption),
        "behaviour": BEHAVIOUR,
    }
    return HTML(_HTML.substitute(words))


_HTML = string.Template(
    '<figure class="xai-table"><div class="xai-scroll" tabindex="0" role="region" '
    'aria-label="$name" style="max-height:$height;overflow:auto">\n'
    '<table class="xai-sortable" data-filters="$filters" data-noun="$noun">\n'
    "<thead><tr>$head</tr></thead>\n<tbody>\n$body\n</tbody></table></div>"
    "$caption</figure>\n$behaviour"
)


def _checked_rows(rows: Sequence[Mapping]) -> list[Mapping]:
    rows = list(rows)
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"rows must be dicts, got {type(row).__name__}")
    if not rows:
        raise ValueError("rows must be at least one dict, got none")
    return rows


def _heads(rows: Sequence[Mapping], columns) -> dict[str, str]:
    """Return the head of every column by its key."""
    columns = list(rows[0]) if columns is None else columns
    named = isinstance(columns, Mapping)
    heads = {key: _clean(columns[key] if named else key) for key in columns}
    known = {key: None for row in rows for key in row}
    for key in heads:
        check_choice("columns", key, known)
    if not heads or len(set(heads.values())) < len(heads):
        got = ", ".join(heads.values()) or "none"
        raise ValueError(f"columns must have heads that differ, got {got}")
    return heads


def _pair(cell: object) -> tuple[object, str]:
    """Return a cell's value, None if there is none, and its small print."""
    value, text = cell if isinstance(cell, tuple) and len(cell) == 2 else (cell, "")
    if getattr(value, "ndim", None) == 0:  # of NumPy or torch
        value = value.item()
    blank = isinstance(value, str) and not value.strip()
    if blank or (_is_number(value) and value != value):
        value = None
    return value, _clean(text or "")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _column(head: str, cells: Sequence[tuple], fmt, tag: str) -> list[str]:
    """Return a column from its head down; numbers carry their rank to sort by."""
    numbers = sorted({value for value, _ in cells if _is_number(value)})
    ranks = {value: rank for rank, value in enumerate(numbers)}
    kind = ' class="number"' if numbers else ""
    lines = [f'<th scope="col"{kind}>{escape(head)}</th>']
    scope = ' scope="row"' if tag == "th" else ""
    for value, text in cells:
        key = ""
        if numbers:
            key = f" data-sort={ranks[value]}" if _is_number(value) else ' data-sort=""'
        elif value is None:
            key = ' data-sort="" class="word"'
        small = f"<small>{escape(text)}</small>" if text else ""
        shown = escape(_printed(value, fmt)) + small
        lines.append(f"<{tag}{scope}{key}>{shown}</{tag}>")
    return lines


def _printed(value: object, fmt: str | Callable | None) -> str:
    """Return a value as it is printed: a true minus sign, and none before a zero."""
    if value is None:
        return "–"
    if callable(fmt):
        return _clean(fmt(value))
    if not _is_number(value):
        return _clean(value)
    text = (fmt or ("{}" if isinstance(value, Integral) else "{:.2f}")).format(value)
    text = re.sub(r"^-(?=0[0.]*([^\d.]|$))", "", text)
    return _clean(text.replace("-", "−"))


def _clean(text: object) -> str:
    return " ".join(str(text).split())


def _chosen(filters, cells: Mapping, heads: Mapping, formats: Mapping) -> dict:
    """Return the text that each filter shows at first, by the head of its column."""
    starts = filters if isinstance(filters, Mapping) else dict.fromkeys(filters)
    chosen = {}
    for key, start in starts.items():
        texts = {_printed(value, formats.get(key)) for value, _ in cells[key]}
        text = "" if start is None else _printed(start, formats.get(key))
        if start is not None and text not in texts:
            known = ", ".join(sorted(texts))
            wanted = f"filters must start {key} at one of {known}"
            raise ValueError(f"{wanted}, got {start!r}")
        chosen[heads[key]] = text
    return chosen
