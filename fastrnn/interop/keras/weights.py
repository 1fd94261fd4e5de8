"""Recurrent layers of Keras as fastrnn's, and fastrnn's as Keras's: `from_keras`, `to_keras`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import activations, layers

from ...base import RealArray
from ...gru import GRU
from ...lstm import LSTM
from ...recurrent_options import IDENTITY, SIGMOID, TANH, Activation, as_config
from ...rnn import RNN
from .cells import cell_weights

__all__ = ["from_keras", "to_keras"]

Recurrent = RNN | LSTM | GRU
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# Keras's functions as fastrnn has them: https://keras.io/api/layers/activations/
ACTIVATIONS: dict[Any, Activation] = {
    activations.linear: IDENTITY,
    activations.tanh: TANH,
    activations.sigmoid: SIGMOID,
    activations.relu: ("relu", 0.0, 0.0),
    activations.leaky_relu: ("leaky_relu", 0.2, 0.0),
    activations.hard_sigmoid: ("hard_sigmoid", 1 / 6, 0.5),
    activations.elu: ("elu", 1.0, 0.0),
    activations.softsign: ("softsign", 0.0, 0.0),
    activations.softplus: ("softplus", 0.0, 0.0),
}
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul"}
CELLS: dict[Any, type[Recurrent]] = {
    layers.SimpleRNNCell: RNN,
    layers.LSTMCell: LSTM,
    layers.GRUCell: GRU,
}
# Options of fastrnn's layers that Keras's lack, with the value that they must have.
PLAIN = {
    "num_layers": 1,
    "proj_size": 0,
    "peephole": False,
    "coupled": False,
    "layer_norm": False,
    "clip": None,
    "cell_clip": None,
    "weight_dropout": 0.0,
    "recurrent_dropout": 0.0,
    "zoneout": 0.0,
    "learned_state": False,
}


def from_keras(layer: Any) -> Recurrent:
    """Return a layer of Keras as one of fastrnn, with a copy of its weights.

    It takes x (B, T, I) as Keras does, and the same masks; it returns all outputs and the final
    state whatever `return_sequences` and `return_state` were. Dropout, regularizers and constraints
    belong to training and are left behind; so is `stateful`, as states are arguments here.

    Parameters
    ----------
    layer : keras.layers.SimpleRNN, LSTM, GRU, RNN of one of their cells, or Bidirectional of these
        Built, float32 or float64.

    Returns
    -------
    fastrnn.RNN, fastrnn.LSTM or fastrnn.GRU
        With ``batch_first=True``. All biases of Keras go to bias_ih but the second of a GRU with
        `reset_after`.

    Raises
    ------
    TypeError
        If it is another layer, or has another cell.
    ValueError
        If it is not built, or an option has no counterpart; which, says the message.
    """
    parts, merge_mode = _directions(layer)
    kinds = [(_class_of(part), _config(part)) for part in parts]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        raise ValueError(
            "layer: expected directions that differ in their weights only, "
            f"got {kinds[0]} and {kinds[1]}"
        )
    make, config = kinds[0]
    if len(parts) == 2:
        config |= {"bidirectional": True, "merge_mode": merge_mode}
    else:
        config["go_backwards"] = bool(layer.go_backwards)
        if layer.zero_output_for_mask:
            raise ValueError("layer: expected zero_output_for_mask=False, got True")
    ours = make(**config, batch_first=True)
    state = {}
    for part, suffix in zip(parts, ("", "_reverse"), strict=False):
        for name, weight in zip(PARAMETERS, cell_weights(part.cell), strict=True):
            if weight is not None:
                state[f"{name}_l0{suffix}"] = keras.ops.convert_to_numpy(weight)
    ours.load_state_dict(state)
    return ours


def _directions(layer: Any) -> tuple[list[Any], str]:
    """Return the RNN layers of a layer's directions, forward first, and how they are merged."""
    if not isinstance(layer, layers.Bidirectional):
        return [layer], "concat"
    if layer.merge_mode not in MERGES:
        raise ValueError(f"layer: expected merge_mode of {list(MERGES)}, got {layer.merge_mode!r}")
    if layer.forward_layer.go_backwards:
        raise ValueError("layer: expected a forward layer with go_backwards=False, got True")
    return [layer.forward_layer, layer.backward_layer], MERGES[layer.merge_mode]


def _class_of(layer: Any) -> type[Recurrent]:
    if not isinstance(layer, layers.RNN):
        raise TypeError(
            "layer: expected SimpleRNN, LSTM, GRU, RNN or Bidirectional of Keras, "
            f"got {type(layer).__name__}"
        )
    if type(layer.cell) not in CELLS:
        names = ", ".join(cls.__name__ for cls in CELLS)
        raise TypeError(f"layer: expected a cell of {names}, got {type(layer.cell).__name__}")
    return CELLS[type(layer.cell)]


