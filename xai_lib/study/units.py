"""One unit of the grid: a model, a method and a few images, under every metric."""

import inspect
import json
import math
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib.analyse import gradient_magnitude
from xai_lib.assets import Classifier, load_images, load_model
from xai_lib.assets.progress import without_late_lines
from xai_lib.attribute import METHODS
from xai_lib.evaluate.removal import own_seed
from xai_lib.study.metrics import digest, forget_falls
from xai_lib.study.provenance import provenance, versions
from xai_lib.study.scores import judge, reason

Load = Callable[[str], Classifier]
_ONE_AT_A_TIME = threading.Lock()  # hooks and random states belong to the process


def random_map(model: nn.Module, x: Tensor, target: Tensor, *, seed: int = 0) -> Tensor:
    """Return N(0, 1) per pixel and channel, other values for each image and seed.

    Examples
    --------
    >>> random_map(None, torch.zeros(2, 3, 4, 4), None).shape
    torch.Size([2, 3, 4, 4])
    """
    made = [torch.Generator().manual_seed(own_seed(one, seed, "map")) for one in x]
    return torch.stack([torch.randn(x.shape[1:], generator=g) for g in made]).to(x)


def edges(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return `gradient_magnitude` of the image, (B, 1, H, W)."""
    return gradient_magnitude(x).view(len(x), 1, *x.shape[2:])


CONTROLS: dict[str, Callable[..., Tensor]] = {"random": random_map, "edges": edges}
"""Maps that know nothing of the model, to stand beside the methods."""


@dataclass(frozen=True)
class Unit:
    """All that determines the values of some rows, and where its images are."""

    model: str
    weights: str  # a hash, as is pixels
    method: str
    settings: dict
    cutoffs: tuple[float, ...]
    kind: str
    metrics: dict[str, tuple[str, dict]]  # name -> reading, settings
    names: tuple[str, ...]
    pixels: str
    labels: tuple[int | None, ...]
    targets: tuple[int, ...]
    threads: int
    device: str
    versions: str
    images: str  # the last three say where to look, and are not in the key
    read: int | None
    places: tuple[int, ...]

    @property
    def key(self) -> str:
        """A hash of all but where the images are."""
        held = asdict(replace(self, images="", read=None, places=()))
        return sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:20]


@lru_cache(maxsize=1)
def classifier(name: str, load: Load, device: str) -> tuple[Classifier, str]:
    """Return a model on a device, and a hash of its weights."""
    net = load(name)
    state = net.model.state_dict()
    held = " ".join([*state, digest(*state.values())])
    held += "" if load is load_model else structure(net.model)
    if torch.device(device).type != "cpu":
        net = replace(net, model=deepcopy(net.model).to(device))
    return net, sha256(held.encode()).hexdigest()[:20]


def structure(model: nn.Module) -> str:
    """Return what a model computes beside its weights: its layers, its own classes.

    Examples
    --------
    >>> structure(nn.MaxPool2d(2)) == structure(nn.AvgPool2d(2))
    False
    """
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    kinds = {type(module) for module in model.modules()}
    foreign = [kind for kind in kinds if not kind.__module__.startswith("torch.")]
    return " ".join([layers, *sorted(map(_source, foreign))])


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt
        return f"{kind.__module__}.{kind.__qualname__}"


def pixels_of(net: Classifier, x: Tensor, load: Load) -> str:
    """Return a hash of raw images; with what a model makes of them, if not ours."""
    return digest(x) if load is load_model else digest(x, net.transform(x))


images = lru_cache(maxsize=1)(load_images)
"""`load_images`, which remembers the last set."""


def forget() -> None:
    """Let go of the model and the images that this process remembers."""
    classifier.cache_clear()
    images.cache_clear()
    forget_falls()


def measure(unit: Unit, load: Load = load_model) -> list[dict]:
    """Return the rows of a unit: one for each image and cutoff.

    Parameters
    ----------
    unit : Unit
    load : returns a Classifier by its name

    Returns
    -------
    list of dict, as `rows_of`

    Raises
    ------
    RuntimeError
        If this process has other versions, weights or images than the plan.
    """
    with _ONE_AT_A_TIME, _quietly(unit.threads):
        net, x = _inputs(unit, load)
        x = net.transform(x).to(unit.device)  # (B, C, H, W)
        c = torch.tensor(unit.targets, device=x.device)
        explain = partial(explained, unit.method, unit.settings)
        try:
            maps, seconds = _timed(explain, net.model, x, c)
        except ValueError as error:
            return rows_of(unit, note=reason(error))
        how = {"cutoffs": unit.cutoffs, "kind": unit.kind, "metrics": unit.metrics}
        parts = [(x[i : i + 1], c[i : i + 1], maps[i : i + 1]) for i in range(len(x))]
        found = [judge(net.model, *part, explain, **how) for part in parts]
        return rows_of(unit, found, seconds / len(x))


def _inputs(unit: Unit, load: Load) -> tuple[Classifier, Tensor]:
    """Return the model and the raw images of a unit, which must be the plan's."""

    def look() -> tuple:
        net, weights = classifier(unit.model, load, unit.device)
        x = images(unit.images, unit.read).x[list(unit.places)]
        found = {"versions": versions(), "weights": weights}
        return net, x, found | {"pixels": pixels_of(net, x, load)}

    planned = {what: getattr(unit, what) for what in ("versions", "weights", "pixels")}
    net, x, found = look()
    if found != planned:  # what is remembered may be of an earlier run
        forget()
        net, x, found = look()
    for what, mark in found.items():
        if mark != planned[what]:
            wanted = f"{what} here must be as planned, {planned[what]}"
            raise RuntimeError(f"{wanted}, got {mark} ({unit.model}, {unit.images})")
    return net, x


def explained(method: str, settings: dict, model, x: Tensor, target: Tensor) -> Tensor:
    """Return the maps of a method, or of a control, signed and of x's size."""
    maps = {**METHODS, **CONTROLS}[method](model, x, target, **settings).detach()
    if maps.shape[2:] == x.shape[2:]:
        return maps
    return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)


