"""Relevance propagation and CSC on a ResNet, beside the raw pass and zennit's."""

import copy

import torch
from cases import Case, backward_passes
from torch import Tensor, nn
from torch.nn.utils import fusion

from xai_lib.analyse import csc
from xai_lib.analyse.convergence import _pairs, _per_position
from xai_lib.attribute import backprop

try:
    import zennit.composites
    import zennit.torchvision
except ImportError:  # for comparison only; its columns stay empty
    zennit = None

VECTORS = 5
STARTS = ("layer4.1", "layer4.0", "layer3.1", "layer3.0", "layer2.1")
LAYERS = ("layer4.0", "layer3.1", "layer3.0", "layer2.1", "layer2.0", "layer1", "input")


def without_norms(net: nn.Module) -> nn.Module:
    """Return a ResNet of basic blocks with its BatchNorms folded by torch.

    zennit before 1.0 folds them wrongly.
    """
    net = copy.deepcopy(net)
    blocks = [block for n in "1234" for block in getattr(net, f"layer{n}")]
    for block in [net, *blocks]:
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
            if hasattr(block, conv):
                pair = getattr(block, conv), getattr(block, norm)
                setattr(block, conv, fusion.fuse_conv_bn_eval(*pair))
                setattr(block, norm, nn.Identity())
        if getattr(block, "downsample", None):
            folded = fusion.fuse_conv_bn_eval(*block.downsample)
            block.downsample = nn.Sequential(folded)
    return net.requires_grad_(False)


def zennits_map(net: nn.Module, x: Tensor, target: Tensor, composite) -> Tensor:
    """Return zennit's relevance of the target logits."""
    with composite.context(net) as prepared:
        leaf = x.clone().requires_grad_()
        logits = prepared(leaf)
        chosen = nn.functional.one_hot(target, logits.shape[1])
        return torch.autograd.grad(logits, leaf, chosen * logits.detach())[0]


def _alpha_beta():
    """Return zennit's composite for our "alpha2_beta1": every weighted map alike."""
    rules, types = zennit.rules, zennit.types
    layers = [
        (types.Activation, rules.Pass()),
        (zennit.layer.Sum, rules.Norm()),
        (types.AvgPool, rules.Norm()),
        (types.Linear, rules.AlphaBeta(2, 1)),
    ]
    canonizers = [zennit.torchvision.ResNetCanonizer()]
    return zennit.composites.LayerMapComposite(layers, canonizers=canonizers)


def _epsilon_plus():
    canonizers = [zennit.torchvision.ResNetCanonizer()]
    return zennit.composites.EpsilonPlus(canonizers=canonizers)


def relevance_cases(model: nn.Module, x: Tensor, target: Tensor) -> list[Case]:
    """Return the rows of relevance propagation."""
    folded, exact = without_norms(model), copy.deepcopy(model).double()
    marks = {"epsilon_plus": (1.8, _epsilon_plus), "alpha2_beta1": (2.6, _alpha_beta)}

    def case(name: str, mark: float, theirs) -> Case:
        def gap() -> float:  # of one image in float64; rounding grows where sums cancel
            one = x[:1].double()
            wanted = zennits_map(without_norms(exact), one, target[:1], theirs())
            ours = backprop.lrp(exact, one, target[:1], composite=name)
            return ((ours - wanted).abs().max() / wanted.abs().max()).item()

        return Case(
            f"lrp, {name}",
            1,
            lambda: backward_passes(model, x, target, 1),
            lambda: backprop.lrp(model, x, target, composite=name),
            (lambda: zennits_map(folded, x, target, theirs())) if zennit else None,
            mark,
            gap=gap,
        )

    return [case(name, *own) for name, own in marks.items()]


def csc_case(model: nn.Module, x: Tensor) -> Case:
    """Return CSC beside what a method alone would need: an image for each vector."""

    shapes = backprop.Chain(model, x[:1], "gradient", [*STARTS]).values
    images = x.repeat(VECTORS, 1, 1, 1).contiguous(memory_format=torch.channels_last)

    def repeated():
        for i, start in enumerate(STARTS):
            vectors = torch.randn(1, len(images), *shapes[start].shape[1:])
            layers = [*LAYERS[max(i - 1, 0) :]]
            R = backprop.signals(model, images, "epsilon_plus", start, layers, vectors)
            for layer, maps in R.items():
                maps = maps.unflatten(1, (VECTORS, len(x)))[0]  # (V, B, ...)
                _pairs(maps, layer, _per_position)

    def ours():
        return csc(model, x, "lrp_epsilon_plus", STARTS, LAYERS, VECTORS)

    name = f"csc, {VECTORS} vectors from {len(STARTS)} layers, {len(x)} images"
    return Case(name, 1, repeated, ours, mark=1 / 3)
