"""A user's own cells in RecurrentLoop: the cells of reference.py must give what fastrnn's do.

What only RecurrentLoop has, as masks and merges, is compared with plain loops and with finite
differences.
"""

import copy
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastrnn
import reference
from recurrent_cases import CELLS, LAYERS, Case, assert_close, assert_same_bits, infer, run


class ReferenceCell(fastrnn.Cell):
    """A cell of reference.py."""

    def __init__(self, kind, input_size, weights):
        self.formulas = reference.CELLS[kind]
        size = weights.weight_hh.shape[1]
        states = (size,) * self.formulas.states
        super().__init__(input_size, size, states, dtype=weights.weight_hh.dtype)
        for name, array in weights._asdict().items():
            self.register_parameter(name, array)

    @property
    def weights(self):
        return reference.Weights(*(p.data for p in self.parameters().values()))

    def vjp(self, x_t, state):
        weights = self.weights
        new, saved = self.formulas.step(weights, x_t, state)

        def pullback(dy, dstate):
            gradients = reference.Weights(*(np.zeros_like(w) for w in weights))
            dh, *rest = dstate
            dx, before = self.formulas.step_back(weights, gradients, saved, (dh + dy, *rest))
            for parameter, gradient in zip(self.parameters().values(), gradients, strict=True):
                parameter.add_grad(gradient)
            return dx, before

        return (new[0], new), pullback


def loop_of(case, layer, **options):
    """A RecurrentLoop with the weights of a layer of fastrnn."""
    arrays = {name: p.data for name, p in layer.parameters().items()}
    sides = [
        [
            ReferenceCell(
                case.cell,
                case.network.output_size if k else case.input_size,
                case.network.weights(arrays, f"_l{k}{suffix}"),
            )
            for k in range(case.num_layers)
        ]
        for suffix in case.network.directions
    ]
    return fastrnn.RecurrentLoop(*sides, batch_first=case.batch_first, **options)


CASES = [
    *(Case(cell, "float64", num_layers=2, lengths=(5, 0, 3, 2)) for cell in CELLS),
    *(Case(cell, "float64", bidirectional=True, num_layers=2) for cell in ("lstm", "gru")),
    Case("lstm", "float64", num_layers=3, bidirectional=True, lengths=(3, 4, 0, 1)),
    Case("lstm", "float64", batch_first=True, lengths=(5, 1, 3, 2)),
    Case("gru", "float64", batch_first=True, bidirectional=True, num_layers=2),
    Case("gru", "float64", batch=1, unbatched=True, num_layers=2, bidirectional=True),
    Case("lstm", "float64", batch=1, unbatched=True, batch_first=True),
    Case("lstm", "float64", steps=0),
    Case("lstm", "float64", batch=0),
    Case("rnn_tanh", "float32", num_layers=2, bidirectional=True, lengths=(5, 4, 0, 1)),
]


