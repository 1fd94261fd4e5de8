"""Gradient flow against finite differences of a NumPy network, spectral radii of known matrices."""

import numpy as np
import pytest

import fastrnn
import reference
from fastrnn import inspect
from recurrent_cases import CELLS, LAYERS

T, B, WIDTH, H = 4, 3, 2, 2


def arrays(layer):
    return {name: p.data for name, p in layer.parameters().items()}


def make(cell, num_layers=1, bidirectional=False, **options):
    layer = LAYERS[cell](
        WIDTH, H, num_layers, bidirectional=bidirectional, dtype="float64", seed=1, **options
    )
    return layer, reference.Network(cell, WIDTH, H, num_layers, bidirectional)


def inputs(seed=2):
    return np.random.default_rng(seed).standard_normal((T, B, WIDTH))


def loss_with_additions(net, weights, x, dy, lengths, added):
    """sum(dy * y) of a network, row by row, in which something is added to the states of steps.

    added: for each layer and direction, for each state (h, or h and c) an array (T, B, H). What is
    added to h_t goes wherever h_t goes; what is added to c_t goes to step t + 1.
    """
    cell, total = reference.CELLS[net.cell], 0.0
    for b, length in enumerate(lengths):
        sequence = x[:length, b]
        for layer in range(net.num_layers):
            halves = []
            for direction in net.directions:
                w = net.weights(weights, f"_l{layer}{direction}")
                state = tuple(np.zeros((1, net.hidden_size)) for _ in range(net.num_states))
                half = np.zeros((length, net.hidden_size))
                times = reversed(range(length)) if direction else range(length)
                for t in times:
                    state, _ = cell.step(w, sequence[t : t + 1], state)
                    adds = added[f"l{layer}{direction}"]
                    state = tuple(s + add[t, b] for s, add in zip(state, adds, strict=True))
                    half[t] = state[0]
                halves.append(half)
            sequence = np.concatenate(halves, axis=1)
        total += float((dy[:length, b] * sequence).sum())
    return total


