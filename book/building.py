"""Turn the staged book into a site, and publish it only when it is sound."""

import io
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import address
import bootstrap
import checks
import nbformat
from PIL import Image
from places import StepError, digest, files_below, run

ICON_SCRIPT = re.compile(r"\s*<script [^>]*fontawesome\.js[^>]*></script>")


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
    try:
        new = jupyter_book(places, built)
        tidy(new, places)
        problems = checks.check_site(new)
        if problems:
            raise StepError("\n".join([*problems, keep_rejected(new, places)]))
        publish(new, places.html)
    finally:
        shutil.rmtree(built, ignore_errors=True)
    note.write_text(key)


def jupyter_book(places, built):
    """Run jupyter-book on the staged book, every warning an error; return the site."""
    shutil.rmtree(built, ignore_errors=True)
    program = "from jupyter_book.cli.main import main; main()"
    options = ["--path-output", str(built), "-W", "-n", "--keep-going", "-q"]
    command = [sys.executable, "-c", program, "build", str(places.site), *options]
    run(command, places, stdout=subprocess.DEVNULL)  # its warnings go to stderr
    return built / "_build" / "html"


def keep_rejected(new, places):
    """Set a site with faults aside, to be looked at; say where."""
    rejected = places.work / "rejected"
    shutil.rmtree(rejected, ignore_errors=True)
    new.rename(rejected)
    return f"not published; it lies in {rejected}"


def builder_versions():
    """Return the versions of what turns sources into pages."""
    return [version(name) for name in ("jupyter-book", "sphinx", "sphinx-book-theme")]


def tidy(html, places):
    """Remove what no reader needs; offer the notebooks' sources for download."""
    for path in [*html.rglob("*.map"), *html.glob("_static/vendor/*/webfonts/*.ttf")]:
        path.unlink()  # every browser of today takes the .woff2 beside the .ttf
    shutil.rmtree(html / "_static/locales", ignore_errors=True)
    drop_icon_script(html)
    for path in html.glob("_images/*.png"):
        shrink_picture(path)
    for path in html.glob("_sources/notebooks/*.ipynb"):
        source = nbformat.read(places.root / "notebooks" / path.name, 4)
        bootstrap.put(source, address.address(places.root), address.tag(places.root))
        nbformat.write(source, path)


def shrink_picture(path):
    """Write a PNG again in fewer bytes with the same pixels, if that can be done."""
    with Image.open(path) as picture:
        alpha = picture.getextrema()[3] if picture.mode == "RGBA" else None
        opaque = picture.convert("RGB") if alpha == (255, 255) else picture
        smaller = io.BytesIO()
        opaque.save(smaller, "PNG", optimize=True)
    if smaller.tell() < path.stat().st_size:
        path.write_bytes(smaller.getvalue())


def drop_icon_script(html):
    """Leave the icons to the style sheet and its font, a tenth of the script's size."""
    (html / "_static/scripts/fontawesome.js").unlink(missing_ok=True)
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(ICON_SCRIPT.sub("", text), encoding="utf-8")


def publish(new, place):
    """Swap the new site in for the old one."""
    old = place.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
