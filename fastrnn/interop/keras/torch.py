"""Inference of Keras on PyTorch: a cell's weights stay packed while they are the same.

Turning them into PyTorch's layout and packing them takes a tenth of the time of a call.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras
import torch

from ..torch.functional import infer, infer_ragged
from ..torch.packing import Packed, key_of
from ..torch.reasons import surroundings
from ..torch.threads import follow_threads
from .cells import cell_weights, kind_of

__all__ = ["infer_cell", "needs_gradients", "reason_against_tensor"]

Tensor = Any

_packed: WeakKeyDictionary[Any, Packed] = WeakKeyDictionary()  # by cell


def reason_against_tensor(x: Tensor) -> str | None:
    """Return why the kernels cannot run on this tensor here and now, or None if they can."""
    if x.device.type != "cpu":  # "meta" where Keras asks for shapes
        return f"a tensor on the device {x.device}"
    if torch.compiler.is_compiling():
        return "torch.compile records torch's operators"
    return surroundings()


def needs_gradients(tensors: list[Tensor | None]) -> bool:
    """Return whether gradients of what is computed from these, variables or tensors, are wanted."""
    return torch.is_grad_enabled() and any(
        t is not None and (t.value if isinstance(t, keras.Variable) else t).requires_grad
        for t in tensors
    )


def infer_cell(
    cell: Any, x: Tensor, h0: Tensor, c0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what `backends.run_cell` does, without gradients."""
    follow_threads()
    stack = _stack(cell, x.shape[0] * x.shape[1])
    state = tuple(s.detach()[None] for s in (h0, c0) if s is not None)
    if lengths is None:
        y, last = infer(stack, x.detach(), state, True)
    else:
        y, last = infer_ragged(stack, x.detach().transpose(0, 1), state, lengths)
        y = y.transpose(0, 1)
    h_n, c_n = (*last, None)[:2]
    return y, h_n[0], None if c_n is None else c_n[0]


def _stack(cell: Any, work: int) -> Any:
    """Return the packed cell; `work`: steps times rows of the call."""
    variables = (cell.kernel, cell.recurrent_kernel, cell.bias)
    sources = [v.value.detach() for v in variables if v is not None]
    packed = _packed.get(cell)
    if packed is None or not packed.is_of(key_of(sources), work):
        weights = [None if w is None else w.detach() for w in cell_weights(cell)]
        packed = Packed.of(kind_of(cell), [[(*weights, None)]], sources)  # type: ignore[list-item]
        _packed[cell] = packed
    return packed.stack
