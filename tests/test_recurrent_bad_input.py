"""Bad input gets a clear error, and nothing is half-written (promise 4). Unusual but right input,
such as views, lists and empty arrays, is taken and gives what the plain arrays give.

A message reads "<argument>: expected ..., got ...".
"""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastrnn
from recurrent_cases import CELLS, LAYERS, Case, assert_same_bits, infer, run, state_to_user

STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 5, 6


def raises(error, argument):
    """The error, of the format above and about that argument."""
    return pytest.raises(error, match=rf"(?s)^{argument}\b.*: expected .+, got ")


def floats(*shape, dtype="float32"):
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def make(cell="lstm", **options):
    return LAYERS[cell](INPUTS, HIDDEN, seed=1, **options)


def calls(layer):
    """The three ways in that take x, state and lengths alike."""
    return {"inference": layer, "training": layer.vjp}


# ---------------------------------------------------------------------------------------------- x

NOT_FLOAT32 = {
    "float64": np.zeros((STEPS, BATCH, INPUTS)),
    "float16": np.zeros((STEPS, BATCH, INPUTS), np.float16),
    "big_endian": np.zeros((STEPS, BATCH, INPUTS), ">f4"),
    "complex": np.zeros((STEPS, BATCH, INPUTS), np.complex64),
    "bool": np.zeros((STEPS, BATCH), bool),
    "text": np.full((STEPS, BATCH), "a"),
    "objects": np.full((STEPS, BATCH, INPUTS), None),
    "none": None,
    "a_string": "abc",
    "a_set": {1, 2},
}
WRONG_SHAPES = [
    (),
    (INPUTS,),
    (STEPS, INPUTS + 1),
    (STEPS, 1),
    (STEPS, BATCH, INPUTS - 1),
    (STEPS, BATCH, INPUTS + 1),
    (STEPS, BATCH, 0),
    (STEPS, BATCH, 1),
    (INPUTS, BATCH, STEPS),
    (2, STEPS, BATCH, INPUTS),
]
WRONG_IDS = {
    "negative": [[0, 1], [2, -1]],
    "too_large": [[0, 1], [INPUTS, 0]],
    "huge": [[0, 2**63 - 1]],
}


@pytest.mark.parametrize("way", ["inference", "training"])
@pytest.mark.parametrize("x", NOT_FLOAT32.values(), ids=NOT_FLOAT32)
def test_x_of_wrong_type(x, way):
    with raises(TypeError, "x"):
        calls(make())[way](x)


def test_x_of_float32_for_a_layer_of_float64():
    with raises(TypeError, "x"):
        make(dtype="float64")(floats(STEPS, BATCH, INPUTS))


@pytest.mark.parametrize("way", ["inference", "training"])
@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_major", "batch_first"])
def test_x_of_wrong_shape(shape, way, batch_first):
    with raises(ValueError, "x") as caught:
        calls(make(batch_first=batch_first))[way](floats(*shape))
    assert str(shape) in str(caught.value) or str(shape[-1:])[1:-2] in str(caught.value)


@pytest.mark.parametrize("way", ["inference", "training"])
@pytest.mark.parametrize("ids", WRONG_IDS.values(), ids=WRONG_IDS)
def test_x_of_wrong_token_ids(ids, way):
    with raises(ValueError, "x"):
        calls(make())[way](np.array(ids))


def test_x_of_unsigned_token_ids_too_large():
    with raises(ValueError, "x"):
        make()(np.array([[2**64 - 1]], np.uint64))


@pytest.mark.parametrize("shape", [(), (2, 2, INPUTS)], ids=str)
def test_x_of_token_ids_of_wrong_shape(shape):
    with raises(ValueError, "x"):
        make()(np.zeros(shape, np.int64))


def test_x_of_ragged_lists():
    with pytest.raises(ValueError, match=r"^x: expected "):
        make()([[0.0] * INPUTS, [0.0]])


def test_x_of_lists():
    x = floats(STEPS, INPUTS)
    assert np.array_equal(make()(x.tolist())[0], make()(x)[0])


