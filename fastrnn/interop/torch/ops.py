"""The kernels as operators of torch.library, for torch.compile and torch.export to keep whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence
from torch.utils.weak import WeakTensorKeyDictionary

from ... import _core
from .functional import KINDS, MISSING, infer_ragged
from .packing import (
    Direction,
    Packed,
    directions_of,
    key_of,
    numpy_of,
    pack_layer,
    sizes_of,
)
from .threads import follow_threads

__all__ = ["run_compiled", "step_compiled"]

_packed = WeakTensorKeyDictionary()  # by the first weight of a layer

ARGUMENTS = "Tensor x, Tensor[] weights, Tensor? h0, Tensor? c0, Tensor? lengths"


# --- fastrnn::layer -------------------------------------------------------------------------------
# x (T, B, I); weights of all directions, those that there are; c_n and the cache, which training
# keeps for the gradients, have no values where there is none.


@torch.library.custom_op(
    "fastrnn::layer",
    mutates_args=(),
    schema=f"({ARGUMENTS}, str kind, int directions, bool training) -> "
    "(Tensor y, Tensor h_n, Tensor c_n, Tensor cache)",
)
def layer_op(
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    kind: str,
    directions: int,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run one layer."""
    follow_threads()
    if not training:
        state = tuple(s for s in _states(kind, x, weights, directions, h0, c0) if s is not None)
        y, states = infer_ragged(_stack(kind, weights, directions), x, state, lengths)
        h_n, c_n = (*states, x.new_empty(0))[:2]
        return y, h_n, c_n, x.new_empty(0)
    y, h_n, c_n, cache = layer_fake(x, weights, h0, c0, lengths, kind, directions, training)
    if lengths is not None:
        cache.zero_()  # of rows that have ended, nothing is kept: the same values at each call
    array, _ = _core.layer_forward(
        pack_layer(kind, _directions(weights, directions), True),
        numpy_of(x if x.stride(2) == 1 else x.contiguous()),
        numpy_of(h0),
        numpy_of(c0),
        numpy_of(lengths),
        h_n.numpy(),
        c_n.numpy() if kind == "lstm" else None,
        False,
        0,
        (None, None, None, None),
        cache.numpy(),
    )
    return torch.from_numpy(array), h_n, c_n, cache


