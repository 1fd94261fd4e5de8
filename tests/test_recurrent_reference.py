"""The recurrent layers give what the formulas say: outputs, final states and every gradient.

The formulas are in reference.py, whose gradients are themselves checked here by differences, and
so are fastrnn's, without it.
"""

import itertools

import numpy as np
import pytest

import reference
from recurrent_cases import (
    CELLS,
    DTYPES,
    SIZES,
    Case,
    assert_close,
    infer,
    name_states,
    run,
    run_reference,
    state_to_user,
    to_user,
)

LENGTHS = (5, 0, 3, 1)  # of 5 steps: all, none, some, one; not in order


def check(case):
    layer, data = case.layer(), case.data()
    want = run_reference(case, layer.state_dict(), data)
    got = run(case, layer, data)
    assert_close(got, want, case.tolerance())
    for array in got.values():
        assert array.dtype == case.dtype
    outputs = infer(case, layer, data)
    assert_close(outputs, {name: want[name] for name in outputs}, case.tolerance())


# ---------------------------------------------------------------------------------- the grid

LAYOUTS = {
    "time_major": {},
    "batch_first": {"batch_first": True},
    "unbatched": {"unbatched": True, "batch": 1},
    "unbatched_batch_first": {"unbatched": True, "batch": 1, "batch_first": True},
    "lengths": {"lengths": LENGTHS},
    "lengths_batch_first": {"lengths": LENGTHS, "batch_first": True},
}
GRID = [
    Case(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, **layout)
    for cell, dtype, layers, bidirectional, bias, layout in itertools.product(
        CELLS, DTYPES, (1, 2, 3), (False, True), (True, False), LAYOUTS.values()
    )
]


@pytest.mark.parametrize("case", GRID, ids=str)
def test_reference_every_option(case):
    check(case)


@pytest.mark.parametrize("hidden_size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_reference_every_size(cell, dtype, hidden_size):
    for input_size in SIZES:
        check(Case(cell, dtype, 3, 2, input_size, hidden_size))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 24, 25, 33, 64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_reference_every_batch(cell, dtype, batch):
    """Around the numbers of rows that kernels take at once."""
    lengths = tuple(t % 4 for t in range(batch))
    check(Case(cell, dtype, 3, batch, 5, 17))
    check(Case(cell, dtype, 3, batch, 5, 17, num_layers=2, bidirectional=True, lengths=lengths))


@pytest.mark.parametrize("batch", [1, 3, 12])
@pytest.mark.parametrize("cell", CELLS)
def test_reference_long_and_wide(cell, batch):
    """Many steps (chunks of time) and several groups of units (which threads share)."""
    check(Case(cell, "float64", 150, batch, 4, 9))
    check(Case(cell, "float64", 4, batch, 130, 150))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_reference_empty(cell, dtype, steps, batch, bidirectional, batch_first):
    """No steps: the final state is the initial one. No rows: empty arrays and zero gradients."""
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first}
    check(Case(cell, dtype, steps, batch, **options))
    check(Case(cell, dtype, steps, batch, lengths=(0,) * batch, **options))


@pytest.mark.parametrize("cell", CELLS)
def test_reference_empty_unbatched(cell):
    check(Case(cell, steps=0, batch=1, unbatched=True))


@pytest.mark.parametrize("lengths", list(itertools.product((0, 1, 2), repeat=3)))
@pytest.mark.parametrize("cell", CELLS)
def test_reference_every_pattern_of_lengths(cell, lengths):
    check(Case(cell, "float64", 2, 3, num_layers=2, bidirectional=True, lengths=lengths))


@pytest.mark.parametrize("cell", CELLS)
def test_reference_default_state_is_zero(cell):
    """Without a state, and without a gradient of the final state, both are zeros."""
    case = Case(cell, num_layers=2, bidirectional=True, lengths=LENGTHS)
    layer, data = case.layer(), case.data()
    nothing = tuple(np.zeros_like(s) for s in data.state)
    want = run_reference(case, layer.state_dict(), data._replace(state=nothing, dstate=nothing))

    y, state = layer(data.x, lengths=data.lengths)
    (y_again, _), pullback = layer.vjp(data.x, lengths=data.lengths)
    dx, dstate = pullback(data.dy)

    got = {"y": y, "dx": dx} | name_states("last ", state if cell == "lstm" else (state,))
    got |= name_states("d first ", dstate if cell == "lstm" else (dstate,))
    got |= {f"grad {name}": p.grad for name, p in layer.parameters().items()}
    assert_close(got, want, case.tolerance())
    assert np.array_equal(y, y_again)


