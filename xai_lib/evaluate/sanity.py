"""Sanity checks: does a map change with the class, and with the weights?"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call
from xai_lib.attribute._forward import fixed_target
from xai_lib.attribute.reduce import channel_max_abs, channel_sum
from xai_lib.attribute.registry import find_method
from xai_lib.evaluate.randomise import randomised
from xai_lib.evaluate.removal import own_seed
from xai_lib.evaluate.structural import similarity

MAX_ABS = (
    "gradient",
    "smoothgrad",
    "squaregrad",
    "vargrad",
    "guided_backprop",
    "deconvnet",
    "rectgrad",
)
"""Methods whose map is max |.| over the channels; all others sum over them."""

PERCENTILES = {"rectgrad": 100.0}
"""Where the clipping of a method's maps differs from 99.5."""

Score = Callable[[Tensor, Tensor], Tensor]


def _name(method) -> str:
    method = getattr(method, "func", method)  # of a partial
    if isinstance(method, str):
        return method
    return getattr(method, "name", None) or getattr(method, "__name__", "")


def reduction_of(method: str | Callable) -> Callable[[Tensor], Tensor]:
    """Return how a method's maps lose their channels: `channel_max_abs` or the sum.

    Examples
    --------
    >>> reduction_of("gradient").__name__, reduction_of("gradient_x_input").__name__
    ('channel_max_abs', 'channel_sum')
    """
    return channel_max_abs if _name(method) in MAX_ABS else channel_sum


def _prepare(method, reduce, score):
    """Return (model, x, c) -> reduced maps, and the score of two of them."""
    function, reduce = find_method(method), reduce or reduction_of(method)
    percentile = PERCENTILES.get(_name(method), 99.5)
    score = score or partial(similarity, percentile=percentile)
    return lambda model, x, c: reduce(function(model, x, c)), score


def other_class(classes: int, c: Tensor, seed: int = 0) -> Tensor:
    """Draw, for each class in c, one of the other classes uniformly.

    Examples
    --------
    >>> bool((other_class(3, torch.tensor([0, 1, 2])) != torch.arange(3)).all())
    True
    """
    if classes < 2:
        raise ValueError(f"the model must have at least 2 classes, got {classes}")
    g = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, classes, c.shape, generator=g).to(c.device)
    return (c + steps) % classes


def random_logit(
    model: nn.Module,
    x: Tensor,
    target: Target,
    method: str | Callable[..., Tensor],
    seed: int = 0,
    *,
    reduce: Callable[[Tensor], Tensor] | None = None,
    score: Score | None = None,
) -> Tensor:
    """Compare the map of the target with the map of a random other class.

    Parameters
    ----------
    model, x, target : as for every method
    method : a name in METHODS, or a callable with the common signature
    seed : of the other classes, one per image, uniform; drawn by the image's values, so
        a batch equals its images one by one
    reduce : (B, C, H, W) -> (B, 1, H, W); None takes `reduction_of` the method
    score : (B, 1, H, W) twice -> (B,); None is `similarity`, with the percentiles 0.5
        and 99.5 (0 and 100 for RectGrad) and data range 1

    Returns
    -------
    Tensor, shape (B,): 1 for a method that ignores the class

    Notes
    -----
    Quantus's RandomLogit compares the flattened maps; here windows of 5 x 5 pixels.

    References
    ----------
    [sixt2020]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    >>> x, c = torch.ones(2, 1, 8, 8), torch.tensor([0, 1])
    >>> random_logit(net, x, c, "gradient").shape
    torch.Size([2])
    """
    check_call(model, x, target)
    maps, score = _prepare(method, reduce, score)
    c = fixed_target(model, x, target)
    with torch.no_grad():
        classes = model(x[:1].clone()).shape[1]
    seeds = [own_seed(image, seed, "class") for image in x]
    each = zip(c.split(1), seeds, strict=True)
    other = torch.cat([other_class(classes, one, own) for one, own in each])
    return score(maps(model, x, c), maps(model, x, other))


def cascading_randomisation(
    model: nn.Module,
    x: Tensor,
    target: Target,
    method: str | Callable[..., Tensor],
    layers: Sequence[str],
    how: str = "fresh",
    seed: int = 0,
    *,
    reduce: Callable[[Tensor], Tensor] | None = None,
    score: Score | None = None,
) -> dict[str, Tensor]:
    """Compare the map with those of copies whose weights are random from a layer on.

    Parameters
    ----------
    model, x, target, method, reduce, score : as `random_logit`; a target function is
        asked once, of the trained model
    layers : names of modules; each starts anew from the trained model, and loses the
        weights of this layer and of everything behind it
    how : "fresh" or "rescaled", as `randomised`, which says what they mean
    seed : of the one random network that all layers' copies take their weights from

    Returns
    -------
    dict of layer to Tensor, shape (B,): 1 where the map ignores these weights

    References
    ----------
    [adebayo2018]_, [sixt2020]_; [binder2023]_ for the limits of the test

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 3)).eval()
    >>> x, c = torch.ones(2, 1, 8, 8), torch.tensor([0, 1])
    >>> scores = cascading_randomisation(net, x, c, "gradient", ["2", "1"])
    >>> list(scores), scores["2"].shape
    (['2', '1'], torch.Size([2]))
    """
    check_call(model, x, target)
    maps, score = _prepare(method, reduce, score)
    c = fixed_target(model, x, target)
    trained = maps(model, x, c)
    return {
        layer: score(trained, maps(randomised(model, x, layer, how, seed), x, c))
        for layer in layers
    }
