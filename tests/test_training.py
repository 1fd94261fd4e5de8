"""Truncated backpropagation through time, and evaluation, on models of a few weights."""

import numpy as np
import pytest

from fastrnn import GRU, Linear, Sequential, losses, optim
from fastrnn.data import Streams
from fastrnn.training import evaluate, train_epoch, train_windows

V, H, B, SEQ_LEN = 5, 6, 3, 4


def make_model(seed=0):
    rng = np.random.default_rng(seed)
    return Sequential(
        GRU(V, H, 2, dtype="float64", seed=rng), Linear(H, V, dtype="float64", seed=rng)
    )


def make_streams(seed=1, length=100):
    return Streams(np.random.default_rng(seed).integers(0, V, length), B)


def weights(model):
    return np.concatenate([p.data.ravel() for p in model.parameters().values()])


def test_windows_carry_the_state_and_stop_the_gradient():
    """Against the loop written out, with the state's arrival and departure by hand."""
    streams, model, expected = make_streams(), make_model(), make_model()
    optimizer = optim.SGD(expected, lr=0.5)
    state, expected_losses = None, []
    for t in range(0, len(streams) - SEQ_LEN + 1, SEQ_LEN):
        x, y = streams.inputs[t : t + SEQ_LEN], streams.targets[t : t + SEQ_LEN]
        (logits, state), pullback = expected.vjp(x, state)
        loss, d_logits = losses.cross_entropy(logits, y)
        expected.zero_grad()
        pullback(d_logits)
        optimizer.step()
        expected_losses.append(loss)
    got = list(train_windows(model, streams, optim.SGD(model, lr=0.5), seq_len=SEQ_LEN))
    assert got == expected_losses
    assert len(got) == len(streams) // SEQ_LEN
    np.testing.assert_array_equal(weights(model), weights(expected))


def test_each_epoch_starts_with_a_state_of_zeros():
    model, streams = make_model(), make_streams()
    frozen = optim.SGD(model, lr=0.0)
    first = list(train_windows(model, streams, frozen, seq_len=SEQ_LEN))
    assert first == list(train_windows(model, streams, frozen, seq_len=SEQ_LEN))


def test_the_caller_may_stop_between_windows():
    model, streams = make_model(), make_streams()
    optimizer = optim.SGD(model, lr=0.1)
    before = weights(model)
    windows = train_windows(model, streams, optimizer, seq_len=SEQ_LEN)
    np.testing.assert_array_equal(weights(model), before)  # nothing until it is read
    next(windows)
    after_one = weights(model)
    assert (after_one != before).any()
    windows.close()
    np.testing.assert_array_equal(weights(model), after_one)


@pytest.mark.parametrize("limit", ["clip_value", "clip_norm"])
def test_gradients_are_clipped(limit):
    model, streams = make_model(), make_streams()
    before = weights(model)
    next(train_windows(model, streams, optim.SGD(model, lr=1.0), seq_len=SEQ_LEN, **{limit: 1e-3}))
    change = weights(model) - before
    size = abs(change).max() if limit == "clip_value" else np.linalg.norm(change)
    assert size == pytest.approx(1e-3, rel=1e-2)


def test_train_epoch_is_the_mean_of_its_windows():
    streams, one, other = make_streams(), make_model(), make_model()
    options = {"seq_len": SEQ_LEN, "clip_value": 1.0}
    each = list(train_windows(one, streams, optim.Adam(one, lr=0.01), **options))
    mean = train_epoch(other, streams, optim.Adam(other, lr=0.01), **options)
    assert mean == pytest.approx(np.mean(each), rel=1e-12)
    np.testing.assert_array_equal(weights(one), weights(other))


def test_train_epoch_of_no_window_is_nan():
    model = make_model()
    assert np.isnan(train_epoch(model, make_streams(), optim.SGD(model, lr=1.0), seq_len=99))


def test_evaluate_is_the_mean_over_whole_streams_for_any_window():
    model, streams = make_model(), make_streams()
    logits, _ = model(streams.inputs)
    expected, _ = losses.cross_entropy(logits, streams.targets)
    for seq_len in (1, 4, len(streams), 99):
        assert evaluate(model, streams, seq_len=seq_len) == pytest.approx(expected, rel=1e-12)


def test_a_periodic_text_is_learnt():
    """What is predictable ends far below the entropy of its characters, log 3."""
    model, streams = make_model(), Streams(np.tile([0, 1, 2], 40), B)
    optimizer = optim.Adam(model, lr=0.03)
    for _ in range(20):
        train_epoch(model, streams, optimizer, seq_len=SEQ_LEN)
    assert evaluate(model, streams, seq_len=SEQ_LEN) < 0.1