# ------------------------------------------------------------------------------- differences

# The error of a central difference is step^2 f''' / 6 + eps |f| / step: about 1e-10 for both terms
# with step 1e-5 and |f| of the order of 1. The issue asks for less than 1e-6 of the largest entry.
DIFFERENCE_ERROR = 1e-6

DIFFERENCE_CASES = [
    Case(cell, "float64", 4, 3, 2, 3, 2, bidirectional=bidirectional, lengths=lengths)
    for cell in CELLS
    for bidirectional in (False, True)
    for lengths in (None, (4, 0, 2))
]


def compare_with_differences(gradients, arrays, loss):
    for name, array in arrays.items():
        want = reference.central_difference(loss, array)
        error = np.abs(gradients[name] - want).max() / np.abs(want).max()
        assert error < DIFFERENCE_ERROR, f"{name}: error {error:.3g}"


def inputs_of(data):
    return {"dx": data.x} | name_states("d first ", data.state)


def weigh(data, y, state):
    """The loss whose gradient by (y, state) is (dy, dstate)."""
    return (data.dy * y).sum() + sum((d * s).sum() for d, s in zip(data.dstate, state, strict=True))


@pytest.mark.parametrize("case", DIFFERENCE_CASES[3::4], ids=str)
def test_reference_itself_by_differences(case):
    data = case.data()
    parameters = case.layer().state_dict()
    gradients = run_reference(case, parameters, data)

    def loss():
        y, state, _ = reference.forward(case.network, parameters, data.x, data.state, data.lengths)
        return weigh(data, y, state)

    arrays = inputs_of(data) | {f"grad {name}": array for name, array in parameters.items()}
    compare_with_differences(gradients, arrays, loss)


@pytest.mark.parametrize("case", DIFFERENCE_CASES, ids=str)
def test_gradients_by_differences(case):
    layer, data = case.layer(), case.data()
    gradients = run(case, layer, data)
    parameters = layer.parameters()

    def loss():
        y, state = layer(data.x, state_to_user(case, data.state), data.lengths)
        return weigh(data, y, state if isinstance(state, tuple) else (state,))

    compare_with_differences(gradients, inputs_of(data), loss)
    for name, parameter in parameters.items():
        array = parameter.data.copy()

        def loss_of_array(parameter=parameter, array=array):
            parameter.data = array
            return loss()

        compare_with_differences(gradients, {f"grad {name}": array}, loss_of_array)
        parameter.data = array


# ----------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_of_everything(cell, bidirectional):
    """With dropout 1 all layers but the first see zeros; inference does not drop."""
    case = Case(cell, num_layers=3, bidirectional=bidirectional, lengths=LENGTHS)
    layer, data = case.layer(dropout=1.0), case.data()
    masks = [np.zeros_like(data.dy)] * 2
    want = run_reference(case, layer.state_dict(), data, masks)
    assert_close(run(case, layer, data), want, case.tolerance())
    plain = run_reference(case, layer.state_dict(), data)
    outputs = infer(case, layer, data)
    assert_close(outputs, {name: plain[name] for name in outputs}, case.tolerance())


