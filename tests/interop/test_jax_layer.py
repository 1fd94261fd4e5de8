"""`fastrnn.interop.jax.layer` beside the formulas in plain NumPy: values, gradients, errors."""

import itertools
import threading

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from fastrnn.interop.jax import layer, native  # noqa: E402
from jax_cases import GATES, KINDS, TOLERANCES, Case, assert_close  # noqa: E402

LENGTHS = (3, 5, 0, 1)


@pytest.fixture(autouse=True)
def wide():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def run(case, data, gradients, engine="auto"):
    """Values and gradients of a compiled layer."""

    def function(x, weights, h0, c0):
        lengths = None if case.lengths is None else jnp.asarray(case.lengths)
        found = layer(
            case.kind, x, weights, h0, c0, lengths, batch_first=case.batch_first, engine=engine
        )
        return [a for a in found if a is not None]

    @jax.jit
    def both(*data):
        outputs, pullback = jax.vjp(function, *data)
        return outputs, pullback([jnp.asarray(g) for g in gradients])

    return both(*data)


def check(case, engine="auto"):
    data, gradients = case.data(), case.gradients()
    outputs, found = run(case, data, gradients, engine)
    assert all(a.dtype == case.dtype for a in jax.tree.leaves((outputs, found)))
    expected = case.expected(data, gradients)
    assert_close(outputs, expected[0], TOLERANCES[case.dtype])
    assert_close(found, expected[1], TOLERANCES[case.dtype])


def test_the_compiled_handlers_are_taken():
    assert native.HAS_FFI


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_formulas(kind, D, dtype, lengths):
    check(Case(kind, D=D, dtype=dtype, lengths=lengths, batch_first=D == 2), "ffi")


