"""RNNCell, LSTMCell and GRUCell: torch's modules, their steps on the kernels where these can."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import Proxy

from ... import _core
from .functional import train_layer
from .ops import step_compiled
from .packing import Packed, key_of
from .reasons import (
    PLAIN,
    REJECTED,
    dtype_reason,
    leaf,
    surroundings,
    tensor_reason,
    weights_reason,
)
from .threads import follow_threads

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

State = Any  # h for RNNCell and GRUCell, (h, c) for LSTMCell

# Of the type of tensors: lets the core look at them by itself. Not in older versions of torch.
EXCHANGE = getattr(Tensor, "__dlpack_c_exchange_api__", None)

_packed: WeakKeyDictionary[torch.nn.Module, Packed] = WeakKeyDictionary()
_steps: WeakKeyDictionary[torch.nn.Module, _core.TensorStepFloat32 | _core.TensorStepFloat64] = (
    WeakKeyDictionary()
)


class _Cell(torch.nn.RNNCellBase):
    """What the three share; torch's own classes, which follow among the bases, do the rest."""

    def forward(self, input: Tensor, hx: State = None) -> Any:
        """Run one step; see the class of the same name in torch.nn."""
        if torch.compiler.is_compiling():
            result = step_compiled(self, cell_kind(self), input, hx)
            return super().forward(input, hx) if result is None else result
        if isinstance(input, Proxy):
            return leaf(self, input, hx)
        weights = _weights(self)
        result = None if torch.is_grad_enabled() else _quick(self, weights, input, hx)
        if result is not None:
            return result
        state = _take(self, input, hx, weights[0])
        if isinstance(state, str):
            return super().forward(input, hx)
        if torch.is_grad_enabled() and _require_grad((input, *state, *weights)):
            if weights_reason(weights, weight_shapes(self)) is not None:
                return super().forward(input, hx)
            follow_threads()
            return _train(self, input, state, weights)
        packed = _packed_of(self, weights)
        if packed is None:
            return super().forward(input, hx)
        follow_threads()
        return _infer(packed, input, *state)

    def __prepare_scriptable__(self) -> Any:
        """Become torch's own module, which torch.jit.script can compile."""
        from .swap import restore

        restore(self)
        return self


