"""Take the wanted files out of a downloaded one; nothing is extracted to disk."""

import fnmatch
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .catalog import Source

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError)
BROKEN += (RuntimeError,)  # an encrypted or unknown entry of a zip file


def members_of(source: Source, path: Path) -> dict[str, bytes]:
    """Return the wanted files by their bare name.

    Raises
    ------
    ValueError
        If the archive cannot be read or holds no such file.
    """
    if not source.member:
        return {path.name: path.read_bytes()}
    try:
        files = (_from_zip if zipfile.is_zipfile(path) else _from_tar)(
            path, source.member
        )
    except BROKEN as error:
        raise ValueError(f"{path.name} cannot be opened: {error}") from error
    if not files:
        raise ValueError(f"{path.name} holds no file {source.member}")
    return files


def _from_zip(path: Path, pattern: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = fnmatch.filter(archive.namelist(), pattern)
        return {PurePosixPath(name).name: archive.read(name) for name in names}


def _from_tar(path: Path, pattern: str) -> dict[str, bytes]:
    files = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and fnmatch.fnmatch(member.name, pattern):
                files[PurePosixPath(member.name).name] = archive.extractfile(
                    member
                ).read()
    return files
