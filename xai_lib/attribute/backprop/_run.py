"""Forward under a composite, and back again."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_grad_mode
from xai_lib.attribute._forward import (
    _cut,
    find_layer,
    forward_hook,
    rows_per_pass,
    select,
)
from xai_lib.attribute.backprop.engine import Composite, ModifiedBackprop


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep parameters out of the graph for the length of a block."""
    live = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in live:
            p.requires_grad_(False)
        yield
    finally:
        for p in live:
            p.requires_grad_(True)


def run(
    engine: ModifiedBackprop, model: nn.Module, x: Tensor, target: Target, layer
) -> tuple[Tensor, Tensor]:
    """Return the layer's output (x for None) as a leaf, and the target logits."""
    check_grad_mode()
    with frozen(model), engine:
        if layer in (None, "input"):
            h = x.detach().requires_grad_()
            with torch.enable_grad():
                return h, select(engine.check(model(h)), target)
        h, score = _cut(model, x, target, layer)
        return h, engine.check(score)


def backward(
    model: nn.Module,
    x: Tensor,
    target: Target,
    layer: str | None,
    composite: Composite,
    from_logit: bool = True,
    seen: dict | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the layer's output and the signal that the composite sends back to it.

    It starts as the target logit itself (relevance), else as 1 (a modified gradient).
    """
    values, results = [], []
    for rows in torch.arange(len(x), device=x.device).split(rows_per_pass(model, x)):
        chosen = target if callable(target) else target.to(x.device)[rows]
        each = 0 if getattr(model, "windowed", False) else len(rows)
        engine = ModifiedBackprop(composite, model, rows=each)
        h, score = run(engine, model, x[rows], chosen, layer)
        start = score.detach() if from_logit else torch.ones_like(score)
        results.append(torch.autograd.grad(score, h, start)[0])
        values.append(h.detach())
        if seen is not None:
            seen.update(engine.seen)
    return torch.cat(values), torch.cat(results)


def captured(
    model: nn.Module, layers: list[str], store: dict, engine: ModifiedBackprop
) -> ExitStack:
    """Return a block in which the outputs of the layers are put into store."""
    stack = ExitStack()
    for name in layers:

        def keep(module, inputs, output, name=name):
            if name in store or not isinstance(output, Tensor):
                raise ValueError(
                    f"layer {name!r} must run once and return one tensor, got a "
                    f"{type(output).__name__} or a second run"
                )
            store[name] = engine.expose(output)

        stack.enter_context(forward_hook(find_layer(model, name), keep))
    return stack


def budget_of(model, x: Tensor, target: Target, composite: Composite) -> dict:
    """Return where the relevance of the target logits went, summed over the batch."""
    total = dict.fromkeys(("logit", "input", "bias", "stabiliser"), 0.0)
    for rows in torch.arange(len(x), device=x.device).split(rows_per_pass(model, x)):
        chosen = target if callable(target) else target.to(x.device)[rows]
        engine = ModifiedBackprop(composite, model, tally=True)
        h, score = run(engine, model, x[rows], chosen, None)
        found = torch.autograd.grad(
            score, [h, *engine.constants], score.detach(), allow_unused=True
        )
        own, *constant = (0.0 if R is None else float(R.sum()) for R in found)
        total["logit"] += float(score.detach().sum())
        total["input"] += own
        total["bias"] += sum(constant) + float(engine.absorbed.get("bias", 0.0))
        total["stabiliser"] += float(engine.absorbed.get("stabiliser", 0.0))
    return total
