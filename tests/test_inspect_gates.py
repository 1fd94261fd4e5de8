"""Captured gates against NumPy's cells, step by step; results unchanged to the bit; saturation.

The variants of the cells are in test_inspect_variants.py.
"""

import numpy as np
import pytest

import fastrnn
import reference
from fastrnn import inspect
from recurrent_cases import CELLS, LAYERS

T, B, WIDTH, H = 6, 3, 2, 4
LENGTHS = np.array([4, T, 0])
NAMES = {"lstm": "ifgoch", "gru": "rznh", "gru_original": "rznh"}
# Where the steps of reference.py keep what capture returns.
SAVED = {"lstm": dict(zip("ifgoc", range(3, 8), strict=True))}
SAVED["gru"] = SAVED["gru_original"] = {"r": 2, "z": 3, "n": 4}


def make(cell, dtype="float64", **options):
    layer = LAYERS[cell](WIDTH, H, 2, bidirectional=True, dtype=dtype, seed=1, **options)
    net = reference.Network(cell, WIDTH, H, 2, True, options.get("bias", True))
    rng = np.random.default_rng(2)
    x = rng.standard_normal((T, B, WIDTH)).astype(dtype)
    state = [rng.standard_normal(net.state_shape(B)).astype(dtype) for _ in range(net.num_states)]
    return layer, net, x, (tuple(state) if cell == "lstm" else state[0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_gates_are_those_of_the_formulas(cell, bias):
    layer, net, x, state = make(cell, bias=bias)
    captured = inspect.capture(layer, x, state, LENGTHS)
    weights = {name: p.data for name, p in layer.parameters().items()}
    tape = reference.forward(net, weights, x, state if cell == "lstm" else (state,), LENGTHS).tape[
        2
    ]
    assert list(captured.layers) == ["l0", "l1"]
    np.testing.assert_array_equal(captured.lengths, LENGTHS)
    for found in captured.layers.values():
        assert "".join(found) == NAMES.get(cell, "h")
        assert all(gate.shape == (T, B, 2, H) for gate in found.values())
        assert not any(gate[4:, 0].any() or gate[:, 2].any() for gate in found.values())
    for k, direction, _, _, _, length, rows, saved in tape:
        for t in range(length):
            step = saved[length - 1 - t if direction else t]
            for name, place in SAVED.get(cell, {}).items():
                gate = captured.layers[f"l{k}"][name][t, rows, 1 if direction else 0]
                np.testing.assert_allclose(gate, step[place], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_results_are_unchanged_to_the_bit(cell, dtype):
    layer, _, x, state = make(cell, dtype)
    y, last = layer(x, state, LENGTHS)
    captured = inspect.capture(layer, x, state, LENGTHS)
    assert captured.y.tobytes() == y.tobytes()
    assert np.asarray(captured.state).tobytes() == np.asarray(last).tobytes()
    top = captured.layers["l1"]
    assert top["h"].reshape(y.shape).tobytes() == y.tobytes()
    assert all(gate.dtype == dtype for gate in top.values())
    h = last[0] if cell == "lstm" else last
    np.testing.assert_array_equal(captured.layers["l0"]["h"][3, 0, 0], h[0, 0])
    np.testing.assert_array_equal(captured.layers["l0"]["h"][0, 1, 1], h[1, 1])
    if cell == "lstm":
        np.testing.assert_array_equal(top["c"][5, 1, 0], last[1][2, 1])
        expected = top["o"] * np.tanh(top["c"])
        np.testing.assert_allclose(top["h"], expected, rtol=8 * np.finfo(dtype).eps)


def test_sequential_with_token_ids_and_chosen_layers():
    model = fastrnn.Sequential(
        fastrnn.GRU(7, H, 2, dropout=0.5, seed=1),
        fastrnn.Dropout(0.5),
        fastrnn.Sequential(fastrnn.LSTM(H, 3, seed=2)),
        fastrnn.Linear(3, 2, seed=3),
    )
    ids = np.random.default_rng(1).integers(0, 7, (T, B))
    everything = inspect.capture(model, ids)
    assert list(everything.layers) == ["0.l0", "0.l1", "2.0.l0"]
    assert everything.y.tobytes() == model(ids)[0].tobytes()
    some = inspect.capture(model, ids, layers=["0.l1", "2.0.l0"])
    assert list(some.layers) == ["0.l1", "2.0.l0"]
    vectors = np.eye(7, dtype="float32")[ids]
    for name, gate in inspect.capture(model, vectors).layers["0.l0"].items():
        np.testing.assert_allclose(gate, everything.layers["0.l0"][name], atol=1e-6)
    second = inspect.capture(model, ids[3:], inspect.capture(model, ids[:3]).state)
    for name, gate in second.layers["2.0.l0"].items():
        np.testing.assert_allclose(gate, everything.layers["2.0.l0"][name][3:], atol=1e-6)


def test_layouts():
    x = np.random.default_rng(1).standard_normal((T, B, WIDTH)).astype("float32")
    time_first = inspect.capture(fastrnn.LSTM(WIDTH, H, seed=1), x, lengths=LENGTHS)
    batch_first = inspect.capture(
        fastrnn.LSTM(WIDTH, H, batch_first=True, seed=1), x.swapaxes(0, 1), lengths=LENGTHS
    )
    one = inspect.capture(fastrnn.LSTM(WIDTH, H, seed=1), x[:, 1])
    assert batch_first.y.shape == (B, T, H)
    assert one.y.shape == (T, H)
    for name, gate in time_first.layers["l0"].items():
        np.testing.assert_allclose(batch_first.layers["l0"][name], gate, atol=1e-6)
        np.testing.assert_allclose(one.layers["l0"][name][:, 0], gate[:, 1], atol=1e-6)
    empty = inspect.capture(fastrnn.LSTM(WIDTH, H, seed=1), x[:0])
    assert empty.layers["l0"]["c"].shape == (0, B, 1, H)


class Doubled(fastrnn.LSTM):
    """A layer that does more than its cell."""

    def __call__(self, x, state=None, lengths=None):
        y, state = super().__call__(x, state, lengths)
        return 2 * y, state


class Foreign(fastrnn.Layer):
    recurrent = True


def test_layers_that_are_not_known_are_refused():
    x = np.ones((T, B, WIDTH), "float32")
    with pytest.raises(ValueError, match="model: its layers, run one by one, do not give its out"):
        inspect.capture(Doubled(WIDTH, H), x)
    with pytest.raises(ValueError, match="model: expected RNN, LSTM, GRU or a Sequential"):
        inspect.capture(Foreign(), x)


def test_bad_arguments():
    x = np.zeros((T, B, WIDTH), "float32")
    with pytest.raises(ValueError, match=r"layers: expected names out of l0, l1, got 'l2'"):
        inspect.capture(fastrnn.LSTM(WIDTH, H, 2), x, layers=["l0", "l2"])
    with pytest.raises(ValueError, match="model: expected a recurrent layer in it, got none"):
        inspect.capture(fastrnn.Linear(WIDTH, H), x)
    with pytest.raises(ValueError, match="x: expected the shape"):
        inspect.capture(fastrnn.LSTM(WIDTH, H), x[:, :, :1])


# --- saturation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_saturation_counts_steps(cell):
    layer, _, x, state = make(cell)
    for p in layer.parameters().values():
        p.data = 4 * p.data
    captured = inspect.capture(layer, x, state, LENGTHS)
    found = inspect.saturation(captured, 0.2, 0.7)
    assert list(found) == ["l0", "l1"]
    for layer_name, of_gates in found.items():
        assert "".join(of_gates) == NAMES.get(cell, "h")
        for name, result in of_gates.items():
            low = 0.2 if name in "ifozr" else -0.7
            for d, u in np.ndindex(2, H):
                values = [
                    captured.layers[layer_name][name][t, b, d, u]
                    for b in range(B)
                    for t in range(LENGTHS[b])
                ]
                values = np.tanh(values) if name == "c" else np.array(values)
                assert result.left[d, u] == sum(v < low for v in values) / 10
                assert result.right[d, u] == sum(v > 0.7 for v in values) / 10
            assert result.overall == pytest.approx((result.left.mean(), result.right.mean()))
    assert any(result.overall[1] > 0 for result in found["l0"].values())


def test_saturation_of_what_it_cannot_count():
    captured = inspect.capture(
        fastrnn.GRU(WIDTH, H), np.zeros((T, B, WIDTH), "float32"), lengths=[0] * B
    )
    with pytest.raises(ValueError, match="captured: expected at least one step, got none"):
        inspect.saturation(captured)
    with pytest.raises(ValueError, match=r"low: expected less than high 0\.9, got 0\.9"):
        inspect.saturation(captured, low=0.9)
    with pytest.raises(ValueError, match="high: expected a number from 0"):
        inspect.saturation(captured, high=2.0)
