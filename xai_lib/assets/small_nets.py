"""Small random networks on which propositions are tested: one activation each."""

from collections.abc import Callable

import torch
from torch import nn

from xai_lib._check import check_choice

SIZE = (3, 8, 8)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}
KINDS = ("mlp", "cnn", "cnn_max_pool")


def small_net(
    kind: str = "mlp", activation: str = "relu", *, bias: bool = True, seed: int = 0
) -> nn.Sequential:
    """Return a random network in float64 for images of 3 x 8 x 8, five classes.

    Parameters
    ----------
    kind : "mlp" (dense 32, 24), "cnn" (two convolutions, mean pooling, dense 24) or
        "cnn_max_pool" (the same with max-pooling)
    activation : "relu", "elu", "tanh", "sigmoid", "softplus", "gelu", or "identity" for
        a linear network
    bias : whether the layers have one; it is drawn as large as the weighted sums are
    seed : of the weights; torch's random state is left alone

    Raises
    ------
    ValueError
        for an unknown kind or activation

    Examples
    --------
    >>> small_net("cnn", "tanh")(torch.ones(2, *SIZE, dtype=torch.float64)).shape
    torch.Size([2, 5])
    """
    check_choice("kind", kind, KINDS)
    check_choice("activation", activation, ACTIVATIONS)
    act = ACTIVATIONS[activation]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            steps = [nn.Flatten(), nn.Linear(192, 32, bias), act()]
        else:
            pool = nn.MaxPool2d(2) if kind == "cnn_max_pool" else nn.AvgPool2d(2)
            steps = [nn.Conv2d(3, 6, 3, padding=1, bias=bias), act(), pool]
            steps += [nn.Conv2d(6, 2, 3, padding=1, bias=bias), act(), nn.Flatten()]
        steps += [nn.Linear(32, 24, bias), act(), nn.Linear(24, 5, bias)]
        for layer in steps:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                _draw(layer)
    return nn.Sequential(*steps).double().eval().requires_grad_(False)


def _draw(layer: nn.Module) -> None:
    """Draw weights that keep the size of a signal, and a bias of about that size."""
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5)
    if layer.bias is not None:
        nn.init.normal_(layer.bias, std=0.5)
