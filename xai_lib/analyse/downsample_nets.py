"""A trained network with other down-sampling steps, forward and backward."""

from collections.abc import Callable
from copy import deepcopy

from torch import nn

from xai_lib._check import check_choice, check_model
from xai_lib.analyse.downsample_rules import blur_by, pair

KINDS = {
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "average_pool",
    nn.Conv2d: "strided",
}
"""What a module with stride above 1 is called."""


def downsampling_steps(model: nn.Module) -> dict[str, str]:
    """Return the modules that make a map smaller by their stride, in the model's order.

    Parameters
    ----------
    model : Module

    Returns
    -------
    dict of name to "max_pool", "average_pool" or "strided" (a convolution, 1x1
    shortcuts included)

    Notes
    -----
    Pools called as functions have no name and are not listed; adaptive pools are left
    out, as their size is not the net's; so is `BlurPool`, whose weights are fixed.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2))
    >>> downsampling_steps(net)
    {'0': 'strided', '2': 'max_pool'}
    """
    found = {name: _kind(module) for name, module in model.named_modules()}
    return {name: kind for name, kind in found.items() if kind}


def _kind(module: nn.Module) -> str | None:
    kind = next((k for c, k in KINDS.items() if isinstance(module, c)), None)
    return kind if kind and max(pair(module.stride)) > 1 else None


def _pool(pool: nn.Module, cls: type, **own) -> nn.Module:
    """Return a pool of another class with the same windows."""
    if pair(getattr(pool, "dilation", 1)) != (1, 1):
        raise ValueError("a dilated max-pool has no average pool of its geometry")
    named = {k: getattr(pool, k) for k in ("kernel_size", "stride", "padding")}
    return cls(**named, ceil_mode=pool.ceil_mode, **own)


def average_pool(pool: nn.MaxPool2d) -> nn.Module:
    """Return the mean over each window's positions in the map."""
    return _pool(pool, nn.AvgPool2d, count_include_pad=False)


def max_pool(pool: nn.AvgPool2d) -> nn.Module:
    """Return the maximum over each window."""
    return _pool(pool, nn.MaxPool2d)


def then_blur(step: nn.Module) -> nn.Module:
    """Return the step at stride 1 and a blur of stride 2 behind it  [zhang2019]_."""
    if getattr(step, "ceil_mode", False):
        raise ValueError("a pool with ceil_mode has no blur of its geometry")
    return nn.Sequential(_at_stride_one(step), blur_by(pair(step.stride)))


def then_average(conv: nn.Conv2d) -> nn.Module:
    """Return the convolution at stride 1, an average pool of its stride behind it."""
    pool = nn.AvgPool2d(conv.stride, ceil_mode=True)
    return nn.Sequential(_at_stride_one(conv), pool)


def max_then_blur(pool: nn.AvgPool2d) -> nn.Module:
    """Return the maximum over each window at stride 1 and a blur behind it."""
    return then_blur(max_pool(pool))


def _at_stride_one(step: nn.Module) -> nn.Module:
    step = deepcopy(step)
    step.stride = (1, 1)
    return step


DOWNSAMPLER_SWAPS: dict[str, dict[str, Callable[[nn.Module], nn.Module]]] = {
    "average": {"max_pool": average_pool, "strided": then_average},
    "max": {"average_pool": max_pool},
    "max_blur": {"max_pool": then_blur, "average_pool": max_then_blur},
    "blur": dict.fromkeys(("max_pool", "average_pool", "strided"), then_blur),
}
"""What each kind puts in the place of which step; what is not named stays."""


def with_downsampler(model: nn.Module, kind: str) -> nn.Module:
    """Return a copy of a network with other down-sampling steps, its weights kept.

    Parameters
    ----------
    model : Module in eval mode; it is left as it is
    kind : "average": max-pools become average pools, strided convolutions the same at
        stride 1 with an average pool behind; "max": average pools become max-pools;
        "max_blur": pools become max-pools at stride 1 with a blur behind; "blur":
        every step at stride 1 with a blur behind. `DOWNSAMPLER_SWAPS` says it as data

    Returns
    -------
    Module in eval mode, every map as large as before

    Raises
    ------
    ValueError
        if nothing is there to replace, or a step has no such substitute: a blur takes
        the place of stride 2 alone, an average pool that of windows without dilation

    Notes
    -----
    Nothing is trained again: what the copy computes is another function, and its
    accuracy has to be measured. An average pool divides by the positions of a window
    that lie in the map, and the blur is the binomial of length 4 of `BlurPool`. Behind
    a strided convolution it stands before the batch norm; [zhang2019]_ puts it behind
    the ReLU. A replaced step keeps its name, and its parts are called 0 and 1.

    References
    ----------
    [zhang2019]_, [muzellec2024]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2)).eval()
    >>> with_downsampler(net, "average")[2]
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """
    check_model(model)
    check_choice("kind", kind, DOWNSAMPLER_SWAPS)
    builders, copy = DOWNSAMPLER_SWAPS[kind], deepcopy(model)
    steps = downsampling_steps(copy)
    if not any(found in builders for found in steps.values()):
        raise ValueError(
            f"{kind!r} replaces {', '.join(builders)}, got a model whose steps are "
            f"{', '.join(sorted(set(steps.values()))) or 'none'}"
        )
    made: dict[nn.Module, nn.Module] = {}
    for parent in [*copy.modules()]:
        for name, step in parent._modules.items():
            found = step and _kind(step)
            if found in builders:
                made.setdefault(step, builders[found](step))
                parent._modules[name] = made[step]
    return copy.eval()