def _config(layer: Any) -> dict[str, Any]:
    """Return the arguments of fastrnn's layer that a direction decides."""
    cell = layer.cell
    if not cell.built:
        raise ValueError(f"layer: expected a built layer, got {layer.name}, which has no weights")
    if cell.variable_dtype not in ("float32", "float64"):
        raise ValueError(f"layer: expected float32 or float64, got {cell.variable_dtype}")
    config = {
        "input_size": int(cell.kernel.shape[0]),
        "hidden_size": int(cell.units),
        "bias": bool(cell.use_bias),
        "dtype": cell.variable_dtype,
    }
    if type(cell) is layers.SimpleRNNCell:
        return config | {"nonlinearity": _activation("activation", cell.activation)}
    f = _activation("recurrent_activation", cell.recurrent_activation)
    g = _activation("activation", cell.activation)
    if type(cell) is layers.LSTMCell:
        return config | {"activations": (f, g, g)}
    return config | {"activations": (f, g), "reset_after": bool(cell.reset_after)}


def _activation(name: str, function: Any) -> Any:
    if function not in ACTIVATIONS:
        known = ", ".join(f.__name__ for f in ACTIVATIONS)
        got = getattr(function, "__name__", None) or type(function).__name__
        raise ValueError(f"layer: expected {name} of {known}, got {got}")
    return as_config(ACTIVATIONS[function])


def to_keras(layer: Recurrent, **options: Any) -> Any:
    """Return one of fastrnn's layers as a layer of Keras, built, with a copy of its weights.

    Parameters
    ----------
    layer : fastrnn.RNN, fastrnn.LSTM or fastrnn.GRU
        Of one layer; in one direction or both.
    **options
        Further arguments of Keras's layer, such as `return_state`, `stateful`, `name` (of a
        bidirectional one: of the layer that is wrapped). `return_sequences` is True if not given.

    Returns
    -------
    keras.layers.SimpleRNN, LSTM, GRU, or Bidirectional of it
        The biases are added up, as Keras has one, but of a GRU with `reset_after`.

    Raises
    ------
    TypeError
        If it is another layer.
    ValueError
        If an option has no counterpart in Keras; which, says the message.
    """
    if type(layer) not in CELLS.values():
        raise TypeError(f"layer: expected RNN, LSTM or GRU, got {type(layer).__name__}")
    config = layer.config()
    for name, plain in PLAIN.items():
        if config.get(name, plain) != plain:
            raise ValueError(f"layer: Keras has nothing like {name}={config[name]!r}")
    theirs = _keras_class(layer)(
        layer.hidden_size,
        use_bias=layer.bias,
        go_backwards=layer.go_backwards,
        dtype=layer.dtype.name,
        **{"return_sequences": True, **_keras_functions(layer), **options},
    )
    if layer.bidirectional:
        names = {ours: keras_name for keras_name, ours in MERGES.items()}
        theirs = layers.Bidirectional(
            theirs, merge_mode=names[layer.merge_mode], dtype=layer.dtype.name
        )
    theirs.build((None, None, layer.input_size))
    suffixes = ("", "_reverse")[: 1 + layer.bidirectional]
    theirs.set_weights([w for suffix in suffixes for w in _keras_weights(layer, suffix)])
    return theirs


def _keras_class(layer: Recurrent) -> Any:
    return {RNN: layers.SimpleRNN, LSTM: layers.LSTM, GRU: layers.GRU}[type(layer)]


def _keras_functions(layer: Recurrent) -> dict[str, Any]:
    """Return the arguments of Keras's layer that say what its cell computes."""
    functions = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    own = [layer._function] if isinstance(layer, RNN) else layer._functions
    for function in own:
        if function not in functions:
            raise ValueError(f"layer: Keras has nothing like activation {as_config(function)!r}")
    if isinstance(layer, RNN):
        return {"activation": functions[own[0]]}
    if isinstance(layer, LSTM) and own[1] != own[2]:
        raise ValueError(
            "layer: expected one activation of g and c, as Keras has, "
            f"got {as_config(own[1])!r} and {as_config(own[2])!r}"
        )
    result = {"recurrent_activation": functions[own[0]], "activation": functions[own[1]]}
    return result | ({"reset_after": layer.reset_after} if isinstance(layer, GRU) else {})


def _keras_weights(layer: Recurrent, suffix: str) -> list[RealArray]:
    """Return kernel, recurrent kernel and bias of Keras for one direction."""
    state = layer.state_dict()
    arrays = [_keras_gates(layer, state[f"{name}_l0{suffix}"]) for name in PARAMETERS[:2]]
    result = [array.T for array in arrays]
    if not layer.bias:
        return result
    b_ih, b_hh = (_keras_gates(layer, state[f"{name}_l0{suffix}"]) for name in PARAMETERS[2:])
    if isinstance(layer, GRU) and layer.reset_after:
        return [*result, np.stack([b_ih, b_hh])]
    return [*result, b_ih + b_hh]


def _keras_gates(layer: Recurrent, weight: RealArray) -> RealArray:
    """Return a weight with its blocks of rows in Keras's order: of a GRU z, r, n for r, z, n."""
    if not isinstance(layer, GRU):
        return weight
    r, z, n = np.split(weight, 3)
    return np.concatenate([z, r, n])
