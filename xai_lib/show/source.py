"""What a chapter prints: the code it is about, from the library itself; tables."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from xai_lib.study.summaries import markdown_table

if TYPE_CHECKING:
    from IPython.display import Markdown


def source(function: Callable) -> Markdown:
    """Show a function's source, without its docstring if that has a list of parameters.

    Parameters
    ----------
    function : callable written in Python

    Returns
    -------
    IPython Markdown, a highlighted block of code: let it be the last expression of a
    cell, so that text and library cannot differ.

    Examples
    --------
    >>> print(source(source).data.splitlines()[1])
    def source(function: Callable) -> Markdown:
    """
    from IPython.display import Markdown

    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (TypeError, OSError):
        got = type(function).__name__
        raise TypeError(f"function must be written in Python, got a {got}") from None
    lines, body = text.splitlines(), ast.parse(text).body[0].body
    if "\nParameters\n" in (ast.get_docstring(ast.parse(text).body[0]) or ""):
        del lines[body[0].lineno - 1 : body[0].end_lineno]
    return Markdown("\n".join(["```python", *lines, "```"]))


def table(*rows) -> Markdown:
    """Show rows of cells as a table; the first is its head.

    Parameters
    ----------
    *rows : sequences of one length, of anything that can be printed

    Returns
    -------
    IPython Markdown: let it be the last expression of a cell.

    Examples
    --------
    >>> print(table(("method", "score"), ("gradient", 0.25)).data)
    | method | score |
    | --- | --- |
    | gradient | 0.25 |
    """
    from IPython.display import Markdown

    return Markdown(markdown_table(rows))