def views_of(array):
    """The same values in every memory layout there is."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    longer = np.repeat(array, 3, axis=0)
    raw = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "every_second_value": wide[..., ::2],
        "every_third_step": longer[1::3],
        "fortran_order": np.asfortranarray(array),
        "transposed": np.ascontiguousarray(array.T).T,
        "reversed_twice": np.ascontiguousarray(array[::-1])[::-1],
        "reversed_values": np.ascontiguousarray(array[..., ::-1])[..., ::-1],
        "unaligned": unaligned,
        "read_only": read_only,
    }


VIEWS = tuple(views_of(np.zeros((2, 2, 2), np.float32)))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_argument_in_every_memory_layout(cell, view):
    case = Case(cell, num_layers=2, bidirectional=True, lengths=(5, 0, 3, 1))
    layer, data = case.layer(), case.data()
    want = run(case, layer, data), infer(case, layer, data)
    other = data._replace(
        x=views_of(data.x)[view],
        state=tuple(views_of(s)[view] for s in data.state),
        dy=views_of(data.dy)[view],
        dstate=tuple(views_of(s)[view] for s in data.dstate),
        lengths=np.repeat(data.lengths, 2)[::2],
    )
    assert_same_bits(run(case, layer, other), want[0])
    assert_same_bits(infer(case, layer, other), want[1])


def test_x_of_one_value_broadcast():
    x = np.broadcast_to(np.float32(0.5), (STEPS, BATCH, INPUTS))
    assert np.array_equal(make()(x)[0], make()(x.copy())[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e-45], ids=str)
def test_x_of_extreme_values(cell, value):
    """They go through; a call neither hangs nor fails, and NaN comes out as NaN."""
    case = Case(cell, bidirectional=True, num_layers=2)
    layer, data = case.layer(), case.data()
    data.x[1, 2] = value
    with np.errstate(all="raise"):
        got = run(case, layer, data)
    if np.isnan(value):
        assert np.isnan(got["y"][:, 2]).any()
        assert np.isnan(got["grad weight_ih_l0"]).any()
    others = [0, 1, 3]
    assert np.isfinite(got["y"][:, others]).all()
    assert np.isfinite(got["dx"][:, others]).all()


# ------------------------------------------------------------------------------------------ state


def states(cell):
    return 2 if cell == "lstm" else 1


STATE_SHAPE = (1, BATCH, HIDDEN)
WRONG_STATE_SHAPES = [
    (1, HIDDEN),
    (2, BATCH, HIDDEN),
    (0, BATCH, HIDDEN),
    (1, BATCH + 1, HIDDEN),
    (1, 1, HIDDEN),
    (1, BATCH, HIDDEN + 1),
    (1, BATCH, 1),
    (BATCH, 1, HIDDEN),
    (1, 1, BATCH, HIDDEN),
    (),
]


@pytest.mark.parametrize("way", ["inference", "training"])
@pytest.mark.parametrize("shape", WRONG_STATE_SHAPES, ids=str)
@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("cell", CELLS)
def test_state_of_wrong_shape(cell, wrong, shape, way):
    if wrong >= states(cell):
        wrong = 0
    state = [floats(*STATE_SHAPE) for _ in range(states(cell))]
    state[wrong] = floats(*shape)
    with raises(ValueError, "state"):
        calls(make(cell))[way](
            floats(STEPS, BATCH, INPUTS), tuple(state) if len(state) == 2 else state[0]
        )


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex64", "object"])
@pytest.mark.parametrize("cell", CELLS)
def test_state_of_wrong_dtype(cell, dtype):
    state = (floats(*STATE_SHAPE), np.zeros(STATE_SHAPE, dtype))
    with raises(TypeError, "state"):
        make(cell)(floats(STEPS, BATCH, INPUTS), state if cell == "lstm" else state[1])


NOT_A_PAIR = {
    "an_array": floats(*STATE_SHAPE),
    "one": (floats(*STATE_SHAPE),),
    "three": (floats(*STATE_SHAPE),) * 3,
    "nothing": (),
    "a_number": 3.0,
    "a_string": "hc",
}


@pytest.mark.parametrize("state", NOT_A_PAIR.values(), ids=NOT_A_PAIR)
def test_state_of_an_lstm_is_a_pair(state):
    with pytest.raises((TypeError, ValueError), match=r"(?s)^state\b.*: expected .+, got "):
        make("lstm")(floats(STEPS, BATCH, INPUTS), state)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "lstm"])
def test_state_of_others_is_not_a_pair(cell):
    state = (floats(*STATE_SHAPE), floats(*STATE_SHAPE))
    with pytest.raises((TypeError, ValueError), match=r"(?s)^state\b.*: expected .+, got "):
        make(cell)(floats(STEPS, BATCH, INPUTS), state)


@pytest.mark.parametrize("cell", CELLS)
def test_state_with_a_batch_for_unbatched_input(cell):
    state = (floats(1, 1, HIDDEN), floats(1, 1, HIDDEN))
    with raises(ValueError, "state"):
        make(cell)(floats(STEPS, INPUTS), state if cell == "lstm" else state[0])


# ---------------------------------------------------------------------------------------- lengths

WRONG_LENGTHS = {
    "too_few": ([4, 4], ValueError),
    "too_many": ([4, 4, 4, 4], ValueError),
    "matrix": ([[4], [4], [4]], ValueError),
    "number": (4, ValueError),
    "negative": ([4, -1, 2], ValueError),
    "too_large": ([4, STEPS + 1, 2], ValueError),
    "huge": ([4, 2**62, 2], ValueError),
    "unsigned_huge": (np.array([4, 2**64 - 1, 2], np.uint64), ValueError),
    "float": ([4.0, 2.0, 1.0], TypeError),
    "nan": ([4.0, np.nan, 1.0], TypeError),
    "bool": (np.array([True, False, True]), TypeError),
    "text": (["4", "4", "4"], TypeError),
    "none": ([4, None, 2], TypeError),
}


@pytest.mark.parametrize("way", ["inference", "training"])
@pytest.mark.parametrize(("lengths", "error"), WRONG_LENGTHS.values(), ids=WRONG_LENGTHS)
def test_lengths_wrong(lengths, error, way):
    with raises(error, "lengths"):
        calls(make())[way](floats(STEPS, BATCH, INPUTS), lengths=lengths)


def test_lengths_larger_than_an_integer_of_numpy():
    with pytest.raises((TypeError, ValueError), match=r"^lengths: expected "):
        make()(floats(STEPS, BATCH, INPUTS), lengths=[4, 2**70, 2])


def test_lengths_of_unbatched_input():
    with pytest.raises((TypeError, ValueError), match=r"^lengths: expected "):
        make()(floats(STEPS, INPUTS), lengths=[3])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", ">i4", "list", "tuple"])
def test_lengths_of_any_integers(dtype):
    x, lengths = floats(STEPS, BATCH, INPUTS), [4, 0, 2]
    other = {"list": list, "tuple": tuple}.get(dtype, lambda a: np.array(a, dtype))(lengths)
    want = make()(x, lengths=np.array(lengths, np.int64))[0]
    assert np.array_equal(make()(x, lengths=other)[0], want)


@pytest.mark.parametrize(
    "lengths", [[], (), np.array([], np.int64)], ids=["list", "tuple", "array"]
)
def test_lengths_of_no_rows(lengths):
    assert make()(floats(STEPS, 0, INPUTS), lengths=lengths)[0].shape == (STEPS, 0, HIDDEN)


# ------------------------------------------------------------------------------- checkpoint_every


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(0, ValueError), (-1, ValueError)]
    + [(wrong, TypeError) for wrong in (2.5, "a", "3", True, [2], np.float32(2))],
    ids=repr,
)
def test_checkpoint_every_must_be_a_positive_integer(wrong, error):
    x = floats(STEPS, BATCH, INPUTS)
    with raises(error, "checkpoint_every"):
        make().vjp(x, checkpoint_every=wrong)
    with raises(error, "checkpoint_every"):
        fastrnn.Sequential(make()).vjp(x, checkpoint_every=wrong)


def test_checkpoint_every_of_numpy_integers_and_of_more_than_the_steps():
    case = Case(steps=STEPS)
    layer, data = case.layer(), case.data()
    want = run(case, layer, data)
    for every in (np.int8(2), np.uint64(2**64 - 1), 10**100):
        assert_same_bits(run(case, layer, data, every), want)


# ------------------------------------------------------------------------------------------- step


@pytest.mark.parametrize("shape", [(), (INPUTS + 1,), (BATCH, 1), (1, BATCH, INPUTS)], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_step_of_wrong_shape(cell, shape):
    with raises(ValueError, "x_t"):
        make(cell).step(floats(*shape))


@pytest.mark.parametrize("dtype", ["float64", "complex64", "bool"])
def test_step_of_wrong_dtype(dtype):
    with raises(TypeError, "x_t"):
        make().step(np.zeros((BATCH, INPUTS), dtype))


@pytest.mark.parametrize("ids", [[-1, 0, 0], [0, INPUTS, 0]], ids=str)
def test_step_of_wrong_token_ids(ids):
    with raises(ValueError, "x_t"):
        make().step(np.array(ids))


@pytest.mark.parametrize("shape", WRONG_STATE_SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_step_with_state_of_wrong_shape(cell, shape):
    state = (floats(*STATE_SHAPE), floats(*shape))
    with raises(ValueError, "state"):
        make(cell).step(floats(BATCH, INPUTS), state if cell == "lstm" else state[1])


@pytest.mark.parametrize("cell", CELLS)
def test_step_of_both_directions(cell):
    with pytest.raises((TypeError, ValueError), match="bidirectional"):
        make(cell, bidirectional=True).step(floats(BATCH, INPUTS))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("cell", CELLS)
def test_step_of_every_memory_layout(cell, view):
    layer, x = make(cell), floats(BATCH, INPUTS)
    state = (floats(*STATE_SHAPE), floats(*STATE_SHAPE) + 1)[: states(cell)]
    ids = np.arange(BATCH)
    views = tuple(views_of(s)[view] for s in state)
    one = len(state) == 1
    for given in (x, ids):
        want, _ = layer.step(given, state[0] if one else state)
        got, _ = layer.step(views_of(given)[view], views[0] if one else views)
        assert np.array_equal(got, want)
        lists = [s.tolist() for s in state]
        assert np.array_equal(layer.step(given.tolist(), lists[0] if one else lists)[0], want)


# --------------------------------------------------------------------------------------- pullback


def after_forward(cell, **options):
    layer = make(cell, **options)
    (y, state), pullback = layer.vjp(floats(STEPS, BATCH, INPUTS))
    return layer, y, state, pullback


def assert_gradients_untouched(layer):
    assert all(p.grad is None for p in layer.parameters().values())


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (STEPS, HIDDEN),
        (STEPS + 1, BATCH, HIDDEN),
        (STEPS - 1, BATCH, HIDDEN),
        (STEPS, 1, HIDDEN),
        (STEPS, BATCH, 1),
        (STEPS, BATCH, 2 * HIDDEN),
        (BATCH, STEPS, HIDDEN),
    ],
    ids=str,
)
@pytest.mark.parametrize("cell", CELLS)
def test_pullback_of_wrong_shape(cell, shape):
    layer, _, _, pullback = after_forward(cell)
    with raises(ValueError, "dy"):
        pullback(floats(*shape))
    assert_gradients_untouched(layer)


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex64", "object"])
def test_pullback_of_wrong_dtype(dtype):
    layer, y, _, pullback = after_forward("lstm")
    with raises(TypeError, "dy"):
        pullback(np.zeros(y.shape, dtype))
    assert_gradients_untouched(layer)


@pytest.mark.parametrize("shape", WRONG_STATE_SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_pullback_with_dstate_of_wrong_shape(cell, shape):
    layer, y, _, pullback = after_forward(cell)
    dstate = (floats(*STATE_SHAPE), floats(*shape))
    with raises(ValueError, "dstate"):
        pullback(y, dstate if cell == "lstm" else dstate[1])
    assert_gradients_untouched(layer)


def test_pullback_with_dstate_of_wrong_dtype():
    layer, y, (h, c), pullback = after_forward("lstm")
    with raises(TypeError, "dstate"):
        pullback(y, (h, c.astype(np.float64)))
    assert_gradients_untouched(layer)


def test_failed_pullback_adds_nothing_to_gradients():
    layer, y, _, pullback = after_forward("gru")
    pullback(y)
    before = {name: p.grad.copy() for name, p in layer.parameters().items()}
    with raises(ValueError, "dy"):
        pullback(y[:-1])
    after = {name: p.grad for name, p in layer.parameters().items()}
    assert_same_bits(after, before)


WRONG_GRADIENTS = {
    "shape": np.zeros((2, 2), np.float32),
    "dtype": np.zeros((4 * HIDDEN, HIDDEN)),
    "not_an_array": [1.0],
}


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS)
def test_pullback_into_a_wrong_gradient(wrong):
    """`grad` is a plain attribute: what a user put there is checked before anything is added."""
    layer, y, _, pullback = after_forward("lstm", num_layers=2)
    layer.parameters()["weight_hh_l1"].grad = wrong
    with pytest.raises((TypeError, ValueError), match=r"weight_hh_l1.*: expected .+, got "):
        pullback(y)
    others = {n: p for n, p in layer.parameters().items() if n != "weight_hh_l1"}
    assert all(p.grad is None or not p.grad.any() for p in others.values())


def test_pullback_into_a_gradient_of_other_layout():
    """Added to in place, not to a copy that nobody sees."""
    layer, y, _, pullback = after_forward("lstm")
    pullback(y)
    weight = layer.parameters()["weight_hh_l0"]
    want = weight.grad
    weight.grad = gradient = np.zeros(want.shape, np.float32, order="F")
    pullback(y)
    assert weight.grad is gradient
    assert np.array_equal(gradient, want)


def test_pullback_keeps_its_own_token_ids():
    """What was checked is what is used; in a process of its own, as the alternative is a crash."""
    program = """
        import numpy as np
        import fastrnn

        layer = fastrnn.GRU(5, 6, num_layers=2, seed=1)
        ids = np.random.default_rng(1).integers(0, 5, (7, 3))
        (y, _), pullback = layer.vjp(ids)
        pullback(y)
        want = {name: p.grad for name, p in layer.parameters().items()}
        layer.zero_grad()
        ids[...] = 10**7
        pullback(y)
        assert all(np.array_equal(p.grad, want[n]) for n, p in layer.parameters().items())
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr or f"ended by signal {-result.returncode}"


