"""The tests of a trial that need a network and not only a map, method by method."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib.analyse import csc
from xai_lib.assets import Classifier
from xai_lib.assets.layers import last_spatial_layer, spatial_layers
from xai_lib.attribute import METHODS
from xai_lib.evaluate import (
    cascading_randomisation,
    random_logit,
    reduction_of,
    sample_grids,
    similarity,
)
from xai_lib.evaluate.grids import output_of
from xai_lib.evaluate.localisation import SCORES
from xai_lib.evaluate.randomise import modules_from
from xai_lib.evaluate.sanity import PERCENTILES
from xai_lib.study.scores import Explain, remembered
from xai_lib.study.units import CONTROLS

SSIM_SIDE = 5  # smaller maps, as of a CAM on a small image, are scaled up to the image
CHANNELS = 8  # a lowest layer has at least as many, or chance is near 1
VECTORS = 5
GRIDS = 4  # as many as an interval needs
CELLS = 4
NOT_ASKED = "not asked: it is no single backward pass with rules"


@dataclass(frozen=True)
class Case:
    """What is explained: a network, a few images, the classes it predicts."""

    net: Classifier
    x: Tensor  # (B, C, H, W), as the network wants it
    c: Tensor  # (B,)
    seed: int
    setting: str  # of the localisation


def asked(case: Case, name: str, settings: dict) -> Callable[..., Tensor]:
    """Return a method or a control with its settings, named as in METHODS.

    Maps of the case's own network are computed once.
    """
    function = {**METHODS, **CONTROLS}[name]

    def explain(model, x, target, *, layer=None) -> Tensor:
        own = settings | ({"layer": layer} if layer and name in METHODS else {})
        maps = function(model, x, target, **own).detach()
        if min(maps.shape[2:]) >= SSIM_SIDE:
            return maps
        return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)

    once: Explain = remembered(explain)

    def call(model, x, target, *, layer=None) -> Tensor:
        if model is case.net.model and layer is None:
            return once(model, x, target)
        return explain(model, x, target, layer=layer)

    call.name = name
    return call


def other_class(case: Case, name: str, settings: dict, explain: Callable) -> list[dict]:
    """Return SSIM with the map of another class, and with that of another image."""
    own = random_logit(case.net.model, case.x, case.c, explain, case.seed)
    R = reduction_of(name)(explain(case.net.model, case.x, case.c))
    score = partial(similarity, percentile=PERCENTILES.get(name, 99.5))
    two = score(R, R.roll(1, 0)) if len(R) > 1 else own.new_full((1,), torch.nan)
    return [
        {"image": i, "other_class": a, "other_image": b}
        for i, (a, b) in enumerate(zip(own.tolist(), two.tolist(), strict=True))
    ]


def random_weights(
    case: Case, name: str, settings: dict, explain: Callable
) -> list[dict]:
    """Return SSIM with the maps of copies: top layer random, all weights random."""
    layers = {"top_random": top_layer(case.net.model, case.x), "all_random": "input"}
    call = case.net.model, case.x, case.c, explain, [*layers.values()]
    found = cascading_randomisation(*call, seed=case.seed)
    columns = {called: found[layer].tolist() for called, layer in layers.items()}
    return [
        {"image": i} | {called: values[i] for called, values in columns.items()}
        for i in range(len(case.x))
    ]


def convergence(case: Case, name: str, settings: dict, explain: Callable) -> list[dict]:
    """Return the median |cosine| of random vectors sent down, per image."""
    if name != "gradient" and (name in CONTROLS or METHODS[name].family != "modified"):
        raise ValueError(NOT_ASKED)
    start, lowest, _ = stations(case.net, case.x)
    own = {key: value for key, value in settings.items() if key != "layer"}
    method = partial(METHODS[name].function, **own)
    cosines = csc(case.net.model, case.x, method, start, [lowest], VECTORS, case.seed)
    values = cosines[lowest].flatten(1).nanmedian(1).values.tolist()
    return [{"image": i, "csc": value} for i, value in enumerate(values)]


def localisation(
    case: Case, name: str, settings: dict, explain: Callable
) -> list[dict]:
    """Return the share of positive attribution in its cell, by grid and head."""
    cells, targets = grids(case)
    cam = name in METHODS and METHODS[name].family == "cam"
    own = settings.get("layer")
    layer = own or (last_spatial_layer(case.net.model, case.x) if cam else None)
    shares = SCORES[case.setting](case.net.model, cells, targets, explain, layer)
    return [
        {"grid": i, "head": k, "share": share, "layer": layer or "input"}
        for i, row in enumerate(shares.tolist())
        for k, share in enumerate(row)
    ]


def grids(case: Case) -> tuple[Tensor, Tensor]:
    """Return grids of 2 x 2 images and their classes.

    In DiFull the last cell shows the first image mirrored, so that one class stands in
    two cells although few images have one class.
    """
    if case.setting == "grid_pg":
        rows = sample_grids(case.c.cpu(), 2, GRIDS, "grid_pg", case.seed)
        return case.x[rows], case.c[rows].cpu()
    rows = []
    for i, c in enumerate(case.c.tolist()):
        others = {k: j for j, k in reversed([*enumerate(case.c.tolist())]) if k != c}
        if len(others) >= 2:
            later = sorted(others.values(), key=lambda j, i=i: (j - i) % len(case.c))
            rows.append([i, *later[:2], i])
    if not rows:
        seen = len(case.c.unique())
        raise ValueError(
            f"a grid needs images of 3 classes, the network sees {seen} in "
            f"{len(case.c)} images"
        )
    rows = torch.tensor(rows[:GRIDS])
    cells = case.x[rows]  # (grids, 4, C, H, W)
    cells[:, CELLS - 1] = cells[:, 0].flip(-1)
    return cells, case.c.cpu()[rows]


def top_layer(model: nn.Module, x: Tensor) -> str:
    """Return the module with weights that starts to run last."""
    for name in reversed(modules_from(model, x, "input")):
        if modules_from(model, x, name) == [name]:
            return name
    raise ValueError("no layer with weights runs last: its weights are in one module")


def stations(net: Classifier, x: Tensor) -> tuple[str, str, int]:
    """Return where random vectors start, the lowest layer and its channels.

    They start at the last layer with positions; the lowest is the first layer with
    positions and at least 8 channels.
    """
    layers = list(spatial_layers(net.model, x, tokens=True))
    start = net.layers.get("final") or (layers[-1] if layers else None)
    for name in layers:
        one = output_of(net.model, name, x[:1])
        channels = one.shape[1] if one.ndim == 4 else one.shape[2]
        if name == start:
            break
        if channels >= CHANNELS:
            return start, name, channels
    raise ValueError("two layers with positions and 8 channels are needed, found fewer")


TESTS: dict[str, Callable[[Case, str, dict, Callable], list[dict]]] = {
    "class": other_class,
    "weights": random_weights,
    "convergence": convergence,
    "localisation": localisation,
}
"""By name: (case, method's name, its settings, `asked`) -> rows of a table."""
