"""Truncated backpropagation through time, and evaluation, on models of a few weights."""

import numpy as np
import pytest

from fastrnn import GRU, LSTM, Linear, Sequential, losses, optim
from fastrnn.data import StreamLoader, Streams
from fastrnn.training import Evaluator, Trainer, reset_rows, window_vjp

V, H, B, SEQ_LEN = 5, 6, 3, 4


def make_model(seed=0):
    rng = np.random.default_rng(seed)
    return Sequential(
        GRU(V, H, 2, dtype="float64", seed=rng), Linear(H, V, dtype="float64", seed=rng)
    )


def make_streams(seed=1, length=100):
    return Streams(np.random.default_rng(seed).integers(0, V, length), B)


def fit(model, loader, optimizer, epochs=1):
    return Trainer(model, optimizer=optimizer).fit(loader, epochs=epochs, progress=False)


def test_each_epoch_starts_with_a_state_of_zeros():
    model = make_model()
    history = fit(model, StreamLoader(make_streams(), SEQ_LEN), optim.SGD(model, lr=0.0), 2)
    assert history[0]["loss"] == history[1]["loss"]


def test_evaluate_is_the_mean_over_whole_streams_for_any_window():
    model, streams = make_model(), make_streams()
    logits, _ = model(streams.inputs)
    expected, _ = losses.cross_entropy(logits, streams.targets)
    for seq_len in (1, 4, len(streams), 99):
        got = Evaluator(model).evaluate(StreamLoader(streams, seq_len, partial=True))
        assert got["loss"] == pytest.approx(expected, rel=1e-12)


def test_a_periodic_text_is_learnt():
    """What is predictable ends far below the entropy of its characters, log 3."""
    model, loader = make_model(), StreamLoader(Streams(np.tile([0, 1, 2], 40), B), SEQ_LEN)
    fit(model, loader, optim.Adam(model, lr=0.03), 20)
    assert Evaluator(model).evaluate(loader)["loss"] < 0.1


# --- windows with a horizon -----------------------------------------------------------------------

T = 11  # windows of 4, 4 and 3 steps


def make_data(batch_first=False):
    """Token ids, lengths, and random gradients for a model of two LSTM layers and a Linear."""
    rng = np.random.default_rng(3)
    model = Sequential(
        LSTM(V, H, 2, batch_first=batch_first, dtype="float64", seed=rng),
        Linear(H, V, dtype="float64", seed=rng),
    )
    x = rng.normal(size=(B, T, V) if batch_first else (T, B, V))
    state = (tuple(rng.normal(size=(2, 2, B, H))),)
    dstate = (tuple(rng.normal(size=(2, 2, B, H))),)
    return model, x, state, np.array([11, 3, 8]), rng.normal(size=x.shape), dstate


def gathered(model, result, pullback, dy, dstate):
    """All numbers a vjp and its pullback give, as one flat dictionary."""
    model.zero_grad()
    y, ((h, c),) = result
    dx, ((dh, dc),) = pullback(dy, dstate)
    arrays = {"y": y, "h": h, "c": c, "dx": dx, "dh": dh, "dc": dc}
    return arrays | {name: p.grad for name, p in model.parameters().items()}


def compare(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"checkpoint_every": 2}])
@pytest.mark.parametrize("window", [1, SEQ_LEN, T, 50])
def test_windows_without_a_horizon_are_one_vjp(window, options):
    batch_first = options.get("batch_first", False)
    model, x, state, lengths, dy, dstate = make_data(batch_first)
    want = gathered(model, *model.vjp(x, state, lengths), dy, dstate)
    got = gathered(model, *window_vjp(model, x, window, state, lengths, **options), dy, dstate)
    compare(got, want)
    far = window_vjp(model, x, window, state, lengths, horizon=T, **options)
    compare(gathered(model, *far, dy, dstate), want)


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_a_horizon_cuts_the_gradient_of_each_window_by_itself(horizon):
    """Each window's gradient alone, by one vjp over the windows it may go back through."""
    model, x, state, lengths, dy, dstate = make_data()
    got = gathered(
        model, *window_vjp(model, x, SEQ_LEN, state, lengths, horizon=horizon), dy, dstate
    )
    starts = range(0, T, SEQ_LEN)
    dx = np.zeros_like(x)
    dh, dc = np.zeros((2, 2, B, H))
    model.zero_grad()
    for index, start in enumerate(starts):
        stop = min(start + SEQ_LEN, T)
        first = max(0, index - horizon + 1) * SEQ_LEN
        _, begin = model(x[:first], state, np.minimum(lengths, first))
        part = slice(first, stop)
        d_part = dy[part].copy()
        d_part[: start - first] = 0
        _, pullback = model.vjp(x[part], begin, np.clip(lengths - first, 0, stop - first))
        d_x, ((d_h, d_c),) = pullback(d_part, dstate if stop == T else None)
        dx[part] += d_x
        if first == 0:
            dh, dc = dh + d_h, dc + d_c
    y, ((h, c),) = model(x, state, lengths)
    want = {"y": y, "h": h, "c": c, "dx": dx, "dh": dh, "dc": dc}
    compare(got, want | {name: p.grad for name, p in model.parameters().items()})


