"""The repository's address: written by hand in pyproject.toml, copied from there.

`python book/address.py` (make address) writes it into _config.yml and into the
bootstrap cell of every notebook. A fork's CI sets XAI_LIB_REPOSITORY instead and the
staged book follows it.
"""

import os
import re
import tomllib
from pathlib import Path

import bootstrap
import nbformat

ROOT = Path(__file__).resolve().parent.parent
CONFIG_LINE = re.compile(r'^(  url: )"[^"]*"', re.MULTILINE)


def _project(root=ROOT):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def address(root=ROOT):
    """Return the repository's address, without a trailing slash."""
    url = os.environ.get("XAI_LIB_REPOSITORY") or _project(root)["urls"]["Repository"]
    return url.rstrip("/")


def tag(root=ROOT):
    """Return the tag under which this version of the library is published."""
    return "v" + _project(root)["version"]


def is_example(url):
    """Tell whether the address is still the example one."""
    return "/OWNER/" in url


def write(root=ROOT):
    """Write the address into _config.yml and the notebooks; return what changed."""
    url, changed = address(root), []
    config = root / "_config.yml"
    new = CONFIG_LINE.sub(rf'\g<1>"{url}"', config.read_text())
    if new != config.read_text():
        config.write_text(new)
        changed.append(config)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        if bootstrap.put(notebook, url, tag(root)):
            nbformat.write(notebook, path)
            changed.append(path)
    return changed


if __name__ == "__main__":
    print(f"the address is {address()}, the tag {tag()}")
    for path in write():
        print(f"wrote {path.relative_to(ROOT)}")
