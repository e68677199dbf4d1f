"""From a grid to its units: settings, images, classes to explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xai_lib._check import check_choice
from xai_lib.assets import Classifier, ImageSet, list_models, load_model
from xai_lib.assets.images import count_images
from xai_lib.assets.text_nets import NETS as TEXT_NETS
from xai_lib.attribute import METHODS
from xai_lib.study._grid_checks import accepted
from xai_lib.study.metrics import METRICS
from xai_lib.study.provenance import versions
from xai_lib.study.units import Load, Unit, classifier, forget, images, pixels_of

if TYPE_CHECKING:
    from xai_lib.study.grid import Grid

SMALL = {"occlusion": {"window": 4, "stride": 2}, "rise": {"grid": 4}}
"""Settings on images of up to `SMALL_PIXELS`, where the default ones are too coarse."""
SMALL_PIXELS = 64
BATCH = 16  # images per pass of the prediction


def plan(grid: Grid, load: Load = load_model) -> list[Unit]:
    """Return the units of a grid: by model, method and block of images."""
    forget()
    if load is load_model:
        known = [name for name in list_models() if name not in TEXT_NETS]
        for name in grid.models:
            check_choice("model", name.partition("@")[0], known)
    return [unit for name in grid.models for unit in _units(grid, name, load)]


def _units(grid: Grid, name: str, load: Load) -> list[Unit]:
    device = grid.device if torch.cuda.is_available() else "cpu"
    net, weights = classifier(name, load, device)
    pool, read, (places, targets, small) = _read(grid, net, device)
    units = []
    for method in grid.methods:
        settings = resolved(grid, method, net, small)
        for start in range(0, len(places), grid.block):
            own = places[start : start + grid.block]
            unit = Unit(
                model=name,
                weights=weights,
                method=method,
                settings=settings,
                cutoffs=grid.cutoffs,
                kind=grid.kind,
                metrics={m: _metric(grid, m) for m in grid.metrics},
                names=tuple(pool.names[k] for k in own),
                pixels=pixels_of(net, pool.x[own], load),
                labels=tuple(None if pool.y is None else int(pool.y[k]) for k in own),
                targets=tuple(targets[start : start + grid.block]),
                threads=grid.threads,
                device=grid.device,
                versions=versions(),
                images=grid.images,
                read=read,
                places=tuple(own),
            )
            units.append(unit)
    return units


def _read(grid: Grid, net: Classifier, device: str):
    """Return images, how many were read, and what `_chosen` says of them.

    Where only some are wanted, four times as many as before are read until they are
    found: a large set need not fit into the memory.
    """
    read = grid.n
    if grid.only_correct and grid.n:
        read, there = 4 * grid.n, count_images(grid.images)
        while read < there:
            pool = _labelled(grid, read)
            found = _chosen(grid, net, pool, device)
            if len(found[0]) == grid.n:
                return pool, read, found
            read *= 4
        read = None
    pool = _labelled(grid, read)
    places, *about = _chosen(grid, net, pool, device)
    if not places or grid.n and len(places) < grid.n:
        got = f"{len(places)} of {len(pool)} that {net.name} classifies correctly"
        raise ValueError(f"images must be {grid.n or 1} at least, got {got}")
    return pool, read, (places, *about)


def _labelled(grid: Grid, read: int | None) -> ImageSet:
    pool = images(grid.images, read)
    if grid.only_correct and pool.y is None:
        raise ValueError(f"only_correct needs labelled images, got {grid.images}")
    return pool


def _chosen(grid: Grid, net: Classifier, pool: ImageSet, device: str):
    """Return the places of the images, what they are taken for, and if they are small.

    Only as many images are classified as it takes.
    """
    places, targets, n = [], [], grid.n or len(pool)
    for start in range(0, len(pool), BATCH):
        part = slice(start, start + BATCH)
        x = net.transform(pool.x[part]).to(device)
        with torch.no_grad():
            top = net.model(x).argmax(1).cpu()
        right = top == pool.y[part] if grid.only_correct else torch.ones(len(top)) > 0
        places += (start + right.nonzero().flatten()).tolist()
        targets += top[right].tolist()
        if len(places) >= n:
            break
    return places[:n], targets[:n], max(x.shape[2:]) <= SMALL_PIXELS


def resolved(grid: Grid, method: str, net: Classifier, small: bool) -> dict:
    """Return a method's settings: its own, the grid's seed, then the grid's settings.

    A layer that is called as in ``net.layers`` gets its name there.
    """
    given = dict(grid.settings.get(method, {}))
    if "layer" in given:
        given["layer"] = net.layers.get(given["layer"], given["layer"])
    base = METHODS[method].settings if method in METHODS else {}
    if given.get("layer"):
        base = base | METHODS[method].inside
    elif small:
        base = base | SMALL.get(method, {})
    return base | _seed(grid, accepted(method)) | given


def _metric(grid: Grid, name: str) -> tuple[str, dict]:
    """Return the reading of a metric and its settings."""
    own = METRICS[name].settings | _seed(grid, accepted(name))
    reading = grid.reading or METRICS[name].reading
    return reading, own | grid.settings.get(name, {})


def _seed(grid: Grid, known: list[str]) -> dict:
    return {"seed": grid.seed} if "seed" in known else {}
