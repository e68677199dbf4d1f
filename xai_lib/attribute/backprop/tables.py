"""Which torch function is read as which operation."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib.attribute.backprop.operations import (
    read_adaptive_max_pool,
    read_attention,
    read_average,
    read_batch_norm,
    read_clamp,
    read_div,
    read_elementwise,
    read_group_norm,
    read_hardtanh,
    read_layer_norm,
    read_matmul,
    read_max_pool,
    read_mul,
    read_neg,
    read_reversed_sub,
    read_sum,
    read_weighted,
)

_CONVOLUTIONS = [torch.conv1d, torch.conv2d, torch.conv3d]
_TRANSPOSED = [torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d]
_RELU = [F.relu, torch.relu, Tensor.relu, F.relu6]
_SMOOTH = [
    F.gelu, F.silu, F.elu, F.selu, F.celu, F.leaky_relu, F.softplus, F.hardswish,
    F.hardsigmoid, F.mish, F.logsigmoid, F.sigmoid, F.tanh, F.softsign,
    torch.sigmoid, torch.tanh, torch.selu, torch.celu, torch.prelu, F.prelu,
    Tensor.sigmoid, Tensor.tanh,
]  # fmt: skip
_SUMS = [torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__]
_DIFFERENCES = [torch.sub, torch.subtract, Tensor.sub, Tensor.__sub__]
_PRODUCTS = [torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__]
_QUOTIENTS = [
    torch.div,
    torch.divide,
    torch.true_divide,
    Tensor.div,
    Tensor.__truediv__,
]
_MATRIX_PRODUCTS = [
    torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.mm,
    Tensor.mm,
]  # fmt: skip
_MEANS = [
    torch.mean, Tensor.mean, torch.sum, Tensor.sum, F.avg_pool1d, F.avg_pool2d,
    F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
    F.interpolate,
]  # fmt: skip
_MAX_POOLS = [F.max_pool1d, F.max_pool2d, F.max_pool3d]
_PLAIN_MAX_POOLS = [torch.max_pool1d, torch.max_pool2d, torch.max_pool3d]
_ADAPTIVE_MAX_POOLS = [F.adaptive_max_pool1d, F.adaptive_max_pool2d]

READERS: dict[Callable, Callable] = {
    **{f: read_weighted("conv", f) for f in _CONVOLUTIONS},
    **{f: read_weighted("conv", f, transposed=True) for f in _TRANSPOSED},
    F.linear: read_weighted("linear", F.linear),
    F.batch_norm: read_batch_norm,
    F.layer_norm: read_layer_norm,
    F.group_norm: read_group_norm,
    **{f: read_sum(1.0) for f in _SUMS},
    **{f: read_sum(-1.0) for f in _DIFFERENCES},
    torch.rsub: read_reversed_sub,
    Tensor.__rsub__: read_reversed_sub,
    **{f: read_mul for f in _PRODUCTS},
    **{f: read_div for f in _QUOTIENTS},
    **{f: read_neg for f in (torch.neg, torch.negative, Tensor.neg, Tensor.__neg__)},
    **{f: read_matmul for f in _MATRIX_PRODUCTS},
    F.scaled_dot_product_attention: read_attention,
    **{f: read_average(f) for f in _MEANS},
    **{f: read_max_pool(f) for f in _MAX_POOLS + _PLAIN_MAX_POOLS},
    **{f: read_adaptive_max_pool(f) for f in _ADAPTIVE_MAX_POOLS},
    **{f: read_elementwise("relu", f) for f in _RELU},
    **{f: read_elementwise("activation", f) for f in _SMOOTH},
    F.hardtanh: read_hardtanh,
    **{f: read_clamp for f in (torch.clamp, Tensor.clamp, torch.clip, Tensor.clip)},
    **{f: read_clamp for f in (torch.clamp_min, Tensor.clamp_min)},
}
"""Torch functions that change relevance, with their readers."""

_NAMES = [
    "reshape", "view", "flatten", "unflatten", "transpose", "permute", "movedim",
    "moveaxis", "swapaxes", "t", "squeeze", "unsqueeze", "expand", "expand_as",
    "repeat", "tile", "cat", "concat", "concatenate", "stack", "hstack", "vstack",
    "split", "chunk", "unbind", "tensor_split", "narrow", "select", "index_select",
    "gather", "take_along_dim", "roll", "flip", "rot90", "clone", "contiguous", "to",
    "type_as", "float", "double", "half", "__getitem__", "view_as", "reshape_as",
    "swapdims", "split_with_sizes", "ravel", "broadcast_to", "broadcast_tensors",
    "as_strided", "requires_grad_", "alias", "unfold", "repeat_interleave",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "type", "cpu", "cuda",
    "diagonal", "register_hook", "retain_grad", "where", "masked_fill",
]  # fmt: skip
ROUTES = {
    getattr(room, name)
    for room in (torch, Tensor, F)
    for name in _NAMES
    if hasattr(room, name)
} | {F.pad, F.dropout, F.dropout2d, F.dropout3d, F.alpha_dropout}
ROUTES |= {torch.dropout, torch.feature_dropout, Tensor.T.__get__, Tensor.mT.__get__}
"""Torch functions that only move values: their gradient is their rule."""
