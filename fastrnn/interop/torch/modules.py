"""RNN, LSTM and GRU: torch's modules, whose calls are run by the kernels where these can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .functional import infer, infer_ragged, train_layer
from .ops import run_compiled
from .packing import Direction, Packed, directions_of, key_of
from .reasons import REJECTED, dtype_reason, leaf, surroundings, tensor_reason, weights_reason
from .threads import follow_threads

__all__ = ["GRU", "LSTM", "RNN"]

State = Any  # h for RNN and GRU, (h, c) for LSTM

_packed: WeakKeyDictionary[torch.nn.Module, Packed] = WeakKeyDictionary()


class Call(NamedTuple):
    """The arguments of a call that the kernels take."""

    x: Tensor  # with axes of time and batch, or the rows of a PackedSequence
    state: tuple[Tensor, ...]  # empty: zeros
    rows: PackedSequence | None


class _Recurrent(torch.nn.RNNBase):
    """What the three share; torch's own classes, which follow among the bases, do the rest."""

    def forward(self, input: Tensor | PackedSequence, hx: State = None) -> tuple[Any, State]:
        """Run the layers over whole sequences; see the class of the same name in torch.nn."""
        if torch.compiler.is_compiling():
            result = run_compiled(self, input, hx)
            return super().forward(input, hx) if result is None else result
        if isinstance(input, Proxy):
            return leaf(self, input, hx)
        call = _take(self, input, hx)
        if isinstance(call, str):
            return super().forward(input, hx)
        training = _requires_grad(self, call) if torch.is_grad_enabled() else False
        if training or (self.training and self.dropout and self.num_layers > 1):
            if weights_reason(self._flat_weights, weight_shapes(self)) is not None:
                return super().forward(input, hx)
            follow_threads()
            y, states = _train(self, call)
        else:
            packed = _packed_of(self, call.x.shape[0] * call.x.shape[1])
            if packed is None:
                return super().forward(input, hx)
            follow_threads()
            y, states = _infer(self, packed, call)
        return _give(self, call, input, y, states)

    def __prepare_scriptable__(self) -> Any:
        """Become torch's own module, which torch.jit.script can compile."""
        from .swap import restore

        restore(self)
        return self


class RNN(_Recurrent, torch.nn.RNN):
    """`torch.nn.RNN`, its calls on fastrnn's kernels where these can take them.

    The constructor, parameters, shapes, errors and results are those of `torch.nn.RNN`; a call that
    the kernels cannot take goes its way through torch (`explain` says why).
    """


class LSTM(_Recurrent, torch.nn.LSTM):
    """`torch.nn.LSTM`, its calls on fastrnn's kernels where these can take them; see `RNN`."""


class GRU(_Recurrent, torch.nn.GRU):
    """`torch.nn.GRU`, its calls on fastrnn's kernels where these can take them; see `RNN`."""


def module_kind(module: torch.nn.RNNBase) -> str:
    """Return the cell's name in the core."""
    return module.mode.lower()


def forward_reason(module: torch.nn.RNNBase, input: object, hx: State = None) -> str | None:
    """Return why torch would do this call itself, None if the kernels would."""
    call = _take(module, input, hx)
    if isinstance(call, str):
        return call
    return weights_reason(module._flat_weights, weight_shapes(module))


# --- what a call is given -------------------------------------------------------------------------


def _take(module: torch.nn.RNNBase, input: object, hx: State) -> Call | str:
    """Return the call's arguments, or why the kernels do not take them."""
    reason = surroundings()
    if reason is not None:
        return reason
    module._update_flat_weights()
    first = module._flat_weights[0]
    dtype = getattr(first, "dtype", None)
    reason = dtype_reason(dtype)
    rows = input if isinstance(input, PackedSequence) else None
    x: Any = input.data if isinstance(input, PackedSequence) else input
    reason = reason or tensor_reason("the input", x, dtype)
    if reason is not None:
        return reason
    batched = rows is None and x.dim() == 3
    if not batched and x.dim() != 2:
        return REJECTED
    if x.shape[-1] != module.input_size or x.numel() == 0:
        return REJECTED
    batch_axis = 0 if module.batch_first else 1
    batch = None  # for one sequence without an axis for it
    if rows is not None:
        sizes = rows.batch_sizes.tolist()
        if sum(sizes) != len(x) or sizes[-1] < 1 or sizes != sorted(sizes, reverse=True):
            return REJECTED  # made by hand; what pads it does not look
        batch = sizes[0]
    elif batched:
        batch = x.shape[batch_axis]
    state = _take_state(module, hx, batch, dtype)
    if isinstance(state, str):
        return state
    if rows is None and not batched:
        x = x.unsqueeze(batch_axis)
    if rows is not None and rows.sorted_indices is not None:
        state = tuple(s.index_select(1, rows.sorted_indices) for s in state)
    return Call(x, state, rows)


