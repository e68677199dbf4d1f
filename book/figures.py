"""Write the index of figures from the staged chapters. Called by the pipeline.

python book/figures.py PATH
"""

import base64
import hashlib
import html
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from docutils.nodes import make_id
from page_parts import GENERATED, escape
from PIL import Image
from staging import toc_files

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpeg", "image/webp": ".webp"}
SMALL = 360  # pixels, of the picture that stands for a slider
HEAD = """# Figures

Every figure of the chapters, in their order. A picture, like its number, leads to its
place. A slider shows one of its pictures; in the chapter it moves.
"""
SLIDER = re.compile(
    r'<xai-frames><figure>.*?<img src="(?P<src>[^"]+)" alt="(?P<alt>[^"]*)"'
    r".*?</figure>",
    re.DOTALL,
)
CAPTION = re.compile(r"<figcaption>(.*?)</figcaption>", re.DOTALL)


class Figure(NamedTuple):
    """One figure of a chapter, as the index shows it."""

    label: str  # Markdown: its number, linked, or the word for a slider
    address: str  # of its place, seen from the index
    caption: str  # Markdown
    src: str  # the chapter's own picture, or a small one of a slider
    alt: str
    size: tuple[int, int]


def write_page(path: Path) -> None:
    """Write the index of the staged book in which the path lies."""
    path = Path(path)
    text = page(path.parent.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def page(root: Path) -> str:
    """Return the index as Markdown, a section for each chapter of `_toc.yml`."""
    blocks = [GENERATED, HEAD]
    for name in toc_files(root):
        source = root / f"{name}.ipynb"
        if not source.is_file():
            continue
        notebook = nbformat.read(source, 4)
        found = list(figures(notebook, f"../{name}.html"))
        if found:
            blocks.append(f"## {heading(notebook)}")
            blocks.append(gallery(found))
    return "\n\n".join(blocks) + "\n"


def heading(notebook) -> str:
    """Return a chapter's title."""
    for cell in notebook.cells:
        title = re.search(r"^# +(.+?)\s*$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and title:
            return title[1]
    raise ValueError("a chapter must have a title, a line that begins with '# '")


def figures(notebook, address: str) -> Iterator[Figure]:
    """Yield a chapter's figures: those with a caption, and its sliders, in order."""
    place = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = re.findall(r"^#+ +(.+?)\s*$", cell.source, re.MULTILINE)
            place = f"#{make_id(titles[-1])}" if titles else place
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kinds = [kind for kind in SUFFIXES if kind in data]
            if kinds and "figure" in cell.metadata.get("mystnb", {}):
                yield captioned(cell.metadata.mystnb, data, kinds[0], address)
            for slider in SLIDER.finditer(data.get("text/html", "")):
                yield moving(slider, address + place)


def captioned(metadata, data, kind: str, address: str) -> Figure:
    """Return a figure whose caption stands in its cell's metadata.

    The page has its picture as a file, named by MyST-NB after the picture's hash.
    """
    raw = base64.b64decode(data[kind])
    name = hashlib.sha256(raw).hexdigest() + SUFFIXES[kind]
    figure = metadata["figure"]
    return Figure(
        label=f"{{numref}}`{figure['name']}`",
        address=f"{address}#{make_id(figure['name'])}",
        caption=figure["caption"],
        src=f"../_images/{name}",
        alt=metadata.get("image", {}).get("alt", ""),
        size=Image.open(io.BytesIO(raw)).size,
    )


def moving(slider: re.Match, address: str) -> Figure:
    """Return a slider, whose pictures stand in the page itself, by a small picture."""
    raw = base64.b64decode(slider["src"].partition("base64,")[2])
    caption = CAPTION.search(slider[0])
    alt = html.unescape(slider["alt"])
    src, size = thumbnail(raw)
    words = html.unescape(caption[1]) if caption else alt
    label = f'<a class="reference internal" href="{address}">Slider</a>'
    return Figure(label, address, escape(words), src, alt, size)


def thumbnail(raw: bytes) -> tuple[str, tuple[int, int]]:
    """Return a picture made small, as a data address, and its size."""
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    picture.thumbnail((SMALL, SMALL))
    small = io.BytesIO()
    picture.save(small, "WEBP", quality=55, method=6)
    text = base64.b64encode(small.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{text}", picture.size


def gallery(found: list[Figure]) -> str:
    """Return cards, each a picture that leads to its place, and the caption."""
    cards = "\n".join(card(figure) for figure in found)
    options = ":gutter: 3\n:class-container: figure-index"
    return f"::::{{grid}} 1 2 2 2\n{options}\n\n{cards}::::"


def card(figure: Figure) -> str:
    """Return one card."""
    width, height = figure.size
    picture = (
        f'<a class="figure-link" href="{figure.address}"><img src="{figure.src}" '
        f'alt="{html.escape(figure.alt)}" width="{width}" height="{height}" '
        f'loading="lazy"></a>'
    )
    text = f"{figure.label}. {figure.caption}"
    return f":::{{grid-item}}\n```{{raw}} html\n{picture}\n```\n{text}\n:::\n"


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
