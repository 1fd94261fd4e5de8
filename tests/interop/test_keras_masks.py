"""Masks, go_backwards and merges of RecurrentLoop beside Keras's RNN and Bidirectional."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("written for Keras on PyTorch", allow_module_level=True)

import fastrnn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its


class SimpleRNNCell(fastrnn.Cell):
    """h' = tanh(x W + b + h U) with the weights of Keras; without a pullback."""

    def __init__(self, weights):
        super().__init__(3, 5)
        self.weights = weights

    def __call__(self, x_t, state):
        kernel, recurrent, bias = self.weights
        y = np.tanh(x_t @ kernel + bias + state[0] @ recurrent)
        return y, (y,)


@pytest.fixture
def batch():
    """Batch first: x, a mask with rows that begin masked or are so to the end, two states."""
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(4, 6, 3)).astype("float32"), rng.random((4, 6)) < 0.6
    mask[0, :2], mask[1], mask[2, -1] = False, False, False
    return x, mask, rng.normal(size=(2, 4, 5)).astype("float32")


def numpy_of(results):
    return [keras.ops.convert_to_numpy(result) for result in results]


@pytest.mark.parametrize("go_backwards", [False, True])
def test_one_direction(batch, go_backwards):
    x, mask, states = batch
    theirs = keras.layers.RNN(
        keras.layers.SimpleRNNCell(5),
        return_sequences=True,
        return_state=True,
        go_backwards=go_backwards,
    )
    want, want_state = numpy_of(theirs(x, initial_state=[states[0]], mask=mask))
    ours = fastrnn.RecurrentLoop(
        SimpleRNNCell(theirs.get_weights()), go_backwards=go_backwards, batch_first=True
    )
    y, state = ours(x, states[:1], mask=mask)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)
    np.testing.assert_allclose(state[0], want_state, rtol=0, atol=1e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mean", "mul"])
def test_both_directions(batch, merge_mode):
    x, mask, states = batch
    cell = keras.layers.SimpleRNNCell(5)
    theirs = keras.layers.Bidirectional(
        keras.layers.RNN(cell, return_sequences=True, return_state=True),
        merge_mode=merge_mode.replace("mean", "ave"),
    )
    want, *want_states = numpy_of(theirs(x, initial_state=list(states), mask=mask))
    weights = theirs.get_weights()
    ours = fastrnn.RecurrentLoop(
        SimpleRNNCell(weights[:3]),
        SimpleRNNCell(weights[3:]),
        merge_mode=merge_mode,
        batch_first=True,
    )
    y, state = ours(x, states, mask=mask)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)
    np.testing.assert_allclose(state, want_states, rtol=0, atol=1e-6)
