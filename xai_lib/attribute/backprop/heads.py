"""Multi-head attention in single steps, so that each can have its rule."""

from inspect import signature

import torch
from torch import Tensor
from torch.nn import functional as F

_SIGNATURE = signature(F.multi_head_attention_forward)
_ODD = ("bias_k", "bias_v", "static_k", "static_v", "add_zero_attn", "training")


def attention_weights(args: tuple, kwargs: dict) -> tuple[Tensor, dict]:
    """Return the softmax weights (B, heads, L, S), without a graph, and the call.

    They are held constant: relevance goes back through the values alone  [ali2022]_.
    """
    call = _SIGNATURE.bind(*args, **kwargs)
    call.apply_defaults()
    call = call.arguments
    for name in _ODD:
        if call[name] is not None and call[name] is not False:
            raise ValueError(f"multi_head_attention_forward with {name} has no rule")
    if call["query"].ndim != 3:
        raise ValueError("multi_head_attention_forward without a batch has no rule")
    wanted = call | {"need_weights": True, "average_attn_weights": False}
    with torch.no_grad():
        return F.multi_head_attention_forward(**wanted)[1], call


def mix_values(weights: Tensor, call: dict) -> tuple[Tensor, Tensor | None]:
    """Return what ``F.multi_head_attention_forward`` returns, from its weights."""
    batch, heads = weights.shape[:2]
    value = call["value"].transpose(0, 1)  # (B, S, E)
    if call["use_separate_proj_weight"]:
        w = call["v_proj_weight"]
    else:
        w = call["in_proj_weight"].chunk(3)[2]
    b = call["in_proj_bias"]
    v = F.linear(value, w, None if b is None else b.chunk(3)[2])  # (B, S, E)
    v = v.view(batch, v.shape[1], heads, -1).transpose(1, 2)  # (B, heads, S, D)
    mixed = torch.matmul(weights, v).transpose(1, 2).flatten(2)  # (B, L, E)
    out = F.linear(mixed, call["out_proj_weight"], call["out_proj_bias"])
    shown = weights.mean(1) if call["average_attn_weights"] else weights
    return out.transpose(0, 1), shown if call["need_weights"] else None
