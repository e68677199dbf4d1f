"""Methods made of one composite each."""

from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.attribute._forward import rows_per_pass
from xai_lib.attribute.backprop.engine import ModifiedBackprop
from xai_lib.attribute.backprop.rules import guided
from xai_lib.attribute.gradients import gradient


def guided_backprop(
    model: nn.Module, x: Tensor, target: Target, *, layer: str | None = None
) -> Tensor:
    """Return the gradient with negative signals stopped at every ReLU.

    Parameters and Returns as `gradient`.

    Raises
    ------
    ValueError
        if the model runs no ReLU (or ReLU6) behind the layer: the map would be the
        plain gradient

    Notes
    -----
    Rule at a ReLU: R_in = f'(z) * max(R, 0). ReLU6 counts as a ReLU that is also flat
    above 6.

    References
    ----------
    [springenberg2015]_

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> guided_backprop(net, torch.ones(1, 1, 2, 2), torch.tensor([0])).min() >= 0
    tensor(True)
    """
    check_call(model, x, target)
    rows_per_pass(model, x)  # measured here, so that the engine sees our passes alone
    with ModifiedBackprop([("relu", guided)]) as engine:
        result = gradient(model, x, target, layer=layer)
    if not engine.seen["relu"]:
        behind = "" if layer is None else f" behind layer {layer!r}"
        raise ValueError(
            f"guided_backprop needs a model with ReLUs, got none in "
            f"{type(model).__name__}{behind}"
        )
    return result
