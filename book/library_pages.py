"""Write the library's pages: one per room, and one over all. Called by the pipeline.

python book/library_pages.py PATH/index.md
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from page_parts import GENERATED, escape, table
from places import ROOT
from staging import ROOMS

from xai_lib import analyse, evaluate
from xai_lib.attribute import METHODS, NEED_PATTERNS, Method
from xai_lib.study import METRICS

HEAD = """# The library

`xai_lib` can be used without the book: `pip install -e .` in a checkout. It has six
rooms, and a room imports only from those above it.

{rooms}

Every attribution method has one signature and returns a plain tensor: signed, with all
channels, not scaled. Every metric returns one value per image. The pages are made from
the docstrings; their examples run as tests.

```python
from xai_lib.assets import load_images, load_model
from xai_lib.attribute import METHODS

net, photos = load_model("resnet18"), load_images("photos", n=4)
x = net.transform(photos.x)
maps = METHODS["smoothgrad"](net.model, x, photos.y)  # with its paper's settings
maps = METHODS["smoothgrad"](net.model, x, photos.y, noise=0.3)  # with one of your own
```

(methods)=
## Methods

{methods}

(metrics)=
## Metrics

`python -m xai_lib.study` computes models × methods × cutoffs × metrics as one table,
stops and resumes, and prints its options with `--help`. *Better* is the side that a
faithful map is on; *settings* are those that differ from the function's defaults.

{metrics}
"""
METHODS_TEXT = """{py:obj}`METHODS` holds every method by name, with the settings of
its paper. The families are *gradient*, *modified* (backpropagation by other rules),
*cam* (class activation maps) and *prediction* (only outputs for changed inputs are
looked at). The colour is the method's own in the whole book."""


def write_pages(path: Path) -> None:
    """Write the page over all rooms, and beside it a page for each."""
    path = Path(path)
    pages = {path.name: overview()} | {f"{name}.md": room(name) for name in ROOMS}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path.with_name(name).write_text(f"{GENERATED}\n\n{text}", encoding="utf-8")


def overview() -> str:
    """Return the page over all rooms: what each is for, methods and metrics as data."""
    modules = {name: importlib.import_module(f"xai_lib.{name}") for name in ROOMS}
    rooms = [[f"[`xai_lib.{n}`]({n}.md)", summary(m)] for n, m in modules.items()]
    return HEAD.format(
        rooms=table(["Room", "Holds"], rooms),
        methods=methods(),
        metrics=metrics(),
    )


def methods() -> str:
    """Return the tables of methods, from `METHODS` and `NEED_PATTERNS`."""
    head = ["Name", "Label", "Family", "Settings"]
    more = "{py:obj}`NEED_PATTERNS`: these also want `patterns=`, which\n"
    more += "{py:obj}`estimate_patterns` takes from data."
    return "\n\n".join(
        [
            METHODS_TEXT,
            table(head, [method_row(method) for method in METHODS.values()]),
            more,
            table(head, [method_row(method) for method in NEED_PATTERNS.values()]),
        ]
    )


def method_row(method: Method) -> list[str]:
    """Return the cells of one method."""
    swatch = f'<span class="swatch" style="background:{method.colour}"></span>'
    settings = shown(method.settings)
    if method.inside:
        settings += f"; at a layer {shown(method.inside)}"
    name = f"{swatch} {{py:obj}}`{method.name} <{method.function.__name__}>`"
    return [name, escape(method.label), method.family, settings]


def metrics() -> str:
    """Return the table of the metrics that the grid computes."""
    lines = []
    for name, metric in METRICS.items():
        cells = [metric_name(name), escape(metric.label), metric.better]
        lines.append([*cells, metric.reading, shown(metric.settings)])
    return table(["Name", "Label", "Better", "Reading of the map", "Settings"], lines)


def shown(settings: dict) -> str:
    """Return settings as code."""
    return ", ".join(f"`{key}={value!r}`" for key, value in settings.items()) or "–"


def metric_name(name: str) -> str:
    """Return a metric's name, linked where a public function bears it."""
    known = name in [*analyse.__all__, *evaluate.__all__]
    return f"{{py:obj}}`{name}`" if known else f"`{name}`"


# ---- a room --------------------------------------------------------------------------


def room(name: str) -> str:
    """Return a room's page: its names in a table, then each, by module."""
    module = importlib.import_module(f"xai_lib.{name}")
    purpose = [line.strip() for line in module.__doc__.strip().split("\n\n")]
    full = f"xai_lib.{name}"
    names = sorted(module.__all__, key=str.lower)
    listed = ["```{eval-rst}", f".. currentmodule:: {full}", "", ".. autosummary::"]
    listed += ["   :nosignatures:", "", *(f"   {name}" for name in names), "```"]
    blocks = [f"# {full}", *map(rst, purpose), "\n".join(listed)]
    for source, public in by_module(name).items():
        text = importlib.import_module(f"{full}.{source}").__doc__
        blocks += [f"## {source}", rst(first_line(text))]
        blocks.append("\n".join(["```{eval-rst}", *entries(full, public), "```"]))
    return "\n\n".join(blocks) + "\n"


def rst(text: str) -> str:
    """Return a paragraph of a docstring; it is reStructuredText, not Markdown."""
    return f"```{{eval-rst}}\n{text}\n```"


def first_line(text: str) -> str:
    """Return the sentence that says what a module is for."""
    return text.strip().splitlines()[0]


def summary(module) -> str:
    """Return the first paragraph of a module's docstring, for Markdown."""
    return " ".join(first_line(module.__doc__).replace("``", "`").split())


def by_module(name: str) -> dict[str, list[str]]:
    """Return a room's public names by the module its `__init__` takes them from."""
    source = ROOT / "xai_lib" / name / "__init__.py"
    found: dict[str, list[str]] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            module = node.module.removeprefix(f"xai_lib.{name}.")
            found[module] = [alias.name for alias in node.names]
    return found


def entries(full: str, names: Sequence[str]) -> list[str]:
    """Return the directives that describe the names."""
    module, lines = importlib.import_module(full), []
    for name in names:
        thing = getattr(module, name)
        if isinstance(thing, type):
            lines += [f".. autoclass:: {full}.{name}", "   :members:", ""]
        elif hasattr(thing, "__code__"):
            lines += [f".. autofunction:: {full}.{name}", ""]
        else:
            lines += [f".. autodata:: {full}.{name}", "   :no-value:", ""]
    return lines


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
