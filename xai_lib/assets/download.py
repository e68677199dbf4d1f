"""Bring one file from one source: over HTTP with resume, by pip, or by npm."""

import contextlib
import hashlib
import http.client
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .catalog import Source
from .progress import Progress

CONNECT_SECONDS = 5
READ_SECONDS = 10
CLIENT_SECONDS = 900
_CHUNK = 1 << 18
_unreachable: dict[str, tuple[float, str]] = {}  # when, and what it said
ASK_AGAIN_SECONDS = 60


class SourceError(Exception):
    """A source did not deliver; the text says why in one line."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(source: Source, path: Path) -> None:
    """Refuse a file that is not the one the source promises."""
    found = sha256(path)
    wanted = source.sha256
    if source.kind == "torchvision" and (
        prefix := re.search(r"-([0-9a-f]{8,})\.pth$", source.file)
    ):
        wanted = prefix[1]  # torchvision writes the start of the sha256 into the name
    if not found.startswith(wanted):
        raise SourceError(f"sha256 of {path.name} is {found[:12]}..., wanted {wanted}")


def part_of(source: Source, folder: Path) -> Path:
    """Return where an unfinished download of a source stands."""
    return folder / f"{source.file}.part"


def bring(source: Source, folder: Path, label: str) -> Path:
    """Download a source's file into a folder, going on with an unfinished one."""
    part = part_of(source, folder)
    if source.kind in ("torchvision", "url"):
        _over_http(source, part, label)
    else:
        _by_client(source, part, label)
    path = folder / source.file
    os.replace(part, path)
    return path


def _over_http(source: Source, part: Path, label: str) -> None:
    _check_reachable(source.url)
    progress = Progress(f"{label} from {source}", source.megabytes)
    for last in (False, False, True):
        try:
            _append(source.url, part, progress)
            break
        except (OSError, http.client.HTTPException) as error:
            if last or not part.exists():
                progress.end("failed")
                raise SourceError(_reason(error)) from error
    progress.end("downloaded")


def _append(url: str, part: Path, progress: Progress) -> None:
    """Write the bytes that are missing to the part file; raise OSError if cut off."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "xai_lib"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        opener = urllib.request.build_opener()  # reads the proxies set now
        response = opener.open(request, timeout=READ_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink()  # longer than the file: start again
        return _append(url, part, progress)
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        length = response.headers.get("Content-Length")
        wanted = None if length is None else file.tell() + int(length)
        while chunk := response.read1(_CHUNK):
            file.write(chunk)
            progress.show(file.tell())
        if wanted is not None and file.tell() != wanted:
            raise OSError(f"cut off after {file.tell()} of {wanted} bytes")


def _check_reachable(url: str) -> None:
    """Fail within seconds, and once per minute, when a host does not answer."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    asked, said = _unreachable.get(host, (-math.inf, ""))
    if time.monotonic() - asked < ASK_AGAIN_SECONDS:
        raise SourceError(said)
    proxies = urllib.request.getproxies()
    if parts.scheme in proxies and not urllib.request.proxy_bypass(host):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        said = f"no connection to {host}: {_reason(error)}"
        _unreachable[host] = time.monotonic(), said
        raise SourceError(said) from error


def _reason(error: BaseException) -> str:
    """Return what an exception says, without its wrapping, on one line."""
    inner = getattr(error, "reason", None)
    error = inner if isinstance(inner, BaseException) else error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def _by_client(source: Source, part: Path, label: str) -> None:
    for left_over in part.parent.glob("client-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=part.parent, prefix="client-") as scratch:
        here = Path(scratch)
        out = here / "out"
        out.mkdir()
        command, settings = (_pip if source.kind == "pypi" else _npm)(source, here)
        progress = Progress(f"{label} from {source}", source.megabytes)
        try:
            _watch(command, settings, here, progress)
        except SourceError:
            progress.end("failed")
            raise
        written = next(out.iterdir(), None)
        if written is None:
            progress.end("failed")
            raise SourceError(f"{Path(command[0]).stem} wrote no file where it should")
        progress.end("downloaded")
        os.replace(written, part)


def _pip(source: Source, here: Path) -> tuple[list[str], dict[str, str]]:
    wanted = here / "requirements.txt"
    pin = f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n"
    wanted.write_text(pin)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--timeout", "15", "--retries", "1", "--no-input"]
    command += ["--requirement", str(wanted), "--dest", str(here / "out")]
    return command, {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _npm(source: Source, here: Path) -> tuple[list[str], dict[str, str]]:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", f"{source.package}@{source.version}", "--ignore-scripts"]
    command += ["--loglevel", "error", "--fetch-retries", "1"]
    command += ["--fetch-retry-mintimeout", "500", "--fetch-timeout", "15000"]
    command += ["--pack-destination", str(here / "out")]
    return command, {"npm_config_cache": str(here / "npm")}


def _watch(command: list[str], extra: dict, here: Path, progress: Progress) -> None:
    """Run a package client; its progress is what it has put under our folder."""
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(here))
    environment = os.environ | extra | temporary
    log = here / "log.txt"
    with open(log, "wb") as output:
        client = subprocess.Popen(
            command,
            env=environment,
            cwd=here,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + CLIENT_SECONDS
        try:
            while client.poll() is None and time.monotonic() < deadline:
                progress.show(_bytes_under(here))
                time.sleep(0.1)
        finally:
            if client.poll() is None:
                client.kill()
                client.wait()
    if client.returncode:
        raise SourceError(_last_words(log) or f"exit status {client.returncode}")


def _bytes_under(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):  # rglob raises when a folder goes meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total += os.path.getsize(os.path.join(root, name))
    return total


def _last_words(log: Path) -> str:
    """Return the line in which the client says what failed."""
    lines = log.read_text(errors="replace").splitlines()
    pattern = r"ERROR:|npm (ERR!|error)|.*No module named"
    errors = [line for line in lines if re.match(pattern, line)] or lines
    silent = "; the index did not answer" if "Retrying (" in "".join(lines) else ""
    return " ".join("; ".join(errors[:2]).split())[:200] + silent
