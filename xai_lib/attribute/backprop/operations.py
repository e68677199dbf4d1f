"""Which torch call is which operation, and how it looks as a function of its input.

A reader takes the arguments of one call and returns what relevance goes back to (one
tensor, made from the call's tensors) and the `Op`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from xai_lib.attribute.backprop.op import Op

Call = tuple[Tensor, Op]


def carries(a: object) -> bool:
    """Return whether a is a tensor that relevance must reach."""
    return isinstance(a, Tensor) and a.requires_grad


def unit(x: Tensor) -> Tensor:
    """Return the weight 1 of operations that have none of their own."""
    return x.new_ones(())


def constant(a, x: Tensor) -> Tensor:
    """Return a number or tensor as a tensor of x's type."""
    return torch.as_tensor(a, dtype=x.dtype, device=x.device)


def refuse(what: str) -> None:
    """Raise: the call carries relevance in a way that no rule covers."""
    raise ValueError(what)


# --- convolutions and linear maps -----------------------------------------------------


def _weighted(kind: str, function: Callable, **settings) -> Callable:
    def read(input, weight, bias=None, *args, **kwargs) -> Call:
        if any(carries(a) and not a.is_leaf for a in (weight, bias)):
            refuse(f"{kind} with a weight that depends on the input has no rule")

        def linear(x, w):
            return function(x, w, None, *args, **kwargs)

        shift = _channels(kind, bias, weight)
        return input, Op(kind, linear, weight, shift, settings)

    read.weighted = True
    return read


