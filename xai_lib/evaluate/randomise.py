"""Networks whose upper layers have forgotten everything: copies with random weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from xai_lib._check import check_choice, check_images, check_model
from xai_lib.attribute._forward import find_layer

HOW = ("fresh", "rescaled")

SCALED = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
)
"""Modules whose output is proportional to (weight, bias), so it can be rescaled.
Attention's is to those of its last map, which it does not call as a module."""

SCALE_IMAGES = 16
SEEDS = 2**31  # added to a seed, so that a net made with seed 0 is not made again


def randomised(
    model: nn.Module, x: Tensor, layer: str, how: str = "fresh", seed: int = 0
) -> nn.Module:
    """Return a copy of the model with random weights from a layer to the output.

    Parameters
    ----------
    model : Module in eval mode; it stays as it is
    x : Tensor, shape (B, C, H, W): decides which modules run behind the layer, and
        gives the scale for "rescaled"
    layer : name of the first module to lose its weights; "input" means all of them
    how : "fresh", as the modules initialise themselves, or "rescaled", after which each
        module's weights are multiplied so that its output keeps its size
    seed : of the weights; every layer's copy takes them from one random network

    Returns
    -------
    Module in eval mode, on the model's device

    Notes
    -----
    "Behind the layer" is the order in which modules start to run. Fresh weights are
    ``reset_parameters`` of the module itself: PyTorch's default, not a network's own
    scheme, and BatchNorm forgets its statistics; [sixt2020]_ took Keras's default
    (Glorot uniform, zero biases). A parameter of a module without ``reset_parameters``
    (a class token, a layer scale) is shuffled.
    "Rescaled": in one pass of the first 16 images, module by module, weight and bias of
    each convolution, linear and norm layer, and of the last map of each attention, are
    multiplied by the ratio of the output's standard deviation in the trained network to
    that in the copy, over images, channels and positions. Random upper layers then pass
    on what [binder2023]_ point out, the size of the activations, as the trained ones
    do.

    References
    ----------
    [adebayo2018]_, [sixt2020]_, [binder2023]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)).eval()
    >>> copy = randomised(net, torch.ones(1, 1, 2, 2), "2")
    >>> same = [torch.equal(copy[i].weight, net[i].weight) for i in (1, 2)]
    >>> same
    [True, False]
    """
    check_model(model)
    check_images(x)
    check_choice("how", how, HOW)
    names = modules_from(model, x, layer)
    random, net = _fresh(model, seed), deepcopy(model)
    for name in names:
        old, new = net.get_submodule(name), random.get_submodule(name)
        with torch.no_grad():
            for a, b in zip(_own(old), _own(new), strict=True):
                a.copy_(b)
    if how == "rescaled":
        images = x[:SCALE_IMAGES]
        _match(net, images, names, _spreads(model, images, names))
    return net


def modules_from(model: nn.Module, x: Tensor, layer: str) -> list[str]:
    """Return the names of the modules with weights that start to run with the layer."""
    if layer != "input":
        find_layer(model, layer)
    started: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: started.append(name))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    order = {name: place for place, name in reversed(list(enumerate(started)))}
    if layer not in order and layer != "input":
        raise ValueError(f"layer must run in a forward pass, got {layer!r}")
    first = 0 if layer == "input" else order[layer]

    def start(name: str) -> int:
        while name not in order:  # called by its parent, not by itself
            name = name.rpartition(".")[0]
        return order[name]

    return [
        name
        for name, module in model.named_modules()
        if _own(module) and start(name) >= first
    ]


def _own(module: nn.Module) -> list[Tensor]:
    """Return a module's own parameters and buffers."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _fresh(model: nn.Module, seed: int) -> nn.Module:
    net = deepcopy(model).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(SEEDS + seed)  # not the GPU's
        for module in net.modules():
            reset = getattr(module, "reset_parameters", None)
            reset = reset or getattr(module, "_reset_parameters", None)
            if reset:
                reset()
                continue
            for p in module.parameters(recurse=False):
                p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))
    return net


def _visit(net: nn.Module, x: Tensor, names: list[str], hook) -> None:
    """Run the net; hook(name, scaled, output) sees each scaled module's first run.

    What it returns stands in the place of the output.
    """
    seen, handles = set(), []

    def once(name, scaled):
        def call(module, inputs, output):
            if name in seen:
                return None
            seen.add(name)
            if isinstance(output, tuple):  # attention: its output and its weights
                return hook(name, scaled, output[0]), *output[1:]
            return hook(name, scaled, output)

        return call

    try:
        for name in names:
            module = net.get_submodule(name)
            attention = isinstance(module, nn.MultiheadAttention)
            scaled = module.out_proj if attention else module
            if isinstance(scaled, SCALED) and scaled.weight is not None:
                handles.append(module.register_forward_hook(once(name, scaled)))
        with torch.no_grad():
            net(x)
    finally:
        for handle in handles:
            handle.remove()


def _spreads(model: nn.Module, x: Tensor, names: list[str]) -> dict[str, Tensor]:
    spreads = {}

    def note(name, scaled, output):
        spreads[name] = output.std()
        return output

    _visit(model, x, names, note)
    return spreads


def _match(net: nn.Module, x: Tensor, names: list[str], wanted) -> None:
    def rescale(name, scaled, output):
        ratio = wanted[name] / output.std()
        if not (ratio.isfinite() and ratio > 0):
            return output
        for p in scaled.parameters(recurse=False):
            p.mul_(ratio)
        return output * ratio

    _visit(net, x, names, rescale)
