"""What the tests of the variants share: the variants, data for them, running them, the reference.

Results are dictionaries from names to arrays, all time-major, as in recurrent_cases.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import fastrnn
import reference_variants
from recurrent_cases import name_states

# Every variant that a cell can be. Where there is a choice of numbers, such that the bounds are at
# work for some values and not for others.
VARIANTS = {
    "lstm": ("LSTM", {}),
    "lstm_peephole": ("LSTM", {"peephole": True}),
    "lstm_proj": ("LSTM", {"proj_size": 3}),
    "lstm_proj_peephole": ("LSTM", {"proj_size": 2, "peephole": True, "bias": False}),
    "lstm_coupled": ("LSTM", {"coupled": True}),
    "lstm_coupled_all": (
        "LSTM",
        {"coupled": True, "peephole": True, "proj_size": 1, "clip": 0.8, "cell_clip": 0.6},
    ),
    "lstm_clip": ("LSTM", {"clip": 0.4}),
    "lstm_cell_clip": ("LSTM", {"cell_clip": 0.3, "peephole": True}),
    "lstm_hard": (
        "LSTM",
        {"activations": ("hard_sigmoid", ("elu", 0.5), ("leaky_relu", 0.2))},
    ),
    "lstm_zoneout": ("LSTM", {"zoneout": (0.2, 0.6)}),
    "lstm_zoneout_of_c": ("LSTM", {"zoneout": (0.0, 0.3), "proj_size": 3}),
    "lstm_zoneout_of_h": ("LSTM", {"zoneout": (0.3, 0.0), "peephole": True, "coupled": True}),
    "gru_clip": ("GRU", {"clip": 0.4}),
    "gru_softplus": ("GRU", {"activations": ("softsign", "softplus"), "bias": False}),
    "gru_zoneout": ("GRU", {"zoneout": 0.3}),
    "gru_before": ("GRU", {"reset_after": False}),
    "gru_before_all": (
        "GRU",
        {
            "reset_after": False,
            "clip": 0.7,
            "activations": ("hard_sigmoid", ("scaled_tanh", 0.8, 1.3)),
            "zoneout": 0.25,
        },
    ),
    "augru": ("AUGRU", {}),
    "augru_before": ("AUGRU", {"reset_after": False, "clip": 0.5, "activations": ["sigmoid"] * 2}),
    "rnn_clip": ("RNN", {"clip": 0.5}),
    "rnn_zoneout": ("RNN", {"zoneout": 0.4, "nonlinearity": "relu"}),
    "rnn_prelu": ("RNN", {"nonlinearity": "prelu", "clip": 0.6, "zoneout": 0.1}),
    "rnn_norm": ("RNN", {"layer_norm": True}),
    "rnn_norm_all": ("RNN", {"layer_norm": True, "nonlinearity": "prelu", "clip": 0.9}),
    "lstm_norm": ("LSTM", {"layer_norm": True}),
    "lstm_norm_proj": ("LSTM", {"layer_norm": True, "proj_size": 2, "bias": False}),
    "lstm_norm_all": (
        "LSTM",
        {
            "layer_norm": True,
            "peephole": True,
            "coupled": True,
            "clip": 1.2,
            "cell_clip": 0.7,
            "zoneout": (0.2, 0.1),
        },
    ),
    "lstm_norm_zoneout_of_c": ("LSTM", {"layer_norm": True, "zoneout": (0, 0.3), "proj_size": 3}),
    "gru_norm": ("GRU", {"layer_norm": True}),
    "gru_norm_before": ("GRU", {"layer_norm": True, "reset_after": False, "zoneout": 0.3}),
    "gru_norm_no_bias": ("GRU", {"layer_norm": True, "bias": False, "clip": 0.8}),
    "indrnn": ("IndRNN", {}),
    "indrnn_tanh": ("IndRNN", {"nonlinearity": "tanh", "zoneout": 0.2, "bias": False}),
    "indrnn_prelu": ("IndRNN", {"nonlinearity": "prelu"}),
}
FUNCTIONS = [
    "tanh",
    "relu",
    "identity",
    "sigmoid",
    "softsign",
    "softplus",
    "prelu",
    "leaky_relu",
    ("leaky_relu", 0.3),
    "thresholded_relu",
    ("thresholded_relu", 0.2),
    "scaled_tanh",
    ("scaled_tanh", 0.7, 1.6),
    "hard_sigmoid",
    ("hard_sigmoid", 0.7, 0.4),
    "elu",
    ("elu", 0.6),
    ("affine", 0.5, -0.2),
]
LENGTHS = (7, 0, 3, 1, 6)


class Data(NamedTuple):
    """Time-major arrays: what a call takes, and the gradients that go back."""

    x: np.ndarray
    state: tuple | None
    dy: np.ndarray
    dstate: tuple
    lengths: np.ndarray | None = None
    mask: np.ndarray | None = None
    resets: np.ndarray | None = None
    attention: np.ndarray | None = None


def make(kind, *sizes, **options):
    return getattr(fastrnn, kind)(*sizes, **options)


def make_data(layer, steps=7, batch=5, seed=2, lengths=None, holes=False, resets=False, state=True):
    """Random numbers for everything, states and gradients too."""
    rng = np.random.default_rng(seed)
    config = layer.config()
    directions = 1 + config.get("bidirectional", False)
    rows = (config.get("num_layers", 1) * directions, batch)
    outputs = config.get("proj_size") or config["hidden_size"]
    states = [(*rows, outputs), (*rows, config["hidden_size"])][: 1 + is_lstm(layer)]
    width = outputs * (directions if config.get("merge_mode", "concat") == "concat" else 1)

    def normal(*shape):
        return rng.normal(size=shape).astype(config["dtype"])

    return Data(
        x=normal(steps, batch, config["input_size"]),
        state=tuple(normal(*shape) for shape in states) if state else None,
        dy=normal(steps, batch, width),
        dstate=tuple(normal(*shape) for shape in states),
        lengths=None if lengths is None else np.array(lengths),
        mask=rng.random((steps, batch)) < 0.7 if holes else None,
        resets=rng.random((steps, batch)) < 0.25 if resets else None,
        attention=rng.random((steps, batch)).astype(config["dtype"])
        if type(layer).__name__ == "AUGRU"
        else None,
    )


def is_lstm(layer):
    return type(layer).__name__ == "LSTM"


def to_user(layer, array):
    if array is None:
        return None
    return array.swapaxes(0, 1) if layer.config()["batch_first"] else array


def state_to_user(layer, state):
    return state if state is None or is_lstm(layer) else state[0]


def arguments(layer, data):
    """Positional and keyword arguments of a call."""
    attention = () if data.attention is None else (to_user(layer, data.attention),)
    flags = {"mask": to_user(layer, data.mask), "resets": to_user(layer, data.resets)}
    state = state_to_user(layer, data.state)
    return (to_user(layer, data.x), *attention, state, data.lengths), flags


def outputs_of(layer, y, state):
    return {"y": to_user(layer, y)} | name_states("last ", state if is_lstm(layer) else (state,))


def infer(layer, data):
    positional, flags = arguments(layer, data)
    return outputs_of(layer, *layer(*positional, **flags))


def train(layer, data, checkpoint_every=None):
    """Outputs of vjp and all gradients."""
    positional, flags = arguments(layer, data)
    (y, state), pullback = layer.vjp(*positional, checkpoint_every, **flags)
    layer.zero_grad()
    dx, *dattention, dstate = pullback(to_user(layer, data.dy), state_to_user(layer, data.dstate))
    gradients = {} if dx is None else {"dx": to_user(layer, dx)}
    if data.attention is not None:
        gradients["dattention"] = to_user(layer, dattention[0])
    gradients |= name_states("d first ", dstate if is_lstm(layer) else (dstate,))
    gradients |= {f"grad {name}": p.grad for name, p in layer.parameters().items()}
    return outputs_of(layer, y, state) | gradients


def train_and_draws(layer, data):
    """As `train`, and the factors that were drawn, as the reference takes them."""
    drawn = []
    draw = layer._dropout_mask, layer._step_masks, layer._weight_factors

    def weight_factors(index):
        drawn.append({"weights": draw[2](index)})
        return drawn[-1]["weights"]

    def step_masks(*shape):
        masks = draw[1](*shape)
        drawn[-1] |= dict(zip(("recurrent", "keep_h", "keep_c"), masks, strict=True))
        return masks

    layer._weight_factors, layer._step_masks = weight_factors, step_masks
    try:
        got = train(layer, data)
    finally:
        del layer._weight_factors, layer._step_masks
    return got, [reference_variants.Factors(**layer) for layer in drawn]


def run_reference(layer, data, factors=None, changed=None):
    """The reference's Outputs; `changed`: arrays in place of data's and parameters', by name."""
    changed = {} if changed is None else changed
    parameters = {
        name: changed.get(name, np.asarray(p.data, np.float64))
        for name, p in layer.parameters().items()
    }
    state = data.state
    if state is not None:
        state = tuple(changed.get(n, s) for n, s in zip(("h", "c"), state, strict=False))
    return reference_variants.run(
        type(layer).__name__,
        layer.config(),
        parameters,
        changed.get("x", data.x.astype(np.float64)),
        state,
        data.lengths,
        data.mask,
        data.resets,
        changed.get("attention", data.attention),
        factors,
    )


