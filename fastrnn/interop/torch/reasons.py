"""Why a call is left to torch's own code: what the kernels do not take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx import Proxy

__all__ = ["dtype_reason", "leaf", "surroundings", "tensor_reason", "weights_reason"]

PLAIN = (Tensor, torch.nn.Parameter)
STRIDED = torch.strided
DTYPES = (torch.float32, torch.float64)
# Bound here, as a step of a small cell takes no longer than looking all of them up.
_transforms = torch._C._functorch.maybe_current_level
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_autocast = torch.is_autocast_enabled

REJECTED = "torch's own checks have something to say about the arguments"


def surroundings() -> str | None:
    """Return what is going on around the call that only torch's own operators can follow."""
    if _transforms() is not None:
        return "inside a transform of torch.func (vmap, grad, jvp)"
    if _dispatch_modes():
        return "a TorchDispatchMode watches torch's operators"
    if _tracing() is not None:
        return "torch.jit.trace records torch's operators"
    if _autocast("cpu"):
        return "autocast is on"
    if forward_ad._current_level >= 0:
        return "forward-mode automatic differentiation"
    return None


def leaf(module: torch.nn.Module, input: Proxy, hx: object) -> Any:
    """Return the module's call in a graph that torch.fx records.

    To torch.fx only the modules of torch.nn are leaves of such a graph; others are entered.
    """
    path = input.tracer.path_of_module(module)
    args = (input,) if hx is None else (input, hx)
    return input.tracer.create_proxy("call_module", path, args, {})


def dtype_reason(dtype: torch.dtype) -> str | None:
    """Return a reason for weights of this dtype."""
    return None if dtype in DTYPES else f"the weights are {_short(dtype)}"


def tensor_reason(name: str, tensor: object, dtype: torch.dtype) -> str | None:
    """Return a reason for a tensor that is to be of this dtype and in plain memory."""
    if type(tensor) not in PLAIN:
        return f"{name} is a {type(tensor).__name__}"
    assert isinstance(tensor, Tensor)
    if tensor.is_cpu and tensor.dtype is dtype and tensor.layout is STRIDED:
        return f"{name} is lazily negated" if tensor.is_neg() else None
    if not tensor.is_cpu:
        return f"{name} is on the device {tensor.device}"
    if tensor.dtype is not dtype:
        return f"{name} is {_short(tensor.dtype)}, the weights are {_short(dtype)}"
    return f"{name} has the layout {tensor.layout}"


def weights_reason(weights: Sequence[Tensor | None], shapes: Sequence[torch.Size]) -> str | None:
    """Return a reason for weights that are to have these shapes."""
    first = weights[0]
    if len(weights) != len(shapes) or first is None:
        return "weights are missing"
    reason = dtype_reason(first.dtype)
    for weight, shape in zip(weights, shapes, strict=True):
        if reason is None and weight is not None:
            reason = tensor_reason("a weight", weight, first.dtype)
            if reason is None and weight.shape != shape:
                reason = f"a weight has the shape {tuple(weight.shape)}, not {tuple(shape)}"
    return reason


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
