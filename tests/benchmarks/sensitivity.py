"""Sensitivity-n beside the forward passes it needs, and beside Quantus's loop."""

import math
import warnings

import torch
from cases import Case
from torch import Tensor, nn

from xai_lib.attribute._forward import rows_per_forward
from xai_lib.evaluate import sensitivity_curve, subset_sizes

try:
    import quantus
except ImportError:  # for comparison only; its column stays empty
    quantus = None

MAPS = 7  # methods that share the passes


def sensitivity_case(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    name: str,
    n_subsets: int = 100,
    points: int = 16,
) -> Case:
    """Return Sensitivity-n of several maps; the raw passes hold as many rows as its."""
    maps = {str(k): torch.randn_like(x) for k in range(MAPS)}
    sizes = subset_sizes(x[0, 0].numel(), points)
    parts = math.ceil(n_subsets / rows_per_forward(model, x))
    copies = x[:1].repeat(n_subsets, 1, 1, 1).chunk(parts)

    def raw():
        with torch.no_grad():
            for _ in range(len(x) * len(sizes)):
                for part in copies:
                    model(part)

    def ours():
        return sensitivity_curve(model, x, target, maps, sizes, n_subsets)

    label = f"sensitivity_n, {name}, {n_subsets} subsets, {len(sizes)} sizes"
    return Case(label, len(sizes) * n_subsets, raw, ours, mark=1.15)


def quantus_case(model: nn.Module, x: Tensor, target: Tensor, name: str) -> Case:
    """Return Sensitivity-n beside Quantus's metric with as many passes of the batch.

    It removes 2 values a step, so 1536 passes for 3 x 32 x 32: 16 n of 96 subsets.
    """
    passes = x[0].numel() // 2
    case = sensitivity_case(model, x, target, name, passes // 16)
    if quantus is None:
        return case
    arrays = [part.numpy() for part in (x, target, torch.randn_like(x))]

    def theirs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = quantus.SensitivityN(features_in_step=2, disable_warnings=True)
            return metric(model, *arrays, device="cpu")

    own = {"peer": theirs, "comparable": False}  # another quantity
    return Case(case.name, passes, case.raw, case.ours, mark=case.mark, **own)


def sensitivity_cases(model: nn.Module, x: Tensor, target: Tensor) -> list[Case]:
    """Return the rows: our CIFAR-10 nets in full, the large net with fewer subsets."""
    from xai_lib.assets import load_images, load_model

    small = {name: load_model(name) for name in ("cifar_cnn", "cifar_vgg11")}
    cifar = load_images("cifar10", len(x))
    images = small["cifar_cnn"].transform(cifar.x)
    own = {name: (net.model, images, cifar.y) for name, net in small.items()}
    return [
        sensitivity_case(*own["cifar_cnn"], "cifar_cnn"),
        quantus_case(*own["cifar_vgg11"], "cifar_vgg11"),
        sensitivity_case(model, x, target, "resnet18", 24, 2),
    ]
