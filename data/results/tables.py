"""What the scripts here share: shards, and tables that keep what was there before."""

import csv
import datetime
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
KEYS = {"model", "weights", "how", "method", "quantity", "law", "width", "kind"}
KEYS |= {"weighting", "matrix", "setting", "at", "cells", "order", "bin", "kernel"}
KEYS |= {"reduction", "reading", "cutoff"}


def current_commit() -> str:
    """Return the commit that is checked out, "+changes" where what computes differs."""

    def git(*asked: str) -> str:
        answer = subprocess.run(
            ["git", *asked], cwd=HERE, capture_output=True, text=True
        )
        return answer.stdout.strip()

    changed = git("status", "--porcelain", "--", "../../xai_lib", "*.py")
    commit = git("rev-parse", "HEAD")
    return commit + "+changes" * bool(changed) if commit else "not in a checkout"


def short(commit: str) -> str:
    """Return a commit in twelve digits; "+changes" stays, and so does what is none."""
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]*", r"\1", commit)


def head_of(
    script: str, commits: set[str], seconds: float, notes: dict, **found: str
) -> str:
    """Return the head of a table: where it comes from, and the notes.

    `found` replaces what this process would say: versions, device, date.
    """
    lines = {
        "script": f"data/results/{script}",
        "commit": " and ".join(sorted({*map(short, commits)})),
        "date": f"{datetime.date.today()}",
        "versions": f"xai_lib {version('xai_lib')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "device": f"CPU ({platform.machine()}), 1 thread",
        "seconds": f"{seconds:.0f} of processor time",
    }
    lines |= found | notes
    return "".join(f"# {key}: {value}\n" for key, value in lines.items())


def save(path: Path, arrays: dict) -> None:
    """Write a shard, a compressed file of arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.npz")
    np.savez_compressed(part, **arrays)
    os.replace(part, path)


def compute(shard: Path, commit: str, measure: Callable[[], dict]) -> None:
    """Write what a function returns, with its processor time, if it is not there."""
    if shard.exists():
        return
    start = time.process_time()
    found = measure()
    seconds = time.process_time() - start
    save(shard, found | {"seconds": seconds, "commit": commit})
    print(shard.parent.name, shard.stem, f"{seconds:.0f} s", flush=True)


def opened(paths: Iterable[Path]) -> tuple[dict, set[str], float]:
    """Return shards by path, the commits they come from, and their seconds together."""
    held = {path: np.load(path) for path in sorted(paths)}
    commits = {str(one["commit"]) for one in held.values()}
    return held, commits, sum(float(one["seconds"]) for one in held.values())


def write_table(name: str, head: str, columns: str, rows) -> None:
    """Write one CSV file, whole or not at all.

    Rows of the present file stay if their key (network, weights, method: the columns
    of `KEYS`) is in none of the new rows: shards live in ``_build`` and go with the
    machine, so a later run adds to a table. Commits and dates of the head are joined.

    Parameters
    ----------
    head : str
        Provenance, lines of ``# key: value``.
    rows : iterable of tuple
        Cells in the order of `columns`.
    """
    path, fields = HERE / name, columns.split(",")
    at = [i for i, field in enumerate(fields) if field in KEYS]
    rows = [[str(cell) for cell in row] for row in rows]
    made = {tuple(row[i] for i in at) for row in rows}
    before, old = read_table(path, fields)
    kept = [row for row in old if tuple(row[i] for i in at) not in made]
    if kept:
        head = join_heads(before, head, len(kept), len(rows))
    place = {tuple(row[i] for i in at): n for n, row in reversed([*enumerate(old)])}
    rows = sorted(
        kept + rows, key=lambda row: place.get(tuple(row[i] for i in at), len(old))
    )
    part = path.with_name(f".{name}.part")
    with open(part, "w", newline="") as file:
        file.write(head)
        csv.writer(file, lineterminator="\n").writerows([fields, *rows])
    os.replace(part, path)
    size = path.stat().st_size // 1024
    print(f"{name}: {len(rows)} rows, {len(kept)} of them kept, {size} kB")


def read_table(path: Path, fields: list[str]) -> tuple[str, list[list[str]]]:
    """Return the head and the rows of a table; nothing if its columns are others."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    head = "".join(line for line in lines if line.startswith("#"))
    found = [*csv.reader(line for line in lines if not line.startswith("#"))]
    if not found or found[0] != fields:
        return "", []
    return head, found[1:]


def join_heads(before: str, head: str, kept: int, new: int) -> str:
    """Return the new head, with the commits, dates and versions of the old one."""
    for key, gap in (("commit", " and "), ("date", " and "), ("versions", "; ")):
        found = [re.search(f"# {key}: (.*)\n", text) for text in (before, head)]
        parts = [part for hit in found if hit for part in hit[1].split(gap)]
        joined = gap.join(dict.fromkeys(parts))
        head = re.sub(
            f"# {key}: .*\n", lambda _, j=joined, k=key: f"# {k}: {j}\n", head
        )
    took = re.search("# seconds: ([0-9]+)", before)
    note = f"# runs: {new} rows of the last run, {kept} of earlier ones"
    if took:
        note += f", in a table whose last run took {took[1]} s"
    return head + note + "\n"
