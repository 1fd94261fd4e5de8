"""Models of one recurrent node, drawn at random, and what they give by formula.

The formulas are those of reference_variants.py, in their order of gates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st

import reference_variants as reference

GATES = {"RNN": "i", "GRU": "zrh", "LSTM": "iofc"}  # ONNX's order of blocks
REFERENCE_GATES = {"RNN": "i", "GRU": "rzh", "LSTM": "ifco"}  # c: our g
COUNTS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # of functions in one direction
OUTPUTS = {"RNN": ("Y", "Y_h"), "GRU": ("Y", "Y_h"), "LSTM": ("Y", "Y_h", "Y_c")}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
WEIGHTS = ("W", "R", "B", "P")

# ONNX's names, those of reference_variants.py, and how many numbers they take.
FUNCTIONS = {
    "Relu": ("relu", 0),
    "Tanh": ("tanh", 0),
    "Sigmoid": ("sigmoid", 0),
    "Affine": ("affine", 2),
    "LeakyRelu": ("leaky_relu", 1),
    "ThresholdedRelu": ("thresholded_relu", 1),
    "ScaledTanh": ("scaled_tanh", 2),
    "HardSigmoid": ("hard_sigmoid", 2),
    "Elu": ("elu", 1),
    "Softsign": ("softsign", 0),
    "Softplus": ("softplus", 0),
}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


class Case(NamedTuple):
    operator: str
    inputs: dict  # by name, laid out as with layout 0, those left out are missing
    attributes: dict  # without layout
    layout: int
    functions: list  # of all directions in a row, as reference_variants.py takes them
    constants: bool  # whether the weights are part of the model
    outputs: tuple  # the names of those that are wanted

    @property
    def directions(self):
        return 2 if self.attributes["direction"] == "bidirectional" else 1


@st.composite
def cases(draw, dtype=np.float32, shortest=1):
    """Any inputs and attributes. shortest: of lengths."""
    operator = draw(st.sampled_from(["RNN", "GRU", "LSTM"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    D = 2 if direction == "bidirectional" else 1
    T, B, F, H = (draw(st.integers(1, most)) for most in (6, 5, 4, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def array(*shape):  # numbers so small that no state grows beyond what float32 resolves
        return rng.normal(0, 0.5 / max(1, shape[-1]) ** 0.5, shape).astype(dtype)

    rows = len(GATES[operator]) * H
    inputs = {"X": array(T, B, F), "W": array(D, rows, F), "R": array(D, rows, H)}
    optional = {"B": (D, 2 * rows), "sequence_lens": (B,), "initial_h": (D, B, H)}
    if operator == "LSTM":
        optional |= {"initial_c": (D, B, H), "P": (D, 3 * H)}
    for name, shape in optional.items():
        if draw(st.booleans()):
            inputs[name] = array(*shape)
    if "sequence_lens" in inputs:
        inputs["sequence_lens"] = rng.integers(shortest, T, B, np.int32, endpoint=True)

    attributes = {"direction": direction, "hidden_size": H}
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.125, 0.5, 2.0]))
    if operator == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if operator == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    functions = [FUNCTIONS[name][0] for name in DEFAULTS[operator]] * D
    if draw(st.booleans()):
        functions = _draw_functions(draw, COUNTS[operator] * D, attributes)
    wanted = draw(st.sets(st.sampled_from(OUTPUTS[operator]), min_size=1))
    outputs = [name for name in OUTPUTS[operator] if name in wanted]
    return Case(
        operator,
        inputs,
        attributes,
        draw(st.integers(0, 1)),
        functions,
        draw(st.booleans()),
        tuple(outputs),
    )


def _draw_functions(draw, count, attributes):
    """Functions with all their numbers: the lists are used up in the order of the functions."""
    names = draw(st.lists(st.sampled_from(list(FUNCTIONS)), min_size=count, max_size=count))
    alpha, beta, functions = [], [], []
    for name in names:
        plain, numbers = FUNCTIONS[name]
        values = [draw(st.sampled_from([0.25, 0.5, 1.25])) for _ in range(numbers)]
        for value, so_far in zip(values, (alpha, beta), strict=False):
            so_far.append(value)
        functions.append((plain, *values))
    attributes["activations"] = names
    if alpha:
        attributes["activation_alpha"] = alpha
    if beta:
        attributes["activation_beta"] = beta
    return functions


def model_of(case, layout=None):
    """The case as (model, its inputs), of layout 0 or 1."""
    helper = onnx.helper
    layout = case.layout if layout is None else layout
    inputs = dict(case.inputs)
    for name in ("X", "initial_h", "initial_c"):
        if name in inputs and layout:
            inputs[name] = np.ascontiguousarray(inputs[name].swapaxes(0, 1))
    names = INPUTS[: 8 if case.operator == "LSTM" else 6]
    node = helper.make_node(
        case.operator,
        [name if name in inputs else "" for name in names],
        [name if name in case.outputs else "" for name in OUTPUTS[case.operator]],
        "the_node",
        **case.attributes,
        **({"layout": 1} if layout else {}),
    )
    fixed = {name: inputs[name] for name in WEIGHTS if name in inputs and case.constants}
    given = {name: array for name, array in inputs.items() if name not in fixed}
    kind = helper.np_dtype_to_tensor_dtype(inputs["X"].dtype)
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in given.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, [f"{name}{i}" for i in range(rank)])
            for name, rank in (("Y", 4), ("Y_h", 3), ("Y_c", 3))
            if name in case.outputs
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in fixed.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model, given


def swapped(case, outputs):
    """Outputs of layout 0 as the case's layout has them."""
    if not case.layout:
        return outputs
    axes = {"Y": (2, 0, 1, 3), "Y_h": (1, 0, 2), "Y_c": (1, 0, 2)}
    return [y.transpose(axes[name]) for name, y in zip(case.outputs, outputs, strict=True)]