# ------------------------------------------------------------------------------------ constructor

WRONG_ARGUMENTS = [
    ("input_size", 0, ValueError),
    ("input_size", -1, ValueError),
    ("input_size", 2.0, TypeError),
    ("input_size", "2", TypeError),
    ("input_size", None, TypeError),
    ("input_size", True, TypeError),
    ("hidden_size", 0, ValueError),
    ("hidden_size", -5, ValueError),
    ("hidden_size", 2.5, TypeError),
    ("hidden_size", (3,), TypeError),
    ("num_layers", 0, ValueError),
    ("num_layers", -1, ValueError),
    ("num_layers", 1.0, TypeError),
    ("bias", 1, TypeError),
    ("bias", "yes", TypeError),
    ("batch_first", None, TypeError),
    ("batch_first", 0, TypeError),
    ("bidirectional", "no", TypeError),
    ("dropout", -0.1, ValueError),
    ("dropout", 1.1, ValueError),
    ("dropout", np.nan, ValueError),
    ("dropout", np.inf, ValueError),
    ("dropout", "0.5", TypeError),
    ("dropout", None, TypeError),
    ("dtype", "float16", TypeError),
    ("dtype", "int32", TypeError),
    ("dtype", "complex128", TypeError),
    ("dtype", "nonsense", TypeError),
    ("dtype", None, TypeError),
]


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    WRONG_ARGUMENTS,
    ids=[f"{name}={value!r}" for name, value, _ in WRONG_ARGUMENTS],
)
@pytest.mark.parametrize("cell", CELLS)
def test_constructor_argument_wrong(cell, argument, value, error):
    arguments = {"input_size": INPUTS, "hidden_size": HIDDEN} | {argument: value}
    with raises(error, argument):
        LAYERS[cell](**arguments)


