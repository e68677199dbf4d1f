"""The first cell of every notebook: find xai_lib, in a checkout or by installing it.

`python book/bootstrap.py NOTEBOOK ...` puts the cell into notebooks or renews it.
"""

import sys

import nbformat

TAGS = ["bootstrap", "remove-cell"]
CELL = """\
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("xai_lib") is None:
    above = [Path.cwd(), *Path.cwd().parents]
    checkout = next((p for p in above if (p / "xai_lib/__init__.py").exists()), None)
    if checkout:
        sys.path.insert(0, str(checkout))
    else:
        published = "git+{url}@{tag}"
        source = os.environ.get("XAI_LIB_INSTALL", published)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", source]
        subprocess.run(pip, check=True)
        importlib.invalidate_caches()
"""


def text(url, tag):
    """Return the source of the bootstrap cell for an address and a tag."""
    return CELL.replace("{url}", url).replace("{tag}", tag).rstrip("\n")


def put(notebook, url, tag):
    """Insert or renew the bootstrap cell; tell whether the notebook changed."""
    source, cells = text(url, tag), notebook.cells
    if not (cells and "bootstrap" in cells[0].metadata.get("tags", [])):
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(TAGS)})
        cell.id = "bootstrap"
        cells.insert(0, cell)
        return True
    if cells[0].source == source and cells[0].metadata.tags == TAGS:
        return False
    cells[0].source, cells[0].metadata.tags = source, list(TAGS)
    return True


def _main(paths):
    import address  # address itself needs this module

    for path in paths:
        notebook = nbformat.read(path, 4)
        if put(notebook, address.address(), address.tag()):
            nbformat.write(notebook, path)
            print(f"wrote {path}")


if __name__ == "__main__":
    _main(sys.argv[1:])
