"""Copy the book's sources to where they are run and built."""

import address
import yaml
from places import StepError, files_below

VERDICTS, FRONT = "book/verdicts.md", "book/figures/front.png"
SUMMARY = "book/_generated/summary.md"  # the front page includes it
LIBRARY, FIGURES = "book/api/index.md", "book/figures.md"
ROOMS = ("assets", "attribute", "analyse", "evaluate", "study", "show")
ROOM_PAGES = tuple(f"book/api/{name}.md" for name in ROOMS)
GENERATED = (VERDICTS, SUMMARY, FRONT, LIBRARY, *ROOM_PAGES, FIGURES)


def toc_files(root):
    """Return the documents that _toc.yml names, in order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    parts = toc.get("parts", [toc])
    entries = [e["file"] for part in parts for e in part.get("chapters", [])]
    return [toc["root"], *entries]


def chapter_sources(root):
    """Return the chapters' notebooks, in the book's order."""
    names = [f for f in toc_files(root) if f.startswith("notebooks/")]
    return [root / f"{name}.ipynb" for name in names]


def stage(places):
    """Copy the book's sources into the staging folder; remove what is gone."""
    root, site = places.root, places.site
    missing = [name for name in toc_files(root) if not _exists(root, name)]
    if missing:
        raise StepError(f"_toc.yml names what does not exist: {', '.join(missing)}")
    wanted = {site / name for name in GENERATED}
    for path in files_below(root / "book", root / "notebooks", root / "xai_lib"):
        target = site / path.relative_to(root)
        wanted.add(target)
        if path.suffix != ".ipynb":
            write(target, path.read_bytes())
    write(site / "_config.yml", staged_config(root).encode())
    write(site / "_toc.yml", (root / "_toc.yml").read_bytes())
    for path in files_below(site / "book", site / "notebooks", site / "xai_lib"):
        if path not in wanted:
            path.unlink()


def _exists(root, name):
    """Tell whether a document of _toc.yml is there or will be generated."""
    files = [f"{name}{suffix}" for suffix in (".md", ".ipynb")]
    return any(f in GENERATED or (root / f).exists() for f in files)


def staged_config(root):
    """Return _config.yml with the address in force; no links while it is an example."""
    config = yaml.safe_load((root / "_config.yml").read_text())
    url = config["repository"]["url"] = address.address(root)
    if address.is_example(url):
        config["launch_buttons"] = {}
        config["html"] |= {"use_repository_button": False, "use_issues_button": False}
    return yaml.safe_dump(config, sort_keys=False)


def write(path, content):
    """Write a file only when its content changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)
