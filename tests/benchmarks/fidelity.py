"""Deletion, insertion and muFidelity beside the forward passes that they need."""

import math
import warnings

import torch
from cases import Case, forward_passes
from sensitivity import quantus
from torch import Tensor, nn

from xai_lib.attribute._forward import rows_per_forward
from xai_lib.evaluate import deletion, insertion, mu_fidelity

STEPS = 28
MAPS = 10  # maps of one image that share muFidelity's passes


def curve_case(
    metric, model: nn.Module, x: Tensor, target: Tensor, name: str, steps: int = STEPS
) -> Case:
    """Return deletion or insertion beside as many passes of the batch."""
    maps, passes = torch.randn_like(x[:, 0]), steps + 1
    return Case(
        f"{metric.__name__}, {name}, {steps} steps",
        passes,
        lambda: forward_passes(model, x, passes),
        lambda: metric(model, x, maps, target, steps),
        mark=1.15,
    )


def flipping_case(model: nn.Module, x: Tensor, target: Tensor, name: str) -> Case:
    """Return deletion beside Quantus's PixelFlipping, both with 24 steps.

    Its step flips values of channels, not pixels, as many as divide H W, and runs the
    whole batch once; the whole image is left out, so it runs one pass fewer.
    """
    case = curve_case(deletion, model, x, target, name, 8 * x.shape[1])
    if quantus is None:
        return case
    arrays = [part.numpy() for part in (x, target, torch.randn_like(x))]
    share = x[0, 0].numel() // 8

    def theirs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = quantus.PixelFlipping(share, disable_warnings=True)
            return torch.tensor(metric(model, *arrays, device="cpu"))  # the curves

    peer = {"peer": theirs, "comparable": False}  # other pixels, another baseline
    return Case(case.name, case.passes, case.raw, case.ours, mark=case.mark, **peer)


def mu_case(
    model: nn.Module, x: Tensor, target: Tensor, name: str, n_subsets: int = 200
) -> Case:
    """Return muFidelity of several maps of one image; the raw passes are as large."""
    maps, parts = torch.randn(MAPS, *x.shape[2:]), rows_per_forward(model, x)
    parts = x[:1].repeat(n_subsets, 1, 1, 1).chunk(math.ceil(n_subsets / parts))
    one, c = x[:1].expand(MAPS, -1, -1, -1), target[:1].expand(MAPS)

    def raw():
        with torch.no_grad():
            for part in (x[:1], *parts):
                model(part)

    return Case(
        f"mu_fidelity, {name}, {n_subsets} subsets, {MAPS} maps",
        n_subsets + 1,
        raw,
        lambda: mu_fidelity(model, one, maps, c, n_subsets),
        mark=1.15,
    )


def fidelity_cases(model: nn.Module, x: Tensor, target: Tensor) -> list[Case]:
    """Return the rows: the large net, and one of ours for CIFAR-10."""
    from xai_lib.assets import load_images, load_model

    small, cifar = load_model("cifar_vgg11"), load_images("cifar10", len(x))
    own = small.model, small.transform(cifar.x), cifar.y, "cifar_vgg11"
    large = model, x, target, "resnet18"
    rows = []
    for net in (large, own):
        rows += [curve_case(metric, *net) for metric in (deletion, insertion)]
        rows += [flipping_case(*net), mu_case(*net)]
    return rows
