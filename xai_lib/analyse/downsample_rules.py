"""Other ways back through a down-sampling step: rules for the engine.

A rule sends back what a smoother step of the same geometry would have sent, and leaves
the forward pass alone. None changes the sum of R: what is shared out is shared out
whole.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xai_lib.assets.downsample import BlurPool
from xai_lib.attribute.backprop.op import Op, Rule

Pool = Callable[[Tensor], Tensor]
CONV2D = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def pair(n: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return a size in both directions.

    Examples
    --------
    >>> pair(2), pair((2, 1))
    ((2, 2), (2, 1))
    """
    return (n, n) if isinstance(n, int) else tuple(n)


def adjoint(pool: Pool, x: Tensor, R: Tensor) -> Tensor:
    """Return pool^T R at x; for a linear pool x gives the size alone."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        z = pool(leaf)
    if z.shape != R.shape:
        raise ValueError(
            f"the step put in its place must have output {tuple(R.shape)}, "
            f"got {tuple(z.shape)}"
        )
    return torch.autograd.grad(z, leaf, R)[0]


def blur_by(stride: tuple[int, ...]) -> BlurPool:
    """Return the blur behind a step of stride 2; it is made for no other."""
    if stride != (2, 2):
        raise ValueError(f"a blur needs stride 2 in both directions, got {stride}")
    return BlurPool(None)


# --- max-pools ------------------------------------------------------------------------


def average_windows(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """R_in = A^T R, A the mean of each window: R / n to its n positions in the map."""
    window = _window(op, x)
    if window is None:
        return op.vjp(x, R)
    if pair(window.pop("dilation")) != (1, 1):
        raise ValueError("a dilated max-pool has no average pool of its geometry")
    return adjoint(lambda h: F.avg_pool2d(h, **window, count_include_pad=False), x, R)


def max_then_blur(op: Op, x: Tensor, R: Tensor) -> Tensor:
    """R_in = M_1^T B^T R, M_1 the max-pool at stride 1, B the blur  [zhang2019]_."""
    window = _window(op, x)
    if window is None:
        return op.vjp(x, R)
    blur = blur_by(pair(window.pop("stride")))
    return adjoint(lambda h: blur(F.max_pool2d(h, stride=1, **window)), x, R)


def _window(op: Op, x: Tensor) -> dict | None:
    """Return a max-pool's settings, or None if it halves nothing (adaptive, stride 1).

    An adaptive pool's size is not the net's.
    """
    if not op.settings:
        return None
    window = dict(op.settings)
    window["stride"] = window["stride"] or window["kernel_size"]
    if x.ndim != 4:
        raise ValueError(f"max_pool must have 2-D windows, got {tuple(x.shape)}")
    return window if max(pair(window["stride"])) > 1 else None


# --- strided convolutions -------------------------------------------------------------


class _AtStrideOne(TorchFunctionMode):
    """Run 2-D convolutions at stride 1, and note the stride they came with."""

    stride: tuple[int, ...] = (1, 1)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.conv2d:
            return func(*args, **(kwargs or {}))
        named = dict(zip(CONV2D, args, strict=False)) | (kwargs or {})
        self.stride = pair(named.get("stride", 1))
        return func(**named | {"stride": 1})


def strided(pool_by: Callable[[tuple[int, ...]], Pool]) -> Rule:
    """R_in = W_1^T U^T R, W_1 the convolution at stride 1, U the pool put behind it.

    Its own gradient is W_1^T Z R, Z writing zeros between the values of R.
    """

    def rule(op: Op, x: Tensor, R: Tensor) -> Tensor:
        if not op.name:  # a fixed filter, such as BlurPool's own
            return op.vjp(x, R)
        with torch.enable_grad(), _AtStrideOne() as mode:
            leaf = x.detach().requires_grad_()
            fine = op.function(leaf, op.weight)  # W_1 x, its padding included
        if max(mode.stride) == 1:
            return op.vjp(x, R)
        full = adjoint(pool_by(mode.stride), fine, R)
        return torch.autograd.grad(fine, leaf, full)[0]

    return rule


def average_by(stride: tuple[int, ...]) -> Pool:
    """Return the mean of stride x stride values, fewer at the border."""
    return lambda h: F.avg_pool2d(h, stride, ceil_mode=True)


strided_average = strided(average_by)
strided_blur = strided(blur_by)

BACKWARD_SWAPS: dict[str, dict[str, Rule]] = {
    "own": {},
    "max_pool_average": {"max_pool": average_windows},
    "max_pool_max_blur": {"max_pool": max_then_blur},
    "strided_average": {"strided": strided_average},
    "strided_blur": {"strided": strided_blur},
    "all_average": {"max_pool": average_windows, "strided": strided_average},
    "all_blur": {"max_pool": max_then_blur, "strided": strided_blur},
}
"""Which kind of step goes back by which rule; what is not named keeps its gradient."""
