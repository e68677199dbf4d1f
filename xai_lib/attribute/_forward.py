"""Running a network from any layer on, its target, and how many rows at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_grad_mode, check_target

Tail = Callable[[Tensor, Tensor], Tensor]
"""``tail(h, rows)``: logits (R, classes) from h (R, ...), row r for image rows[r]."""


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """Return the module of that name; an unknown name lists the model's top layers."""
    modules = dict(model.named_modules())
    if not isinstance(layer, str) or layer not in modules or layer == "":
        top = ", ".join(name for name, _ in model.named_children())
        raise ValueError(
            f"layer must be None, 'input' or a module's name (such as {top}), "
            f"got {layer!r}"
        )
    return modules[layer]


@contextmanager
def forward_hook(module: nn.Module, hook) -> Iterator[None]:
    """Register a forward hook for the length of a block."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def split(model: nn.Module, x: Tensor, layer: str | None) -> tuple[Tensor, Tail]:
    """Cut the model at a layer: its output h for x, and the rest as a function of h.

    The part before the layer is run again with each call of the rest, without a graph:
    a skip connection around the layer then meets its own image. Where all rows are of
    one image it is run for one row, which skips broadcast; a model that cannot do this
    gets all rows. h is handed over as a copy, since an in-place ReLU may follow.
    """
    if layer is None or layer == "input":
        return x, lambda h, rows: model(h.clone())  # it may change its input
    module = find_layer(model, layer)
    parts = [_output(model, module, part) for part in x.split(rows_per_pass(model, x))]

    broadcasts = True  # until the model fails to

    def run(h: Tensor, rows: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled()

        def replace(*call) -> Tensor:
            torch.set_grad_enabled(wanted)
            return h.clone()

        with torch.no_grad(), forward_hook(module, replace):
            return model(x[rows])

    def tail(h: Tensor, rows: Tensor) -> Tensor:
        nonlocal broadcasts
        if broadcasts and len(rows) > 1 and (rows == rows[0]).all():
            try:
                logits = run(h, rows[:1])
            except Exception:  # a concatenation of 1 row and of many, or its check
                broadcasts = False
            else:
                if len(logits) == len(h):
                    return logits
                broadcasts = False
        return run(h, rows)

    return torch.cat(parts), tail


def _output(model: nn.Module, module: nn.Module, x: Tensor) -> Tensor:
    outputs = []

    def keep(module, inputs, output):
        safe = output.clone() if isinstance(output, Tensor) else output
        outputs.append(safe)  # an in-place ReLU may follow

    with torch.no_grad(), forward_hook(module, keep):
        model(x.clone())
    return _only(outputs, module)


def select(logits: Tensor, target: Target) -> Tensor:
    """Return each row's target logit, (R,)."""
    if logits.ndim != 2:
        raise ValueError(
            f"the model must return logits of shape (B, classes), "
            f"got {tuple(logits.shape)}"
        )
    target = asked(target, logits) if callable(target) else target
    classes = logits.shape[1]
    if ((target < 0) | (target >= classes)).any():
        raise ValueError(
            f"target must lie in 0..{classes - 1}, got {target.min()}..{target.max()}"
        )
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


def asked(target: Target, logits: Tensor) -> Tensor:
    """Return what a target function chooses, checked as a target is."""
    chosen = target(logits.detach())
    check_target(chosen, len(logits))
    return chosen


def fixed_target(model: nn.Module, x: Tensor, target: Target) -> Tensor:
    """Return the target as indices (B,), asking the model once if it is a function."""
    if not callable(target):
        return target.to(x.device)
    with torch.no_grad():
        parts = x.split(rows_per_pass(model, x))
        parts = [asked(target, model(part.clone())) for part in parts]
    return torch.cat(parts)


def reference_input(x: Tensor, baseline: Tensor | None) -> Tensor:
    """Return the baseline in x's shape, out of any graph; None is zero."""
    if baseline is None:
        return torch.zeros_like(x)
    if not isinstance(baseline, Tensor):
        raise TypeError(f"baseline must be a tensor, got {type(baseline).__name__}")
    try:
        start = baseline.to(x).expand_as(x)
    except RuntimeError:
        raise ValueError(
            f"baseline must broadcast to x of shape {tuple(x.shape)}, "
            f"got {tuple(baseline.shape)}"
        ) from None
    if not start.isfinite().all():
        raise ValueError("baseline must be finite, got NaN or infinity")
    return start.detach()