def reference_outputs(layer, data, factors=None):
    y, state, _ = run_reference(layer, data, factors)
    return {"y": y.real} | name_states("last ", tuple(s.real for s in state))


def check_gradients(layer, data, got, factors=None, tolerance=1e-9):
    """Each gradient of `got` along a random direction, against the reference's."""
    rng = np.random.default_rng(3)
    arrays = {"x": (data.x, got["dx"])}
    if data.attention is not None:
        arrays["attention"] = data.attention, got["dattention"]
    if data.state is not None:
        names = ("h", "c")[: len(data.state)]
        arrays |= {n: (s, got["d first " + n]) for n, s in zip(names, data.state, strict=True)}
    arrays |= {n: (p.data, got["grad " + n]) for n, p in layer.parameters().items()}

    for name, (array, gradient) in arrays.items():
        assert gradient.shape == array.shape, name
        direction = rng.normal(size=array.shape)

        def loss(changed, name=name):
            y, state, _ = run_reference(layer, data, factors, {name: changed})
            return (data.dy * y).sum() + sum(
                (d * s).sum() for d, s in zip(data.dstate, state, strict=True)
            )

        want = reference_variants.derivative(loss, array, direction)
        error = abs((gradient * direction).sum() - want) / max(1.0, abs(want))
        assert error < tolerance, f"{name}: error {error:.3g}, of {want:.3g}"
