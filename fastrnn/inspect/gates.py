"""Gates and cells of recurrent layers at every step, and how saturated they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import Layer, RealArray, check_number
from ..recurrent import GRU, LSTM, RNN, Recurrent
from ..recurrent_arguments import Call
from .parts import Part, check_same_output, flip, leaves, part_state, take_apart

__all__ = ["Capture", "Saturation", "capture", "cell_of", "saturation"]

Gates = dict[str, RealArray]


# --- the formulas, one for each kind of cell ------------------------------------------------------
#
# Each takes a layer of one direction; its input, x (T, B, I) or token ids (T, B); the states before
# each step, h (T, B, H); and, of an LSTM, the first c (B, H), None for zeros. As all h are known,
# the products take all steps at once, and only c runs step by step. It returns the gates by name,
# each (T, B, H) in the layer's dtype: what the layer computes, but for rounding. For a new option
# of a layer: a formula here (or a branch in one), and its name in `CELLS`.


def _rnn_gates(layer: Recurrent, x: NDArray[Any], h: RealArray, c: RealArray | None) -> Gates:
    return {}  # h is all there is


def _lstm_gates(layer: Recurrent, x: NDArray[Any], h: RealArray, c: RealArray | None) -> Gates:
    i, f, g, o = np.split(_inputs(layer, x) + _products(layer, h), 4, axis=-1)
    gates = {"i": _sigmoid(i), "f": _sigmoid(f), "g": np.tanh(g), "o": _sigmoid(o)}
    cells = np.empty_like(gates["f"])
    now = np.zeros(cells.shape[1:], cells.dtype) if c is None else c
    for t in range(len(cells)):
        now = cells[t] = gates["f"][t] * now + gates["i"][t] * gates["g"][t]
    return {**gates, "c": cells}


def _gru_gates(layer: Recurrent, x: NDArray[Any], h: RealArray, c: RealArray | None) -> Gates:
    assert isinstance(layer, GRU)
    x_r, x_z, x_n = np.split(_inputs(layer, x), 3, axis=-1)
    h_r, h_z, h_n = np.split(_products(layer, h), 3, axis=-1)
    r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
    if layer.reset_after:
        n = np.tanh(x_n + r * h_n)
    else:
        n = np.tanh(x_n + np.split(_products(layer, r * h), 3, axis=-1)[2])
    return {"r": r, "z": z, "n": n}


def _inputs(layer: Recurrent, x: NDArray[Any]) -> RealArray:
    """Return W_ih x + b_ih; a token id chooses a column."""
    weights = _weights(layer)
    product = weights["weight_ih"].T[x] if x.dtype.kind in "iu" else x @ weights["weight_ih"].T
    return np.asarray(product + weights["bias_ih"] if layer.bias else product)


def _products(layer: Recurrent, h: RealArray) -> RealArray:
    """Return W_hh h + b_hh."""
    weights = _weights(layer)
    product = h @ weights["weight_hh"].T
    return np.asarray(product + weights["bias_hh"] if layer.bias else product)


def _weights(layer: Recurrent) -> Gates:
    return {name.removesuffix("_l0"): p.data for name, p in layer.parameters().items()}


def _sigmoid(a: RealArray) -> RealArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * a)), a.dtype)  # which cannot overflow


class Cell(NamedTuple):
    """What is known of a kind of cell: the blocks of its recurrent matrix, its formula."""

    gates: str
    formula: Callable[[Recurrent, NDArray[Any], RealArray, RealArray | None], Gates]
    options: frozenset[str]  # of the constructor, that the formula knows beside SIZES


CELLS: dict[type[Layer], Cell] = {
    RNN: Cell("h", _rnn_gates, frozenset({"nonlinearity"})),
    LSTM: Cell("ifgo", _lstm_gates, frozenset()),
    GRU: Cell("rzn", _gru_gates, frozenset({"reset_after"})),
}
SIZES = frozenset(
    ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    + ("bidirectional", "dtype")
)
SIGMOID, TANH = frozenset("ifozr"), frozenset("gnhc")  # values from 0 to 1, and from -1 to 1


def cell_of(layer: Recurrent) -> Cell:
    """Return what is known of a layer's cell; ValueError for an option that is not."""
    cell = CELLS.get(type(layer))
    if cell is None:
        names = ", ".join(kind.__name__ for kind in CELLS)
        raise ValueError(f"layer: expected one of {names}, got {type(layer).__name__}")
    defaults = inspect.signature(type(layer)).parameters
    for name, value in layer.config().items():
        if name not in SIZES | cell.options and value != defaults[name].default:
            raise ValueError(
                f"layer: gates of {type(layer).__name__} with {name}={value!r} are not known to "
                "fastrnn.inspect"
            )
    return cell


# --- capture --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capture:
    """What a model computed, with the gates and cells on the way.

    Attributes
    ----------
    y, state
        What the model returned, bit for bit.
    layers : dict of str to dict of str to ndarray, shape (T, B, D, H)
        For each layer ("l0", "l1", ...; in a `Sequential` after the prefix of its parameters,
        "0.l0") its values after each step by name: "i", "f", "g", "o", "c", "h" of an LSTM; "r",
        "z", "n", "h" of a GRU; "h" of an RNN. Time-major whatever `batch_first`; B is 1 for one
        sequence; D is 2 if bidirectional, else 1. Zeros past a row's end. h has the bits of the
        layer, the others are computed from it in NumPy (equal but for rounding).
    lengths : ndarray of int64, shape (B,)
        Steps of each row.
    """

    y: RealArray
    state: Any
    layers: dict[str, Gates]
    lengths: NDArray[np.int64]


