"""What was put on trial: the images as the network sees them, settings, versions."""

import json
from contextlib import suppress
from importlib.metadata import version

from torch import Tensor
from torch.nn import functional as F

from xai_lib.analyse import chance_csc
from xai_lib.assets import Classifier
from xai_lib.assets.transform import Transform
from xai_lib.study.grid import Grid
from xai_lib.study.provenance import provenance
from xai_lib.study.trial_tests import Case, stations, top_layer

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib")


def seen(net: Classifier, images: Tensor, x: Tensor) -> Tensor:
    """Return images as the network sees them, in [0, 1], cropped as its input is."""
    if isinstance(net.transform, Transform):
        return net.transform.invert(x).clamp(0, 1)
    if x.shape[1] not in (1, 3):
        return F.interpolate(images, x.shape[2:], mode="bilinear", antialias=True)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-6)


def about(case: Case, grid: Grid, names: list[str], seconds: float) -> dict[str, str]:
    """Return what was run and where, as texts."""
    net, path = case.net, {}
    weights = sum(p.numel() for p in net.model.parameters())
    with suppress(ValueError):  # else the tests say so as well
        start, lowest, channels = stations(net, case.x)
        chance = f"{chance_csc(channels):.2f}"
        path |= {"start": start, "lowest": lowest, "chance": chance}
    with suppress(ValueError):
        path["top"] = top_layer(net.model, case.x)
    return {
        "network": f"{net.name} ({type(net.model).__name__})",
        "weights": f"{weights:,} parameters, {len(net.classes):,} classes",
        "input": " x ".join(map(str, case.x.shape[1:])),
        "images": f"{len(names)} image{'s' * (len(names) != 1)} of {grid.images}",
        "files": ", ".join(names),
        "cutoff": f"{grid.cutoffs[1]:g}",
        "localisation": case.setting,
        "settings": json.dumps(grid.settings, sort_keys=True),
        "seed": str(grid.seed),
        **path,
        **provenance(grid.device, grid.threads),
        "seconds": f"{seconds:.0f}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
