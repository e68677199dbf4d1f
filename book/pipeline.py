"""From sources to site: stage, run the chapters, build, check, publish.

    python book/pipeline.py all --profile laptop

What `make book` calls; every step can be run alone. Nothing is published unless every
chapter ran, jupyter-book had no warning and every check passed.
"""

import argparse
import functools
import http.server
import os
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import address
import bootstrap
import chapters
import checks
import nbformat
from building import build
from places import (
    ROOT,
    Places,
    StepError,
    digest,
    files_below,
    library_files,
    run,
    seconds,
)
from staging import (
    FIGURES,
    FRONT,
    LIBRARY,
    SUMMARY,
    VERDICTS,
    chapter_sources,
    stage,
    write,
)

from xai_lib._paths import cache_dir


def profile_of(places):
    """Return what the profile sets, by chapter."""
    profiles = tomllib.loads((places.root / "notebooks/profiles.toml").read_text())
    if places.profile not in profiles:
        known = ", ".join(profiles)
        raise StepError(f"profile must be one of {known}, got {places.profile}")
    return profiles[places.profile]


def parameters_of(places, source):
    """Return what the profile sets for a chapter."""
    return profile_of(places).get(source.stem, {})


def _cached(places, names):
    """Return a hash of the assets' catalogue and of what the cache folder holds."""
    folder = cache_dir()
    there = folder.iterdir() if folder.is_dir() else []
    held = sorted((p.name, p.stat().st_size) for p in there if p.is_file())
    catalogue = files_below(places.root / "data/assets.toml")
    return digest(catalogue, places.root, names, str(folder), held)


def assets(places):
    """Fetch the weights and images that the chapters' metadata names."""
    names = []
    for source in chapter_sources(places.root):
        names += nbformat.read(source, 4).metadata.get("assets", [])
    names = list(dict.fromkeys(names))
    note = places.work / "assets.key"
    if not names or note.exists() and note.read_text() == _cached(places, names):
        return
    run([sys.executable, "-m", "xai_lib.assets", "fetch", *names], places)
    write(note, _cached(places, names).encode())


def run_chapters(places):
    """Run every chapter that changed and stage it, cleaned, as a page."""
    sources = chapter_sources(places.root)
    jobs = [(source, parameters_of(places, source)) for source in sources]
    for source, done in zip(sources, chapters.run_all(jobs, places), strict=True):
        executed = nbformat.read(done, 4)
        for line in chapters.complaints(executed):
            print(f"  {source.stem}: {line}")
        page = chapters.clean(executed)
        bootstrap.put(page, address.address(places.root), address.tag(places.root))
        target = places.site / "notebooks" / source.name
        write(target, nbformat.writes(page).encode())
    stage(places)  # what a chapter wrote beside itself is no part of the book


def pages(places):
    """Write what is generated: verdicts, summary, front figure, library, figures."""
    root = places.root
    library = library_files(root)
    book = files_below(root / "_toc.yml", root / "notebooks", *root.glob("book/*.py"))
    ledger = files_below(places.ledger)
    parts = [root / "book/page_parts.py", root / "book/staging.py"]
    api = [root / "book/library_pages.py"]
    staged = files_below(places.site / "_toc.yml", places.site / "notebooks")
    wanted = [
        ("verdicts.write_page", VERDICTS, [*library, *book, *ledger]),
        ("summary.write_summary", SUMMARY, [*library, *book, *ledger]),
        ("front.draw", FRONT, [root / "book/front.py", *library]),
        ("library_pages.write_pages", LIBRARY, [*api, *parts, *library]),
        ("figures.write_page", FIGURES, [root / "book/figures.py", *parts, *staged]),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        done = [side_by_side.submit(generate, places, *page) for page in wanted]
        for page in done:
            page.result()


def generate(places, function, name, inputs):
    """Let `module.function(path)` write a staged file, if its inputs changed."""
    module, call = function.split(".")
    target, note = places.site / name, places.work / f"{module}.key"
    if not (places.root / f"book/{module}.py").exists():
        return
    key = digest(inputs, places.root)
    if target.exists() and note.exists() and note.read_text() == key:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    code = f"import sys, pathlib, {module}; {module}.{call}(pathlib.Path(sys.argv[1]))"
    run([sys.executable, "-c", code, str(target)], places)
    note.write_text(key)


def check(places):
    """Check the published site."""
    problems = checks.check_site(places.html)
    if problems:
        raise StepError("\n".join(problems))
    print(f"  {checks.summary(places.html)}")


def serve(places, port):
    """Serve the published site until interrupted."""
    if not (places.html / "index.html").exists():
        raise StepError(f"no site in {places.html}: make book first")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(places.html)
    )
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        advice = f"another one: make serve PORT={port + 1}"
        raise StepError(f"port {port}: {error.strerror}; {advice}") from None
    with server:
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
    parser.add_argument("--root", default=ROOT, type=Path, help="the book's root")
    parser.add_argument("--port", default=8000, type=int)
    given = parser.parse_args(arguments)
    places = Places(given.root.resolve(), given.profile)
    try:
        if given.step == "all":
            profile_of(places)
        if given.step == "serve":
            serve(places, given.port)
        for step in ACTIONS if given.step == "all" else [given.step]:
            if step in ACTIONS:
                do(step, places)
    except StepError as error:
        print(f"{given.step} failed:\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{given.step}: stopped; what is done stays done", file=sys.stderr)
        return 130
    if given.step == "all":
        shown = os.path.relpath(places.html / "index.html")
        print(f"the book: {shown} (open it, or: make serve PROFILE={places.profile})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
