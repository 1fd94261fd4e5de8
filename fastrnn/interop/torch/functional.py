"""One recurrent layer as a differentiable function of tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ... import _core
from .packing import Direction, memory_of, numpy_of, pack_layer, sizes_of
from .reasons import tensor_reason
from .threads import follow_threads

__all__ = ["infer", "layer", "train_layer"]

MISSING = (None,) * 6  # gradients of weights that torch's cells do not have
KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before")


def layer(
    kind: str,
    x: Tensor,
    weights: Sequence[Direction],
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one recurrent layer in one or both directions; differentiable.

    Parameters
    ----------
    kind : {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"}
        "gru" is torch's; "gru_reset_before" multiplies the state by the reset gate before the
        matrix (Cho et al. 2014).
    x : Tensor, shape (T, B, I)
        (B, T, I) with `batch_first`. On the CPU, float32 or float64.
    weights : sequence of one or two tuples
        Of each direction (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr) in torch's layout and
        order of gates, the last three None where there are none.
    h0, c0 : Tensor, shapes (D, B, P) and (D, B, H), optional
        The state before the first step; None: zeros. c0 of an LSTM only.
    lengths : Tensor of int64, shape (B,), optional
        Steps of each row, 0 <= length <= T. y is zero after them, the last state is that of a row's
        own last step, and the reverse direction begins there.
    batch_first : bool

    Returns
    -------
    y : Tensor, shape (T, B, D * P) or (B, T, D * P)
    h_n : Tensor, shape (D, B, P)
    c_n : Tensor, shape (D, B, H), or None
        Of an LSTM.

    Raises
    ------
    ValueError, TypeError
        If an argument has another shape, or is not such a tensor.
    """
    _check(kind, x, weights, h0, c0)
    follow_threads()
    if batch_first:
        x = x.transpose(0, 1)
    flat = [w for direction in weights for w in direction]
    if torch.is_grad_enabled() and _require_grad([x, h0, c0, *flat]):
        y, h_n, c_n = train_layer(kind, x, flat, h0, c0, lengths, batch_first)
    else:
        cells = pack_layer(kind, weights, False)
        stack = _core.StackFloat32 if x.dtype == torch.float32 else _core.StackFloat64
        state = (h0, c0) if kind == "lstm" else (h0,)
        y, states = infer_ragged(stack([cells]), x, _filled(state, x, weights), lengths)
        h_n, c_n = states if kind == "lstm" else (states[0], None)
    return (y.transpose(0, 1) if batch_first else y), h_n, c_n


def _check(
    kind: str, x: Tensor, weights: Sequence[Direction], h0: Tensor | None, c0: Tensor | None
) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if len(weights) not in (1, 2) or any(len(direction) != 5 for direction in weights):
        raise ValueError("weights: expected one or two tuples of five")
    if kind != "lstm" and c0 is not None:
        raise ValueError(f"c0: expected None for {kind!r}, got a tensor")
    if not isinstance(x, Tensor) or x.dim() != 3:
        raise ValueError(f"x: expected a tensor of three dimensions, got {_described(x)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x: expected float32 or float64, got {x.dtype}")
    named = [("x", x), ("h0", h0), ("c0", c0)]
    named += [("weights", w) for direction in weights for w in direction]
    for name, tensor in named:
        reason = None if tensor is None else tensor_reason(name, tensor, x.dtype)
        if reason is not None:
            raise TypeError(f"{name}: expected a plain {x.dtype} tensor on the CPU, but {reason}")


def _described(value: object) -> str:
    return f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _require_grad(tensors: Sequence[Tensor | None]) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def _filled(
    state: tuple[Tensor | None, ...], x: Tensor, weights: Sequence[Direction]
) -> tuple[Tensor, ...] | None:
    """Return the state with zeros for what is None of it; None if all is."""
    if all(s is None for s in state):
        return None
    _, weight_hh, _, _, weight_hr = weights[0]
    sizes = sizes_of(weight_hh, weight_hr)
    return tuple(
        x.new_zeros(len(weights), x.shape[1], size) if s is None else s
        for s, size in zip(state, sizes, strict=False)
    )


# --- inference ------------------------------------------------------------------------------------