def capture(
    model: Layer,
    x: ArrayLike,
    state: Any = None,
    lengths: ArrayLike | None = None,
    layers: Iterable[str] | None = None,
) -> Capture:
    """Run a model (inference) and keep the gates and cells of its recurrent layers.

    Parameters
    ----------
    model : RNN, LSTM, GRU or Sequential
    x, state, lengths
        As of a call of the model.
    layers : iterable of str, optional
        Names of the layers to keep; all if None.

    Returns
    -------
    Capture

    Raises
    ------
    ValueError
        For a layer that is not there, or whose kind or options are not known here; and as the
        model for its arguments.
    """
    result, last = model(x, state, lengths) if model.recurrent else (model(x), None)
    kept: dict[str, Gates] = {}
    y: Any = x
    rows: NDArray[np.int64] | None = None
    wanted = None if layers is None else _names(model, layers)
    for prefix, layer, own in leaves(model, state):
        if not isinstance(layer, Recurrent):
            y = layer(y)
            continue
        call = layer._batched(*layer._plain(y, own, lengths))
        T, B = call.x.shape[:2]
        rows = np.full(B, T) if call.lengths is None else call.lengths
        y = call.x
        for k, parts in enumerate(take_apart(layer)):
            keep = wanted is None or f"{prefix}l{k}" in wanted
            y, gates = _capture_layer(parts, k, y, call, keep)
            if keep:
                kept[f"{prefix}l{k}"] = gates
        y = layer._give(y, y, None, call.unbatched)[0]
    if rows is None:
        raise ValueError("model: expected a recurrent layer in it, got none")
    check_same_output(y, result)
    return Capture(result, last, kept, rows)


def _names(model: Layer, layers: Iterable[str]) -> set[str]:
    known = [
        f"{leaf.prefix}l{k}"
        for leaf in leaves(model)
        if isinstance(leaf.layer, Recurrent)
        for k in range(leaf.layer.num_layers)
    ]
    names = {layers} if isinstance(layers, str) else set(layers)
    unknown = sorted(names.difference(known), key=str)
    if unknown:
        raise ValueError(f"layers: expected names out of {', '.join(known)}, got {unknown[0]!r}")
    return names


def _capture_layer(
    parts: list[Part], k: int, x: NDArray[Any], call: Call, keep: bool
) -> tuple[RealArray, Gates]:
    """Return output (T, B, D * H) and, if to be kept, gates (T, B, D, H) of the layer k."""
    outputs, gates = [], []
    for d, part in enumerate(parts):
        state = part_state(call, k * len(parts) + d)
        inputs = flip(x, call.lengths) if part.reverse else x
        h, _ = part.layer(inputs, state, call.lengths)
        found = _gates(part.layer, inputs, h, state, call.lengths) if keep else {"h": h}
        if part.reverse:
            found = {name: flip(gate, call.lengths) for name, gate in found.items()}
        outputs.append(found["h"])
        gates.append(found)
    stacked = {name: np.stack([gate[name] for gate in gates], axis=2) for name in gates[0]}
    return np.concatenate(outputs, axis=-1), stacked


def _gates(
    layer: Recurrent,
    x: NDArray[Any],
    h: RealArray,
    state: Any,
    lengths: NDArray[np.int64] | None,
) -> Gates:
    """Return the gates (T, B, H) of a layer of one direction that gave h, and h itself."""
    h0, c0 = state if layer._has_cell_state and state is not None else (state, None)
    first = np.zeros_like(h[:1]) if h0 is None else h0
    before = np.concatenate([first, h])[: len(h)]
    found = cell_of(layer).formula(layer, x, before, None if c0 is None else c0[0])
    if lengths is not None:
        past = np.arange(len(h))[:, np.newaxis] >= lengths
        for gate in found.values():
            gate[past] = 0.0
    return {**found, "h": h}


# --- saturation -----------------------------------------------------------------------------------


class Saturation(NamedTuple):
    """How often a gate is saturated: fractions of the steps, from 0 to 1.

    Attributes
    ----------
    left, right : ndarray of float64, shape (D, H)
        Of each unit, near its lower and near its upper limit.
    overall : tuple of float
        The means of both.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def overall(self) -> tuple[float, float]:
        """Fractions over all units."""
        return float(self.left.mean()), float(self.right.mean())


def saturation(
    captured: Capture, low: float = 0.1, high: float = 0.9
) -> dict[str, dict[str, Saturation]]:
    """Return how often each gate is below `low` (left-saturated) and above `high` (right).

    Karpathy, Johnson & Fei-Fei (2016), "Visualizing and understanding recurrent networks",
    section 4.2. Gates of a sigmoid are compared with `low` and `high`; values of tanh (g, n, h, and
    tanh(c) for c) with -high and high, which of a ReLU network's h says little. Steps past a row's
    end do not count.

    Parameters
    ----------
    captured : Capture
    low, high : float

    Returns
    -------
    dict of str to dict of str to Saturation
        For each layer, by gate.

    Raises
    ------
    ValueError
        If there is no step at all, or the limits are not 0 <= low < high <= 1.
    """
    if check_number("low", low, 0.0, 1.0) >= check_number("high", high, 0.0, 1.0):
        raise ValueError(f"low: expected less than high {high}, got {low}")
    found = {}
    for name, gates in captured.layers.items():
        inside = np.arange(len(gates["h"]))[:, np.newaxis] < captured.lengths
        if not inside.any():
            raise ValueError("captured: expected at least one step, got none")
        found[name] = {gate: _saturation(gate, a[inside], low, high) for gate, a in gates.items()}
    return found


def _saturation(gate: str, values: RealArray, low: float, high: float) -> Saturation:
    values = np.tanh(values) if gate == "c" else values  # (steps, D, H)
    lower = low if gate in SIGMOID else -high
    return Saturation((values < lower).mean(axis=0), (values > high).mean(axis=0))
