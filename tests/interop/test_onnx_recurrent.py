"""The recurrent layers beside ONNX Runtime's operators RNN, GRU and LSTM, on models of one node.

What this shows of the variants: peepholes, coupled gates (input_forget), clip, all activations with
their numbers, the reset gate before or after the product, both directions, sequence_lens.
"""

import itertools

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402

# ONNX Runtime has these operators in float32 only, with sigmoid and tanh of its own.
TOLERANCE = 1e-5
T, B, H = 6, 4, 5
INPUTS = 3
LENGTHS = np.array([6, 1, 4, 3], np.int32)
DIRECTIONS = ("forward", "reverse", "bidirectional")

# ONNX's blocks of rows, as places in fastrnn's: LSTM i, o, f, c; GRU z, r, h.
BLOCKS = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
COUPLED = (0, 2, 0, 1)  # i, o, f, c of i, g, o; what stands for f is not used
OUTPUTS = {"RNN": ("Y", "Y_h"), "GRU": ("Y", "Y_h"), "LSTM": ("Y", "Y_h", "Y_c")}

# ONNX's names, with numbers for those that have any.
FUNCTIONS = [
    ("Relu",),
    ("Tanh",),
    ("Sigmoid",),
    ("Affine", 0.5, 0.1),
    ("LeakyRelu", 0.2),
    ("ThresholdedRelu", 0.3),
    ("ScaledTanh", 0.8, 1.3),
    ("HardSigmoid", 0.3, 0.4),
    ("Elu", 0.7),
    ("Softsign",),
    ("Softplus",),
]


def blocks(matrix, order):
    """The rows (G * H, ...) with the blocks of H in another order."""
    parts = matrix.reshape(-1, H, *matrix.shape[1:])
    return np.concatenate([parts[k] for k in order])


def inputs_of(layer, operator, x, state, lengths):
    """The operator's inputs by name, None for those left out, in its order."""
    parameters = layer.state_dict()
    coupled = operator == "LSTM" and layer.coupled
    order = COUPLED if coupled else BLOCKS[operator]
    suffixes = ("_l0", "_l0_reverse")[: 1 + layer.bidirectional]

    def stacked(name, *joined):
        return np.stack(
            [
                np.concatenate([blocks(parameters[n + s], order) for n in (name, *joined)])
                for s in suffixes
            ]
        )

    inputs = {
        "X": x,
        "W": stacked("weight_ih"),
        "R": stacked("weight_hh"),
        "B": stacked("bias_ih", "bias_hh") if layer.bias else None,
        "sequence_lens": lengths,
        "initial_h": state[0],
    }
    if operator == "LSTM":
        inputs["initial_c"] = state[1]
        if layer.peephole:  # fastrnn's i, f, o or i, o; ONNX's i, o, f
            holes = (0, 1, 0) if coupled else (0, 2, 1)
            inputs["P"] = np.stack([blocks(parameters["peephole" + s], holes) for s in suffixes])
    return inputs