@pytest.mark.parametrize("every", [None, 2, 9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cells_of_numpy_give_what_the_layers_of_fastrnn_give(case, every):
    layer, data = case.layer(), case.data()
    loop = loop_of(case, layer)
    assert list(loop.parameters()) == list(layer.parameters())
    assert_close(run(case, loop, data, every), run(case, layer, data), case.tolerance())
    assert_close(infer(case, loop, data), infer(case, layer, data), case.tolerance())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_steps_give_what_sequences_give(cell):
    case = Case(cell, "float64", num_layers=2)
    loop, data = loop_of(case, case.layer()), case.data()
    state = data.state if cell == "lstm" else data.state[0]
    y, last = loop(data.x, state)
    for t, x_t in enumerate(data.x):
        y_t, state = loop.step(x_t, state)
        np.testing.assert_array_equal(y_t, y[t])
    np.testing.assert_array_equal(state, last)
    one, one_state = loop.step(data.x[0, 0])
    two, two_state = loop.step(data.x[0, :1])
    np.testing.assert_array_equal(one, two[0])
    np.testing.assert_array_equal(np.array(one_state), np.array(two_state)[..., 0, :])


def test_token_ids_are_one_hot_vectors():
    case = Case("gru", "float64", input_size=7)
    loop, ids = loop_of(case, case.layer()), np.random.default_rng(0).integers(0, 7, (5, 4))
    (y, last), pullback = loop.vjp(ids, lengths=[5, 2, 0, 3])
    (want, want_last), want_pullback = loop.vjp(reference.one_hot(ids, 7), lengths=[5, 2, 0, 3])
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(last, want_last)
    dy = np.ones_like(y)
    assert pullback(dy)[0] is None
    got = {name: p.grad for name, p in loop.parameters().items()}
    loop.zero_grad()
    want_pullback(dy)
    assert_same_bits(got, {name: p.grad for name, p in loop.parameters().items()})
    np.testing.assert_array_equal(loop.step(ids[0])[0][[0, 1, 3]], y[0, [0, 1, 3]])


# --- masks, resets and directions -----------------------------------------------------------------


def flags(seed, T=6, B=4):
    rng = np.random.default_rng(seed)
    return rng.random((T, B)) < 0.7, rng.random((T, B)) < 0.3


def weights_of(arrays, suffix):
    return reference.Weights(*(arrays[name + suffix] for name in reference.Weights._fields))


def small(cell="gru", sides=1, merge_mode="concat", layers=2, **options):
    """A layer of 3 inputs and 2 units."""
    rng = np.random.default_rng(5)
    gates = reference.CELLS[cell].gates

    def make(size):
        shapes = ((gates * 2, size), (gates * 2, 2), (gates * 2,), (gates * 2,))
        return ReferenceCell(cell, size, reference.Weights(*(rng.normal(size=s) for s in shapes)))

    width = 4 if sides == 2 and merge_mode == "concat" else 2
    cells = [[make(3), *(make(width) for _ in range(layers - 1))] for _ in range(sides)]
    return fastrnn.RecurrentLoop(*cells, merge_mode=merge_mode, **options)


def by_steps(layer, x, state, lengths, mask, resets):
    """One row and one step at a time."""
    y, last = np.zeros((*x.shape[:2], 2)), state.copy()
    for b in range(x.shape[1]):
        h, output = state[:, b], 0.0
        for t in range(lengths[b]):
            if resets[t, b]:
                h, output = np.zeros_like(h), 0.0
            if mask[t, b]:
                output, h = layer.step(x[t, b], h)
            y[t, b] = output
        last[:, b] = h
    return y, last


def test_masks_and_resets_are_those_of_a_loop_of_steps():
    layer, rng = small(), np.random.default_rng(1)
    x, state, lengths = rng.normal(size=(6, 4, 3)), rng.normal(size=(2, 4, 2)), [6, 4, 0, 5]
    mask, resets = flags(2)
    want, want_last = by_steps(layer, x, state, lengths, mask, resets)
    y, last = layer(x, state, lengths, mask=mask, resets=resets)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, want_last, rtol=0, atol=1e-14)
    # The same of vjp, and with the other layout.
    layer.batch_first = True
    (y, last), pullback = layer.vjp(x.swapaxes(0, 1), state, lengths, mask=mask.T, resets=resets.T)
    np.testing.assert_allclose(y.swapaxes(0, 1), want, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, want_last, rtol=0, atol=1e-14)
    assert pullback(np.ones_like(y))[0].shape == (4, 6, 3)


@pytest.mark.parametrize("lengths", [None, [6, 4, 0, 5]])
def test_going_backwards_is_running_turned_rows(lengths):
    forward, backward, rng = small(), small(go_backwards=True), np.random.default_rng(1)
    x, state = rng.normal(size=(6, 4, 3)), rng.normal(size=(2, 4, 2))
    mask = flags(2)[0]
    turned, turned_mask = x.copy(), mask.copy()
    for b, length in enumerate(lengths or [6] * 4):
        turned[:length, b] = x[:length, b][::-1]
        turned_mask[:length, b] = mask[:length, b][::-1]
    y, last = backward(x, state, lengths, mask=mask)
    want, want_last = forward(turned, state, lengths, mask=turned_mask)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(last, want_last)


def test_both_directions_merge_what_each_gives():
    rng = np.random.default_rng(1)
    x, state, lengths = rng.normal(size=(6, 4, 3)), rng.normal(size=(2, 4, 2)), [6, 4, 0, 5]
    arguments = dict(zip(("mask", "resets"), flags(2), strict=True))
    loops = {mode: small(sides=2, merge_mode=mode, layers=1) for mode in ("concat", "mul")}
    both = loops["concat"]
    forward, reverse = both._cells[0]
    a, a_last = fastrnn.RecurrentLoop(forward)(x, state[:1], lengths, **arguments)
    backward = fastrnn.RecurrentLoop(reverse, go_backwards=True)
    b, b_last = backward(x, state[1:], lengths, **arguments)
    b = fastrnn.directions.reverse_rows(b, np.array(lengths))
    a, b = (np.where(arguments["mask"][..., None], part, 0.0) for part in (a, b))
    y, last = both(x, state, lengths, **arguments)
    np.testing.assert_array_equal(y, np.concatenate([a, b], axis=-1))
    np.testing.assert_array_equal(last, np.concatenate([a_last, b_last]))
    np.testing.assert_array_equal(loops["mul"](x, state, lengths, **arguments)[0], a * b)


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize(
    "cell, options",
    [
        ("lstm", {}),
        ("gru", {"go_backwards": True}),
        ("lstm", {"learned_state": True}),
        *(("gru", {"sides": 2, "merge_mode": mode}) for mode in ("concat", "sum", "mean", "mul")),
    ],
)
def test_gradients_with_masks_and_resets(cell, options, every):
    layer, (mask, resets) = small(cell, **options), flags(3)
    errors = fastrnn.check_gradients(
        Checkpointed(layer, every),
        np.random.default_rng(4).normal(size=(6, 4, 3)),
        directions=1,
        lengths=[6, 4, 0, 5],
        mask=mask,
        resets=resets,
    )
    assert set(layer.parameters()) < set(errors)
    assert max(errors.values()) < 1e-7


class Checkpointed(fastrnn.Layer):
    """A layer whose vjp keeps few states, so that check_gradients goes that way."""

    recurrent = True

    def __init__(self, layer, every):
        super().__init__()
        self.layer, self.every = layer, every
        self._parameters = layer.parameters()

    def __call__(self, *arguments, **options):
        return self.layer(*arguments, **options)

    def vjp(self, *arguments, **options):
        return self.layer.vjp(*arguments, checkpoint_every=self.every, **options)


@pytest.mark.parametrize("options", [{}, {"sides": 2}, {"go_backwards": True}])
def test_a_learned_state_is_one_given_to_all_rows(options):
    learns, plain = small("lstm", learned_state=True, **options), small("lstm", **options)
    rng = np.random.default_rng(0)
    for p in (learns.parameters()[name] for name in ("state_0", "state_1")):
        p.data = rng.normal(size=p.shape)
    x, lengths = rng.normal(size=(6, 4, 3)), [6, 4, 0, 5]
    values = tuple(learns.parameters()[name].data for name in ("state_0", "state_1"))
    state = tuple(np.repeat(s[:, None], 4, axis=1) for s in values)
    (y, last), pullback = learns.vjp(x, None, lengths)
    (want, want_last), want_pullback = plain.vjp(x, state, lengths)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(last, want_last)
    np.testing.assert_array_equal(pullback(y, last)[1], want_pullback(y, last)[1])
    for i, gradient in enumerate(want_pullback(y, last)[1]):
        got = learns.parameters()[f"state_{i}"].grad
        np.testing.assert_allclose(got, gradient.sum(axis=1), rtol=1e-12)
    # After a reset it is there again, whatever was given.
    if not options:
        resets = np.zeros((6, 4), bool)
        resets[2] = True
        again, _ = learns(x, tuple(1 + s for s in state), resets=resets)
        np.testing.assert_allclose(again[2:], plain(x[2:], state)[0], rtol=1e-12)
        np.testing.assert_array_equal(learns.step(x[0])[0], plain.step(x[0], state)[0])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "cell, options",
    [
        ("lstm", {}),
        ("gru", {"go_backwards": True}),
        ("lstm", {"go_backwards": True, "learned_state": True}),
        *(("gru", {"merge_mode": mode}) for mode in ("concat", "sum", "mean", "mul")),
        ("lstm", {"merge_mode": "sum", "learned_state": True}),
    ],
)
def test_masks_and_resets_mean_the_same_as_of_the_layers_of_fastrnn(cell, options, seed):
    rng = np.random.default_rng(seed)
    both = "merge_mode" in options
    narrow = both and options["merge_mode"] != "concat"
    layer = LAYERS[cell](3, 5, 2, bidirectional=both, dtype="float64", seed=seed, **options)
    arrays = {name: p.data for name, p in layer.parameters().items()}
    sides = [
        [
            ReferenceCell(cell, size, weights_of(arrays, f"_l{k}{suffix}"))
            for k, size in enumerate((3, 5 if narrow or not both else 10))
        ]
        for suffix in ("", "_reverse")[: 1 + both]
    ]
    loop = fastrnn.RecurrentLoop(*sides, **options)
    x, lengths, (mask, resets) = rng.normal(size=(6, 4, 3)), [6, 4, 0, 5], flags(seed)
    results = []
    for each in (loop, layer):
        (y, last), pullback = each.vjp(x, None, lengths, mask=mask, resets=resets)
        inferred = each(x, None, lengths, mask=mask, resets=resets)
        dx, dstate = pullback(np.cos(np.arange(y.size).reshape(y.shape)), last)
        results.append([y, np.array(last), inferred[0], np.array(inferred[1]), dx, dstate])
        results[-1] += [each.parameters()[name].grad for name in arrays if name[-2:] != "_0"]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_a_sequence_without_batch_takes_masks():
    layer, rng = small(), np.random.default_rng(1)
    x, (mask, resets) = rng.normal(size=(6, 4, 3)), flags(2)
    y, last = layer(x[:, 1], mask=mask[:, 1], resets=resets[:, 1])
    want, want_last = layer(x[:, 1:2], mask=mask[:, 1:2], resets=resets[:, 1:2])
    np.testing.assert_array_equal(y, want[:, 0])
    np.testing.assert_array_equal(last, want_last[:, 0])


