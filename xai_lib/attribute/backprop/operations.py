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


def read_weighted(kind: str, function: Callable, **settings) -> Callable:
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


def read_batch_norm(
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


def zero_padding(input, pad, mode="constant", value=None) -> Callable | None:
    """Return a padding with zeros as a function, and None for any other."""
    if mode != "constant" or value:
        return None
    return lambda x: F.pad(x, pad)


def read_layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5) -> Call:
    """Read LayerNorm with its standard deviation held constant  [ali2022]_."""
    dims = tuple(range(-len(normalized_shape), 0))
    spread = input.detach().var(dims, correction=0, keepdim=True)
    scale = (spread + eps).rsqrt()
    scale = scale if weight is None else scale * weight

    def centred(x, w):
        return (x - x.mean(dims, keepdim=True)) * w

    return input, Op("norm", centred, scale, bias)


def read_group_norm(input, num_groups, weight=None, bias=None, eps=1e-5) -> Call:
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


def read_sum(sign: float) -> Callable:
    """Read a + sign b: a residual join of two signals, or one signal and a constant."""

    def read(input, other, *, alpha=1) -> Call:
        if carries(input) and carries(other):
            both = _stacked(*torch.broadcast_tensors(input, other))  # (B, 2, ...)
            w = both.new_tensor([1.0, sign * alpha]).view(-1, *[1] * (both.ndim - 2))
            return both, Op("add", _Weighed.apply, w)
        if carries(input):
            x, shift, w = input, sign * alpha * constant(other, input), unit(input)
        else:
            x, shift, w = other, constant(input, other), sign * alpha * unit(other)
        return x.expand(broadcast(x, shift)), Op("shift", torch.mul, w, shift)

    return read


def _stacked(a: Tensor, b: Tensor) -> Tensor:
    """Return stack([a, b], 1), each in a's memory format."""
    order = sorted(range(1, a.ndim), key=a.stride, reverse=True)
    dense = torch.stack([a.permute(0, *order), b.permute(0, *order)], 1)
    back = [order.index(d) + 2 for d in range(1, a.ndim)]
    return dense.permute(0, 1, *back)


class _Weighed(torch.autograd.Function):
    """x, w -> w_0 x_0 + w_1 x_1, along dimension 1; torch's own sum is slow there."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return (x[:, 0] * w[0]).addcmul(x[:, 1], w[1])

    @staticmethod
    def backward(ctx, s: Tensor):
        return s[:, None] * ctx.saved_tensors[0], None


def broadcast(*tensors: Tensor) -> torch.Size:
    """Return the shape of a sum or a product of the tensors."""
    return torch.broadcast_shapes(*(a.shape for a in tensors))


def read_reversed_sub(input, other) -> Call:
    return read_sum(-1.0)(other, input)


def read_mul(input, other) -> Call:
    """Read a product with a constant."""
    if carries(input) and carries(other):
        refuse("mul of two tensors that both carry relevance has no rule")
    x, w = (input, other) if carries(input) else (other, input)
    return x, Op("scale", torch.mul, constant(w, x))


def read_div(input, other, *, rounding_mode=None) -> Call:
    if carries(other) or rounding_mode:
        refuse("div by a tensor that carries relevance has no rule")
    return input, Op("scale", torch.mul, 1 / constant(other, input))


def read_neg(input) -> Call:
    return input, Op("scale", torch.mul, -unit(input))


def read_matmul(input, other) -> Call:
    """Read a product of matrices of which one is constant."""
    if carries(input) and carries(other):
        refuse("matmul of two tensors that both carry relevance has no rule")
    if carries(input):
        return input, Op("matmul", torch.matmul, other)
    return other, Op("matmul", lambda x, w: torch.matmul(w, x), input)


def read_attention(
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


def read_average(function: Callable) -> Callable:
    """Read a pooling by means, or a sum: linear, with weights of one sign."""

    def read(input, *args, **kwargs) -> Call:
        def linear(x, w):
            return function(x, *args, **kwargs) * w

        return input, Op("avg_pool", linear, unit(input))

    return read


# --- non-linearities ------------------------------------------------------------------


def read_elementwise(kind: str, function: Callable) -> Callable:
    def read(input, *args, **kwargs) -> Call:
        return input, Op(kind, lambda x: function(x, *args, **kwargs))

    return read


def read_hardtanh(input, min_val=-1.0, max_val=1.0) -> Call:
    """Read nn.ReLU6, which is a hardtanh from 0 on, and any other hardtanh."""
    kind = "activation" if min_val < 0 else "relu"
    return input, Op(kind, lambda x: F.hardtanh(x, min_val, max_val))


def read_clamp(input, min=None, max=None) -> Call:
    """Read a clamp at 0, which is a ReLU, and any other."""
    kind = "relu" if isinstance(min, (int, float)) and min == 0 else "activation"
    return input, Op(kind, lambda x: torch.clamp(x, min, max))


def read_max_pool(function: Callable) -> Callable:
    def read(
        input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **own
    ) -> Call:
        window = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        window["ceil_mode"] = ceil_mode

        def pool(x):
            return function(x, dilation=dilation, **window)

        return input, Op("max_pool", pool, settings=window | {"dilation": dilation})

    return read


def read_adaptive_max_pool(function: Callable) -> Callable:
    def read(input, output_size, return_indices=False) -> Call:
        return input, Op("max_pool", lambda x: function(x, output_size))

    return read