def value_and_gradient(
    model: nn.Module, x: Tensor, target: Target, layer: str | None
) -> tuple[Tensor, Tensor]:
    """Return a layer's output and d(target logit)/d(output), one pass per batch."""
    check_grad_mode()
    values, gradients = [], []
    for rows in torch.arange(len(x), device=x.device).split(rows_per_pass(model, x)):
        chosen = target if callable(target) else target.to(x.device)[rows]
        if layer is None or layer == "input":
            h = x[rows].detach().requires_grad_()
            with torch.enable_grad():
                score = select(model(h.clone()), chosen)
        else:
            h, score = _cut(model, x[rows], chosen, layer)
        values.append(h.detach())
        gradients.append(torch.autograd.grad(score, h, torch.ones_like(score))[0])
    return torch.cat(values), torch.cat(gradients)


def _cut(model, x: Tensor, target: Target, layer: str) -> tuple[Tensor, Tensor]:
    """Return the layer's output as a leaf, and the target logits (B,) behind it."""
    module, leaves = find_layer(model, layer), []

    def cut(module, inputs, output):
        torch.set_grad_enabled(True)
        safe = isinstance(output, Tensor)
        leaves.append(output.detach().clone().requires_grad_() if safe else output)
        return leaves[-1].clone() if safe else output

    with torch.no_grad(), forward_hook(module, cut):
        score = select(model(x.clone()), target)
    return _only(leaves, module), score


def _only(outputs: list, module: nn.Module) -> Tensor:
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor):
        raise ValueError(
            f"layer must run once and return one tensor, got a "
            f"{type(module).__name__} that ran {len(outputs)} times in one forward pass"
        )
    return outputs[0]


def input_gradient(tail: Tail, h: Tensor, rows: Tensor, target: Target) -> Tensor:
    """Return d(target logit)/dh for a batch of rows, shaped like h."""
    check_grad_mode()
    h = h.detach().requires_grad_()
    with torch.enable_grad():
        score = select(tail(h, rows), target).sum()
    return torch.autograd.grad(score, h)[0]


_BYTES: WeakKeyDictionary = WeakKeyDictionary()


def rows_per_pass(model: nn.Module, x: Tensor) -> int:
    """Return how many images like x[0] one forward and backward pass may hold.

    What autograd keeps for one image is measured once per model and shape; half of the
    free memory may be filled, at most 8 rows on a CPU, where more gains nothing: 64 of
    texts, (E, 1, T), whose networks take many small steps.
    """
    key = (tuple(x.shape[1:]), x.dtype, x.device.type)
    known = _BYTES.setdefault(model, {})
    if key not in known:
        known[key] = _saved_bytes(model, x[:1])
    small = 64 if x.ndim == 4 and x.shape[2] == 1 else 8
    limit = small if x.device.type == "cpu" else 1024
    return max(1, min(limit, _free_bytes(x.device) // 2 // max(1, known[key])))


def rows_per_forward(model: nn.Module, x: Tensor) -> int:
    """Return how many images like x[0] one pass without a graph may hold.

    On a CPU small inputs gain from up to 64 rows, a tenth to a fifth of the time at 32
    x 32 pixels, more for texts; photographs of 224 pixels lose beyond 8.
    """
    rows = rows_per_pass(model, x)
    if x.device.type != "cpu" or rows < 8:  # a GPU, or little memory
        return rows
    return min(64, max(8, 2**20 // x[0].numel()))


def _saved_bytes(model: nn.Module, x: Tensor) -> int:
    weights, total = {p.data_ptr() for p in model.parameters()}, 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        if tensor.data_ptr() not in weights:
            total += tensor.numel() * tensor.element_size()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
    made_there = any(p.is_inference() for p in model.parameters())
    with torch.inference_mode(made_there), torch.enable_grad(), hooks:
        model(x.detach().clone().requires_grad_().clone())  # it may change its input
    return 2 * total + x.numel() * x.element_size()  # the backward signal, and x


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(
            next(row for row in lines if "MemAvailable" in row).split()[1]
        )
    except (OSError, StopIteration):  # no such figure on this platform
        return 4 * 2**30