def test_padding_and_masked_steps_are_never_seen():
    layer, x = small(), np.random.default_rng(1).normal(size=(6, 4, 3))
    mask, lengths = flags(2)[0], np.array([6, 4, 0, 5])
    seen = mask & (np.arange(6)[:, None] < lengths)
    (y, _), pullback = layer.vjp(np.where(seen[..., None], x, np.nan), None, lengths, mask=mask)
    dx, _ = pullback(np.ones_like(y))
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    assert all(np.isfinite(p.grad).all() for p in layer.parameters().values())


# --- with the rest of the library -----------------------------------------------------------------


def test_it_trains_in_a_model_over_windows():
    from fastrnn.data import StreamLoader, Streams

    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, size) for size in ((24, 8), (24, 8), 24, 24)]
    loop = fastrnn.RecurrentLoop(
        ReferenceCell("gru", 8, reference.Weights(*(w.astype("float32") for w in weights)))
    )
    model = fastrnn.Sequential(fastrnn.Embedding(4, 8, seed=0), loop, fastrnn.Linear(8, 4, seed=0))
    ids = np.tile([0, 1, 2, 0, 1, 3], 60)  # what follows 0, 1 needs a memory
    streams = Streams(ids, 4)
    optimizer = fastrnn.optim.Adam(model.parameters(), lr=0.02)
    trainer, loader = fastrnn.Trainer(model, optimizer=optimizer), StreamLoader(streams, 15)
    trainer.fit(loader, epochs=25, progress=False)
    assert trainer.evaluate(loader)["loss"] < 0.1
    y, _ = model(streams.inputs[:5])
    stepped = None
    for t in range(5):
        y_t, stepped = model.step(streams.inputs[t], stepped)
    np.testing.assert_allclose(y_t, y[-1], rtol=0, atol=1e-5)


