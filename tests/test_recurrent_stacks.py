"""A stack of layers gives what its layers give one after the other, in little memory; and inference
sees every change of the weights, however it came about.
"""

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastrnn
from fastrnn import optim
from recurrent_cases import CELLS, Case, assert_same_bits, infer, name_states

# More entries than a chunk of time has: of wide rows, and of few rows that threads take in turn.
STACKS = [
    Case(dtype="float64", steps=50, batch=3, hidden_size=130, num_layers=4),
    Case(dtype="float64", steps=50, batch=3, hidden_size=130, num_layers=2, lengths=(45, 0, 13)),
    Case(steps=90, batch=1, hidden_size=48, num_layers=3),
    Case(steps=90, batch=4, hidden_size=48, num_layers=2, lengths=(9, 80, 0, 31)),
    Case(steps=90, batch=2, hidden_size=48, num_layers=3, batch_first=True),
    Case(steps=90, batch=1, hidden_size=48, num_layers=2, unbatched=True),
    Case(steps=9, batch=4, hidden_size=17, num_layers=3, bidirectional=True, lengths=(9, 2, 0, 5)),
]


def single_layers(case, layer):
    """Layers of one level each, with the weights of a stack."""
    weights = layer.state_dict()
    size = case.input_size
    for level in range(case.num_layers):
        single = Case(**{**vars(case), "num_layers": 1, "input_size": size}).layer()
        suffixes = ("", "_reverse") if case.bidirectional else ("",)
        single.load_state_dict(
            {
                f"{kind}_l0{suffix}": weights[f"{kind}_l{level}{suffix}"]
                for suffix in suffixes
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )
        yield single
        size = case.hidden_size * len(suffixes)


def one_after_the_other(case, layer, data):
    directions = 2 if case.bidirectional else 1
    x, finals = data.x, []
    for level, single in enumerate(single_layers(case, layer)):
        part = slice(level * directions, (level + 1) * directions)
        state = tuple(s[part] for s in data.state)
        got = infer(case, single, data._replace(x=x, state=state))
        x = got.pop("y")
        finals.append(got)
    last = {name: np.concatenate([final[name] for final in finals]) for name in finals[0]}
    return {"y": x} | last


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_stack_is_its_layers_one_after_the_other(cell, stack, num_threads, set_num_threads):
    set_num_threads(num_threads)
    case = Case(**{**vars(stack), "cell": cell})
    layer, data = case.layer(), case.data()
    want = one_after_the_other(case, layer, data)
    assert_same_bits(infer(case, layer, data), want)
    ids = np.arange(data.x[..., 0].size).reshape(data.x.shape[:2]) % case.input_size
    one_hot = np.eye(case.input_size, dtype=case.dtype)[ids]
    want = one_after_the_other(case, layer, data._replace(x=one_hot))
    assert_same_bits(infer(case, layer, data._replace(x=ids)), want)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes",
    [{"steps": 0}, {"batch": 0}, {"batch": 2, "lengths": (0, 0)}, {"batch": 0, "lengths": ()}],
    ids=str,
)
def test_stack_of_nothing_returns_its_state(sizes, cell, bidirectional):
    case = Case(cell, num_layers=3, bidirectional=bidirectional, **sizes)
    data = case.data()
    got = infer(case, case.layer(), data)
    width = case.hidden_size * (2 if bidirectional else 1)
    zeros = np.zeros((case.steps, case.batch, width), np.float32)
    assert_same_bits(got, {"y": zeros} | name_states("last ", data.state))


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("T, B", [(2000, 512), (500_000, 2)])
def test_stack_needs_little_memory_beside_its_output(T, B):
    """32 MB come out; one intermediate output of whole length would be as much again."""
    program = """
        import resource
        import numpy as np
        import fastrnn

        fastrnn.set_num_threads(2)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        layer = fastrnn.LSTM(1, 8, num_layers=3)
        x = np.ones(({T}, {B}, 1), np.float32)
        layer(x[:100])
        before = peak()
        y, _ = layer(x)
        print((peak() - before - y.nbytes) / y.nbytes)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program).format(T=T, B=B)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.25


# ----------------------------------------------------------------------------- changes of weights


def set_data(layer):
    for parameter in layer.parameters().values():
        parameter.data = parameter.data * 2


def update(layer):
    for parameter in layer.parameters().values():
        parameter.grad = np.ones_like(parameter.data)
    optim.SGD(layer, lr=0.1).step()


def load(layer):
    other = type(layer)(layer.input_size, layer.hidden_size, layer.num_layers, seed=7)
    layer.load_state_dict(other.state_dict())


def set_one(layer):
    bias = layer.parameters()["bias_hh_l1"]
    bias.data = bias.data + 0.5


@pytest.mark.parametrize("change", [set_data, set_one, update, load])
@pytest.mark.parametrize("kind", [fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU])
def test_step_and_call_see_each_change_of_weights(kind, change):
    layer, other = kind(3, 5, 2, seed=1), kind(3, 5, 2, seed=2)
    x = np.ones((4, 2, 3), np.float32)
    before, others = layer.step(x[0])[0], other.step(x[0])[0]
    change(layer)
    fresh = kind(3, 5, 2)
    fresh.load_state_dict(layer.state_dict())
    assert np.array_equal(layer.step(x[0])[0], fresh.step(x[0])[0])
    assert np.array_equal(layer(x)[0], fresh(x)[0])
    assert not np.array_equal(layer.step(x[0])[0], before)
    assert np.array_equal(other.step(x[0])[0], others)


@pytest.mark.parametrize(
    "make_copy", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_copy_sees_changes_of_its_own_weights(make_copy):
    layer = fastrnn.LSTM(3, 5, seed=1)
    x = np.ones((2, 3), np.float32)
    before = layer.step(x)[0]
    twin = make_copy(layer)
    assert np.array_equal(twin.step(x)[0], before)
    set_data(twin)
    assert not np.array_equal(twin.step(x)[0], before)
    shared = make_copy is copy.copy  # parameters and all
    assert np.array_equal(layer.step(x)[0], before) != shared


def test_a_step_after_training_is_of_the_new_weights():
    layer = fastrnn.GRU(3, 5, 2, seed=1)
    adam = optim.Adam(layer, lr=0.1)
    x = np.ones((4, 2, 3), np.float32)
    for _ in range(3):
        (y, _), pullback = layer.vjp(x)
        assert np.array_equal(layer(x)[0], y)
        assert np.array_equal(layer.step(x[0])[0], y[0])
        layer.zero_grad()
        pullback(np.ones_like(y))
        adam.step()
