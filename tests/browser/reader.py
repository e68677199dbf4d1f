"""Where the built site is, how it is served, and what a reader's browser does there."""

import contextlib
import functools
import http.server
import json
import os
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def site():
    """Return the site's folder: XAI_LIB_SITE, else the one built last."""
    if chosen := os.environ.get("XAI_LIB_SITE"):
        return Path(chosen).resolve()
    built = [ROOT / "_build/html", *ROOT.glob("_build/*/html")]
    built = [folder for folder in built if (folder / "index.html").exists()]
    return max(built, key=lambda folder: folder.stat().st_mtime, default=None)


SITE = site()
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for folder in ("book", "notebooks")
    for path in (SITE / folder if SITE else Path("/nowhere")).rglob("*.html")
)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *message):
        pass


@contextlib.contextmanager
def serving(folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def visit(driver, url):
    """Open a page, wait for its mathematics, forget the logs of the page before."""
    driver.get_log("performance"), driver.get_log("browser")
    driver.get(url)
    driver.execute_async_script(
        "const done = arguments[0];"
        "const ready = window.MathJax?.startup?.promise ?? Promise.resolve();"
        "ready.then(() => setTimeout(done, 100));"
    )


def requested(driver):
    """Return the addresses that the page asked for."""
    events = (
        json.loads(e["message"])["message"] for e in driver.get_log("performance")
    )
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [e["request"]["url"] for e in sent]


def until(condition, seconds=5.0):
    """Wait for a condition; tell whether it came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
