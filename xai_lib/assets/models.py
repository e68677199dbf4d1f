"""Pretrained classifiers, ready to be explained."""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision
from torch import Tensor, nn

from .._paths import DATA
from . import cifar_zoo, text_nets
from .catalog import Asset, cards, catalog, find_model, torchvision_names
from .cifar_weights import read_weights
from .fetch import obtain
from .layers import named_layers
from .nets import build
from .text import TextTransform, vocabulary
from .text_files import CLASSES as SENTIMENTS
from .transform import Transform

OWN = cifar_zoo.NETS | text_nets.NETS


@dataclass(frozen=True)
class Classifier:
    """A pretrained net with what is needed to use and to cite it.

    Attributes
    ----------
    name : its name in the catalogue
    model : the net, in eval mode, parameters frozen, channels-last
    transform : from a float tensor in [0, 1] (3, H, W) or (N, 3, H, W), or a PIL image,
        to the net's input; of a text net a `TextTransform`, from texts to (B, E, 1, T)
    classes : name of each class
    layers : names of the modules "middle" (not in text nets) and "final"; "input" is
        None
    card : source, licence, citation, reported accuracy
    """

    name: str
    model: nn.Module
    transform: Callable[..., Tensor]
    classes: list[str]
    layers: dict[str, str | None]
    card: dict = field(repr=False)


def list_models() -> list[str]:
    """Return the models by name: of the registries, our own, torchvision's."""
    ours = [name for name, asset in catalog().items() if asset.kind == "model"]
    ours += cards()
    return ours + [name for name in torchvision_names() if name not in ours]


def load_model(name: str) -> Classifier:
    """Load a pretrained classifier; fetch its weights if they are not in the cache.

    Parameters
    ----------
    name : one of `list_models`; ``name@IMAGENET1K_V2`` asks torchvision for other
        weights than IMAGENET1K_V1.

    Returns
    -------
    Classifier
        With ``.model`` in eval mode, parameters frozen, memory format channels-last.

    Raises
    ------
    ValueError
        If there is no such model, or weights of our own are damaged or not there.
    AssetError
        If its weights cannot be had from anywhere.

    Notes
    -----
    ``resnet50_caffe`` is the original ResNet-50 in the Caffe convention: ``.transform``
    subtracts the Caffe mean on the scale 0..255; channels stay RGB, its first kernel is
    flipped. Elsewhere the mean is sometimes folded into that kernel, which is wrong in
    the 3-pixel border because the padding is zero after the mean, not before.

    Examples
    --------
    >>> net = load_model("resnet18")
    >>> net.layers
    {'input': None, 'middle': 'layer2', 'final': 'layer4'}
    """
    if name in cards():
        card = cards()[name]
        model = _fresh_own(name, 0)
        model.load_state_dict(read_weights(DATA / "models", card))
        return _own(name, model, _own_card(card))
    if name in OWN:
        script = "train_text.py" if name in text_nets.NETS else "train.py"
        raise ValueError(
            f"{name} has no stored weights: python data/models/{script} {name} makes "
            "them, fresh_model gives random ones"
        )
    asset = find_model(name)
    transform = _transform(asset)
    model = _fill(asset, obtain(asset), transform.crop)
    layers = named_layers(model, transform.crop) | asset.info.get("layers", {})
    return Classifier(asset.name, model, transform, _classes(), layers, _card(asset))