def _channels(kind: str, bias: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return a bias in the shape that broadcasts to the output."""
    if bias is None or kind == "linear":
        return bias
    return bias.view(-1, *[1] * (weight.ndim - 2))


def _batch_norm(
    input, running_mean, running_var, weight=None, bias=None, *args, **kwargs
) -> Call:
    """Read BatchNorm in eval mode: a scale and a shift per channel."""
    names = ("training", "momentum", "eps")
    named = dict(zip(names, args, strict=False)) | kwargs
    if named.get("training") or running_mean is None:
        refuse("batch_norm on the batch's own statistics has no rule")
    scale = (running_var + named.get("eps", 1e-5)).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    column = (-1,) + (1,) * (input.ndim - 2)
    return input, Op("batch_norm", torch.mul, scale.view(column), shift.view(column))


def fold(conv: Op, norm: Op) -> Op:
    """Return BatchNorm behind a convolution or a linear map as one operation of it."""
    scale, shift = norm.weight.flatten(), norm.bias.flatten()
    weight = conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    bias = shift if conv.bias is None else shift + scale * conv.bias.flatten()
    bias = bias.view(-1, *[1] * (conv.weight.ndim - 2))
    return Op(conv.kind, conv.function, weight, bias, name=conv.name, first=conv.first)


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5) -> Call:
    """Read LayerNorm with its standard deviation held constant  [ali2022]_."""
    dims = tuple(range(-len(normalized_shape), 0))
    spread = input.detach().var(dims, correction=0, keepdim=True)
    scale = (spread + eps).rsqrt()
    scale = scale if weight is None else scale * weight

    def centred(x, w):
        return (x - x.mean(dims, keepdim=True)) * w

    return input, Op("norm", centred, scale, bias)


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5) -> Call:
    """Read GroupNorm with its standard deviations held constant."""
    column = (1, -1) + (1,) * (input.ndim - 2)

    def centre(x):
        parts = x.reshape(len(x), num_groups, -1)
        return (parts - parts.mean(2, keepdim=True)).reshape(x.shape)

    parts = input.detach().reshape(len(input), num_groups, -1)
    scale = (parts.var(2, correction=0) + eps).rsqrt()
    scale = scale.repeat_interleave(input.shape[1] // num_groups, 1)
    scale = scale.view(len(input), *column[1:])
    scale = scale if weight is None else scale * weight.view(column)
    shift = None if bias is None else bias.view(column)
    return input, Op("norm", lambda x, w: centre(x) * w, scale, shift)


# --- sums, products, means ------------------------------------------------------------


def _add(sign: float) -> Callable:
    """Read a + sign b: a residual join of two signals, or one signal and a constant."""

    def read(input, other, *, alpha=1) -> Call:
        if carries(input) and carries(other):
            both = torch.stack(torch.broadcast_tensors(input, other), 1)  # (B, 2, ...)
            w = both.new_tensor([1.0, sign * alpha]).view(-1, *[1] * (both.ndim - 2))
            return both, Op("add", lambda x, w: (x * w).sum(1), w)
        if carries(input):
            x, shift, w = input, sign * alpha * constant(other, input), unit(input)
        else:
            x, shift, w = other, constant(input, other), sign * alpha * unit(other)
        return x.expand(broadcast(x, shift)), Op("shift", torch.mul, w, shift)

    return read


def broadcast(*tensors: Tensor) -> torch.Size:
    """Return the shape of a sum or a product of the tensors."""
    return torch.broadcast_shapes(*(a.shape for a in tensors))


def _reversed_sub(input, other) -> Call:
    return _add(-1.0)(other, input)


def _mul(input, other) -> Call:
    """Read a product with a constant."""
    if carries(input) and carries(other):
        refuse("mul of two tensors that both carry relevance has no rule")
    x, w = (input, other) if carries(input) else (other, input)
    return x, Op("scale", torch.mul, constant(w, x))


def _div(input, other, *, rounding_mode=None) -> Call:
    if carries(other) or rounding_mode:
        refuse("div by a tensor that carries relevance has no rule")
    return input, Op("scale", torch.mul, 1 / constant(other, input))


def _neg(input) -> Call:
    return input, Op("scale", torch.mul, -unit(input))


def _matmul(input, other) -> Call:
    """Read a product of matrices of which one is constant."""
    if carries(input) and carries(other):
        refuse("matmul of two tensors that both carry relevance has no rule")
    if carries(input):
        return input, Op("matmul", torch.matmul, other)
    return other, Op("matmul", lambda x, w: torch.matmul(w, x), input)


def _attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **own
):
    """Read attention, its weights held constant: linear in the values  [ali2022]_."""
    if not carries(value):
        refuse("attention whose values do not depend on the input has no rule")
    query, key = query.detach(), key.detach()

    def weigh(x, w):
        return w * F.scaled_dot_product_attention(
            query, key, x, attn_mask, 0.0, is_causal, **own
        )

    return value, Op("attention", weigh, unit(value))


def _average(function: Callable) -> Callable:
    """Read a pooling by means, or a sum: linear, with weights of one sign."""

    def read(input, *args, **kwargs) -> Call:
        def linear(x, w):
            return function(x, *args, **kwargs) * w

        return input, Op("avg_pool", linear, unit(input))

    return read


# --- non-linearities ------------------------------------------------------------------


def _elementwise(kind: str, function: Callable) -> Callable:
    def read(input, *args, **kwargs) -> Call:
        return input, Op(kind, lambda x: function(x, *args, **kwargs))

    return read


def _hardtanh(input, min_val=-1.0, max_val=1.0) -> Call:
    """Read nn.ReLU6, which is a hardtanh from 0 on, and any other hardtanh."""
    kind = "activation" if min_val < 0 else "relu"
    return input, Op(kind, lambda x: F.hardtanh(x, min_val, max_val))


def _clamp(input, min=None, max=None) -> Call:
    """Read a clamp at 0, which is a ReLU, and any other."""
    kind = "relu" if isinstance(min, (int, float)) and min == 0 else "activation"
    return input, Op(kind, lambda x: torch.clamp(x, min, max))


def _max_pool(function: Callable) -> Callable:
    def read(
        input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **own
    ) -> Call:
        window = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        window["ceil_mode"] = ceil_mode

        def pool(x):
            return function(x, dilation=dilation, **window)

        return input, Op("max_pool", pool, settings=window | {"dilation": dilation})

    return read


def _adaptive_max_pool(function: Callable) -> Callable:
    def read(input, output_size, return_indices=False) -> Call:
        return input, Op("max_pool", lambda x: function(x, output_size))

    return read


# --- the tables -----------------------------------------------------------------------

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
    **{f: _weighted("conv", f) for f in _CONVOLUTIONS},
    **{f: _weighted("conv", f, transposed=True) for f in _TRANSPOSED},
    F.linear: _weighted("linear", F.linear),
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    **{f: _add(1.0) for f in _SUMS},
    **{f: _add(-1.0) for f in _DIFFERENCES},
    torch.rsub: _reversed_sub,
    Tensor.__rsub__: _reversed_sub,
    **{f: _mul for f in _PRODUCTS},
    **{f: _div for f in _QUOTIENTS},
    **{f: _neg for f in (torch.neg, torch.negative, Tensor.neg, Tensor.__neg__)},
    **{f: _matmul for f in _MATRIX_PRODUCTS},
    F.scaled_dot_product_attention: _attention,
    **{f: _average(f) for f in _MEANS},
    **{f: _max_pool(f) for f in _MAX_POOLS + _PLAIN_MAX_POOLS},
    **{f: _adaptive_max_pool(f) for f in _ADAPTIVE_MAX_POOLS},
    **{f: _elementwise("relu", f) for f in _RELU},
    **{f: _elementwise("activation", f) for f in _SMOOTH},
    F.hardtanh: _hardtanh,
    **{f: _clamp for f in (torch.clamp, Tensor.clamp, torch.clip, Tensor.clip)},
    **{f: _clamp for f in (torch.clamp_min, Tensor.clamp_min)},
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