def test_weights_travel_by_state_dict_copy_and_pickle():
    loop, x = small(), np.ones((2, 3, 3))
    for other in (copy.deepcopy(loop), pickle.loads(pickle.dumps(loop))):
        np.testing.assert_array_equal(other(x)[0], loop(x)[0])
    other = small()
    for p in other.parameters().values():
        p.data = np.zeros(p.shape)
    other.load_state_dict(loop.state_dict())
    np.testing.assert_array_equal(other(x)[0], loop(x)[0])
    with pytest.raises(TypeError, match=r"layer: expected one of .*, got RecurrentLoop"):
        fastrnn.save(loop, "never-written")


def test_frozen_parameters_get_no_gradient():
    loop = small()
    frozen = loop.parameters()["weight_hh_l1"]
    frozen.requires_grad = False
    (y, _), pullback = loop.vjp(np.ones((2, 3, 3)))
    pullback(np.ones_like(y))
    assert [name for name, p in loop.parameters().items() if p.grad is None] == ["weight_hh_l1"]


def test_an_error_half_way_leaves_gradients_alone():
    cell = small(layers=1)._cells[0][0]
    loop = fastrnn.RecurrentLoop(cell)
    pull, calls = cell.vjp, []

    def broken(x_t, state):
        result, pullback = pull(x_t, state)

        def fails_at_the_second(dy, dstate):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return pullback(dy, dstate)

        return result, fails_at_the_second

    cell.vjp = broken
    (y, _), pullback = loop.vjp(X + 1)
    weight = loop.parameters()["weight_ih_l0"]
    weight.grad = given = np.ones(weight.shape)
    with pytest.raises(KeyboardInterrupt):
        pullback(np.ones_like(y))
    assert weight.grad is given
    assert (given == 1.0).all()
    assert [p.grad for p in loop.parameters().values()][1:] == [None] * 3
    pullback(np.ones_like(y))  # adds to what was there, in place
    assert weight.grad is given
    assert (given != 1.0).any()


