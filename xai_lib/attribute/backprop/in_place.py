"""Calls that change a tensor in place, as calls that make a new one."""

from inspect import isfunction, signature

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from xai_lib.attribute.backprop.tables import READERS

_IN_PLACE = {
    torch.relu_: torch.relu, Tensor.relu_: torch.relu, F.relu_: torch.relu,
    F.hardtanh_: F.hardtanh, F.elu_: F.elu, F.selu_: F.selu, F.celu_: F.celu,
    F.leaky_relu_: F.leaky_relu, torch.sigmoid_: torch.sigmoid,
    torch.tanh_: torch.tanh, Tensor.sigmoid_: torch.sigmoid, Tensor.tanh_: torch.tanh,
    Tensor.add_: torch.add, Tensor.__iadd__: torch.add, Tensor.sub_: torch.sub,
    Tensor.__isub__: torch.sub, Tensor.mul_: torch.mul, Tensor.__imul__: torch.mul,
    Tensor.div_: torch.div, Tensor.__itruediv__: torch.div, Tensor.clamp_: torch.clamp,
    torch.clamp_: torch.clamp, Tensor.clamp_min_: torch.clamp_min,
}  # fmt: skip
_FLAG = {
    f: list(signature(f).parameters).index("inplace")
    for f in READERS
    if isfunction(f) and "inplace" in signature(f).parameters
}


def out_of_place(func, args: tuple, kwargs: dict):
    """Return the call as one that changes no tensor, and the tensor it would change."""
    if func in _IN_PLACE:
        return _IN_PLACE[func], args, kwargs, args[0]
    if func not in _FLAG:
        return func, args, kwargs, None
    flag = kwargs.get("inplace", len(args) > _FLAG[func] and args[_FLAG[func]])
    kwargs = {k: v for k, v in kwargs.items() if k != "inplace"}
    args = args[: _FLAG[func]]
    return func, args, kwargs, (args or [kwargs["input"]])[0] if flag else None


class Changes:
    """What became of the tensors that a model meant to change in place."""

    def __init__(self):
        self._became = WeakTensorKeyDictionary()
        self._stale = WeakTensorKeyDictionary()  # whose memory should have changed

    def note(self, changed: Tensor, result: Tensor) -> None:
        """Note that the model holds ``changed`` and means ``result``."""
        self._became[changed] = result
        self._stale[_owner(changed)] = True

    def newest(self, a):
        """Return what a became; raise if it shares memory with what was changed."""
        if not isinstance(a, Tensor) or not self._became:
            return a
        renewed = a in self._became
        while a in self._became:
            a = self._became[a]
        if not renewed and _owner(a) in self._stale:
            raise ValueError("a tensor changed in place through a view has no rule")
        return a

    def renew(self, args: tuple, kwargs: dict):
        """Return the arguments of a call as they are by now."""
        return tree_map(self.newest, (args, kwargs)) if self._became else (args, kwargs)


def _owner(a: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():  # no engine is to see this
        return a._base if a._is_view() else a
