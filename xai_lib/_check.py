"""Argument checks shared by the rooms: what was wanted, what came."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

Target = Tensor | Callable[[Tensor], Tensor]


def _is_modal(module: nn.Module) -> bool:
    """Return whether a module of torch's own computes something else in train mode."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, (nn.RReLU, StochasticDepth))


def check_model(model: nn.Module) -> None:
    """Refuse what is no module, and a module that is in train mode, or a part is."""
    if not isinstance(model, nn.Module):
        hint = "; pass its .model" if hasattr(model, "model") else ""
        raise TypeError(
            f"model must be a torch Module, got {type(model).__name__}{hint}"
        )
    if model.training:
        got = "a model"
    else:
        parts = model.named_modules()
        modal = (n for n, m in parts if m.training and _is_modal(m))
        got = next((f"its part {name!r}" for name in modal), "")
    if got:
        wanted = "model must be in eval mode"
        raise ValueError(f"{wanted}, got {got} in train mode: call model.eval()")


def check_grad_mode() -> None:
    """Refuse inference mode, in which nothing can be differentiated."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "a gradient needs torch.no_grad or no context at all, got a call under "
            "torch.inference_mode"
        )


def check_images(x: Tensor, name: str = "x") -> None:
    """Refuse anything but a finite floating tensor of shape (B, C, H, W)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name} must have shape (B, C, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating tensor, got {x.dtype}")
    if not x.isfinite().all():
        bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"{name} must be finite, got NaN or infinity in images {bad}")


def check_target(target: Target, batch: int) -> None:
    """Refuse a target that is neither (B,) of integers nor a function of the logits."""
    if callable(target):
        return
    if not isinstance(target, Tensor):
        raise TypeError(
            "target must be a tensor of shape (B,) or a function of the logits, "
            f"got {type(target).__name__}"
        )
    if target.shape != (batch,):
        raise ValueError(
            f"target must have shape ({batch},), got {tuple(target.shape)}"
        )
    if target.dtype != torch.long:
        raise TypeError(
            f"target must hold class indices (torch.long), got {target.dtype}"
        )


def check_call(model: nn.Module, x: Tensor, target: Target) -> None:
    """Check the three arguments that every method and most metrics share."""
    check_model(model)
    check_images(x)
    check_target(target, len(x))


def check_maps(maps: Tensor) -> Tensor:
    """Return maps of one channel as (B, H, W)."""
    if not isinstance(maps, Tensor):
        raise TypeError(f"maps must be a tensor, got {type(maps).__name__}")
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]  # (B, H, W)
    if maps.ndim == 4:
        raise ValueError(
            f"maps must have one channel, got {tuple(maps.shape)}: "
            "reduce them first with channel_sum or channel_max_abs"
        )
    if maps.ndim != 3:
        raise ValueError(f"maps must have shape (B, H, W), got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError("maps must be finite, got NaN or infinity")
    return maps


def check_positive(**numbers: float) -> None:
    """Refuse numbers that are not above zero, by name."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} must be above 0, got {number}")


def check_choice(name: str, value: object, choices) -> None:
    """Refuse a value that is not among the choices, and list them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
