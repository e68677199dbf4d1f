"""What all steps share: the folders, the hash that tells what changed, a command."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("torch", "torchvision", "numpy", "matplotlib", "seaborn", "ipykernel")


class StepError(Exception):
    """A step failed; the message is all the reader needs."""


@dataclass(frozen=True)
class Places:
    """The folders of one build: a book's root and a profile."""

    root: Path
    profile: str

    @property
    def work(self):
        return self.root / "_build" / self.profile

    @property
    def site(self):
        """The staged sources: what jupyter-book reads."""
        return self.work / "site"

    @property
    def executed(self):
        """The notebooks as they ran, each with the key under which it ran."""
        return self.work / "executed"

    @property
    def ledger(self):
        return self.work / "ledger"

    @property
    def html(self):
        """The published site: `_build/html` for the default profile."""
        default = self.root / "_build" / "html"
        return default if self.profile == "laptop" else self.work / "html"


def files_below(*paths):
    """Return every file at or below the paths, sorted, caches left out."""
    found = []
    for path in paths:
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [p for p in inside if p.is_file() and "__pycache__" not in p.parts]
    return sorted(p for p in found if p.suffix != ".pyc")


def digest(files, root, *more):
    """Return one hash of the files' paths and bytes and of anything more."""
    sha = hashlib.sha256(repr(more).encode())
    for path in files:
        sha.update(str(path.relative_to(root)).encode() + b"\0")
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def library_files(root):
    """Return the files every chapter depends on: the library and the data."""
    files = files_below(root / "xai_lib", root / "data")
    return [path for path in files if path.suffix != ".md"]


def versions():
    """Return the versions a result may depend on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def seconds(duration):
    """Write a duration as a reader wants it."""
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{duration:.1f} s"


KEEP_MEMORY = dict.fromkeys(
    ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"], str(2**30)
)
"""glibc then keeps large blocks between passes instead of fetching them anew, which
takes a third of the time of a MobileNet; other systems do not know the names."""


def environment(places):
    """Return what a chapter or a script of the book finds in its environment."""
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    ours = [str(places.root), str(places.root / "book")]
    folders = {
        name: str(Path(os.environ[name]).expanduser().absolute())
        for name in ("XAI_LIB_CACHE", "XAI_LIB_MIRROR")
        if os.environ.get(name)
    }  # a chapter runs in a folder of its own
    return folders | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*ours, *filter(None, before)])),
        "XAI_LIB_LEDGER": str(places.ledger),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this venv's kernel, not the user's
        **{name: os.environ.get(name, own) for name, own in KEEP_MEMORY.items()},
    }


def run(command, places, **options):
    """Run a command with the book's environment; raise StepError when it fails."""
    env = os.environ | environment(places)
    sys.stdout.flush()
    status = subprocess.run(command, cwd=places.root, env=env, **options).returncode
    if status:
        raise StepError(f"exit status {status} of: {' '.join(map(str, command))}")