@pytest.mark.parametrize("engine", ["callback", "scan"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_engines(kind, engine):
    check(Case(kind, D=2, lengths=LENGTHS, batch_first=engine == "callback"), engine)


@pytest.mark.parametrize("engine", ["ffi", "callback", "scan"])
def test_without_biases_and_states(engine):
    case = Case("lstm", D=2, bias=False)
    x, weights, h0, c0 = case.data()
    data = x, weights, np.zeros_like(h0), np.zeros_like(c0)
    (y, h, c), (d_x, d_weights, *_) = case.expected(data, case.gradients())

    def function(x, weights):
        return layer("lstm", x, weights, engine=engine)

    found, pullback = jax.vjp(function, x, weights)
    assert_close(found, (y, h, c), 1e-10)
    assert_close(pullback(tuple(map(jnp.asarray, case.gradients()))), (d_x, d_weights), 1e-10)


def test_projection():
    case = Case("lstm", P=3, D=2, lengths=LENGTHS)
    data, gradients = case.data(), case.gradients()
    expected = run(case, data, gradients, "scan")
    for engine in ("ffi", "callback"):
        assert_close(run(case, data, gradients, engine), expected, 1e-10)


@pytest.mark.parametrize("T, B", [(0, 3), (4, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_or_no_rows(kind, T, B):
    check(Case(kind, T=T, B=B, D=2))


def test_rows_without_steps_only():
    check(Case("lstm", D=2, lengths=(0, 0, 0, 0)))


@settings(max_examples=8)
@given(
    kind=st.sampled_from(KINDS),
    T=st.integers(1, 9),
    H=st.integers(1, 40),
    I=st.integers(1, 20),
    D=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float64"]),
    batch_first=st.booleans(),
    data=st.data(),
)
def test_any_shape(kind, T, H, I, D, dtype, batch_first, data):  # noqa: E741
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=1, max_size=5).map(tuple))
    B = data.draw(st.integers(1, 6)) if lengths is None else len(lengths)
    check(Case(kind, T, B, I, H, 0, D, dtype, lengths, batch_first, data.draw(st.booleans())))


@pytest.mark.parametrize("chosen", [(0,), (1,), (2, 3), (0, 3)])
@pytest.mark.parametrize("outputs", [(0,), (1,), (2,), (1, 2)])
def test_only_some_gradients_are_asked_for(chosen, outputs):
    case = Case("lstm", T=3, H=2, D=2, lengths=(3, 1, 0, 2))
    data = case.data()
    gradients = [g * (i in outputs) for i, g in enumerate(case.gradients())]
    expected = case.expected(data, gradients)[1]

    def loss(*given):
        full = list(data)
        for i, value in zip(chosen, given, strict=True):
            full[i] = value
        found = layer("lstm", *full, np.array(case.lengths))
        return sum(jnp.sum(found[i] * gradients[i]) for i in outputs)

    wanted = tuple(range(len(chosen)))
    found = jax.grad(loss, wanted)(*(jax.tree.map(jnp.asarray, data[i]) for i in chosen))
    assert_close(found, tuple(expected[i] for i in chosen), 1e-10)


@pytest.mark.parametrize("engine", ["ffi", "callback"])
def test_what_stands_in_padding_means_nothing(engine):
    case = Case("gru", D=2, lengths=LENGTHS)
    data, gradients = case.data(), case.gradients()
    expected = run(case, data, gradients, engine)
    alive = np.arange(case.T)[:, None] < LENGTHS
    data[0][~alive] = np.nan
    gradients[0][~alive] = np.nan
    assert_close(run(case, data, gradients, engine), expected, 0)


def test_without_64_bits():
    jax.config.update("jax_enable_x64", False)
    check(Case("lstm", D=2, dtype="float32", lengths=LENGTHS))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "int64"])
def test_lengths_of_any_integer_type(kind):
    x, weights, *_ = Case("gru").data()
    y, *_ = layer("gru", x, weights, lengths=jnp.asarray(LENGTHS, kind))
    assert_close(y, layer("gru", x, weights, lengths=list(LENGTHS), engine="scan")[0], 1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_fall_back_to_a_scan(dtype):
    x, weights, h0, c0 = Case("lstm", D=2, dtype="float32").data()
    half = jax.tree.map(lambda a: jnp.asarray(a, dtype), (x, weights, h0, c0))
    found = layer("lstm", *half)
    assert all(a.dtype == dtype for a in found)
    assert_close(found, layer("lstm", x, weights, h0, c0), 0.05)
    assert_close(found, layer("lstm", *half, engine="scan"), 0)


def test_mixed_types_are_promoted():
    x, weights, *_ = Case("gru", dtype="float32").data()
    y, h_n, _ = layer("gru", jnp.asarray(x, "bfloat16"), weights)
    assert y.dtype == h_n.dtype == "float32"
    y, *_ = layer("gru", x, jax.tree.map(lambda a: a.astype("float64"), weights))
    assert y.dtype == "float64"
    y, *_ = layer("gru", np.ones((2, 1, 3), "int32"), weights)
    assert_close(y, layer("gru", np.ones((2, 1, 3), "float32"), weights)[0], 1e-6)


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("engine", ["ffi", "callback"])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("bad", [-1, 6])
def test_lengths_out_of_range_are_an_error_of_jax(bad, wide, engine):
    jax.config.update("jax_enable_x64", wide)
    x, weights, *_ = Case("gru", dtype="float32").data()
    function = jax.jit(lambda n: layer("gru", x, weights, lengths=n, engine=engine)[0])
    assert function(jnp.array(LENGTHS)).shape == (5, 4, 7)
    errors = (ValueError, jax.errors.JaxRuntimeError)  # which of them depends on how JAX calls
    with pytest.raises(errors, match=r"lengths: expected from 0 to 5, got"):
        function(jnp.array([1, 2, bad, 3])).block_until_ready()
    assert function(jnp.array(LENGTHS)).shape == (5, 4, 7)


def bad_arguments():
    x, weights, h0, c0 = Case("lstm").data()
    w_ih, w_hh, b_ih, b_hh, _ = weights[0]
    good = {"kind": "lstm", "x": x, "weights": weights, "h0": h0, "c0": c0}
    for changed, error, message in [
        ({"kind": "qrnn"}, ValueError, "kind: expected one of rnn_tanh, .*, got 'qrnn'"),
        ({"engine": "gpu"}, ValueError, "engine: expected one of auto, .*, got 'gpu'"),
        ({"x": x[0]}, ValueError, r"x: expected three axes, got the shape \(4, 3\)"),
        ({"x": x[..., :2]}, ValueError, "x: expected 3 features, as w_ih has columns, got 2"),
        ({"x": x + 0j}, TypeError, "x: expected floating-point numbers, got complex128"),
        ({"weights": []}, ValueError, "weights: expected one or two tuples of 5"),
        ({"weights": [weights[0][:4]]}, ValueError, "weights: expected one or two tuples of 5"),
        ({"weights": [(w_ih[:5], *weights[0][1:])]}, ValueError, "w_ih: expected 4 H rows"),
        ({"weights": [(w_ih, None, b_ih, b_hh, None)]}, ValueError, "expected matrices"),
        ({"weights": [(w_ih, w_hh[:, :3], b_ih, b_hh, None)]}, ValueError, r"w_hh: .* \(28, 7\)"),
        ({"weights": [(w_ih, w_hh, b_ih[:3], b_hh, None)]}, ValueError, r"b_ih: .* \(28,\)"),
        ({"weights": [weights[0], (w_ih, None, b_ih, b_hh, None)]}, ValueError, "w_hh: .* None"),
        ({"h0": h0[0]}, ValueError, r"h0: expected the shape \(1, 4, 7\), got \(4, 7\)"),
        ({"c0": c0[:, :2]}, ValueError, r"c0: expected the shape \(1, 4, 7\), got \(1, 2, 7\)"),
        ({"lengths": [1, 2]}, ValueError, r"lengths: expected the shape \(4,\), got \(2,\)"),
        ({"lengths": [1, 2, 6, 1]}, ValueError, "lengths: expected from 0 to 5, got 6"),
        ({"lengths": [1.0, 2, 3, 1]}, TypeError, "lengths: expected integers, got float"),
    ]:
        yield pytest.param(good | changed, error, message, id=message[:24])


@pytest.mark.parametrize("arguments, error, message", list(bad_arguments()))
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        layer(**arguments)


def test_what_only_an_lstm_has():
    x, weights, h0, _ = Case("gru").data()
    with pytest.raises(ValueError, match="c0: expected None but for 'lstm'"):
        layer("gru", x, weights, h0, h0)
    projected = [(*weights[0][:4], np.ones((7, 7)))]
    with pytest.raises(ValueError, match="w_hr: expected None but for 'lstm'"):
        layer("gru", x, projected, h0)


def test_an_engine_that_cannot_take_the_type():
    x, weights, *_ = jax.tree.map(lambda a: jnp.asarray(a, "bfloat16"), Case("gru").data())
    with pytest.raises(TypeError, match="engine: expected 'auto' or 'scan' for bfloat16"):
        layer("gru", x, weights, engine="ffi")


def test_without_the_handlers(monkeypatch):
    monkeypatch.setattr(native, "HAS_FFI", False)
    x, weights, *_ = Case("gru").data()
    with pytest.raises(RuntimeError, match="does not take fastrnn's FFI handlers"):
        layer("gru", x, weights, engine="ffi")
    jaxpr = str(jax.make_jaxpr(lambda x: layer("gru", x, weights)[0])(x))
    assert "engine=callback" in jaxpr


# ----------------------------------------------------------------------------- concurrency


def test_several_threads_at_once(set_num_threads):
    set_num_threads(2)
    case = Case("lstm", T=20, B=16, H=64, I=16, dtype="float32")
    x, weights, h0, c0 = case.data()
    function = jax.jit(jax.value_and_grad(lambda w, x: layer("lstm", x, w, h0, c0)[0].sum()))
    inputs = [jnp.asarray(x * k) for k in range(4)]
    expected = [jax.tree.map(np.asarray, function(weights, x)) for x in inputs]
    wrong = []

    def work(k):
        for _ in range(10):
            try:
                assert_close(function(weights, inputs[k]), expected[k], 1e-5)
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_layers_that_do_not_wait_for_each_other():
    cases = [Case(kind, T=20, B=8, H=32) for kind in itertools.islice(itertools.cycle(GATES), 6)]
    data = [case.data(seed) for seed, case in enumerate(cases)]

    @jax.jit
    def all_of_them(data):
        return [layer(c.kind, *own)[0] for c, own in zip(cases, data, strict=True)]

    for _ in range(3):
        for case, own, y in zip(cases, data, all_of_them(data), strict=True):
            assert_close(y, layer(case.kind, *own, engine="scan")[0], 1e-10)
