"""A reader's own network as a `Classifier`, and what a network must do to be one."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from .images import SIDE
from .layers import layers_of
from .models import Classifier, freeze
from .transform import IMAGENET_MEAN, IMAGENET_STD, Transform

TOLERANCE = 1e-3  # of the largest logit, between an image alone and in a batch


def own_model(
    model: nn.Module,
    transform: Callable[..., Tensor] | None = None,
    classes: Sequence[str] | None = None,
    layers: Mapping[str, str | None] | None = None,
    *,
    size: int = 224,
    resize: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    name: str | None = None,
) -> Classifier:
    """Make a classifier of any network that turns images into logits.

    Parameters
    ----------
    model : Module, images (B, C, H, W) -> logits (B, classes). It is copied, and stays
        as it is; the copy lies on the CPU, in float32 and eval mode, parameters frozen
    transform : from images (B, 3, 256, 256) in [0, 1] to what the network wants; None
        for the one that the last four parameters describe
    classes : name of each class; None numbers them
    layers : names of modules for "middle" and "final"; None finds them
    size : side of the square image that the network wants, in pixels
    resize : side to which an image is brought before its centre of `size` is cut out;
        None is `size`, so that nothing is cut off. torchvision's networks for 224 want
        256
    mean, std : of each channel of RGB, on the scale 0 to 1; the default is ImageNet's
    name : by which tables call it; None takes the name of its class

    Returns
    -------
    Classifier
        ``.layers`` has "middle" and "final" as far as the network has such layers.

    Raises
    ------
    TypeError, ValueError
        What the network, tried on two images of noise, did not do: take images of this
        size, return one tensor (B, classes) of finite logits, the same ones again, and
        for an image alone the same as in a batch, for another image other ones.

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *head)
    >>> net = own_model(module, size=32, classes=["cat", "dog", "owl"])
    >>> net.name, net.layers, module.training
    ('Sequential', {'input': None, 'final': '1'}, True)
    """
    model = _copied(model)
    if transform is None:
        transform = Transform(tuple(mean), tuple(std), resize or size, size)
    noise = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x = network_input(transform, noise)
    logits = check_logits(model, x)
    if torch.equal(logits[0], logits[1]):
        raise ValueError(
            f"model must answer to its input, {type(model).__name__} returned the same "
            "logits for two images: is its last layer zero, as before any training?"
        )
    count = logits.shape[1]
    if classes is None:
        classes = [f"class {k}" for k in range(count)]
    if isinstance(classes, str) or len(classes) != count:
        got = repr(classes) if isinstance(classes, str) else str(len(classes))
        raise ValueError(f"classes must be {count} names, one per logit, got {got}")
    known = layers_of(model, x[:1]) if layers is None else _named(model, layers)
    name = name or type(model).__name__
    card = {"name": name, "sources": ["given by the reader"]}
    return Classifier(name, model, transform, list(map(str, classes)), known, card)


def network_input(transform: Callable[..., Tensor], images: Tensor) -> Tensor:
    """Return what a transform makes of images (B, 3, H, W); say what is wrong with it.

    Examples
    --------
    >>> network_input(lambda x: x[..., ::2, ::2], torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 3, 4, 4])
    """
    shape = tuple(images.shape)
    try:
        x = transform(images)
    except Exception as error:
        raise ValueError(
            f"transform must take images of shape {shape}, it failed: {_line(error)}"
        ) from error
    wanted = "transform must return a floating tensor (B, C, H, W)"
    if not isinstance(x, Tensor):
        raise TypeError(f"{wanted}, got {type(x).__name__}")
    if x.ndim != 4 or len(x) != len(images) or not x.is_floating_point():
        got = f"{x.dtype} {tuple(x.shape)}"
        raise ValueError(f"{wanted}, got {got} for images {shape}")
    if not x.isfinite().all():
        raise ValueError(f"{wanted} of finite values, got NaN or infinity")
    return x


def check_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return a network's logits for x (B, C, H, W), or say why it cannot be explained.

    Raises
    ------
    TypeError, ValueError
        as `own_model`

    Examples
    --------
    >>> check_logits(nn.Flatten(), torch.rand(2, 3, 1, 1)).shape
    torch.Size([2, 3])
    """
    who, shape = type(model).__name__, tuple(x.shape)
    try:
        with torch.no_grad():
            logits, again, alone = model(x), model(x), model(x[:1])
    except Exception as error:
        raise ValueError(
            f"model must take images of shape {shape}, {who} refused them: "
            f"{_line(error)} (size= sets their side, transform= anything else)"
        ) from error
    wanted = "model must return logits, one tensor (B, classes)"
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"{wanted}, {who} returned a {type(logits).__name__}: wrap it in a module "
            "whose forward returns the logits alone"
        )
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        got = f"{tuple(logits.shape)} for images {shape}"
        raise ValueError(f"{wanted} with 2 classes or more, {who} returned {got}")
    if not logits.isfinite().all():
        raise ValueError(f"{wanted}, all finite, {who} returned NaN or infinity")
    room = TOLERANCE * logits.abs().max().clamp(min=1e-6)
    if (logits - again).abs().max() > room:
        raise ValueError(
            f"model must give the same logits for the same images, {who} did not: is a "
            "dropout on in eval mode?"
        )
    if (logits[:1] - alone).abs().max() > room:
        raise ValueError(
            f"model must treat every image alone, {who} gave other logits in a batch: "
            "has a BatchNorm no running statistics?"
        )
    _refuse_probabilities(logits, who)
    return logits


def _refuse_probabilities(logits: Tensor, who: str) -> None:
    """Refuse what is a softmax already: a metric would take the softmax of it again."""
    kinds = {"probabilities": logits, "log-probabilities": logits.exp()}
    for what, values in kinds.items():
        sums = values.sum(1)
        if (values >= 0).all() and (sums - 1).abs().max() < 1e-4:
            raise ValueError(
                f"model must return logits, {who} returned {what}: leave out its last "
                "softmax"
            )


def _copied(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        weights = "; build the network and load these weights into it first"
        hint = weights * isinstance(model, Mapping)
        hint = "; pass its .model" if hasattr(model, "model") else hint
        raise TypeError(
            f"model must be a torch Module, got {type(model).__name__}{hint}"
        )
    try:
        copy = deepcopy(model)
    except Exception as error:
        raise ValueError(
            f"model must be one that can be copied, {type(model).__name__} cannot: "
            f"{_line(error)}"
        ) from error
    return freeze(copy.cpu().float())


def _named(model: nn.Module, layers: Mapping) -> dict[str, str | None]:
    known = dict(model.named_modules())
    for called, layer in layers.items():
        if layer is not None and layer not in known:
            top = ", ".join(name for name, _ in model.named_children())
            raise ValueError(
                f"layers must name modules (such as {top}), got {layer!r} for {called}"
            )
    return {"input": None} | dict(layers)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
