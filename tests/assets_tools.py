"""What the tests of the assets share: a web server with faults, a small catalogue."""

import http.server
import io
import json
import re
import threading
import time
import zipfile

import numpy as np
from PIL import Image


class Server:
    """Serve bytes by path on 127.0.0.1; count requests; cut off or slow down.

    ``cuts``: after how many bytes to hang up, one entry per coming request.
    ``delay``: seconds to sleep after each 16 kB.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cuts: list[int] = []
        self.delay, self.ranges = 0.0, True
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner._answer(self)

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(
            target=self._http.serve_forever, args=(0.02,), daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def _answer(self, request) -> None:
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked))
        blob = self.files.get(request.path)
        if blob is None:
            request.send_error(404)
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if start >= len(blob):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(blob) - start))
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else len(blob)
        self._send(request, blob[start:end])

    def _send(self, request, body: bytes) -> None:
        try:
            for i in range(0, len(body), 1 << 14):
                request.wfile.write(body[i : i + (1 << 14)])
                time.sleep(self.delay)
        except OSError:  # the reader was killed
            pass

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def png(seed: int, side: int = 64) -> bytes:
    """Return a PNG of noise, which does not compress."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    blob = io.BytesIO()
    Image.fromarray(pixels).save(blob, "PNG")
    return blob.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of the files, as GitHub packs a repository."""
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"repository-master/{name}", content)
    return blob.getvalue()


def toml_of(section: str, table: dict, sources: list[dict]) -> str:
    """Return one asset's entry of a catalogue (JSON scalars and lists are TOML)."""
    common = {"licence": "none", "citation": "none", "megabytes": 0.3, "digest": ""}
    lines = [f"[{section}]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in (common | table).items()]
    for source in sources:
        lines += [f"\n[[{section}.sources]]"]
        lines += [f"{k} = {json.dumps(v)}" for k, v in source.items()]
    return "\n".join(lines) + "\n\n"
