"""Pieces of a generated page: tables, numbers, escaped text, places in chapters."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from docutils.nodes import make_id

from xai_lib.study import Claim
from xai_lib.study.verdicts import STATUSES

COLOURS = dict(
    zip(STATUSES, ("success", "warning", "danger", "info", "light"), strict=True)
)


class Place(NamedTuple):
    """Where a number was decided; the addresses are None for a chapter to come."""

    chapter: str  # its number
    page: str | None
    address: str | None  # the heading or figure on that page
    label: str  # Markdown

    @property
    def link(self) -> str:
        """The label, linked to the address."""
        if self.address is None:
            return self.label
        return f'<a class="reference internal" href="{self.address}">{self.label}</a>'


GENERATED = "---\ngenerated: true\n---"  # at a page's head: its source is not shown

Find = Callable[[str, str | None], Place]


def table(head: Sequence[str], lines: Sequence[Sequence]) -> str:
    """Return a Markdown table; cells are already escaped."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def show(number: float) -> str:
    """Return a number with three significant digits."""
    return f"{number + 0.0:.3g}"  # + 0.0: no minus before a zero


def estimate(row: dict) -> str:
    """Return a recorded value and its interval."""
    low, high = row["interval"]
    return f"{show(row['value'])} [{show(low)}, {show(high)}]"


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


def anchor(claim: Claim) -> str:
    """Return the name of a claim's place on the page of verdicts."""
    return f"claim-{claim.id.lower()}"


def badge(status: str) -> str:
    """Return a verdict as a coloured word."""
    return f"{{bdg-{COLOURS[status]}}}`{status}`"


def finder(root: Path) -> Find:
    """Return the function that finds the chapter, or the place in it, that decided.

    A place is linked whether or not the chapter has it: the check of the built site
    finds an address that leads nowhere, a link to the chapter's top would hide it.
    """
    toc = root / "_toc.yml"
    listed = toc.read_text(encoding="utf-8") if toc.is_file() else None
    known = cache(titles)

    def find(chapter: str, where: str | None = None) -> Place:
        document, _, name = (where or chapter).partition("#")
        document = Path(document).stem or chapter
        notebook = root / "notebooks" / f"{document}.ipynb"
        number = document[:2] if document[:2].isdigit() else document
        label = escape(f"chapter {number}" if number != document else document)
        if not notebook.is_file() or (listed and f"notebooks/{document}" not in listed):
            return Place(number, None, None, f"{label} (to come)")
        page = f"../notebooks/{document}.html"
        if not name:
            return Place(number, page, page, label)
        title = known(notebook).get(make_id(name))
        label = f"{label}, {title}" if title else label
        return Place(number, page, f"{page}#{make_id(name)}", label)

    return find


def titles(notebook: Path) -> dict[str, str]:
    """Return the headings and named figures of a notebook by their ids on its page."""
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for heading in re.findall(r"^#+\s+(.+?)\s*$", source, re.MULTILINE):
                found[make_id(heading)] = heading
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if "name" in figure:
            start = re.match(r"[^$]+?(?=[.:;](\s|$))", figure.get("caption", ""))
            title = f"figure: {escape(start[0])}" if start else "a figure"
            found[make_id(figure["name"])] = title
    return found