def rows_of(unit: Unit, found=None, seconds: float = math.nan, note="") -> list[dict]:
    """Return rows with all of a unit's columns, image by image.

    Parameters
    ----------
    found : of each image what `judge` returns; None for rows that say why there is none
    seconds : for one map
    note : why there is none
    """
    none = {name: [math.nan] * len(unit.cutoffs) for name in unit.metrics}
    found = found or [(none, [note] * len(unit.cutoffs))] * len(unit.names)
    settings = json.dumps(unit.settings, sort_keys=True)
    made = {"seconds": seconds, "key": unit.key}
    made |= provenance(unit.device, unit.threads)
    about = zip(unit.names, unit.labels, unit.targets, found, strict=True)
    return [
        {"model": unit.model, "method": unit.method, "settings": settings}
        | {"kind": unit.kind, "cutoff": f"{cutoff:g}"}
        | {"image": image, "label": label, "target": target}
        | {name: values[name][k] for name in unit.metrics}
        | {"note": notes[k], **made}
        for image, label, target, (values, notes) in about
        for k, cutoff in enumerate(unit.cutoffs)
    ]


def _timed(explain: Callable, model, x: Tensor, c: Tensor) -> tuple[Tensor, float]:
    """Return maps, and seconds: of the processor, or by the clock on a GPU."""
    if x.device.type != "cuda":
        begun = time.process_time()
        maps = explain(model, x, c)
        return maps, time.process_time() - begun
    torch.cuda.synchronize(x.device)
    begun = time.perf_counter()
    maps = explain(model, x, c)
    torch.cuda.synchronize(x.device)
    return maps, time.perf_counter() - begun


@contextmanager
def _quietly(threads: int) -> Iterator[None]:
    """Set torch's threads for a block; what is undefined is noted, not warned of."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings(), without_late_lines():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)
