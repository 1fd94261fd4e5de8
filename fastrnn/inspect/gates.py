"""Gates and cells of recurrent layers at every step, and how saturated they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..base import Layer, RealArray, check_number
from ..recurrent import Recurrent
from ..recurrent_arguments import Call
from ..recurrent_options import Activation
from ..recurrent_passes import LayerTape
from .parts import Leaf, check_same_output, leaves

__all__ = ["GATES", "Capture", "Saturation", "capture", "saturation"]

Gates = dict[str, RealArray]

# By the core's name of a cell, in the order of the rows of its weights, which is that of what its
# forward pass keeps; an LSTM keeps c after them. Of the other cells, h is all there is.
GATES = {"lstm": "ifgo", "lstm_coupled": "igo", "gru": "rzn", "gru_reset_before": "rzn"}
SIGMOID = frozenset("ifozr")  # from 0 to 1; the others from -1 to 1

# What a cell with options makes of its pre-activations: functions of x, which has one axis, and of
# their two numbers. Sigmoid and tanh are the core's own.
FUNCTIONS: dict[str, Callable[[RealArray, float, float], RealArray]] = {
    "sigmoid": lambda x, a, b: _core.sigmoid(x),
    "tanh": lambda x, a, b: _core.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a, b: np.where(x <= a, 0, x),
    "scaled_tanh": lambda x, a, b: a * _core.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}


# --- capture --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capture:
    """What a model computed, with the gates and cells on the way.

    Attributes
    ----------
    y : ndarray, shape (T, B, .)
    state
        What the model returned, bit for bit.
    layers : dict of str to dict of str to ndarray, shape (T, B, D, H)
        For each layer ("l0", "l1", ...; in a `Sequential` after the prefix of its parameters,
        "0.l0") its values after each step by name: "i", "f", "g", "o", "c", "h" of an LSTM; "r",
        "z", "n", "h" of a GRU (z of an AUGRU before attention holds it back); "h" of an RNN. h has
        the size of its projection, if any. Time-major whatever `batch_first`, in the order of y; B
        is 1 for one sequence; D is 2 if bidirectional, else 1, whatever `merge_mode`. Zeros past a
        row's end and, but for what y repeats there (h, and c with it), at masked steps. They are
        what the layer computed, bit for bit; but gates of a cell with options (as activations,
        peepholes or layer_norm) are found in NumPy from what it kept, equal but for rounding.
    lengths : ndarray of int64, shape (B,)
        Steps of each row.
    mask : ndarray of bool, shape (T, B), or None
        True for the steps that were not left out.
    """

    y: RealArray
    state: Any
    layers: dict[str, Gates]
    lengths: NDArray[np.int64]
    mask: NDArray[np.bool_] | None = None


def capture(
    model: Layer,
    x: ArrayLike,
    state: Any = None,
    lengths: ArrayLike | None = None,
    layers: Iterable[str] | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    attention: ArrayLike | None = None,
) -> Capture:
    """Run a model (inference) and keep the gates and cells of its recurrent layers.

    Parameters
    ----------
    model : RNN, IndRNN, LSTM, GRU, AUGRU or Sequential
    x, state, lengths
        As of a call of the model.
    layers : iterable of str, optional
        Names of the layers to keep; all if None.
    mask, resets, attention
        As of a call, of a model that takes them.

    Returns
    -------
    Capture

    Raises
    ------
    ValueError
        For a layer that is not there, or whose kind is not known here; and as the model for its
        arguments.
    TypeError
        As the model, also for arguments that it does not take.
    """
    found = list(leaves(model, state))
    if not any(isinstance(leaf.layer, Recurrent) for leaf in found):
        raise ValueError("model: expected a recurrent layer in it, got none")
    wanted = _names(found, layers)
    options = {"mask": mask, "resets": resets, "attention": attention}
    given = {name: value for name, value in options.items() if value is not None}
    result, last = model(x, state=state, lengths=lengths, **given)
    kept: dict[str, Gates] = {}
    y: Any = x
    for prefix, layer, own in found:
        if isinstance(layer, Recurrent):
            call = layer._batched(y, own, lengths, attention, mask, resets)
            steps = None if call.mask is None else layer._turned(call.mask, call.lengths)
            T, B = call.x.shape[:2]
            rows = np.full(B, T) if call.lengths is None else call.lengths
            y = _run(prefix, layer, call, wanted, kept)
        else:
            y = layer(y, lengths=lengths) if layer.uses_lengths else layer(y)
            lengths = None if layer.pools_time else lengths
    check_same_output(y, result)
    return Capture(result, last, kept, rows, steps)


def _names(found: list[Leaf], layers: Iterable[str] | None) -> set[str]:
    known = [
        f"{leaf.prefix}l{k}"
        for leaf in found
        if isinstance(leaf.layer, Recurrent)
        for k in range(leaf.layer.num_layers)
    ]
    if layers is None:
        return set(known)
    names = {layers} if isinstance(layers, str) else set(layers)
    unknown = sorted(names.difference(known), key=str)
    if unknown:
        raise ValueError(f"layers: expected names out of {', '.join(known)}, got {unknown[0]!r}")
    return names


def _run(
    prefix: str, layer: Recurrent, given: Call, wanted: set[str], kept: dict[str, Gates]
) -> RealArray:
    """Return y; of the layers that are wanted, add the gates (T, B, D, H) to `kept`."""
    call, group = layer._prepare(given)
    y, h, c, tapes = layer._forward(call, 0, False, training=False)
    padding = None
    if call.lengths is not None:
        padding = np.arange(len(call.x))[:, np.newaxis] >= call.lengths

    def placed(name: str, values: RealArray) -> RealArray:
        if padding is not None:
            values[padding] = 0.0
        repeat = layer._repeat(given) if name in "ch" else None
        values = group.put(layer._turned(values, group.lengths), repeat)
        values = layer._turned(values, given.lengths)
        T, B, width = values.shape
        return values.reshape(T, B, layer._directions, width // layer._directions)

    for k, tape in enumerate(tapes):
        if f"{prefix}l{k}" in wanted:
            gates = {**_gates(layer, tape), "h": tape.y.copy()}
            kept[f"{prefix}l{k}"] = {name: placed(name, gate) for name, gate in gates.items()}
    return layer._result(given, group, y, h, c)[0]


def _gates(layer: Recurrent, tape: LayerTape) -> Gates:
    """Return the gates and cells (T, B, D * H) that the core kept of a forward pass."""
    kind, options = layer._kind(), layer._options()
    names = GATES.get(kind, "") + ("c" if layer._has_cell_state else "")
    gates: Gates = {name: tape.core.cached(block) for block, name in enumerate(names)}
    if options is not None:  # then these are the pre-activations
        for name in names.replace("c", ""):
            function = options.g if name in "gn" else options.f
            gates[name] = _activated(function, options.clip, gates[name])
    if kind == "lstm_coupled":
        return {"i": gates["i"], "f": 1 - gates["i"], **gates}
    return gates


def _activated(function: Activation, clip: float, z: RealArray) -> RealArray:
    name, alpha, beta = function
    with np.errstate(all="ignore"):  # as the core
        return FUNCTIONS[name](np.clip(z.ravel(), -clip, clip), alpha, beta).reshape(z.shape)


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
    tanh(c) for c) with -high and high. That goes by the gate, whatever its function: of ReLU's
    values, say, it tells little. Steps past a row's end and masked ones do not count.

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
        if captured.mask is not None:
            inside &= captured.mask
        if not inside.any():
            raise ValueError("captured: expected at least one step, got none")
        found[name] = {gate: _saturation(gate, a[inside], low, high) for gate, a in gates.items()}
    return found


def _saturation(gate: str, values: RealArray, low: float, high: float) -> Saturation:
    values = np.tanh(values) if gate == "c" else values  # (steps, D, H)
    lower = low if gate in SIGMOID else -high
    return Saturation((values < lower).mean(axis=0), (values > high).mean(axis=0))