def infer(
    stack: Any, x: Tensor, state: tuple[Tensor, ...], batch_first: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return y and the last states of a stack of `_core`, of x (T, B, I) or (B, T, I).

    No lengths. Tensors are plain and of the right sizes; `state` may be empty.
    """
    if x.stride(2) != 1:
        x = x.contiguous()
    rows, steps = (0, 1) if batch_first else (1, 0)
    h, c = (*state, None, None)[:2]
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    y, last = stack.call_at(
        x.data_ptr(),
        x.shape[steps],
        x.shape[rows],
        x.stride(steps),
        x.stride(rows),
        0 if h is None else h.data_ptr(),
        0 if c is None else c.data_ptr(),
        batch_first,
    )
    states = last if type(last) is tuple else (last,)
    return torch.from_numpy(y), [torch.from_numpy(s) for s in states]


def infer_ragged(
    stack: Any, x: Tensor, state: tuple[Tensor, ...] | None, lengths: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Return y and the last states of a stack, of x (T, B, I), rows of these lengths."""
    states = None
    if state:
        h, *c = map(numpy_of, state)
        states = (h, c[0]) if c else h
    array = (x if x.stride(2) == 1 else x.contiguous()).detach().numpy()
    result = stack.call(array, states, numpy_of(lengths), False)
    if result is None:
        raise ValueError(
            f"x, h0, c0, lengths: expected the sizes of the weights, got {tuple(x.shape)}, "
            f"{[tuple(s.shape) for s in state or ()]} and lengths {lengths}"
        )
    y, last = result
    last = last if type(last) is tuple else (last,)
    return torch.from_numpy(y), [torch.from_numpy(s) for s in last]


# --- training -------------------------------------------------------------------------------------


def train_layer(
    kind: str,
    x: Tensor,
    flat: Sequence[Tensor | None],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer over x (T, B, I), keeping what its gradients need.

    flat: five weights of each direction. batch_first: how y, (T, B, D * P), lies in memory.
    """
    y, h_n, c_n = _Layer.apply(kind, lengths, batch_first, x, h0, c0, *flat)
    return y, h_n, c_n


class _Layer(torch.autograd.Function):
    """The forward pass of `_core`, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: str,
        lengths: Tensor | None,
        batch_first: bool,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        *flat: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        lengths = None if lengths is None else lengths.clone()
        arguments = (kind, lengths, batch_first)
        y, h_n, c_n, tape = _run(*arguments, [x, h0, c0, *flat])
        ctx.arguments = arguments
        ctx.save_for_backward(x, h0, c0, *flat)
        ctx.set_materialize_grads(False)
        # With hooks on what is saved, such as those of checkpoints, nothing else is to be kept.
        ctx.tape = None if _saves_with_hooks() else tape
        # The tape reads them. Detached: the output itself would own this node and be owned by it.
        ctx.read = (y.detach(), *map(_address, (x, h0, c0)))
        return y, h_n, c_n

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        # Reading them raises where one has been written to since, or was freed, as torch's do.
        inputs = ctx.saved_tensors
        wanted, tape, (y, *addresses) = ctx.needs_input_grad[3:], ctx.tape, ctx.read
        if not _keeps_graph():  # torch's own nodes too let go of what they hold, before they go
            ctx.tape = ctx.read = None
        given = (dy, dh_n, dc_n)
        if torch.is_grad_enabled() or any(g is not None and _is_batched(g) for g in given):
            # Gradients that have gradients, or many at once.
            kind, lengths, _ = ctx.arguments
            return (None,) * 3 + differentiable(kind, inputs, wanted, lengths, given)
        if tape is None or y._version or addresses != [*map(_address, inputs[:3])]:
            kind, lengths, batch_first = ctx.arguments
            *_, tape = _run(kind, lengths, batch_first, inputs)
        gradients = [
            np.zeros(w.shape, given_dtype(w)) if want else None
            for w, want in zip(inputs[3:], wanted[3:], strict=True)
        ]
        by_direction = [(*gradients[i : i + 5], *MISSING) for i in range(0, len(gradients), 5)]
        dy, dh_n, dc_n = (None if g is None else g.resolve_neg() for g in given)
        if dy is not None and dy.stride(2) != 1:
            dy = dy.contiguous()
        dx, dh0, dc0, _ = tape.backward(
            None if dy is None else dy.numpy(),
            numpy_of(dh_n),
            numpy_of(dc_n),
            by_direction,
            wanted[0],
        )
        arrays = [dx, dh0 if wanted[1] else None, dc0 if wanted[2] else None, *gradients]
        return (None,) * 3 + tuple(None if a is None else torch.from_numpy(a) for a in arrays)


def _run(
    kind: str, lengths: Tensor | None, batch_first: bool, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor, Tensor | None, Any]:
    """Return y, h_n, c_n and the tape, of the inputs (x, h0, c0, weights)."""
    x, h0, c0, *flat = inputs
    directions = [flat[:5], flat[5:]][: len(flat) // 5]
    weight_hh, weight_hr = flat[1], flat[4]
    assert x is not None
    assert weight_hh is not None
    P, H = sizes_of(weight_hh, weight_hr)
    states = (len(directions), x.shape[1])
    h_n = np.empty((*states, P), given_dtype(x))
    c_n = np.empty((*states, H), given_dtype(x)) if kind == "lstm" else None
    y, tape = _core.layer_forward(
        pack_layer(kind, directions, True),  # type: ignore[arg-type]
        memory_of(x if x.stride(2) == 1 else x.contiguous()),
        None if h0 is None else memory_of(h0.contiguous()),
        None if c0 is None else memory_of(c0.contiguous()),
        numpy_of(lengths),
        h_n,
        c_n,
        batch_first,
        0,
        (None, None, None, None),
    )
    last_c = None if c_n is None else torch.from_numpy(c_n)
    return torch.from_numpy(y), torch.from_numpy(h_n), last_c, tape


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _saves_with_hooks() -> bool:
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _is_batched(tensor: Tensor) -> bool:
    """Whether it stands for many, of torch.vmap or of `is_grads_batched`."""
    batched = torch._C._functorch
    return batched.is_legacy_batchedtensor(tensor) or batched.is_batchedtensor(tensor)


_keeps_graph = torch._C._autograd._get_current_graph_task_keep_graph


def given_dtype(tensor: Tensor) -> Any:
    """Return NumPy's name of a tensor's dtype."""
    return np.float32 if tensor.dtype == torch.float32 else np.float64


# --- gradients of gradients -----------------------------------------------------------------------


def differentiable(
    kind: str,
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    lengths: Tensor | None,
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of inputs (x, h0, c0, weights) by torch's operators, differentiable."""
    with torch.enable_grad():
        # One that was given twice, such as tied weights, gets its gradient of each.
        inputs = [None if t is None else t.view_as(t) for t in inputs]
        x, h0, c0, *flat = inputs
        assert x is not None
        outputs = torchs_own(kind, x, flat, h0, c0, lengths)
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and output is not None
    ]
    of = [i for i, want in enumerate(wanted) if want]
    found = torch.autograd.grad(
        [output for output, _ in pairs],
        [inputs[i] for i in of],
        [gradient for _, gradient in pairs],
        create_graph=torch.is_grad_enabled(),
        allow_unused=True,
    )
    result: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(of, found, strict=True):
        result[i] = gradient
    return tuple(result)


def torchs_own(
    kind: str,
    x: Tensor,
    flat: Sequence[Tensor | None],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what `layer` returns, of x (T, B, I), by torch's operators."""
    if kind == "gru_reset_before":
        raise NotImplementedError("torch has no GRU with the reset gate before the matrix")
    weight_hh, weight_hr, D = flat[1], flat[4], len(flat) // 5
    assert weight_hh is not None
    sizes = sizes_of(weight_hh, weight_hr)
    state = [
        x.new_zeros(D, x.shape[1], size) if s is None else s
        for s, size in zip((h0, c0), sizes, strict=True)
    ]
    hx = tuple(state) if kind == "lstm" else state[0]
    options = (flat[2] is not None, 1, 0.0, False, D == 2)
    weights = [w for w in flat if w is not None]
    function = getattr(torch._VF, kind)
    with _without_onednn():
        if lengths is None:
            y, h_n, *c_n = function(x, hx, weights, *options, False)
        else:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            data, batch_sizes, order, back = packed
            sorted_hx = tuple(s[:, order] for s in state) if kind == "lstm" else state[0][:, order]
            data, h_n, *c_n = function(data, batch_sizes, sorted_hx, weights, *options)
            h_n, c_n = h_n[:, back], [c[:, back] for c in c_n]
            rows = packed._replace(data=data)
            y = pad_packed_sequence(rows, total_length=x.shape[0])[0]
    return y, h_n, c_n[0] if c_n else None


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Leave out oneDNN's LSTM, which has no gradients of gradients."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
