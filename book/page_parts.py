"""Pieces of a generated Markdown page: tables, escaped text, links to chapters."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from docutils.nodes import make_id

Link = Callable[[str, str | None], str]


def table(head: Sequence[str], lines: Sequence[Sequence]) -> str:
    """Return a Markdown table; cells are already escaped."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def show(number: float) -> str:
    """Return a number with three significant digits."""
    return f"{number:.3g}"


def control(value: None | str | float | dict) -> str:
    """Return what the control gave."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "; ".join(f"{escape(k)}: {control(one)}" for k, one in value.items())
    return escape(value) if isinstance(value, str) else show(value)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|$#^~&])", r"\\\1", " ".join(text.split()))


def linker(root: Path) -> Link:
    """Return the function that links to the chapter, or to the cell, that decided."""
    toc = root / "_toc.yml"
    listed = toc.read_text(encoding="utf-8") if toc.is_file() else None

    def link(chapter: str, where: str | None) -> str:
        document, _, place = (where or chapter).partition("#")
        document = Path(document).stem or chapter
        notebook = root / "notebooks" / f"{document}.ipynb"
        shown = f"chapter {document[:2]}" if document[:2].isdigit() else document
        if not notebook.is_file() or (listed and f"notebooks/{document}" not in listed):
            return f"{escape(shown)} (to come)"
        if make_id(place) in anchors(notebook) and place:
            target = f"../notebooks/{document}.html#{make_id(place)}"
            return f'<a class="reference internal" href="{target}">{shown}</a>'
        return f"[{shown}](../notebooks/{document}.ipynb)"

    return link


def anchors(notebook: Path) -> set[str]:
    """Return the ids that headings and named figures of a notebook have on its page."""
    names = set()
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            names |= set(re.findall(r"^#+\s+(.+?)\s*$", source, re.MULTILINE))
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        names.add(figure.get("name", ""))
    return {make_id(name) for name in names} - {""}
