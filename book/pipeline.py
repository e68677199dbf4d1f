"""From sources to site: stage, run the chapters, build, check, publish.

    python book/pipeline.py all --profile laptop

What `make book` calls; every step can be run alone. Nothing is published unless every
chapter ran, jupyter-book had no warning and every check passed.
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
import time
import tomllib

import address
import bootstrap
import chapters
import checks
import nbformat
import yaml
from places import ROOT, Places, digest, files_below, library_files, seconds

GENERATED = ("book/verdicts.md", "book/figures/front.png")


class StepError(Exception):
    """A step failed; the message is all the reader needs."""


# ---- what is in the book -------------------------------------------------------------


def toc_files(root):
    """Return the documents that _toc.yml names, in order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    parts = toc.get("parts", [toc])
    entries = [e["file"] for part in parts for e in part.get("chapters", [])]
    return [toc["root"], *entries]


def sources(root):
    """Return the chapters' notebooks, in the book's order."""
    names = [f for f in toc_files(root) if f.startswith("notebooks/")]
    return [root / f"{name}.ipynb" for name in names]


def parameters_of(places, source):
    """Return what the profile sets for a chapter."""
    profiles = tomllib.loads((places.root / "notebooks/profiles.toml").read_text())
    if places.profile not in profiles:
        known = ", ".join(profiles)
        raise StepError(f"profile must be one of {known}, got {places.profile}")
    return profiles[places.profile].get(source.stem, {})


# ---- steps ---------------------------------------------------------------------------


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
            _write(target, path.read_bytes())
    _write(site / "_config.yml", staged_config(root).encode())
    _write(site / "_toc.yml", (root / "_toc.yml").read_bytes())
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


def _write(path, content):
    """Write a file only when its content changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def assets(places):
    """Fetch the weights and images that the chapters' metadata names."""
    names = []
    for source in sources(places.root):
        names += nbformat.read(source, 4).metadata.get("assets", [])
    names = list(dict.fromkeys(names))
    key = digest(files_below(places.root / "data/assets.toml"), places.root, names)
    note = places.work / "assets.key"
    if not names or (note.exists() and note.read_text() == key):
        return
    run([sys.executable, "-m", "xai_lib.assets", "fetch", *names], places)
    note.write_text(key)


def run_chapters(places):
    """Run every chapter that changed and stage it, cleaned, as a page."""
    for source in sources(places.root):
        parameters = parameters_of(places, source)
        done = chapters.run(source, places, parameters)
        executed = nbformat.read(done, 4)
        for line in chapters.complaints(executed):
            print(f"  {source.stem}: {line}")
        page = chapters.clean(executed)
        bootstrap.put(page, address.address(places.root), address.tag(places.root))
        target = places.site / "notebooks" / source.name
        _write(target, nbformat.writes(page).encode())


def pages(places):
    """Write the generated pages: the verdicts from the ledger, the front figure."""
    library = library_files(places.root)
    ledger = files_below(places.ledger)
    for script, call, target, inputs in (
        ("verdicts", "write_page", GENERATED[0], [*library, *ledger]),
        ("front", "draw", GENERATED[1], library),
    ):
        path = places.root / f"book/{script}.py"
        if not path.exists():
            continue
        target = places.site / target
        key = digest([path, *inputs], places.root)
        note = places.work / f"{script}.key"
        if target.exists() and note.exists() and note.read_text() == key:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        code = f"import pathlib, {script} as m; m.{call}(pathlib.Path({str(target)!r}))"
        run([sys.executable, "-c", code], places)
        note.write_text(key)


def run(command, places, **options):
    """Run a command with the book's environment; raise StepError when it fails."""
    path = os.pathsep.join([str(places.root), str(places.root / "book")])
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [path, os.environ.get("PYTHONPATH")])
        ),
        "XAI_LIB_LEDGER": str(places.ledger),
    }
    sys.stdout.flush()
    status = subprocess.run(command, cwd=places.root, env=env, **options).returncode
    if status:
        raise StepError(f"exit status {status} of: {' '.join(map(str, command))}")


def build(places):
    """Build the site from nothing, check it, and put it in place of the old one.

    Skipped when no staged file changed. Always a whole build: an incremental one keeps
    old titles in the sidebars and forgets warnings that it gave once.
    """
    built, note = places.work / "jupyter-book", places.work / "site.key"
    key = digest(files_below(places.site), places.root, builder_versions())
    if places.html.exists() and note.exists() and note.read_text() == key:
        print("  nothing changed since the last build")
        return
    shutil.rmtree(built, ignore_errors=True)
    program = "from jupyter_book.cli.main import main; main()"
    options = ["--path-output", str(built), "-W", "-n", "--keep-going", "-q"]
    command = [sys.executable, "-c", program, "build", str(places.site), *options]
    run(command, places, stdout=subprocess.DEVNULL)  # its warnings go to stderr
    new = built / "_build" / "html"
    tidy(new, places)
    problems = checks.check_site(new)
    if problems:
        rejected = places.work / "rejected"
        shutil.rmtree(rejected, ignore_errors=True)
        new.rename(rejected)
        raise StepError("\n".join([*problems, f"not published; it lies in {rejected}"]))
    publish(new, places.html)
    shutil.rmtree(built)
    note.write_text(key)


def builder_versions():
    """Return the versions of what turns sources into pages."""
    from importlib.metadata import version

    return [version(name) for name in ("jupyter-book", "sphinx", "sphinx-book-theme")]


def tidy(html, places):
    """Remove what no reader needs; offer the notebooks' sources for download."""
    for path in [*html.rglob("*.map"), *html.glob("_static/vendor/*/webfonts/*.ttf")]:
        path.unlink()  # every browser of today takes the .woff2 beside the .ttf
    shutil.rmtree(html / "_static/locales", ignore_errors=True)
    for path in html.glob("_sources/notebooks/*.ipynb"):
        shutil.copyfile(places.root / "notebooks" / path.name, path)


def publish(new, place):
    """Swap the new site in for the old one."""
    old = place.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def check(places):
    """Check the published site."""
    problems = checks.check_site(places.html)
    if problems:
        raise StepError("\n".join(problems))
    print(f"  {checks.summary(places.html)}")


def serve(places, port):
    """Serve the published site until interrupted."""
    import http.server

    if not (places.html / "index.html").exists():
        raise StepError(f"no site in {places.html}: make book first")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(places.html)
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


# ---- the command line ----------------------------------------------------------------

ACTIONS = {
    "stage": stage,
    "assets": assets,
    "chapters": run_chapters,
    "pages": pages,
    "build": build,
    "check": check,
}


def do(step, places):
    """Run one step and say how long it took."""
    start = time.time()
    ACTIONS[step](places)
    print(f"{step}: {seconds(time.time() - start)}", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=[*ACTIONS, "serve", "all"])
    parser.add_argument("--profile", default="laptop", help="quick, laptop or full")
    parser.add_argument("--root", default=ROOT, type=type(ROOT), help="the book's root")
    parser.add_argument("--port", default=8000, type=int)
    given = parser.parse_args(arguments)
    places = Places(given.root.resolve(), given.profile)
    try:
        if given.step == "serve":
            serve(places, given.port)
        for step in ACTIONS if given.step == "all" else [given.step]:
            if step in ACTIONS:
                do(step, places)
    except (StepError, chapters.ChapterError) as error:
        print(f"{given.step} failed:\n{error}", file=sys.stderr)
        return 1
    if given.step == "all":
        shown = os.path.relpath(places.html / "index.html")
        print(f"the book: {shown} (open it, or: make serve PROFILE={places.profile})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