def test_dropout_scales_and_comes_back():
    """The second layer is the identity: it shows what the dropout between the layers let through,
    zero or 1 / (1 - p) times the value, and backward goes through the same mask."""
    case = Case("rnn_relu", steps=40, batch=7, hidden_size=5, num_layers=2, batch_first=True)
    layer, data = case.layer(dropout=0.25), case.data()
    parameters = layer.parameters()
    parameters["weight_ih_l1"].data = np.eye(5, dtype=np.float32)
    parameters["bias_ih_l0"].data = np.full(5, 20.0, np.float32)  # no zeros before the dropout
    parameters["weight_hh_l0"].data = np.full((5, 5), 0.1, np.float32)
    for name in ("weight_hh_l1", "bias_ih_l1", "bias_hh_l1"):
        parameters[name].data = np.zeros(parameters[name].shape, np.float32)
    got = run(case, layer, data)

    without = infer(case, layer, data)["y"]
    mask = got["y"] / without
    kept = mask != 0
    assert np.allclose(mask[kept], 1 / 0.75, rtol=1e-6)
    # 1400 draws: six standard deviations of their mean.
    assert abs(kept.mean() - 0.75) < 6 * np.sqrt(0.75 * 0.25 / kept.size)
    assert_close(got, run_reference(case, layer.state_dict(), data, [mask]), case.tolerance())
    assert not np.array_equal(run(case, layer, data)["y"], got["y"]), "each call draws anew"


def test_dropout_repeats_with_the_seed():
    case = Case("gru", num_layers=2, hidden_size=20)
    data = case.data()
    first, again, other = (
        run(case, case.layer(seed=seed, dropout=0.5), data)["y"] for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# -------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_names_and_shapes(cell, bias, bidirectional):
    case = Case(cell, num_layers=2, bidirectional=bidirectional, bias=bias)
    shapes = {name: p.shape for name, p in case.layer().parameters().items()}
    assert shapes == case.network.parameter_shapes()
    assert list(shapes) == list(case.network.parameter_shapes())


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_initial_values(dtype):
    case = Case("lstm", dtype, input_size=50, hidden_size=25, num_layers=2)
    arrays = case.layer(seed=7).state_dict()
    for name, array in arrays.items():
        assert array.dtype == dtype
        assert np.abs(array).max() <= 1 / np.sqrt(25), name
        assert array.std() == pytest.approx(1 / np.sqrt(3 * 25), rel=0.2), name
        assert np.unique(array).size > 0.99 * array.size, name
    assert not np.array_equal(arrays["bias_ih_l0"], arrays["bias_hh_l0"])

    again, other = case.layer(seed=7).state_dict(), case.layer(seed=8).state_dict()
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert not any(np.array_equal(arrays[name], other[name]) for name in arrays)
    assert not np.array_equal(
        case.layer(seed=None).state_dict()["weight_ih_l0"],
        case.layer(seed=None).state_dict()["weight_ih_l0"],
    )


@pytest.mark.parametrize("cell", CELLS)
def test_parameters_changes_are_seen(cell):
    """Prepared weights never outlive a change, whichever way it was made."""
    case = Case(cell, num_layers=2)
    layer, data = case.layer(seed=1), case.data()
    infer(case, layer, data)
    other = case.layer(seed=9).state_dict()
    want = run_reference(case, other, data)

    layer.load_state_dict(other)
    assert_close(run(case, layer, data), want, case.tolerance())

    layer = case.layer(seed=1)
    infer(case, layer, data)
    for name, parameter in layer.parameters().items():
        parameter.data = other[name]
    assert_close(run(case, layer, data), want, case.tolerance())


@pytest.mark.parametrize("cell", CELLS)
def test_frozen_parameters_get_no_gradient(cell):
    case = Case(cell, num_layers=2, bidirectional=True)
    data = case.data()
    want = run(case, case.layer(), data)
    for frozen in case.network.parameter_shapes():
        layer = case.layer()
        layer.parameters()[frozen].requires_grad = False
        got = run(case, layer, data)
        assert got.pop(f"grad {frozen}") is None
        assert all(np.array_equal(got[name], want[name]) for name in got)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_accumulate(cell):
    """A pullback adds to what is there, also to gradients that the user put there."""
    case = Case(cell, num_layers=2, lengths=LENGTHS)
    layer, data = case.layer(), case.data()
    want = run_reference(case, layer.state_dict(), data)
    for parameter in layer.parameters().values():
        parameter.grad = np.full(parameter.shape, 3.0, np.float32)
    _, pullback = layer.vjp(to_user(case, data.x), state_to_user(case, data.state), data.lengths)
    pullback(data.dy, state_to_user(case, data.dstate))
    got = {f"grad {name}": p.grad for name, p in layer.parameters().items()}
    assert_close(got, {name: want[name] + 3.0 for name in got}, case.tolerance())