def test_windows_of_token_ids_and_of_one_sequence():
    model, rng = make_model(), np.random.default_rng(0)
    ids = rng.integers(0, V, T)
    (y, state), pullback = window_vjp(model, ids, SEQ_LEN)
    (want, want_state), want_pullback = model.vjp(ids)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(state, want_state)
    (none, first), (_, want_first) = pullback(np.ones_like(y)), want_pullback(np.ones_like(y))
    assert none is None
    np.testing.assert_allclose(first, want_first, rtol=1e-12)


def test_the_pullback_of_windows_may_be_called_twice_and_without_gradients():
    model, x, state, lengths, dy, dstate = make_data()
    result, pullback = window_vjp(model, x, SEQ_LEN, state, lengths, horizon=2)
    compare(
        gathered(model, result, pullback, dy, dstate), gathered(model, result, pullback, dy, dstate)
    )
    nothing = gathered(model, result, pullback, None, None)
    assert not nothing["dx"].any()
    assert not nothing["dh"].any()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"model": Linear(V, V)}, TypeError, "model: expected a recurrent one, got Linear"),
        ({"window": 0}, ValueError, "window: expected at least 1, got 0"),
        ({"horizon": 0}, ValueError, "horizon: expected at least 1, got 0"),
        ({"x": [[1]]}, TypeError, "x: expected an array with a time axis 0, got list"),
        ({"lengths": [1, 2, 12]}, ValueError, "lengths: expected numbers from 0 to 11, got"),
        ({"lengths": [1, 2]}, ValueError, r"lengths: expected the shape \(3,\), got \(2,\)"),
    ],
)
def test_wrong_windows_are_refused(change, error, message):
    model, x, *_ = make_data()
    with pytest.raises(error, match=message):
        window_vjp(**({"model": model, "x": x, "window": SEQ_LEN} | change))


def test_a_wrong_gradient_of_windows_is_refused_before_anything_is_written():
    model, x, *_ = make_data()
    _, pullback = window_vjp(model, x, SEQ_LEN)
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(11, 3, 5\)"):
        pullback(np.zeros((T, B, H)))
    with pytest.raises(TypeError, match="dstate: expected a tuple, got ndarray"):
        pullback(np.zeros((T, B, V)), np.zeros((2, B, H)))
    assert all(p.grad is None for p in model.parameters().values())


# --- streams that end -----------------------------------------------------------------------------


def test_reset_rows_start_anew():
    model, x, state, *_ = make_data()
    _, last = model(x, state)
    ended = np.array([True, False, False])
    y, _ = model(x, reset_rows(last, ended))
    continued, _ = model(x, last)
    fresh, _ = model(x)
    np.testing.assert_array_equal(y[:, 1:], continued[:, 1:])
    np.testing.assert_array_equal(y[:, 0], fresh[:, 0])
    assert last[0][0][:, 0].any()  # the state given is left alone
    assert reset_rows(None, ended) is None
    assert reset_rows((None, last[0][0]), ended)[0] is None


def test_wrong_rows_are_refused():
    with pytest.raises(TypeError, match="rows: expected an array of bools, got int64"):
        reset_rows(np.zeros((2, B, H)), [0, 1])
    with pytest.raises(ValueError, match=r"rows: expected the shape \(3,\), got \(2,\)"):
        reset_rows(np.zeros((2, B, H)), [True, False])
    with pytest.raises(ValueError, match=r"state: expected arrays \(num_layers \* D, B, H\)"):
        reset_rows(np.zeros((2, H)), [True, False])
