"""Where a number comes from: commit, versions, device, date."""

import datetime
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parents[1]


def provenance(device: str, threads: int) -> dict[str, str]:
    """Return where and when a number was made, as four texts.

    Parameters
    ----------
    device : "cpu", "cuda" or "cuda:1"
    threads : how many the processor works with

    Examples
    --------
    >>> list(provenance("cpu", 1))
    ['commit', 'versions', 'device', 'date']
    """
    return {
        "commit": commit(),
        "versions": versions(),
        "device": _device(device, threads),
        "date": datetime.date.today().isoformat(),
    }


@lru_cache(maxsize=1)
def versions() -> str:
    """Return the versions of what computes."""
    try:
        own = version("xai_lib")
    except PackageNotFoundError:  # a folder on the path, not installed
        own = "not installed"
    return (
        f"xai_lib {own}, torch {torch.__version__}, Python {platform.python_version()}"
    )


@lru_cache(maxsize=1)
def commit() -> str:
    """Return the commit of the checkout, "+changes" where the library differs from it.

    An installed library that happens to lie below someone's checkout has none.
    """
    head = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
    if len(head) != 2 or Path(head[0]).resolve() != PACKAGE.parent:
        return "not in a checkout"
    changed = _git("status", "--porcelain", "--", PACKAGE.name)
    return head[1][:12] + "+changes" * bool(changed)


def _git(*asked: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *asked], cwd=PACKAGE.parent, capture_output=True, text=True
        )
    except OSError:  # no git here
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _device(device: str, threads: int) -> str:
    if torch.device(device).type == "cuda":
        here = torch.cuda.is_available()
        return torch.cuda.get_device_name(device) if here else device
    plural = "s" * (threads != 1)
    return f"CPU ({platform.machine()}), {threads} thread{plural}"