@pytest.mark.parametrize("cell", CELLS)
def test_norms_are_those_of_finite_differences(cell):
    layer, net = make(cell, num_layers=2, bidirectional=True)
    x, lengths = inputs(), np.array([T, 2, 0])
    dy = np.random.default_rng(3).standard_normal((T, B, net.output_size))
    flow = inspect.gradient_flow(layer, x, dy, lengths=lengths)
    names = [f"l{k}{direction}" for k in (0, 1) for direction in net.directions]
    added = {name: [np.zeros((T, B, H)) for _ in range(net.num_states)] for name in names}
    weights = arrays(layer)

    def loss():
        return loss_with_additions(net, weights, x, dy, lengths, added)

    assert list(flow.h) == names
    assert list(flow.c) == (names if cell == "lstm" else [])
    for found, state in ((flow.h, 0), (flow.c, 1)):
        for name, norms in found.items():
            expected = reference.central_difference(loss, added[name][state])
            expected = np.linalg.norm(expected, axis=-1)
            np.testing.assert_allclose(norms, expected, rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(flow.lengths, lengths)


@pytest.mark.parametrize("cell", CELLS)
def test_norms_of_parameters_are_those_of_the_whole_pass(cell):
    layer, net = make(cell, num_layers=2, bidirectional=True)
    x = inputs()
    state = tuple(np.random.default_rng(5).standard_normal(net.state_shape(B)) for _ in range(2))
    state = state[: net.num_states]
    dy = np.random.default_rng(3).standard_normal((T, B, net.output_size))
    forward = reference.forward(net, arrays(layer), x, state)
    expected = reference.backward(net, forward.tape, dy).grads
    flow = inspect.gradient_flow(layer, x, dy, state if cell == "lstm" else state[0])
    assert list(flow.parameters) == list(layer.parameters())
    for name, norm in flow.parameters.items():
        assert norm == pytest.approx(np.linalg.norm(expected[name]), rel=1e-9), name


@pytest.mark.parametrize("limits", [{"clip_norm": 0.3}, {"clip_value": 0.1}])
@pytest.mark.parametrize("cell", CELLS)
def test_clipping_is_of_what_is_carried(cell, limits):
    layer, net = make(cell)
    x = inputs()
    dy = np.random.default_rng(3).standard_normal((T, B, H))
    w = net.weights(arrays(layer), "_l0")
    step, back = reference.CELLS[cell].step, reference.CELLS[cell].step_back
    state, tape = tuple(np.zeros((B, H)) for _ in range(net.num_states)), []
    for t in range(T):
        state, saved = step(w, x[t], state)
        tape.append(saved)
    grad = net.weights({n: np.zeros_like(a) for n, a in arrays(layer).items()}, "_l0")
    carried, expected = tuple(np.zeros_like(s) for s in state), np.zeros((T, B))
    for t in reversed(range(T)):
        total = (carried[0] + dy[t], *carried[1:])
        expected[t] = np.linalg.norm(total[0], axis=-1)
        _, carried = back(w, grad, tape[t], total)
        if "clip_value" in limits:
            carried = tuple(np.clip(d, -0.1, 0.1) for d in carried)
        else:
            for b in range(B):
                norm = np.sqrt(sum((d[b] ** 2).sum() for d in carried))
                for d in carried:
                    d[b] *= 0.3 / max(norm, 0.3)
    flow = inspect.gradient_flow(layer, x, dy, **limits)
    np.testing.assert_allclose(flow.h["l0"], expected, rtol=1e-9)
    norm = np.linalg.norm(grad.weight_hh)
    assert flow.parameters["weight_hh_l0"] == pytest.approx(norm, rel=1e-9)
    assert not np.allclose(flow.h["l0"], inspect.gradient_flow(layer, x, dy).h["l0"])


def model_of_many_layers(batch_first=False):
    return fastrnn.Sequential(
        fastrnn.Embedding(7, WIDTH, dtype="float64", seed=1),
        fastrnn.LSTM(WIDTH, H, 2, batch_first=batch_first, dropout=0.5, dtype="float64", seed=2),
        fastrnn.Dropout(0.5, seed=3),
        fastrnn.Sequential(fastrnn.GRU(H, 2, batch_first=batch_first, dtype="float64", seed=4)),
        fastrnn.Linear(2, 5, dtype="float64", seed=5),
    )


def test_sequential_model_with_a_loss_and_its_gradients_left_alone():
    model = model_of_many_layers()
    ids = np.random.default_rng(1).integers(0, 7, (T, B))
    targets = np.random.default_rng(2).integers(0, 5, (T, B))
    before = model.parameters()["4.weight"].ensure_grad()

    def gradient(y):
        return fastrnn.losses.cross_entropy(y, targets)[1]

    flow = inspect.gradient_flow(model, ids, gradient)
    assert list(flow.h) == ["1.l0", "1.l1", "3.0.l0"]
    assert list(flow.c) == ["1.l0", "1.l1"]
    assert list(flow.parameters) == list(model.parameters())
    assert model.parameters()["4.weight"].grad is before
    assert not before.any()
    assert all(p.grad is None for name, p in model.parameters().items() if name != "4.weight")
    array = inspect.gradient_flow(model, ids, gradient(model(ids)[0]))
    assert array.parameters == flow.parameters

    for name, p in model.parameters().items():  # without dropout, that is the whole pass
        p.grad = None
        if name.startswith("1."):
            assert flow.parameters[name] > 0
    plain = fastrnn.Sequential(
        *(layer for layer in model if not isinstance(layer, fastrnn.Dropout))
    )
    plain[1].dropout = 0.0
    (y, _), pullback = plain.vjp(ids)
    pullback(gradient(y))
    for theirs, norm in zip(plain.parameters().values(), flow.parameters.values(), strict=True):
        assert norm == pytest.approx(np.linalg.norm(theirs.grad), rel=1e-9)


def test_layers_that_take_lengths():
    model = fastrnn.Sequential(
        fastrnn.LSTM(WIDTH, H, dtype="float64", seed=1),
        fastrnn.MeanPooling(),
        fastrnn.Linear(H, 5, dtype="float64", seed=2),
    )
    x, lengths, dy = inputs(), [T, 2, 1], np.random.default_rng(3).standard_normal((B, 5))
    (y, _), pullback = model.vjp(x, None, lengths)
    pullback(dy)
    flow = inspect.gradient_flow(model, x, dy, lengths=lengths)
    for name, parameter in model.parameters().items():
        norm = np.linalg.norm(parameter.grad)
        assert flow.parameters[name] == pytest.approx(norm, rel=1e-9)
    captured = inspect.capture(model, x, lengths=lengths)
    assert captured.y.tobytes() == y.tobytes()
    np.testing.assert_array_equal(captured.lengths, lengths)


def test_batch_first_and_single_sequences_give_the_same():
    ids = np.random.default_rng(1).integers(0, 7, (T, B))
    lengths = [T, 1, 3]
    dy = np.random.default_rng(1).standard_normal((T, B, 5))
    expected = inspect.gradient_flow(model_of_many_layers(), ids, dy, lengths=lengths)
    turned = inspect.gradient_flow(
        model_of_many_layers(True), ids.T, dy.swapaxes(0, 1), lengths=lengths
    )
    for name, norms in expected.h.items():
        np.testing.assert_allclose(turned.h[name], norms, rtol=1e-12)
    one = inspect.gradient_flow(model_of_many_layers(), ids[:, 0], dy[:, 0])
    for name, norms in expected.h.items():
        np.testing.assert_allclose(one.h[name], norms[:, :1], rtol=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
def test_by_default_the_gradient_is_of_length_one_at_the_last_step(batch_first):
    layer, _ = make("gru", batch_first=batch_first)
    x = inputs().swapaxes(0, 1) if batch_first else inputs()
    flow = inspect.gradient_flow(layer, x, lengths=[2, T, 0])
    np.testing.assert_allclose(flow.h["l0"][[1, 3], [0, 1]], 1.0, rtol=1e-12)
    assert not flow.h["l0"][2:, 0].any()
    assert not flow.h["l0"][:, 2].any()
    assert flow.h["l0"][0, 0] > 0
    distance = flow.by_distance()["l0"]
    expected = [1.0, flow.h["l0"][[0, 2], [0, 1]].mean(), flow.h["l0"][1, 1], flow.h["l0"][0, 1]]
    np.testing.assert_allclose(distance, expected)
    one = inspect.gradient_flow(layer, x[0] if batch_first else x[:, 0])
    assert one.h["l0"].shape == (T, 1)
    assert one.h["l0"][-1] == pytest.approx(1.0)


def test_distance_of_the_reverse_direction_is_from_the_first_step():
    layer, _ = make("lstm", bidirectional=True)
    flow = inspect.gradient_flow(layer, inputs(), lengths=[T, 2, 1])
    assert list(flow.by_distance()) == ["l0", "l0_reverse"]
    assert flow.by_distance()["l0_reverse"][0] == pytest.approx(flow.h["l0_reverse"][0].mean())
    assert list(flow.by_distance("c")) == ["l0", "l0_reverse"]
    with pytest.raises(ValueError, match=r"of: expected 'h' or 'c', got 'x'"):
        flow.by_distance("x")


def test_vanilla_vanishes_and_explodes_with_the_spectral_radius():
    layer, _ = make("rnn_relu")
    for gain in (0.5, 2.0):
        layer.parameters()["weight_hh_l0"].data = gain * np.eye(H)
        layer.parameters()["bias_ih_l0"].data = np.full(H, 10.0)  # in the linear part of ReLU
        assert inspect.spectral_radius(layer) == {"l0": {"h": pytest.approx(gain)}}
        norms = inspect.gradient_flow(layer, inputs()).by_distance()["l0"]
        np.testing.assert_allclose(norms, gain ** np.arange(T), rtol=1e-12)


def test_spectral_radius_of_known_matrices():
    turn = 0.7 * np.array([[0.6, -0.8], [0.8, 0.6]])  # eigenvalues of absolute value 0.7
    nilpotent = np.array([[0.0, 9.0], [0.0, 0.0]])
    model = fastrnn.Sequential(
        fastrnn.Linear(3, 2), fastrnn.LSTM(2, 2, 2, bidirectional=True), fastrnn.GRU(4, 2)
    )
    for name, p in model.parameters().items():
        if "weight_hh" in name:
            blocks = [turn, nilpotent, -2 * np.eye(2), np.diag([0.1, 0.5])]
            p.data = np.concatenate(blocks[: p.shape[0] // 2])
    radii = inspect.spectral_radius(model)
    assert list(radii) == ["1.l0", "1.l0_reverse", "1.l1", "1.l1_reverse", "2.l0"]
    expected = {"i": 0.7, "f": 0.0, "g": 2.0, "o": 0.5}
    assert radii["1.l1_reverse"] == pytest.approx(expected, abs=1e-6)
    assert radii["2.l0"] == pytest.approx({"r": 0.7, "z": 0.0, "n": 2.0}, abs=1e-6)


def test_bad_arguments():
    layer, _ = make("gru")
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(4, 3, 2\), got"):
        inspect.gradient_flow(layer, inputs(), np.zeros((T, B, 3)))
    with pytest.raises(TypeError, match="dy: expected an array of float64"):
        inspect.gradient_flow(layer, inputs(), np.zeros((T, B, H), "float32"))
    for name in ("clip_norm", "clip_value"):
        with pytest.raises(ValueError, match=f"{name}: expected a number above 0, got 0"):
            inspect.gradient_flow(layer, inputs(), **{name: 0})
    with pytest.raises(ValueError, match="model: expected a recurrent layer in it, got none"):
        inspect.gradient_flow(fastrnn.Linear(WIDTH, 2, dtype="float64"), inputs())
    with pytest.raises(ValueError, match="lengths: expected numbers from 0 to 4"):
        inspect.gradient_flow(layer, inputs(), lengths=[9, 1, 1])
    with pytest.raises(ValueError, match="model: expected RNN, LSTM, GRU or a Sequential"):
        inspect.gradient_flow(Foreign(), inputs())


class Foreign(fastrnn.Layer):
    recurrent = True


class Doubled(fastrnn.GRU):
    """A layer that does more than its parts."""

    def __call__(self, x, state=None, lengths=None):
        y, state = super().__call__(x, state, lengths)
        return (y if x.shape[0] == 1 else 2 * y), state


def test_a_model_that_its_parts_do_not_explain_is_refused():
    layer = Doubled(WIDTH, H, dtype="float64", seed=1)
    with pytest.raises(ValueError, match=r"fastrnn\.inspect does not know"):
        inspect.gradient_flow(layer, inputs())


def test_nothing_to_do():
    layer, _ = make("lstm")
    flow = inspect.gradient_flow(layer, np.zeros((0, B, WIDTH)))
    assert flow.h["l0"].shape == (0, B)
    assert not any(flow.parameters.values())
    assert inspect.gradient_flow(layer, np.zeros((T, 0, WIDTH))).h["l0"].shape == (T, 0)


def test_layers_come_in_order():
    layer = fastrnn.LSTM(WIDTH, 1, 11, dtype="float64", seed=1)
    flow = inspect.gradient_flow(layer, inputs()[:2])
    assert list(flow.h) == list(flow.c) == [f"l{k}" for k in range(11)]