def _take_state(
    module: torch.nn.RNNBase, hx: State, batch: int | None, dtype: Any
) -> tuple[Tensor, ...] | str:
    """Return the state with an axis of the batch; `batch` is None where it is given without."""
    if hx is None:
        return ()
    pair = module.mode == "LSTM"
    state = hx if pair else (hx,)
    if type(state) not in (tuple, list) or len(state) != 1 + pair:
        return REJECTED
    count = module.num_layers * (2 if module.bidirectional else 1)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    for tensor, size in zip(state, sizes, strict=False):
        reason = tensor_reason("hx", tensor, dtype)
        if reason is not None:
            return reason
        if tensor.shape != ((count, size) if batch is None else (count, batch, size)):
            return REJECTED
    return tuple(state) if batch is not None else tuple(s.unsqueeze(1) for s in state)


def _requires_grad(module: torch.nn.RNNBase, call: Call) -> bool:
    tensors = (call.x, *call.state, *module._flat_weights)
    return any(t is not None and t.requires_grad for t in tensors)


def weight_shapes(module: torch.nn.RNNBase) -> list[torch.Size]:
    """Return the shapes that the module's weights are to have, as in `_flat_weights`."""
    H, P = module.hidden_size, module.proj_size or module.hidden_size
    rows = {"LSTM": 4, "GRU": 3}.get(module.mode, 1) * H
    D = 2 if module.bidirectional else 1
    shapes: list[tuple[int, ...]] = []
    for layer in range(module.num_layers):
        columns = P * D if layer else module.input_size
        one = [(rows, columns), (rows, P), *[(rows,)] * (2 * module.bias)]
        shapes += (one + [(P, H)] * (module.proj_size > 0)) * D
    return [torch.Size(shape) for shape in shapes]


# --- what is done with it -------------------------------------------------------------------------


def _layers(module: torch.nn.RNNBase) -> list[list[Direction]]:
    """Return the directions of each layer."""
    flat = directions_of(module._flat_weights, module.bias, module.proj_size > 0)
    D = 2 if module.bidirectional else 1
    return [flat[i : i + D] for i in range(0, len(flat), D)]


def _packed_of(module: torch.nn.RNNBase, work: int) -> Packed | None:
    """Return the weights packed; None for weights that the kernels do not take."""
    packed = _packed.get(module)
    if packed is None or not packed.is_of(key_of(module._flat_weights), work):
        if weights_reason(module._flat_weights, weight_shapes(module)) is not None:
            return None
        packed = _packed[module] = Packed.of(module_kind(module), _layers(module))
    return packed


def _infer(module: torch.nn.RNNBase, packed: Packed, call: Call) -> tuple[Tensor, Sequence[Tensor]]:
    if call.rows is None:
        return infer(packed.stack, call.x, call.state, module.batch_first)
    x, lengths = _padded(call.x, call.rows)
    y, states = infer_ragged(packed.stack, x, call.state, lengths)
    return _rows(y, lengths), states


def _train(module: torch.nn.RNNBase, call: Call) -> tuple[Tensor, Sequence[Tensor]]:
    """Run the layers one by one, dropout as torch's between them: the same random numbers."""
    x, lengths, last_layer = call.x, None, module.num_layers - 1
    batch_first = module.batch_first and call.rows is None
    if call.rows is not None:
        x, lengths = _padded(call.x, call.rows)
    elif batch_first:
        x = x.transpose(0, 1)
    D = 2 if module.bidirectional else 1
    states: list[list[Tensor]] = []
    for index, directions in enumerate(_layers(module)):
        if index and module.dropout and module.training:
            x = _dropped(module, x, call.rows, lengths)
        part = slice(index * D, index * D + D)
        h0, c0 = (*(s[part] for s in call.state), None, None)[:2]
        x, *state = train_layer(
            module_kind(module),
            x,
            [w for direction in directions for w in direction],
            h0,
            c0,
            lengths,
            batch_first and index == last_layer,
        )
        states.append([s for s in state if s is not None])
    y = x.transpose(0, 1) if batch_first else x if lengths is None else _rows(x, lengths)
    return y, [torch.cat(of_layers) for of_layers in zip(*states, strict=True)]


def _dropped(
    module: torch.nn.RNNBase, x: Tensor, rows: PackedSequence | None, lengths: Tensor | None
) -> Tensor:
    if rows is None or lengths is None:
        return dropout(x, module.dropout)
    return _padded(dropout(_rows(x, lengths), module.dropout), rows)[0]


def _padded(data: Tensor, rows: PackedSequence) -> tuple[Tensor, Tensor]:
    """Return the rows of a PackedSequence as (T, B, ...), longest first, and their lengths."""
    x, lengths = pad_packed_sequence(PackedSequence(data, rows.batch_sizes))
    return x, lengths


def _rows(y: Tensor, lengths: Tensor) -> Tensor:
    """Return (T, B, ...) as the data of a PackedSequence."""
    return pack_padded_sequence(y, lengths).data


def _give(
    module: torch.nn.RNNBase, call: Call, input: Any, y: Tensor, states: Sequence[Tensor]
) -> tuple[Any, State]:
    """Return output and state laid out as the call's arguments."""
    rows, output = call.rows, y
    if rows is not None:
        output = PackedSequence(y, rows.batch_sizes, rows.sorted_indices, rows.unsorted_indices)
        if rows.unsorted_indices is not None:
            states = [s.index_select(1, rows.unsorted_indices) for s in states]
    elif input.dim() == 2:
        output = y.squeeze(0 if module.batch_first else 1)
        states = [s.squeeze(1) for s in states]
    return output, tuple(states) if len(states) == 2 else states[0]
