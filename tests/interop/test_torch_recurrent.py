"""The recurrent layers beside PyTorch's: outputs, final states and every gradient, on more than
200 shapes, with the same weights.

GRU(reset_after=False) has no peer in PyTorch; test_recurrent_reference.py compares it with its
formulas. Nor have T = 0 and rows without steps, which PyTorch refuses, and of the variants in
test_variants.py all but the projection of an LSTM.
"""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from recurrent_cases import (  # noqa: E402
    DTYPES,
    SIZES,
    Case,
    assert_close,
    infer,
    name_states,
    run,
    state_from_user,
    state_to_user,
    to_user,
)
from variant_cases import make_data  # noqa: E402

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")

# Largest difference, relative to the largest number of the array or to 1 if that is smaller.
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}

LENGTHS = (5, 1, 3, 2)
LAYOUTS = [
    {},
    {"batch_first": True},
    {"unbatched": True, "batch": 1},
    {"unbatched": True, "batch": 1, "batch_first": True},
    {"lengths": LENGTHS},
    {"lengths": LENGTHS, "batch_first": True},
]
OPTIONS = [
    Case(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, **layout)
    for cell, dtype, layers, bidirectional, bias, layout in itertools.product(
        CELLS, DTYPES, (1, 2, 3), (False, True), (True, False), LAYOUTS
    )
]
SHAPES = [
    Case(cell, dtype, 4, 3, input_size, hidden_size)
    for cell, dtype, input_size, hidden_size in itertools.product(CELLS, DTYPES, SIZES, SIZES)
]
BATCHES = [
    Case(cell, dtype, 6, batch, 5, 17, num_layers=2, bidirectional=True)
    for cell, dtype, batch in itertools.product(CELLS, DTYPES, (1, 2, 7, 13, 33, 64))
]
EMPTY = [
    Case(cell, dtype, 3, 0, num_layers=2, bidirectional=bidirectional)
    for cell, dtype, bidirectional in itertools.product(CELLS, DTYPES, (False, True))
]
PROJECTIONS = [
    (Case("lstm", dtype, num_layers=layers, bidirectional=both, **layout), proj_size)
    for dtype, layers, both, layout, proj_size in itertools.product(
        DTYPES, (1, 3), (False, True), LAYOUTS, (1, 4)
    )
] + [
    (Case("lstm", dtype, 4, batch, 5, hidden_size, num_layers=2, bias=False), proj_size)
    for dtype, batch, hidden_size, proj_size in itertools.product(
        DTYPES, (1, 7, 13), (17, 65), (1, 15, 16)
    )
]
LARGE = [Case(cell, dtype, 60, 20, 64, 100) for cell, dtype in itertools.product(CELLS, DTYPES)]