@pytest.mark.parametrize("value", ["sin", "TANH", "", None, 1, ("tanh", 1.0), ()])
def test_constructor_nonlinearity_wrong(value):
    with pytest.raises((TypeError, ValueError), match=r"^nonlinearity: expected .*tanh.*, got "):
        fastrnn.RNN(INPUTS, HIDDEN, nonlinearity=value)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_constructor_reset_after_wrong(value):
    with raises(TypeError, "reset_after"):
        fastrnn.GRU(INPUTS, HIDDEN, reset_after=value)


def test_constructor_takes_numpy_integers():
    layer = fastrnn.LSTM(np.int32(INPUTS), np.uint8(HIDDEN), np.int64(2))
    assert layer.parameters()["weight_ih_l1"].shape == (4 * HIDDEN, HIDDEN)


# --------------------------------------------------------------------------------------- overflow

# In a process that may have 4 GB: what these ask for must be refused, not tried.
TOO_LARGE = {
    **{
        f"layer({sizes})": f"fastrnn.{kind}({sizes})"
        for kind in ("RNN", "LSTM", "GRU")
        for sizes in (
            "2**40, 1",
            "1, 2**40",
            "2**31, 2**31",
            "3, 2**62",
            "2**62, 3",
            "2**63 - 1, 2**63 - 1",
            "2**100, 1",
            "1, 2**100",
            "2**20, 2**20",
        )
    },
    "steps": "layer(np.broadcast_to(np.float32(0), (2**40, 1, 3)))",
    "rows": "layer(np.broadcast_to(np.float32(0), (1, 2**40, 3)))",
    "rows_of_no_steps": "layer(np.empty((0, 2**40, 3), np.float32))",
    "training_steps": "layer.vjp(np.broadcast_to(np.float32(0), (2**40, 1, 3)))",
    "tokens": "layer(np.broadcast_to(np.uint8(0), (2**40, 1)))",
    "training_tokens": "layer.vjp(np.broadcast_to(np.uint8(0), (1, 2**40)))",
    "step": "layer.step(np.broadcast_to(np.float32(0), (2**40, 3)))",
}