def test_one_cell_in_both_directions_gets_both_gradients():
    cell = small(layers=1)._cells[0][0]
    errors = fastrnn.check_gradients(fastrnn.RecurrentLoop(cell, cell), np.ones((4, 2, 3)))
    assert list(errors) == ["x", "state", *(f"{name}_l0" for name in cell.parameters())]
    assert max(errors.values()) < 1e-7


def test_windows_with_resets_are_one_pass():
    from fastrnn.training import window_vjp

    layer, x, resets = small("lstm"), np.random.default_rng(0).normal(size=(6, 4, 3)), flags(4)[1]
    (y, state), pullback = layer.vjp(x, resets=resets)
    (got, got_state), got_pullback = window_vjp(layer, x, 4, resets=resets)
    gradients, got_gradients = pullback(y, state), got_pullback(y, state)
    for a, b in ((got, y), (got_state, state), *zip(got_gradients, gradients, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_states_may_be_written_to_before_the_pullback():
    loop, x = small("lstm"), np.random.default_rng(0).normal(size=(3, 2, 3))
    state = tuple(np.random.default_rng(1).normal(size=(2, 2, 2, 2)))
    want = run_twice(loop, x, state, spoil=False)
    got = run_twice(loop, x, state, spoil=True)
    assert_same_bits(got, want)


def run_twice(loop, x, state, spoil):
    loop.zero_grad()
    given = tuple(s.copy() for s in state)
    (y, last), pullback = loop.vjp(x, given)
    if spoil:
        for array in (y, *last, *given):
            array[...] = np.nan
    dx, _ = pullback(np.ones_like(x[..., :2]))
    again, _ = pullback(np.ones_like(x[..., :2]))
    np.testing.assert_array_equal(dx, again)
    return {"dx": dx} | {name: p.grad for name, p in loop.parameters().items()}


# --- what is wrong --------------------------------------------------------------------------------


class Wrong(fastrnn.Cell):
    """A cell that returns what it was told to."""

    def __init__(self, result=None, back=None, sizes=None):
        super().__init__(3, 2, sizes, dtype="float64")
        self.result, self.back = result, back

    def vjp(self, x_t, state):
        y = np.zeros((len(x_t), 2))
        good = y, tuple(np.zeros_like(s) for s in state)
        back = self.back or (lambda: (np.zeros_like(x_t), good[1]))
        return (self.result() if self.result else good), lambda dy, dstate: back()


A, B = np.zeros((4, 2)), np.zeros((4, 3))


@pytest.mark.parametrize(
    "result, error, message",
    [
        (lambda: (A[:, :1], (A,)), ValueError, r"Wrong: expected y_t of the shape \(4, 2\), got"),
        (lambda: (A, (B,)), ValueError, r"Wrong: expected the state\[0\] of the shape \(4, 2\)"),
        (lambda: (A, (A, A)), ValueError, "Wrong: expected 1 states, got 2"),
        (lambda: (A.astype("f"), (A,)), TypeError, "expected y_t of float64, got float32"),
        (lambda: (A, ([0.0],)), TypeError, r"expected the state\[0\] of float64, got list"),
        (lambda: A, TypeError, r"expected \(y_t, a tuple of states\), got"),
    ],
)
def test_what_a_cell_returns_is_checked(result, error, message):
    loop = fastrnn.RecurrentLoop(Wrong(result))
    with pytest.raises(error, match=message):
        loop(np.zeros((2, 4, 3)))
    with pytest.raises(error, match=message):
        loop.vjp(np.zeros((2, 4, 3)))


@pytest.mark.parametrize(
    "back, error, message",
    [
        (
            lambda: (A, (A,)),
            ValueError,
            r"Wrong: expected dx_t of the shape \(4, 3\), got \(4, 2\)",
        ),
        (lambda: (B, (B,)), ValueError, r"Wrong: expected dstate\[0\] of the shape \(4, 2\)"),
        (lambda: (B, None), TypeError, r"expected \(dx_t, a tuple of states\)"),
    ],
)
def test_what_a_pullback_returns_is_checked(back, error, message):
    (y, _), pullback = fastrnn.RecurrentLoop(Wrong(back=back)).vjp(np.zeros((2, 4, 3)))
    with pytest.raises(error, match=message):
        pullback(np.ones_like(y))


def test_cells_cannot_write_to_what_they_are_given():
    class Writer(Wrong):
        def vjp(self, x_t, state):
            state[0][...] = 1.0

    with pytest.raises(ValueError, match="read-only"):
        fastrnn.RecurrentLoop(Writer())(np.zeros((2, 4, 3)))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: fastrnn.RecurrentLoop(3), TypeError, "cells: expected a Cell or a list"),
        (lambda: fastrnn.RecurrentLoop([]), ValueError, "cells: expected at least one"),
        (lambda: fastrnn.RecurrentLoop([Wrong(), 1]), TypeError, "a Cell at position 1, got 1"),
        (
            lambda: fastrnn.RecurrentLoop([Wrong(), Wrong()]),
            ValueError,
            r"cells\[1\].input_size: expected 2, got 3",
        ),
        (
            lambda: fastrnn.RecurrentLoop(Wrong(), Wrong(sizes=(5,))),
            ValueError,
            r"reverse_cells\[0\].state_sizes: expected \(2,\), got \(5,\)",
        ),
        (
            lambda: fastrnn.RecurrentLoop([Wrong()], [Wrong()] * 2),
            ValueError,
            r"reverse_cells: expected as many as cells \(1\), got 2",
        ),
        (
            lambda: fastrnn.RecurrentLoop(Wrong(), Wrong(), go_backwards=True),
            ValueError,
            "go_backwards: expected False",
        ),
        (
            lambda: fastrnn.RecurrentLoop(Wrong(), merge_mode="avg"),
            ValueError,
            "merge_mode: expected one of 'concat', 'sum', 'mean', 'mul', got 'avg'",
        ),
        (lambda: fastrnn.Cell(3, 2, ()), ValueError, "state_sizes: expected at least one"),
        (lambda: fastrnn.Cell(0, 2), ValueError, "input_size: expected at least 1, got 0"),
    ],
)
def test_wrong_cells_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


