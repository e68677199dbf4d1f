"""Foreign files as state dicts of the nets in `nets` and torchvision, images, texts."""

import collections
import io
import json
import pickle
import re
from math import prod

import numpy as np
import torch
import torch._utils
from torch import Tensor

from .cifar_files import from_cifar_pickle, from_cifar_png
from .nets import EfficientNetLite0
from .text_files import from_reviews_json

State = dict[str, Tensor]


class _OnlyTensors(pickle.Unpickler):
    """Opens a plain pickle that holds tensors, and nothing else."""

    ALLOWED = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch.storage", "_load_from_bytes"): lambda b: torch.load(
            io.BytesIO(b), map_location="cpu", weights_only=True
        ),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in weights")
        return self.ALLOWED[module, name]


def from_pickle(members: dict[str, bytes]) -> State:
    """Read a state dict that was written with plain ``pickle``."""
    return dict(_OnlyTensors(io.BytesIO(_only(members))).load())


def from_torch(members: dict[str, bytes]) -> State:
    """Read a state dict that was written with ``torch.save``."""
    blob = io.BytesIO(_only(members))
    return dict(torch.load(blob, map_location="cpu", weights_only=True))


def _only(members: dict[str, bytes]) -> bytes:
    if len(members) != 1:
        raise ValueError(f"wanted one weight file, got {len(members)}")
    return next(iter(members.values()))


def from_efficientnet(members: dict[str, bytes]) -> State:
    """Rename the weights of the efficientnet-pytorch family to `EfficientNetLite0`."""
    stages = enumerate(EfficientNetLite0.STAGES, 1)
    blocks = [f"stage{i}.{k}" for i, stage in stages for k in range(stage[1])]
    parts = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.bn",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.bn",
        "_project_conv": "project.conv",
        "_bn2": "project.bn",
    }
    ends = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.bn",
        "_conv_head": "head.conv",
        "_bn1": "head.bn",
        "_fc": "fc",
    }

    def rename(key: str) -> str:
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, part, leaf = found.groups()
            return f"{blocks[int(number)]}.{parts[part]}.{leaf}"
        part, leaf = key.split(".")
        return f"{ends[part]}.{leaf}"

    return {rename(key): value for key, value in from_torch(members).items()}


def read_tfjs(members: dict[str, bytes]) -> dict[str, np.ndarray]:
    """Read the float32 weights of a TensorFlow.js layers model, by Keras name."""
    arrays = {}
    for group in json.loads(members["model.json"])["weightsManifest"]:
        blob = b"".join(members[path] for path in group["paths"])
        start = 0
        for weight in group["weights"]:
            if weight["dtype"] != "float32" or "quantization" in weight:
                raise ValueError(f"{weight['name']} is not stored as float32")
            count = prod(weight["shape"])
            array = np.frombuffer(blob, "<f4", count, start)
            arrays[weight["name"]] = array.reshape(weight["shape"])
            start += array.nbytes
        if start != len(blob):
            raise ValueError(f"weight shards hold {len(blob)} bytes, wanted {start}")
    return arrays


def from_tfjs_resnet50(members: dict[str, bytes]) -> State:
    """Turn the Keras ResNet-50 (Caffe weights, BGR) into torchvision's RGB layout.

    Notes
    -----
    The kernel of the first convolution is flipped from BGR to RGB, which is exact.
    The mean is *not* folded into it: with zero padding a folded mean is wrong in the
    3-pixel border. It is subtracted by the classifier's transform instead. Biases of
    convolutions move into the running mean of the batch norm behind them.
    """
    weights = {name: torch.tensor(a) for name, a in read_tfjs(members).items()}
    state: State = {}
    for (conv, bn), (keras_conv, keras_bn) in _resnet50_names().items():
        kernel = weights[f"{keras_conv}/kernel"].permute(3, 2, 0, 1)
        kernel = kernel.flip(1) if conv == "conv1" else kernel
        state[f"{conv}.weight"] = kernel.contiguous()
        state[f"{bn}.weight"] = weights[f"{keras_bn}/gamma"]
        state[f"{bn}.bias"] = weights[f"{keras_bn}/beta"]
        mean = weights[f"{keras_bn}/moving_mean"] - weights[f"{keras_conv}/bias"]
        state[f"{bn}.running_mean"] = mean
        state[f"{bn}.running_var"] = weights[f"{keras_bn}/moving_variance"]
    state["fc.weight"] = weights["fc1000/kernel"].t().contiguous()
    state["fc.bias"] = weights["fc1000/bias"]
    return state


def _resnet50_names() -> dict[tuple[str, str], tuple[str, str]]:
    """Pairs (convolution, batch norm): torchvision's names to those of Keras."""
    names = {("conv1", "bn1"): ("conv1", "bn_conv1")}
    for stage, blocks in zip(range(1, 5), (3, 4, 6, 3), strict=True):
        for i in range(blocks):
            ours, keras = f"layer{stage}.{i}", f"{stage + 1}{'abcdef'[i]}_branch"
            for part, letter in zip((1, 2, 3), "abc", strict=True):
                pair = f"{ours}.conv{part}", f"{ours}.bn{part}"
                names[pair] = f"res{keras}2{letter}", f"bn{keras}2{letter}"
            if i == 0:
                pair = f"{ours}.downsample.0", f"{ours}.downsample.1"
                names[pair] = f"res{keras}1", f"bn{keras}1"
    return names


FORMATS = {
    "torch": from_torch,
    "pickle": from_pickle,
    "efficientnet": from_efficientnet,
    "tfjs_resnet50": from_tfjs_resnet50,
    "cifar_png": from_cifar_png,
    "cifar_pickle": from_cifar_pickle,
    "reviews_json": from_reviews_json,
}
