"""Backward signals between any two layers, many vectors for one forward pass."""

import torch
from torch import Tensor, nn

from xai_lib._check import check_images, check_model
from xai_lib.attribute.backprop._run import captured, frozen
from xai_lib.attribute.backprop.composites import find_composite
from xai_lib.attribute.backprop.engine import Composite, ModifiedBackprop
from xai_lib.attribute.backprop.reference_rules import by_sign


class Chain:
    """One forward pass under a composite, to be gone back through many times.

    Parameters
    ----------
    model, x : as for every method
    composite : a name or a list of (key, rule)
    layers : names of modules that run once; "input" is x, "output" the logits
    baseline : for paired rules (DeepLIFT): what x is compared with; relevance is then
        the multiplier times the difference from it

    Attributes
    ----------
    values : the layers' outputs, by name, without a graph
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        composite: str | Composite,
        layers: list[str],
        baseline: Tensor | None = None,
    ):
        check_model(model)
        check_images(x)
        self.paired = baseline is not None
        rows = torch.cat([x, baseline.expand_as(x)]) if self.paired else x
        leaf = rows.detach().requires_grad_()
        self._nodes: dict[str, Tensor] = {"input": leaf}
        inner = [n for n in dict.fromkeys(layers) if n not in ("input", "output")]
        engine = ModifiedBackprop(
            find_composite(composite),
            model,
            keep=True,
            pairs=len(x) if self.paired else 0,
            trace=self.paired,
        )
        with frozen(model), torch.enable_grad(), engine:
            with captured(model, inner, self._nodes, engine):
                self._nodes["output"] = engine.check(model(leaf))
        self.values = {k: self._own(node.detach()) for k, node in self._nodes.items()}

    def back(self, start: str, vector: Tensor, layers: list[str]) -> dict[str, Tensor]:
        """Send a vector, shaped like the output of start, back to the layers' outputs.

        A layer that the signal does not reach gets zeros.
        """
        names = [name for name in layers if name != start]
        twice = torch.cat([vector, vector]) if self.paired else vector
        found = names and torch.autograd.grad(
            self._nodes[start],
            [self._nodes[name] for name in names],
            twice,
            retain_graph=True,
            allow_unused=True,
        )
        result = {}
        for name, signal in zip(names, found, strict=True):
            node = self._nodes[name]
            signal = torch.zeros_like(node) if signal is None else signal
            result[name] = self._relevance(signal, node)
        if start in layers:
            result[start] = self._relevance(twice, self._nodes[start])
        return result

    def _own(self, a: Tensor) -> Tensor:
        return a.chunk(2)[0] if self.paired else a

    def _relevance(self, signal: Tensor, node: Tensor) -> Tensor:
        """Return the signal, or from multipliers what they make of the change."""
        if not self.paired:
            return signal
        own, reference = node.detach().chunk(2)
        return (own - reference) * by_sign(own - reference, *signal.chunk(2))


def signals(
    model: nn.Module,
    x: Tensor,
    composite: str | Composite,
    start: str,
    layers: list[str],
    vectors: Tensor,
    *,
    baseline: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the backward signal at layers, for vectors put at the output of a layer.

    Parameters
    ----------
    model : Module in eval mode
    x : Tensor, shape (B, C, H, W)
    composite : a name or a list of (key, rule)
    start : the layer whose output gets the vectors; "output" for the logits
    layers : the layers at whose outputs the signal is wanted; "input" for x
    vectors : Tensor, shape (V, B, ...), ... the shape of start's output
    baseline : for DeepLIFT's rules, which compare x with it

    Returns
    -------
    dict of Tensor, shape (V, B, ...), by layer

    Raises
    ------
    ValueError
        for an unknown layer, one that runs twice, or vectors of another shape

    Notes
    -----
    One forward pass serves all vectors: `Chain` keeps it for several starts.

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> v = torch.ones(3, 1, 2)
    >>> signals(net, torch.ones(1, 1, 2, 2), "zplus", "1", ["input"], v)["input"].shape
    torch.Size([3, 1, 1, 2, 2])
    """
    chain = Chain(model, x, composite, [start, *layers], baseline)
    wanted = tuple(chain.values[start].shape)
    if tuple(vectors.shape[1:]) != wanted:
        raise ValueError(
            f"vectors must have shape (V, {', '.join(map(str, wanted))}), "
            f"got {tuple(vectors.shape)}"
        )
    sent = [chain.back(start, vector, layers) for vector in vectors]
    return {name: torch.stack([one[name] for one in sent]) for name in layers}
