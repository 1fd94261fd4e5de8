"""Training with `checkpoint_every` gives what it gives without, bit by bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from recurrent_cases import CELLS, DTYPES, Case, assert_same_bits, forward, pull, run


@st.composite
def cases(draw, cell):
    steps, batch = draw(st.integers(0, 40)), draw(st.sampled_from([1, 2, 3, 7, 13]))
    lengths = None
    if draw(st.booleans()):
        lengths = tuple(draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    return Case(
        cell,
        draw(st.sampled_from(DTYPES)),
        steps=steps,
        batch=batch,
        input_size=draw(st.sampled_from([1, 3, 16, 40])),
        hidden_size=draw(st.sampled_from([1, 3, 8, 16, 17, 33, 65, 130])),
        num_layers=draw(st.integers(1, 2)),
        bidirectional=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        lengths=lengths,
    )


@pytest.mark.parametrize("cell", CELLS)
@given(draw=st.data())
def test_same_bits(cell, draw):
    case = draw.draw(cases(cell))
    every = draw.draw(st.integers(1, case.steps + 2))
    layer, data = case.layer(), case.data()
    if draw.draw(st.booleans()):  # token ids
        ids = np.random.default_rng(3).integers(0, case.input_size, data.x.shape[:2])
        data = data._replace(x=ids)
    before = fastrnn.get_num_threads()
    fastrnn.set_num_threads(draw.draw(st.integers(1, 3)))
    try:
        assert_same_bits(run(case, layer, data, every), run(case, layer, data))
    finally:
        fastrnn.set_num_threads(before)


# Enough work for the threads to share out, in each of the ways that they do.
@pytest.mark.parametrize(
    "shape",
    [
        {"batch": 1, "hidden_size": 130},  # units
        {"batch": 16, "hidden_size": 32, "lengths": tuple(range(90, 10, -5))},  # rows
        {"batch": 3, "hidden_size": 65, "bidirectional": True, "lengths": (60, 90, 0)},
    ],
    ids=["units", "rows", "directions"],
)
@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_where_threads_share(cell, shape, set_num_threads):
    case = Case(cell, steps=90, input_size=20, **shape)
    layer, data = case.layer(), case.data()
    set_num_threads(1)
    want = run(case, layer, data)
    # Windows of one step, of less than a chunk of rows, of several chunks, of all steps.
    for num_threads, every in [(1, 7), (2, 1), (2, 80), (3, 7), (4, 10**30)]:
        set_num_threads(num_threads)
        assert_same_bits(run(case, layer, data, every), want)


def test_pullback_may_be_called_again():
    case = Case(steps=20)
    layer, data = case.layer(), case.data()
    _, pullback = forward(case, layer, data, 4)
    first = {name: np.array(array) for name, array in pull(case, layer, pullback, data).items()}
    assert_same_bits(pull(case, layer, pullback, data), first)


def test_sequential_takes_it():
    model = fastrnn.Sequential(
        fastrnn.Embedding(7, 5, seed=1), fastrnn.LSTM(5, 6, seed=2), fastrnn.GRU(6, 4, seed=3)
    )
    ids = np.random.default_rng(4).integers(0, 7, (30, 3))
    gradients = []
    for every in (None, 5):
        (y, _), pullback = model.vjp(ids, checkpoint_every=every)
        model.zero_grad()
        pullback(np.ones_like(y))
        gradients.append({"y": y} | {n: p.grad for n, p in model.parameters().items()})
    assert_same_bits(*gradients)