def by_formula(case):
    """The outputs by formula, one direction after the other, of layout 0."""
    inputs, D = case.inputs, case.directions
    results = [_one_direction(case, d) for d in range(D)]
    T, B = inputs["X"].shape[:2]
    found = {
        "Y": np.stack([r.y.real for r in results], axis=1).reshape(T, D, B, -1),
        "Y_h": np.concatenate([r.state[0].real for r in results]),
        "Y_c": np.concatenate([r.state[-1].real for r in results]),
    }
    return [found[name] for name in case.outputs]


def _one_direction(case, d):
    operator, inputs, attributes = case.operator, case.inputs, case.attributes
    x = inputs["X"]
    T, B = x.shape[:2]
    H = attributes["hidden_size"]
    coupled = bool(attributes.get("input_forget"))
    order = [GATES[operator].index(g) for g in REFERENCE_GATES[operator]]
    if coupled:
        order.pop(1)  # f is 1 - i

    def blocks(array, order=order):
        return np.concatenate([array[k * H : k * H + H] for k in order])

    weights = {"weight_ih_l0": blocks(inputs["W"][d]), "weight_hh_l0": blocks(inputs["R"][d])}
    if "B" in inputs:
        halves = np.split(inputs["B"][d], 2)
        weights |= {"bias_ih_l0": blocks(halves[0]), "bias_hh_l0": blocks(halves[1])}
    if "P" in inputs:
        weights["peephole_l0"] = blocks(inputs["P"][d], (0, 1) if coupled else (0, 2, 1))
    count = COUNTS[operator]
    functions = case.functions[d * count : d * count + count]
    config = {
        "hidden_size": H,
        "activations": functions,
        "nonlinearity": functions[0],
        "clip": attributes.get("clip"),
        "cell_clip": None,
        "coupled": coupled,
        "reset_after": bool(attributes.get("linear_before_reset")),
        "go_backwards": d == 1 or attributes["direction"] == "reverse",
    }
    state = tuple(
        inputs[name][d : d + 1] if name in inputs else np.zeros((1, B, H))
        for name in ("initial_h", "initial_c")[: 1 + (operator == "LSTM")]
    )
    lengths = inputs.get("sequence_lens", np.full(B, T))
    result = reference.run(operator, config, weights, x, state, lengths)
    if config["go_backwards"]:
        return result._replace(y=reference.turned_around(result.y, lengths))
    return result