X = np.zeros((6, 4, 3))


@pytest.mark.parametrize(
    "cell, call, error, message",
    [
        ("gru", lambda f: f(X[..., :2]), ValueError, r"x: expected the shape \(T, B, 3\)"),
        ("gru", lambda f: f(X.astype("f")), TypeError, "x: expected float64"),
        ("gru", lambda f: f(X, X), ValueError, r"state: expected the shape \(2, 4, 2\), got"),
        ("lstm", lambda f: f(X, A), TypeError, "state: expected a tuple of 2 arrays, got ndarray"),
        ("lstm", lambda f: f(X, (A, None)), ValueError, r"state\[0\]: expected the shape \(2, 4,"),
        ("gru", lambda f: f(X, None, [7] * 4), ValueError, "lengths: expected numbers from 0 to 6"),
        ("gru", lambda f: f(X, mask=np.ones((6, 4))), TypeError, "mask: expected an array of bool"),
        (
            "gru",
            lambda f: f(X, resets=np.ones((4, 6), bool)),
            ValueError,
            r"resets: expected the shape \(6, 4\), got \(4, 6\)",
        ),
    ],
)
def test_wrong_arguments_are_refused(cell, call, error, message):
    layer = small(cell)
    for method in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            call(method)


def test_wrong_gradients_are_refused():
    layer = small()
    _, pullback = layer.vjp(X)
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(6, 4, 2\)"):
        pullback(X)
    with pytest.raises(ValueError, match=r"dstate: expected the shape \(2, 4, 2\)"):
        pullback(None, X)
    assert all(p.grad is None for p in layer.parameters().values())
    with pytest.raises(ValueError, match=r"gradient: expected the shape \(6,\), got \(1,\)"):
        layer.parameters()["bias_ih_l0"].add_grad(np.zeros(1))


