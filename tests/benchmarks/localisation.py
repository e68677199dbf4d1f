"""DiFull beside the forward and backward passes that its maps need."""

from functools import partial

import torch
from cases import Case, backward_passes
from torch import Tensor, nn

from xai_lib.attribute import METHODS
from xai_lib.evaluate import di_full

STEPS, SAMPLES = 8, 4
OWN = {
    "integrated_gradients": {"steps": STEPS},
    "smoothgrad": {"n_samples": SAMPLES},
    "squaregrad": {"n_samples": SAMPLES},
    "vargrad": {"n_samples": SAMPLES},
}


def grid_case(model: nn.Module, x: Tensor) -> Case:
    """Return DiFull of the whole gradient family at the input, both heads.

    x : eight images, which make eight grids. A pass is counted for the one cell that a
    head sees; for the whole grid it would be four times as long.
    """
    places = torch.arange(len(x))
    cells = torch.stack([x[(places + k) % len(x)] for k in range(4)], 1)
    targets = torch.tensor([[0, 1, 2, 0]]).repeat(len(x), 1)
    family = [name for name in METHODS if METHODS[name].family == "gradient"]
    passes = sum([*OWN.get(name, {"one": 1}).values()][0] for name in family)
    seen = [
        cells[:, head].contiguous(memory_format=torch.channels_last) for head in (0, 3)
    ]

    def raw():
        for part in seen:
            backward_passes(model, part, targets[:, 0], passes)

    def ours():
        scores = [
            di_full(model, cells, targets, partial(METHODS[name], **OWN.get(name, {})))
            for name in family
        ]
        return torch.stack(scores)

    name = f"di_full, {len(family)} gradient methods, {len(x)} grids"
    return Case(name, 2 * passes, raw, ours, mark=1.3)