def fresh_model(name: str, seed: int = 0) -> Classifier:
    """Build the net of `load_model` with random weights; nothing is fetched.

    Parameters
    ----------
    name : one of `list_models`.
    seed : of the initialisation; the random state of torch is left alone.

    Returns
    -------
    Classifier
        As `load_model` returns it, but as initialised. ``.card`` says so.

    Notes
    -----
    The initialisation is the one the net's builder chooses: torch's default, or what
    torchvision or `cifar_nets` write over it (He's normal one for VGG). Batch norms
    keep mean 0 and variance 1, as before any training.

    Examples
    --------
    >>> net = fresh_model("cifar_resnet", seed=1)
    >>> net.model(net.transform(torch.rand(2, 3, 32, 32))).shape
    torch.Size([2, 10])
    """
    card = {"name": name, "sources": [f"random weights, seed {seed}"]}
    if name in OWN:
        return _own(name, _fresh_own(name, seed), card)
    asset = find_model(name)
    transform = _transform(asset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = freeze(build(asset.info["architecture"], transform.crop))
    layers = named_layers(model, transform.crop) | asset.info.get("layers", {})
    return Classifier(asset.name, model, transform, _classes(), layers, card)


def _fresh_own(name: str, seed: int) -> nn.Module:
    """Build one of our own nets with random weights, a text net with its embedding."""
    text = name in text_nets.NETS
    return (text_nets.fresh_reader if text else cifar_zoo.fresh_net)(name, seed)


def _own(name: str, model: nn.Module, card: dict) -> Classifier:
    """Put one of our own nets together with what all of its kind share."""
    model, layers = freeze(model), {"input": None} | OWN[name].layers
    if name in text_nets.NETS:
        words = vocabulary(card.get("vocabulary_sha256", ""))
        transform = TextTransform(model.embedding.weight, words)
        return Classifier(name, model.net, transform, list(SENTIMENTS), layers, card)
    transform = Transform(cifar_zoo.MEAN, cifar_zoo.STD, resize=32, crop=32)
    return Classifier(name, model, transform, list(cifar_zoo.CLASSES), layers, card)


def _own_card(card: dict) -> dict:
    """Add to a card of ``data/models`` what the cards of fetched models have."""
    return card | {
        "sources": [f"data/models/{file}" for file in card["files"]],
        "reported_top1": round(100 * card["test_accuracy"], 2),
        "reported_by": f"data/models/{card['name']}.toml",
        "megabytes": round(card["bytes"] / 1e6, 1),
    }


def freeze(model: nn.Module) -> nn.Module:
    """Put a net into eval mode and channels-last, its parameters frozen."""
    model = model.eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def _fill(asset: Asset, state: dict[str, Tensor], crop: int = 224) -> nn.Module:
    """Build the net and put the fetched weights in."""
    model = _empty(asset.info["architecture"], crop)
    if "densenet" in asset.name:  # older files write norm.1 for norm1
        state = {
            re.sub(r"\.(norm|relu|conv)\.([12])\.", r".\1\2.", k): v
            for k, v in state.items()
        }
    fresh = model.state_dict()
    counters = [key for key in fresh if key.endswith("num_batches_tracked")]
    state = OrderedDict(dict.fromkeys(counters, torch.tensor(0)) | state)
    state._metadata = fresh._metadata  # versions of the layers' layout
    model.load_state_dict(state, assign=True)
    return freeze(model)


def _empty(architecture: str, crop: int) -> nn.Module:
    """Build a net whose weights are yet to come, leaving the random state alone."""
    try:
        with torch.device("meta"):
            return build(architecture, crop)
    except RuntimeError:  # some builders compute their widths with tensors
        with torch.random.fork_rng(devices=[]):
            return build(architecture, crop)


def _transform(asset: Asset) -> Transform:
    info = asset.info
    if "mean" in info:
        return Transform(tuple(info["mean"]), tuple(info["std"]))
    choices = torchvision.models.get_model_weights(info["architecture"])
    preset = choices[info["weights"]].transforms()
    return Transform(
        tuple(preset.mean),
        tuple(preset.std),
        preset.resize_size[0],
        preset.crop_size[0],
        preset.interpolation,
    )


def _classes() -> list[str]:
    """Return the 1000 class names of ImageNet, which all models here share."""
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    return list(weights.meta["categories"])


def _card(asset: Asset) -> dict:
    return {
        "name": asset.name,
        "architecture": asset.info["architecture"],
        "sources": [str(source) for source in asset.sources],
        "licence": asset.licence,
        "citation": asset.citation,
        "reported_top1": asset.info.get("top1"),
        "reported_by": asset.info.get("top1_source", "not stated"),
        "megabytes": asset.megabytes,
        "digest": asset.digest or "recorded at the first download",
    }