@layer_op.register_fake
def layer_fake(
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    kind: str,
    directions: int,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tensors of the shapes that the operator gives."""
    T, B, _ = x.shape
    H, P = _sizes(weights, directions)
    row = directions * _core.layer_cache_blocks(KINDS.index(kind), H != P) * H
    return (
        x.new_empty(T, B, directions * P),
        x.new_empty(directions, B, P),
        x.new_empty((directions, B, H) if kind == "lstm" else 0),
        x.new_empty(T * B * row if training else 0),
    )


# --- fastrnn::layer_backward ----------------------------------------------------------------------


@torch.library.custom_op(
    "fastrnn::layer_backward",
    mutates_args=(),
    schema=f"(Tensor? dy, Tensor? dh_n, Tensor? dc_n, {ARGUMENTS}, Tensor y, Tensor cache, "
    "str kind, int directions) -> Tensor[]",
)
def backward_op(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    y: Tensor,
    cache: Tensor,
    kind: str,
    directions: int,
) -> list[Tensor]:
    """Return the gradients of x, h0, c0 (of an LSTM; else no values) and the weights."""
    follow_threads()
    tape = _core.layer_tape(
        pack_layer(kind, _directions(weights, directions), True),
        numpy_of(x if x.stride(2) == 1 else x.contiguous()),
        numpy_of(h0),
        numpy_of(c0),
        numpy_of(lengths),
        numpy_of(y),
        cache.numpy(),
    )
    found = [
        tuple(None if w is None else np.zeros(w.shape, y.numpy().dtype) for w in direction)
        for direction in _directions(weights, directions)
    ]
    dx, dh0, dc0, _ = tape.backward(
        numpy_of(dy), numpy_of(dh_n), numpy_of(dc_n), [(*g, *MISSING) for g in found], True
    )
    arrays = [dx, dh0, np.empty(0, dh0.dtype) if dc0 is None else dc0]
    arrays += [g for direction in found for g in direction if g is not None]
    return [torch.from_numpy(a) for a in arrays]


@backward_op.register_fake
def backward_fake(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    y: Tensor,
    cache: Tensor,
    kind: str,
    directions: int,
) -> list[Tensor]:
    """Return tensors of the shapes that the operator gives."""
    H, P = _sizes(weights, directions)
    B = x.shape[1]
    states = [x.new_empty(directions, B, P), x.new_empty(directions, B, H)]
    if kind != "lstm":
        states[1] = x.new_empty(0)
    return [x.new_empty(x.shape), *states, *(w.new_empty(w.shape) for w in weights)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, h0, c0, lengths, ctx.kind, ctx.directions, _ = inputs
    y, _, _, cache = output
    ctx.mark_non_differentiable(cache)
    ctx.save_for_backward(x, h0, c0, lengths, y, cache, *weights)


def _backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any, _: Any) -> tuple[Any, ...]:
    x, h0, c0, lengths, y, cache, *weights = ctx.saved_tensors
    dc_n = dc_n if ctx.kind == "lstm" else None
    dx, dh0, dc0, *d_weights = backward_op(
        dy, dh_n, dc_n, x, weights, h0, c0, lengths, y, cache, ctx.kind, ctx.directions
    )
    dh0 = None if h0 is None else dh0
    dc0 = None if c0 is None else dc0
    return dx, d_weights, dh0, dc0, None, None, None, None


layer_op.register_autograd(_backward, setup_context=_keep)


# --- their weights --------------------------------------------------------------------------------


def _directions(weights: Sequence[Tensor], directions: int) -> list[Direction]:
    count = len(weights) // directions
    return directions_of(weights, bias=count >= 4, projects=count % 2 == 1)


def _sizes(weights: Sequence[Tensor], directions: int) -> tuple[int, int]:
    """Return H and P."""
    _, weight_hh, _, _, weight_hr = _directions(weights, directions)[0]
    P, H = sizes_of(weight_hh, weight_hr)
    return H, P


def _states(
    kind: str,
    x: Tensor,
    weights: Sequence[Tensor],
    directions: int,
    h0: Tensor | None,
    c0: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return both states of an LSTM if one is given."""
    if kind != "lstm" or (h0 is None) == (c0 is None):
        return h0, c0
    H, P = _sizes(weights, directions)
    shape = (directions, x.shape[1])
    return (x.new_zeros(*shape, P) if h0 is None else h0), (
        x.new_zeros(*shape, H) if c0 is None else c0
    )


def _stack(kind: str, weights: Sequence[Tensor], directions: int) -> Any:
    packed = _packed.get(weights[0])
    key = [KINDS.index(kind), *key_of(weights)]
    if packed is None or packed[0] != key or not packed[1].watch.unchanged(True):
        packed = (key, Packed.of(kind, [_directions(weights, directions)]))
        _packed[weights[0]] = packed
    return packed[1].stack


# --- modules in a graph ---------------------------------------------------------------------------


def run_compiled(module: Any, input: Any, hx: Any) -> Any:
    """Return what a module's call gives, by the operators; None for what they do not take."""
    if isinstance(input, PackedSequence) or input.dim() not in (2, 3):
        return None
    pair = module.mode == "LSTM"
    state = () if hx is None else tuple(hx) if pair else (hx,)
    batched, batch_axis = input.dim() == 3, 0 if module.batch_first else 1
    x = input if batched else input.unsqueeze(batch_axis)
    D = 2 if module.bidirectional else 1
    rows = (module.num_layers * D, *((x.shape[batch_axis],) if batched else ()))
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    weights = module._flat_weights
    if not _plain((x, *state, *weights)) or x.shape[2] != module.input_size:
        return None
    if len(state) != (1 + pair) * (hx is not None) or any(
        s.shape != (*rows, size) for s, size in zip(state, sizes, strict=False)
    ):
        return None
    state = state if batched else tuple(s.unsqueeze(1) for s in state)
    training = _trains((x, *state, *weights))
    x = x.transpose(0, 1) if module.batch_first else x
    count, last = len(weights) // (D * module.num_layers) * D, []
    for index in range(module.num_layers):
        if index and module.dropout and module.training:
            x = dropout(x, module.dropout)
        h0, c0 = (*(s[index * D : index * D + D] for s in state), None, None)[:2]
        own = list(weights[index * count : index * count + count])
        x, h_n, c_n, _ = layer_op(x, own, h0, c0, None, module.mode.lower(), D, training)
        last.append((h_n, c_n) if pair else (h_n,))
    states = [torch.cat(part) for part in zip(*last, strict=True)]
    y = x.transpose(0, 1) if module.batch_first else x
    if not batched:
        y, states = y.squeeze(batch_axis), [s.squeeze(1) for s in states]
    return y, tuple(states) if pair else states[0]


def step_compiled(cell: Any, kind: str, input: Any, hx: Any) -> Any:
    """Return what a cell's call gives, by the operators; None for what they do not take."""
    pair = kind == "lstm"
    state = () if hx is None else tuple(hx) if pair else (hx,)
    weights = [
        w for w in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh) if w is not None
    ]
    if input.dim() not in (1, 2) or input.shape[-1] != cell.input_size:
        return None
    shape = (*input.shape[:-1], cell.hidden_size)
    if len(state) != (1 + pair) * (hx is not None) or any(s.shape != shape for s in state):
        return None
    if not _plain((input, *state, *weights)):
        return None
    batched = input.dim() == 2
    x, *state3 = [t[None] if batched else t[None, None] for t in (input, *state)]
    h0, c0 = (*state3, None, None)[:2]
    training = _trains((x, *state, *weights))
    _, h_n, c_n, _ = layer_op(x, weights, h0, c0, None, kind, 1, training)
    last = tuple(s[0] if batched else s[0, 0] for s in ((h_n, c_n) if pair else (h_n,)))
    return last if pair else last[0]


def _plain(tensors: tuple[Any, ...]) -> bool:
    dtype = tensors[0].dtype
    return dtype in (torch.float32, torch.float64) and all(
        t.device.type == "cpu" and t.dtype == dtype for t in tensors
    )


def _trains(tensors: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
