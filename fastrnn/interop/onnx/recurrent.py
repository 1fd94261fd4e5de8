"""ONNX's operators RNN, GRU and LSTM, run by the kernels of fastrnn's layers.

https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours. The operators take X (T, B, I), W
(D, G * H, I), R (D, G * H, H), B (D, 2 * G * H), P (D, 3 * H) and states (D, B, H), and give Y
(T, D, B, H); layout 1 puts B first in X, Y and the states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import _core
from ...base import FLOAT32, FLOAT64, RealArray
from ...directions import reverse_rows
from ...recurrent_options import (
    ACTIVATIONS,
    ONNX_NAMES,
    SIGMOID,
    TANH,
    Activation,
    CellOptions,
    check_activation,
    check_limit,
)
from ...recurrent_passes import WEIGHTS
from .nodes import Array, Kernel, Node, operator

__all__ = ["RecurrentNode"]

FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

# fastrnn's blocks of rows as places in ONNX's: GRU r, z, n of z, r, h; LSTM i, f, g, o of i, o, f,
# c. With coupled gates i, g, o. So too the peepholes: i, f, o, or i, o, of i, o, f.
BLOCKS = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
COUPLED_BLOCKS = (0, 3, 1)
PEEPHOLES = (0, 2, 1)
COUPLED_PEEPHOLES = (0, 1)


class Weights(NamedTuple):
    """The inputs of a node that its cells are packed from."""

    W: Array
    R: Array
    B: Array | None = None
    P: Array | None = None


class RecurrentNode:
    """The attributes of a node, and the two things done with them: packing cells, running them.

    Raises
    ------
    ValueError
        If an attribute has a value that the operator does not know.
    """

    def __init__(self, node: Node) -> None:
        self.operator = node.operator
        self.direction = node.attribute("direction", "forward")
        if self.direction not in DIRECTIONS:
            known = ", ".join(DIRECTIONS)
            raise ValueError(f"direction: expected one of {known}, got {self.direction!r}")
        self.directions = DIRECTIONS[self.direction]
        self.hidden_size: int | None = node.attribute("hidden_size")
        self.batch_first = self._flag(node, "layout")
        self.coupled = self._flag(node, "input_forget")
        self.reset_after = self._flag(node, "linear_before_reset")
        self.clip = check_limit("clip", node.attribute("clip"))
        self.functions = self._functions(node)

    @staticmethod
    def _flag(node: Node, name: str) -> bool:
        value = node.attribute(name, 0)
        if value not in (0, 1):
            raise ValueError(f"{name}: expected 0 or 1, got {value}")
        return bool(value)

    def _functions(self, node: Node) -> list[tuple[Activation, ...]]:
        """Return the functions of each direction; the lists of numbers are used up in order."""
        plain = FUNCTIONS[self.operator]
        names = node.attribute("activations") or plain * self.directions
        if len(names) != len(plain) * self.directions:
            expected = len(plain) * self.directions
            raise ValueError(f"activations: expected {expected}, got {len(names)}: {names}")
        known = {name.lower(): name for name in ONNX_NAMES}
        numbers = [
            iter(node.attribute(name) or ()) for name in ("activation_alpha", "activation_beta")
        ]
        functions = []
        for given in names:
            name = known.get(given.lower(), given)  # ONNX Runtime, too, takes "tanh"
            defaults = ACTIVATIONS.get(ONNX_NAMES.get(name, ""), ())
            own = [next(left, default) for left, default in zip(numbers, defaults, strict=False)]
            functions.append(check_activation("activations", (name, *own)))
        return [tuple(functions[i : i + len(plain)]) for i in range(0, len(functions), len(plain))]

    # --- cells ------------------------------------------------------------------------------------

    def pack(self, weights: Weights) -> Any:
        """Return the cells of all directions as a stack of the core; see `Recurrent._packed`."""
        kind, options = self._kind(weights.P is not None)
        cells = []
        for own, arrays in zip(options, self.arrays(weights), strict=True):
            ordered = tuple([arrays.get(name) for name in WEIGHTS])
            cells.append(_core.pack_cell(kind, ordered, own, False))
        stack = _core.StackFloat32 if weights.W.dtype == FLOAT32 else _core.StackFloat64
        return stack([tuple(cells)])

    def arrays(self, weights: Weights) -> list[dict[str, RealArray]]:
        """Return the weights of each direction, checked, by the names that layers give them."""
        self._check(weights)
        size = weights.R.shape[-1]
        order = COUPLED_BLOCKS if self.coupled else BLOCKS[self.operator]
        holes = COUPLED_PEEPHOLES if self.coupled else PEEPHOLES
        found = []
        for d in range(self.directions):
            arrays = {
                "weight_ih": _blocks(weights.W[d], order, size),
                "weight_hh": _blocks(weights.R[d], order, size),
            }
            if weights.B is not None:
                b_ih, b_hh = np.split(weights.B[d], 2)
                arrays["bias_ih"] = _blocks(b_ih, order, size)
                arrays["bias_hh"] = _blocks(b_hh, order, size)
            if weights.P is not None:
                arrays["peephole"] = _blocks(weights.P[d], holes, size)
            found.append(arrays)
        return found

    def _check(self, weights: Weights) -> None:
        """Raise ValueError or TypeError for weights that are not what the operator takes."""
        W, R = weights.W, weights.R
        H = R.shape[-1] if R.ndim == 3 else 0
        if self.hidden_size is not None and self.hidden_size != H:
            raise ValueError(f"R: expected a last axis of hidden_size {self.hidden_size}, got {H}")
        D, rows = self.directions, GATES[self.operator] * H
        shapes = {
            "W": (D, rows, W.shape[-1] if W.ndim == 3 else 0),
            "R": (D, rows, H),
            "B": (D, 2 * rows),
            "P": (D, 3 * H),
        }
        for name, array in weights._asdict().items():
            if array is None:
                continue
            if array.dtype != W.dtype or array.dtype not in (FLOAT32, FLOAT64):
                expected = "float32 or float64" if name == "W" else f"{W.dtype} as of W"
                raise TypeError(f"{name}: expected {expected}, got {array.dtype}")
            if array.shape != shapes[name]:
                raise ValueError(f"{name}: expected the shape {shapes[name]}, got {array.shape}")

    def _kind(self, peephole: bool) -> tuple[str, list[CellOptions | None]]:
        """Return the kind of the cells, and the options of each direction; None: the plain cell."""
        options: list[CellOptions | None] = [self._cell_options(d) for d in range(self.directions)]
        if self.operator == "RNN":
            first, *_ = self.functions[0]
            plain = CellOptions(first, TANH, TANH)
            if first[0] in ("tanh", "relu") and all(own == plain for own in options):
                return "rnn_" + first[0], [None] * self.directions
            return "rnn", options
        plain = CellOptions(SIGMOID, TANH, TANH)
        if not (self.coupled or peephole) and all(own == plain for own in options):
            options = [None] * self.directions
        if self.operator == "GRU":
            return "gru" if self.reset_after else "gru_reset_before", options
        return "lstm_coupled" if self.coupled else "lstm", options

    def _cell_options(self, direction: int) -> CellOptions:
        f, g, h = (*self.functions[direction], TANH, TANH)[:3]
        return CellOptions(f, g, h, self.clip)

    # --- running ----------------------------------------------------------------------------------

    def run(
        self,
        stack: Any,
        X: Array,
        sequence_lens: Array | None,
        initial_h: Array | None,
        initial_c: Array | None,
    ) -> tuple[Array, ...]:
        """Return Y, Y_h and, of an LSTM, Y_c."""
        if X.ndim != 3:
            raise ValueError(f"X: expected three axes, got the shape {X.shape}")
        x = X.swapaxes(0, 1) if self.batch_first else X
        T, B = x.shape[:2]
        lengths = None if sequence_lens is None else sequence_lens.astype(np.int64)
        backwards = self.direction == "reverse"
        if backwards:
            x = reverse_rows(x, lengths)
        state = self._state(initial_h, initial_c, B)
        result = stack.call(x, state, lengths, False)
        if result is None:
            result = stack.call(np.array(x, order="C"), state, lengths, False)
        if result is None:
            raise ValueError(self._problem(X, lengths, initial_h, initial_c))
        y, last = result
        if backwards:
            y = reverse_rows(y, lengths)
        Y = y.reshape(T, B, self.directions, y.shape[2] // self.directions)  # T, B may be 0
        states = last if self.operator == "LSTM" else (last,)
        if self.batch_first:
            return (Y.swapaxes(0, 1), *[s.swapaxes(0, 1) for s in states])
        return (Y.swapaxes(1, 2), *states)

    def _state(self, h: Array | None, c: Array | None, B: int) -> Any:
        """Return the state as a stack takes it; what is left out is zeros."""
        if h is None and c is None:
            return None
        if self.operator != "LSTM":
            return self._contiguous(h)
        if h is None:
            h = np.zeros_like(c)
        if c is None:
            c = np.zeros_like(h)
        return self._contiguous(h), self._contiguous(c)

    def _contiguous(self, state: Any) -> Array:
        return np.ascontiguousarray(state.swapaxes(0, 1) if self.batch_first else state)

    def _problem(self, X: Array, lengths: Array | None, *states: Array | None) -> str:
        shapes = ", ".join(f"{s.dtype} {s.shape}" for s in states if s is not None) or "none"
        return (
            f"inputs: expected X, lengths from 0 to T and states that fit the weights, got X "
            f"{X.dtype} {X.shape}, lengths {lengths}, states {shapes}"
        )


def _blocks(matrix: Array, order: tuple[int, ...], size: int) -> RealArray:
    """Return some of the blocks of `size` rows, in another order."""
    parts = matrix.reshape(-1, size, *matrix.shape[1:])
    return np.ascontiguousarray(parts[list(order)].reshape(-1, *matrix.shape[1:]))


@operator("RNN", "GRU", "LSTM")
def _recurrent(node: Node) -> Kernel:
    cell = RecurrentNode(node)
    positions = (1, 2, 3, 7)  # of W, R, B, P
    constants = [node.constant(i) for i in positions]
    if any(node.has(i) and c is None for i, c in zip(positions, constants, strict=True)):

        def of_inputs(
            X: Array,
            W: Array,
            R: Array,
            B: Array | None = None,
            sequence_lens: Array | None = None,
            initial_h: Array | None = None,
            initial_c: Array | None = None,
            P: Array | None = None,
        ) -> Any:
            stack = cell.pack(Weights(W, R, B, P))
            return cell.run(stack, X, sequence_lens, initial_h, initial_c)

        return of_inputs

    stack = cell.pack(Weights(*[node.take(i) for i in positions]))  # type: ignore[arg-type]

    def of_constants(
        X: Array,
        W: None,
        R: None,
        B: None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
        P: None = None,
    ) -> Any:
        return cell.run(stack, X, sequence_lens, initial_h, initial_c)

    return of_constants
