"""Backward signals of any method, started anywhere: what convergence is measured on."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from xai_lib.attribute._forward import find_layer, forward_hook
from xai_lib.attribute.backprop import Chain
from xai_lib.attribute.backprop.plans import plan, unwrap
from xai_lib.attribute.registry import find_method

Signals = dict[str, Tensor]


Plan = tuple[list, Tensor | None]


def plan_of(method, x: Tensor) -> Plan | None:
    """Return (composite, baseline for x), or None if the method is no backward pass."""
    if isinstance(method, (list, tuple)):
        return list(method), None
    function = find_method(method)
    try:
        found = plan(function)
    except ValueError:
        return None
    if not found.paired:
        return found.composite, None
    baseline = unwrap(function)[1].get("baseline")
    baseline = torch.zeros_like(x) if baseline is None else baseline.to(x)
    return found.composite, baseline.expand_as(x)


def rows_of(planned: Plan | None, rows: slice) -> Plan | None:
    """Return the plan for some of the images."""
    if planned is None or planned[1] is None:
        return planned
    return planned[0], planned[1][rows]


def sent_signals(
    model: nn.Module,
    x: Tensor,
    method,
    planned: Plan | None,
    below: dict[str, list[str]],
    vectors: Signals,
) -> Iterator[tuple[str, Signals]]:
    """Yield each start with the signals (V, B, ...) at the layers below it."""
    if planned is None:
        function = find_method(method)
        for start, layers in below.items():
            found = explained_signals(model, x, function, start, layers, vectors[start])
            yield start, found
        return
    composite, baseline = planned
    names = [*below, *(layer for layers in below.values() for layer in layers)]
    chain = Chain(model, x, composite, names, baseline)
    for start, layers in below.items():
        yield start, back_all(chain, start, vectors[start], layers)


def back_all(chain: Chain, start: str, vectors: Tensor, layers: list[str]) -> Signals:
    """Send vectors (V, B, ...) back in one pass, or one by one where a rule cannot."""
    for _ in range(2):
        try:
            return _together(chain, start, vectors, layers)
        except RuntimeError:  # of vmap: the chain has remembered no forward values yet
            chain.back(start, vectors[0], layers)
    sent = [chain.back(start, vector, layers) for vector in vectors]
    return {layer: torch.stack([one[layer] for one in sent]) for layer in layers}


def _together(chain: Chain, start: str, vectors: Tensor, layers: list[str]) -> Signals:
    names = [layer for layer in layers if layer != start]
    nodes, origin = [chain._nodes[name] for name in names], chain._nodes[start]
    twice = torch.cat([vectors, vectors], dim=1) if chain.paired else vectors

    def back(vector: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(
            origin, nodes, vector, retain_graph=True, allow_unused=True
        )
        pairs = zip(nodes, found, strict=True)
        return [torch.zeros_like(n) if R is None else R for n, R in pairs]

    found = torch.vmap(back, randomness="same")(twice) if names else []
    pairs = [*zip(names, nodes, found, strict=True)]
    pairs += [(start, origin, twice)] if start in layers else []
    if not chain.paired:
        return {name: R.detach() for name, _, R in pairs}
    return {
        name: torch.stack([chain._relevance(one, node) for one in R]).detach()
        for name, node, R in pairs
    }


def is_input(layer: str | None) -> bool:
    return layer is None or layer == "input"


def output_shapes(
    model: nn.Module, x: Tensor, layers: list[str]
) -> dict[str, tuple[int, ...]]:
    """Return the output shape of each layer for one image, in the order they run."""
    shapes, handles = {}, []
    if any(is_input(layer) for layer in layers):
        shapes["input"] = tuple(x.shape[1:])
    try:
        for layer in layers:
            if layer != "output" and not is_input(layer):

                def keep(module, inputs, output, layer=layer):
                    if not isinstance(output, Tensor):
                        raise ValueError(
                            f"layer {layer!r} must return one tensor, "
                            f"got {type(output).__name__}"
                        )
                    shapes.setdefault(layer, tuple(output.shape[1:]))

                handles.append(find_layer(model, layer).register_forward_hook(keep))
        with torch.no_grad():
            logits = model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    if "output" in layers:
        shapes["output"] = tuple(logits.shape[1:])
    idle = [layer for layer in layers if layer not in shapes and not is_input(layer)]
    if idle:
        raise ValueError(f"layers must run in a forward pass, got {', '.join(idle)}")
    return shapes


class _Emit(torch.autograd.Function):
    """One logit that is 1 forward, and sends the given vector backward."""

    is_rule = True

    @staticmethod
    def forward(ctx, h: Tensor, vector: Tensor, asked: list) -> Tensor:
        ctx.save_for_backward(vector)
        ctx.asked = asked
        return h.new_ones(len(h), 1)

    @staticmethod
    def backward(ctx, R: Tensor):
        (vector,) = ctx.saved_tensors
        ctx.asked.append(True)
        return R.view(-1, *[1] * (vector.ndim - 1)) * vector, None, None


class _Reached(Exception):
    """The start layer's output is there; what follows need not run."""


class UpTo(nn.Module):
    """The model up to a layer, ending in one logit whose backward signal is `vector`.

    Its modules keep their names, so a method finds the layer it is asked for.
    """

    def __init__(self, model: nn.Module, start: str):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        self.whole = (model,)  # in a tuple: not a child, its names stay as they are
        self.start, self.vector = start, None
        self.asked: list[bool] = []  # whether a gradient was
        self.training = False  # the children are the caller's own

    def forward(self, x: Tensor) -> Tensor:
        if self.start == "output":
            return _Emit.apply(self.whole[0](x), self.vector, self.asked)
        outputs = []

        def stop(module, inputs, output):
            outputs.append(output)
            raise _Reached

        try:
            with forward_hook(find_layer(self, self.start), stop):
                self.whole[0](x)
        except _Reached:
            pass
        return _Emit.apply(outputs[0], self.vector, self.asked)


def explained_signals(
    model: nn.Module,
    x: Tensor,
    method: Callable[..., Tensor],
    start: str,
    layers: list[str],
    vectors: Tensor,
) -> Signals:
    """Return a method's signals for vectors (V, B, ...): one explanation for each."""
    part, target = UpTo(model, start), torch.zeros(1, dtype=torch.long, device=x.device)
    signals = {}
    for layer in layers:
        name = None if is_input(layer) else layer
        rows = []
        for i in range(len(x)):
            for vector in vectors[:, i : i + 1]:  # (1, ...)
                part.vector = vector
                rows.append(method(part, x[i : i + 1], target, layer=name))
        per_image = torch.cat(rows).unflatten(0, (len(x), len(vectors)))
        signals[layer] = per_image.transpose(0, 1)  # (V, B, ...)
    if not part.asked:
        raise ValueError(
            "method must go back through the model; this one only looks at its output, "
            "which is 1 for every input here"
        )
    return signals