def run_onnx(operator, inputs, **attributes):
    """What ONNX Runtime gives: Y (T, D, B, H), Y_h and, for an LSTM, Y_c (D, B, H)."""
    helper, types = onnx.helper, onnx.TensorProto
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if name in given else "" for name in inputs]
    node = helper.make_node(operator, names, OUTPUTS[operator], hidden_size=H, **attributes)

    def info(name, array):
        return helper.make_tensor_value_info(
            name, types.INT32 if array.dtype == np.int32 else types.FLOAT, array.shape
        )

    graph = helper.make_graph(
        [node],
        "one_node",
        [info(name, array) for name, array in given.items()],
        [helper.make_tensor_value_info(n, types.FLOAT, None) for n in OUTPUTS[operator]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, given)


def numbers_of(functions, directions):
    """The attributes activations, activation_alpha and activation_beta."""
    functions = list(functions) * directions
    lists = {
        "activations": [f[0] for f in functions],
        "activation_alpha": [f[1] for f in functions if len(f) > 1],
        "activation_beta": [f[2] for f in functions if len(f) > 2],
    }
    return {name: values for name, values in lists.items() if values}


def compare(layer, direction, lengths=None, **attributes):
    operator = "GRU" if isinstance(layer, fastrnn.GRU) else type(layer).__name__
    rng = np.random.default_rng(3)
    D = 1 + layer.bidirectional
    x = rng.normal(size=(T, B, INPUTS)).astype(np.float32)
    state = [rng.normal(size=(D, B, H)).astype(np.float32) for _ in range(2)]
    inputs = inputs_of(layer, operator, x, state, lengths)
    y, *last = run_onnx(operator, inputs, direction=direction, **attributes)

    got, got_last = layer(x, tuple(state) if operator == "LSTM" else state[0], lengths)
    if direction == "reverse":  # ONNX puts outputs back in their places in time
        for b, length in enumerate(np.full(B, T) if lengths is None else lengths):
            got[:length, b] = got[:length, b][::-1].copy()
    want = y.transpose(0, 2, 1, 3).reshape(T, B, D * H)
    assert np.abs(want).max() > 0.05
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * max(1, np.abs(want).max()))
    for one, other in zip(got_last if operator == "LSTM" else (got_last,), last, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * max(1, np.abs(other).max()))


def of_direction(direction):
    return {
        "bidirectional": direction == "bidirectional",
        "go_backwards": direction == "reverse",
        "seed": 1,
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("coupled", [False, True], ids=["uncoupled", "coupled"])
@pytest.mark.parametrize("peephole", [False, True], ids=["plain", "peephole"])
def test_lstm(peephole, coupled, lengths, direction):
    layer = fastrnn.LSTM(INPUTS, H, peephole=peephole, coupled=coupled, **of_direction(direction))
    compare(layer, direction, lengths, input_forget=int(coupled))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru(reset_after, bias, lengths, direction):
    layer = fastrnn.GRU(INPUTS, H, bias=bias, reset_after=reset_after, **of_direction(direction))
    compare(layer, direction, lengths, linear_before_reset=int(reset_after))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_rnn(lengths, direction):
    compare(fastrnn.RNN(INPUTS, H, **of_direction(direction)), direction, lengths)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f[0])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_functions_of_rnn(function, direction):
    layer = fastrnn.RNN(INPUTS, H, nonlinearity=function, **of_direction(direction))
    compare(layer, direction, **numbers_of([function], 1 + layer.bidirectional))


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f[0])
def test_functions_of_gru(function, reset_after):
    for functions in ([function, ("Tanh",)], [("Sigmoid",), function]):
        layer = fastrnn.GRU(INPUTS, H, activations=functions, reset_after=reset_after, seed=1)
        compare(layer, "forward", linear_before_reset=int(reset_after), **numbers_of(functions, 1))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f[0])
def test_functions_of_lstm(function):
    plain = [("Sigmoid",), ("Tanh",), ("Tanh",)]
    for k, direction in itertools.product(range(3), ("forward", "bidirectional")):
        functions = [*plain[:k], function, *plain[k + 1 :]]
        layer = fastrnn.LSTM(
            INPUTS, H, activations=functions, peephole=True, **of_direction(direction)
        )
        compare(layer, direction, **numbers_of(functions, 1 + layer.bidirectional))


@pytest.mark.parametrize("clip", [0.2, 0.7])
@pytest.mark.parametrize("kind", ["rnn", "gru", "gru_before", "lstm", "lstm_peephole"])
def test_clip(kind, clip):
    """Bounds so low that they are at work."""
    if kind == "rnn":
        layer, attributes = fastrnn.RNN(INPUTS, H, clip=clip, seed=1), {}
    elif kind.startswith("gru"):
        layer = fastrnn.GRU(INPUTS, H, clip=clip, reset_after=kind == "gru", seed=1)
        attributes = {"linear_before_reset": int(kind == "gru")}
    else:
        layer, attributes = fastrnn.LSTM(INPUTS, H, clip=clip, peephole="_" in kind, seed=1), {}
    compare(layer, "forward", clip=clip, **attributes)