def run_limited(code):
    program = f"""
        import resource
        import numpy as np
        import fastrnn
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
        layer = fastrnn.LSTM(3, 5)
        {code}
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30
    )


def test_overflow_is_an_error_at_once():
    attempts = f"""
        for name, code in {TOO_LARGE!r}.items():
            try:
                eval(code)
            except (ValueError, MemoryError, OverflowError) as error:
                print("refused", name, type(error).__name__, error)
            else:
                print("TAKEN", name)
    """
    result = run_limited(attempts.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith(("refused", "TAKEN"))]
    assert len(lines) == len(TOO_LARGE)
    assert not [line for line in lines if line.startswith("TAKEN")]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_endless_layers_are_an_error_at_once(kind):
    result = run_limited(f"fastrnn.{kind}(1, 1, 2**62)")
    assert "ValueError: num_layers: expected " in result.stderr


def test_many_steps_of_no_rows_take_no_time():
    result = run_limited("assert layer.vjp(np.empty((2**40, 0, 3), np.float32))[0][0].size == 0")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("cell", CELLS)
def test_state_after_an_error_is_as_before(cell):
    """An error leaves the layer as it was: the next call gives what it always gave."""
    case = Case(cell, input_size=INPUTS, hidden_size=HIDDEN)
    layer, data = case.layer(), case.data()
    want = infer(case, layer, data)
    for wrong in (data.x[:, :, :-1], data.x.astype(np.float64), np.array([[INPUTS]])):
        with pytest.raises((TypeError, ValueError)):
            layer(wrong, state_to_user(case, data.state))
    assert_same_bits(infer(case, layer, data), want)