def test_steps_need_a_forward_direction():
    with pytest.raises(ValueError, match="step: expected one direction, forward, got a bidir"):
        small(sides=2).step(X[0])
    with pytest.raises(ValueError, match="step: expected one direction, forward, got one that"):
        small(go_backwards=True).step(X[0])


def test_representation():
    assert repr(fastrnn.RecurrentLoop(Wrong())) == "RecurrentLoop([Wrong(3, 2)])"
    loop = fastrnn.RecurrentLoop(Wrong(), Wrong(), merge_mode="sum", batch_first=True)
    assert repr(loop) == (
        "RecurrentLoop([Wrong(3, 2)], reverse_cells=[Wrong(3, 2)], merge_mode='sum', "
        "batch_first=True)"
    )


# --- check_gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weight_ih", "bias_hh", "x", "state"])
def test_check_gradients_finds_a_wrong_gradient(name):
    class Slip(ReferenceCell):
        def vjp(self, x_t, state):
            result, pullback = super().vjp(x_t, state)

            def slipped(dy, dstate):
                dx, before = pullback(dy, dstate)
                if name in ("x", "state"):
                    arrays = {"x": dx, "state": before[0]}
                else:
                    arrays = {name: self.parameters()[name].grad}
                arrays[name].flat[0] += 0.01
                return dx, before

            return result, slipped

    cell = Slip("rnn_tanh", 3, small("rnn_tanh")._cells[0][0].weights)
    errors = fastrnn.check_gradients(cell, np.random.default_rng(0).normal(size=(4, 3)))
    wrong = [key for key, error in errors.items() if error > 1e-6]
    assert wrong == [name if name != "state" else "state[0]"]


def test_check_gradients_takes_layers_and_models():
    model = fastrnn.Sequential(
        fastrnn.Embedding(5, 3, dtype="float64", seed=0),
        fastrnn.LSTM(3, 4, 2, bidirectional=True, dtype="float64", seed=0),
        fastrnn.Linear(8, 2, dtype="float64", seed=0),
    )
    model.parameters()["2.bias"].requires_grad = False
    ids = np.random.default_rng(0).integers(0, 5, (6, 3))
    errors = fastrnn.check_gradients(model, ids, lengths=[6, 0, 3])
    expected = set(model.parameters()) - {"2.bias"} | {"state[0][0]", "state[0][1]"}
    assert errors.keys() == expected
    assert max(errors.values()) < 1e-6
    assert all(p.grad is None for p in model.parameters().values())

    linear = fastrnn.Linear(3, 2, dtype="float64", seed=0)
    before, grad = linear.state_dict(), np.ones((2, 3))
    linear.weight.grad = grad
    assert max(fastrnn.check_gradients(linear, X).values()) < 1e-9
    assert linear.weight.grad is grad
    assert (grad == 1.0).all()
    assert_same_bits(linear.state_dict(), before)


def test_check_gradients_needs_float64():
    with pytest.raises(TypeError, match="x: expected an array of float64, got float32"):
        fastrnn.check_gradients(fastrnn.Linear(3, 2, seed=0), X.astype("f"))
    with pytest.raises(TypeError, match="weight: expected an array of float64, got float32"):
        fastrnn.check_gradients(fastrnn.Embedding(3, 2, seed=0), [0, 1])


def test_the_example_learns():
    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "own_cell.py"))
    assert example["check"]() < 1e-7
    # Half of what always answering 1 gives: 1 / 6.
    assert example["main"](steps=250, length=8, hidden_size=16, batch=32) < 1 / 12