class RNNCell(_Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell`, its steps on fastrnn's kernels where these can take them; see `RNN`."""


class LSTMCell(_Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell`, its steps on fastrnn's kernels where these can take them; see `RNN`."""


class GRUCell(_Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell`, its steps on fastrnn's kernels where these can take them; see `RNN`."""


def cell_kind(cell: torch.nn.RNNCellBase) -> str:
    """Return the cell's name in the core."""
    if isinstance(cell, torch.nn.LSTMCell):
        return "lstm"
    return "gru" if isinstance(cell, torch.nn.GRUCell) else f"rnn_{cell.nonlinearity}"


def step_reason(cell: torch.nn.RNNCellBase, input: object, hx: State = None) -> str | None:
    """Return why torch would do this step itself, None if the kernels would."""
    weights = _weights(cell)
    state = _take(cell, input, hx, weights[0])
    return weights_reason(weights, weight_shapes(cell)) if type(state) is tuple else str(state)


def _weights(cell: torch.nn.RNNCellBase) -> tuple[Any, Any, Any, Any]:
    own = cell._parameters
    try:
        return own["weight_ih"], own["weight_hh"], own["bias_ih"], own["bias_hh"]
    except KeyError:  # made of others at each access: parametrized, or torch.nn.utils.weight_norm
        return cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh


def weight_shapes(cell: torch.nn.RNNCellBase) -> list[torch.Size]:
    """Return the shapes that the cell's weights are to have."""
    H = cell.hidden_size
    rows = {"lstm": 4, "gru": 3}.get(cell_kind(cell), 1) * H
    return [torch.Size(s) for s in ((rows, cell.input_size), (rows, H), (rows,), (rows,))]


def _take(
    cell: torch.nn.RNNCellBase, input: Any, hx: State, weight: Any
) -> tuple[Tensor, ...] | str:
    """Return the state, empty for zeros, or why the kernels do not take the step."""
    dtype = getattr(weight, "dtype", None)
    reason = surroundings() or dtype_reason(dtype) or tensor_reason("the input", input, dtype)
    if reason is not None:
        return reason
    rows, size = input.shape[:-1], cell.input_size
    if input.shape[-1:] != (size,) or len(rows) > 1 or rows == (0,):
        return REJECTED
    if not size or not cell.hidden_size:
        return "a cell without inputs or units"
    if hx is None:
        return ()
    pair = isinstance(cell, torch.nn.LSTMCell)
    state = hx if pair else (hx,)
    if type(state) not in (tuple, list) or len(state) != 1 + pair:
        return REJECTED
    shape = (*rows, cell.hidden_size)
    for tensor in state:
        reason = tensor_reason("hx", tensor, dtype)
        if reason is not None or tensor.shape != shape:
            return reason or REJECTED
    return tuple(state)


def _require_grad(tensors: tuple[Any, ...]) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def _quick(cell: torch.nn.RNNCellBase, weights: tuple[Any, ...], input: Tensor, hx: State) -> Any:
    """Return what a step gives, checked and run by the core; None where there is more to ask."""
    step = _steps.get(cell)
    if step is None or surroundings() is not None:
        return None
    follow_threads()
    if not isinstance(cell, torch.nn.LSTMCell):
        h = step(weights, input, hx, None)
        return None if h is None else torch.from_numpy(h)
    h, c = hx if type(hx) in (tuple, list) and len(hx) == 2 else (None, None)
    if hx is not None and (h is None or c is None):
        return None
    state = step(weights, input, h, c)
    return None if state is None else (torch.from_numpy(state[0]), torch.from_numpy(state[1]))


def _packed_of(cell: torch.nn.RNNCellBase, weights: tuple[Any, ...]) -> Packed | None:
    """Return the weights packed; None for weights that the kernels do not take."""
    packed = _packed.get(cell)
    present = weights if weights[2] is not None else weights[:2]
    if packed is None or not packed.is_of(key_of(present), 1):
        if weights_reason(weights, weight_shapes(cell)) is not None:
            return None
        packed = _packed[cell] = Packed.of(cell_kind(cell), [[(*weights, None)]])
        _steps.pop(cell, None)
        if EXCHANGE is not None and packed.key:
            float32 = weights[0].dtype == torch.float32
            step = _core.TensorStepFloat32 if float32 else _core.TensorStepFloat64
            counted = not any(w.is_inference() for w in present)
            _steps[cell] = step(EXCHANGE, PLAIN, packed.stack, weights, packed.watch, counted)
    return packed


def _infer(packed: Packed, input: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> Any:
    unbatched = input.dim() == 1
    if input.stride(-1) != 1:
        input = input.contiguous()
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    result = packed.stack.step_at(
        input.data_ptr(),
        1 if unbatched else input.shape[0],
        input.stride(0),
        0 if h is None else h.data_ptr(),
        0 if c is None else c.data_ptr(),
        unbatched,
    )
    if type(result) is tuple:
        return torch.from_numpy(result[0]), torch.from_numpy(result[1])
    return torch.from_numpy(result)


def _train(
    cell: torch.nn.RNNCellBase, input: Tensor, state: tuple[Tensor, ...], weights: tuple[Any, ...]
) -> Any:
    batched = input.dim() == 2
    x, *state3 = (t[None] if batched else t[None, None] for t in (input, *state))
    h0, c0 = (*state3, None, None)[:2]
    _, *last = train_layer(cell_kind(cell), x, [*weights, None], h0, c0, None, False)
    last = [s[0] if batched else s[0, 0] for s in last if s is not None]
    return tuple(last) if len(last) == 2 else last[0]