@pytest.fixture(autouse=True, scope="module")
def torch_in_one_thread():
    """These layers are too small to share; waiting for each other would be most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def torch_layer(case, **options):
    kind = {"rnn_tanh": "RNN", "rnn_relu": "RNN", "lstm": "LSTM", "gru": "GRU"}[case.cell]
    return getattr(torch.nn, kind)(
        case.input_size,
        case.hidden_size,
        case.num_layers,
        bias=case.bias,
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        dtype=getattr(torch, case.dtype),
        **({"nonlinearity": case.cell[4:]} if kind == "RNN" else options),
    )


def run_torch(case, layer, data):
    """The dictionary that `run` gives, from PyTorch."""
    x = torch.tensor(to_user(case, data.x), requires_grad=True)
    state = state_to_user(case, data.state)
    first = tuple(
        torch.tensor(s, requires_grad=True) for s in (state if case.cell == "lstm" else (state,))
    )
    state = first if case.cell == "lstm" else first[0]
    if data.lengths is None:
        y, last = layer(x, state)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(data.lengths), case.batch_first, enforce_sorted=False
        )
        packed, last = layer(packed, state)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(
            packed, case.batch_first, total_length=case.steps
        )
    last = last if case.cell == "lstm" else (last,)
    dstate = state_to_user(case, data.dstate)
    dstate = dstate if case.cell == "lstm" else (dstate,)
    outputs = (y, *last)
    gradients = (to_user(case, data.dy), *dstate)
    torch.autograd.backward(outputs, [torch.tensor(gradient) for gradient in gradients])

    def from_torch(tensors):
        arrays = tuple(tensor.detach().numpy() for tensor in tensors)
        return tuple(a[:, None] for a in arrays) if case.unbatched else arrays

    def time_major(tensor):
        array = tensor.detach().numpy()
        if case.unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if case.batch_first else array

    return (
        {"y": time_major(y)}
        | name_states("last ", from_torch(last))
        | {"dx": time_major(x.grad)}
        | name_states("d first ", from_torch(s.grad for s in first))
        | {f"grad {name}": p.grad.numpy() for name, p in layer.named_parameters()}
    )


@pytest.mark.parametrize("case", OPTIONS + SHAPES + BATCHES + EMPTY + LARGE, ids=str)
def test_same_as_torch(case):
    torch.manual_seed(0)
    theirs = torch_layer(case)
    ours, data = case.layer(), case.data()
    ours.load_state_dict(theirs.state_dict())
    want = run_torch(case, theirs, data)
    tolerance = TOLERANCES[case.dtype]
    assert_close(run(case, ours, data), want, tolerance)
    outputs = infer(case, ours, data)
    assert_close(outputs, {name: want[name] for name in outputs}, tolerance)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("case", "proj_size"), PROJECTIONS, ids=str)
def test_projection_as_torch(case, proj_size):
    theirs, ours = torch_layer(case, proj_size=proj_size), case.layer(proj_size=proj_size)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    data = make_data(ours, case.steps, case.batch, lengths=case.lengths)
    want = run_torch(case, theirs, data)
    assert_close(run(case, ours, data), want, TOLERANCES[case.dtype])
    outputs = infer(case, ours, data)
    assert_close(outputs, {name: want[name] for name in outputs}, TOLERANCES[case.dtype])


def test_the_grid_is_large_and_its_cases_differ():
    grid = OPTIONS + SHAPES + BATCHES + EMPTY + LARGE
    assert len(set(grid)) == len(grid) >= 200


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "bidirectional"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_state_dict_goes_to_torch_and_back(cell, dtype, bidirectional, bias):
    case = Case(cell, dtype, num_layers=2, bidirectional=bidirectional, bias=bias)
    ours, theirs = case.layer(), torch_layer(case)
    arrays = ours.state_dict()
    assert list(arrays) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    twin = case.layer(seed=9)
    twin.load_state_dict(theirs.state_dict())
    for name, array in twin.state_dict().items():
        assert np.array_equal(array, arrays[name])


@pytest.mark.parametrize("cell", CELLS)
def test_same_initial_distribution(cell):
    """Uniform within 1 / sqrt(H), every parameter."""
    case = Case(cell, input_size=60, hidden_size=50, num_layers=2)
    ours, theirs = case.layer().state_dict(), torch_layer(case).state_dict()
    for name, array in theirs.items():
        assert np.abs(ours[name]).max() <= 1 / np.sqrt(50)
        # The standard error of a uniform sample's deviation is below 0.7 / sqrt(n) of it.
        assert ours[name].std() == pytest.approx(
            array.numpy().std(), rel=6 / np.sqrt(array.numel())
        )


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_as_torch(cell):
    """Streaming gives what PyTorch gives for the whole sequence."""
    case = Case(cell, steps=20, batch=3, input_size=6, hidden_size=19, num_layers=2)
    theirs, ours, data = torch_layer(case), case.layer(), case.data()
    ours.load_state_dict(theirs.state_dict())
    want = run_torch(case, theirs, data)
    state, y = state_to_user(case, data.state), np.zeros_like(want["y"])
    for t in range(case.steps):
        y[t], state = ours.step(data.x[t], state)
    got = {"y": y} | name_states("last ", state_from_user(case, state))
    assert_close(got, {name: want[name] for name in got}, TOLERANCES["float32"])
