"""What is compared: our call, the raw passes it stands for, and captum's call."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xai_lib import attribute

try:
    import captum.attr as captum
except ImportError:  # an extra; the columns about it stay empty
    captum = None

FULL = {"steps": 32, "samples": 16, "masks": 64, "window": 32}


@dataclass(frozen=True)
class Case:
    """One row: our call, the raw passes it stands for, and captum's call."""

    name: str
    passes: int
    raw: Callable[[], object]
    ours: Callable[[], Tensor]
    peer: Callable[[], Tensor] | None = None
    mark: float | None = None  # ours / raw, at most
    factor: float = 1.0  # captum's map is ours times this
    comparable: bool = True  # do the definitions agree
    gap: Callable[[], float] | None = None  # the difference, if not of these results


def backward_passes(model: nn.Module, x: Tensor, target: Tensor, n: int) -> None:
    """Run n forward and backward passes to the input, and nothing else."""
    for _ in range(n):
        h = x.detach().requires_grad_()
        torch.autograd.grad(model(h).gather(1, target[:, None]).sum(), h)


def forward_passes(model: nn.Module, x: Tensor, n: int) -> None:
    """Run n forward passes without a graph, and nothing else."""
    with torch.no_grad():
        for _ in range(n):
            model(x)


def _peer(build: Callable) -> Callable | None:
    return build if captum else None


def _without_inplace(model: nn.Module) -> nn.Module:
    """Return a copy for captum, which cannot hook an in-place ReLU."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def gradient_cases(model, x, target, sizes) -> list[Case]:
    """Return the cases made of forward and backward passes."""
    steps, samples, rows = sizes["steps"], sizes["samples"], len(x)

    def raw(n):
        return lambda: backward_passes(model, x, target, n)

    def integrated():
        return captum.IntegratedGradients(model).attribute(
            x, target=target, n_steps=steps, internal_batch_size=rows
        )

    def tunnel():
        noisy = captum.NoiseTunnel(captum.Saliency(model))
        settings = {"nt_samples": samples, "nt_samples_batch_size": 1, "abs": False}
        return noisy.attribute(x, target=target, nt_type="smoothgrad", **settings)

    def saliency():
        return captum.Saliency(model).attribute(x, target=target, abs=False)

    return [
        Case(
            "gradient",
            1,
            raw(1),
            lambda: attribute.gradient(model, x, target),
            _peer(saliency),
            1.10,
        ),
        Case(
            f"integrated_gradients, {steps} steps",
            steps,
            raw(steps),
            lambda: attribute.integrated_gradients(model, x, target, steps=steps),
            _peer(integrated),
            1.10,
        ),
        Case(
            f"smoothgrad, {samples} samples",
            samples,
            raw(samples),
            lambda: attribute.smoothgrad(model, x, target, n_samples=samples),
            _peer(tunnel),
            1.10,
            comparable=False,  # the draws differ
        ),
    ]


def hooked_cases(model, x, target, layer: str) -> list[Case]:
    """Return the cases that change the backward pass or stop at a layer."""
    plain = _without_inplace(model) if captum else model

    def raw():
        backward_passes(model, x, target, 1)

    def guided():
        return captum.GuidedBackprop(plain).attribute(x, target=target)

    def cam():
        where = plain.get_submodule(layer)
        method = captum.LayerGradCam(plain, where)
        return method.attribute(x, target=target, relu_attributions=True)

    return [
        Case(
            "guided_backprop",
            1,
            raw,
            lambda: attribute.guided_backprop(model, x, target),
            _peer(guided),
        ),
        Case(
            f"grad_cam, {layer}",
            1,
            raw,
            lambda: attribute.grad_cam(model, x, target, layer=layer),
            _peer(cam),
        ),
    ]


def forward_cases(model, x, target, sizes) -> list[Case]:
    """Return the cases made of forward passes alone."""
    masks, window = sizes["masks"], sizes["window"]
    windows = (x.shape[2] // window) * (x.shape[3] // window)
    block = (x.shape[1], window, window)

    def covered():
        return captum.Occlusion(model).attribute(
            x, target=target, sliding_window_shapes=block, strides=block
        )[:, :1]

    return [
        Case(
            f"rise, {masks} masks",
            masks,
            lambda: forward_passes(model, x, masks),
            lambda: attribute.rise(model, x, target, n_masks=masks),
            mark=1.15,
        ),
        Case(
            f"occlusion, window {window}, stride {window}",
            windows + 1,  # and the image itself
            lambda: forward_passes(model, x, windows + 1),
            lambda: attribute.occlusion(model, x, target, window, window),
            _peer(covered),
            1.15,
            factor=window**2,  # captum does not divide by the window's area
        ),
    ]


def all_cases(model, x, target, layer: str, sizes: dict) -> list[Case]:
    """Return every case of the benchmark."""
    return [
        *gradient_cases(model, x, target, sizes),
        *hooked_cases(model, x, target, layer),
        *forward_cases(model, x, target, sizes),
    ]
