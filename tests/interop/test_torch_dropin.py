"""The modules of fastrnn.interop.torch beside PyTorch's own: every option, every way of a call."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn

torch = pytest.importorskip("torch")
fast = pytest.importorskip("fastrnn.interop.torch")
pack_padded_sequence = torch.nn.utils.rnn.pack_padded_sequence

# Torch says so itself of the module that ours is compared with.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
LENGTHS = torch.tensor([3, 7, 2])
SEQUENCES = ("RNN", "LSTM", "GRU")
CELLS = ("RNNCell", "LSTMCell", "GRUCell")


def pair(name, *sizes, **options):
    """Return torch's module and ours with the same weights."""
    theirs = getattr(torch.nn, name)(*sizes, **options)
    ours = getattr(fast, name)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors(result):
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data]
    return [t for part in result for t in tensors(part)]


def close(a, b, dtype=torch.float32):
    a, b = tensors(a), tensors(b)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        torch.testing.assert_close(x, y, rtol=0, atol=TOLERANCE[dtype])


def state_of(module, batch, dtype):
    D = module.num_layers * (1 + module.bidirectional)
    shape = (D,) if batch is None else (D, batch)
    h = torch.randn(*shape, module.proj_size or module.hidden_size, dtype=dtype)
    c = torch.randn(*shape, module.hidden_size, dtype=dtype)
    return [h, c] if module.mode == "LSTM" else [h]


def run(module, x, state, packed, gradients):
    """Return outputs, and the gradients of everything, with dropout's random numbers fixed."""
    x = x.clone().requires_grad_(gradients)
    state = [s.clone().requires_grad_(gradients) for s in state]
    given_x = x
    if packed:
        given_x = pack_padded_sequence(x, LENGTHS, module.batch_first, enforce_sorted=False)
    torch.manual_seed(3)
    hx = None if not state else tuple(state) if len(state) == 2 else state[0]
    outputs = tensors(module(given_x, hx))
    if not gradients:
        return outputs
    module.zero_grad()
    sum(
        (t * torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view(t.shape)).sum() for t in outputs
    ).backward()
    return [*outputs, x.grad, *(s.grad for s in state), *(p.grad for p in module.parameters())]


OPTIONS = [  # without biases where only one of the last two is set: each value meets each other
    {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": both == first}
    for layers, both, first in itertools.product((1, 2), (False, True), (False, True))
]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("name", [*SEQUENCES, "RNN relu", "LSTM projection"])
def test_results_and_gradients(name, options, dtype):
    torch.manual_seed(0)
    name, *more = name.split()
    options = dict(options, dtype=dtype, dropout=0.3 if options["num_layers"] > 1 else 0.0)
    if more == ["relu"]:
        options["nonlinearity"] = "relu"
    elif more:
        options["proj_size"] = 3
    theirs, ours = pair(name, 4, 5, **options)
    for kind, with_state in itertools.product(("full", "packed", "one"), (False, True)):
        shape = (7, 4) if kind == "one" else (3, 7, 4) if theirs.batch_first else (7, 3, 4)
        x = torch.randn(shape, dtype=dtype)
        batch = None if kind == "one" else 3
        state = state_of(theirs, batch, dtype) if with_state else []
        for training, gradients in itertools.product((True, False), repeat=2):
            theirs.train(training)
            ours.train(training)
            with torch.set_grad_enabled(gradients):
                expected, got = (
                    run(m, x, state, kind == "packed", gradients) for m in (theirs, ours)
                )
            close(got, expected, dtype)


def test_the_kernels_ran():
    for name in SEQUENCES:
        assert fast.explain(getattr(fast, name)(4, 5), torch.randn(3, 2, 4)) == {name: "fastrnn"}
    for name in CELLS:
        assert fast.explain(getattr(fast, name)(4, 5), torch.randn(2, 4)) == {name: "fastrnn"}


@given(
    name=st.sampled_from(CELLS),
    dtype=st.sampled_from(list(TOLERANCE)),
    bias=st.booleans(),
    batch=st.sampled_from([(), (1,), (3,)]),
    state=st.sampled_from(["none", "given", "strided"]),
    grad=st.booleans(),
    inference=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_cells(name, dtype, bias, batch, state, grad, inference):
    theirs, ours = pair(name, 4, 5, bias=bias, dtype=dtype)
    x = torch.randn(*batch, 8, dtype=dtype)[..., ::2]
    h, c = (torch.randn(*batch, 10, dtype=dtype) for _ in range(2))
    h, c = (s[..., ::2] if state == "strided" else s[..., :5].contiguous() for s in (h, c))
    hx = None if state == "none" else (h, c) if name == "LSTMCell" else h
    for _ in range(2):  # the first makes ready what the second uses
        if grad:
            expected, got = theirs(x, hx), ours(x, hx)
            for result in (expected, got):
                sum(t.square().sum() for t in tensors(result)).backward()
            close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()], dtype)
        else:
            with torch.inference_mode() if inference else torch.no_grad():
                expected, got = theirs(x, hx), ours(x, hx)
        close(got, expected, dtype)


# --- weights that change --------------------------------------------------------------------------


def in_place(p):
    with torch.no_grad():
        p.mul_(0.5)


def new_data(p):
    p.data = p.data * 0.5


def through_data(p):
    p.data.mul_(0.7)


def through_numpy(p):
    p.detach().numpy()[...] *= 0.5


def negated(p):
    p.data.neg_()


def halved(p):
    p.data.mul_(0.5)


def one_value_of_data(p):
    p.data[-1, -1] += 3.0


CHANGES = (in_place, new_data, through_data, through_numpy, negated, halved)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [*SEQUENCES, *CELLS])
def test_changed_weights_are_seen_by_the_next_call(name, change):
    theirs, ours = pair(name, 64, 64, bias=False)
    x = torch.randn(*((1, 1) if name in SEQUENCES else (1,)), 64)
    with torch.no_grad():
        for _ in range(2):
            close(ours(x), theirs(x))
        for module in (theirs, ours):
            for p in module.parameters():
                change(p)
        close(ours(x), theirs(x))


def test_long_calls_see_a_single_changed_value():
    theirs, ours = pair("LSTM", 40, 64)
    x = torch.randn(100, 1, 40)
    with torch.no_grad():
        close(ours(x), theirs(x))
        for module in (theirs, ours):
            one_value_of_data(module.weight_hh_l0)
        close(ours(x), theirs(x))


@pytest.mark.parametrize("name, weight", [("RNN", "weight_hh_l0"), ("RNNCell", "weight_hh")])
def test_weights_transposed_in_place_are_seen(name, weight):
    theirs, ours = pair(name, 4, 5)
    x = torch.randn(*((3, 2, 4) if name == "RNN" else (2, 4)))
    hx = torch.randn(*((1, 2, 5) if name == "RNN" else (2, 5)))
    with torch.no_grad():
        for _ in range(2):
            close(ours(x, hx), theirs(x, hx))
        for module in (theirs, ours):
            parameter = getattr(module, weight)
            parameter.data = parameter.data.t()
        close(ours(x, hx), theirs(x, hx))


def test_half_a_state_is_torchs_error():
    theirs, ours = pair("LSTMCell", 4, 5)
    x = torch.randn(2, 4)
    with torch.no_grad():
        ours(x)
        for module in (theirs, ours):
            with pytest.raises(AttributeError, match="NoneType"):
                module(x, (torch.randn(2, 5), None))


def test_replaced_parameters_are_seen():
    theirs, ours = pair("GRUCell", 4, 5)
    x = torch.randn(2, 4)
    with torch.no_grad():
        close(ours(x), theirs(x))
        weight = torch.nn.Parameter(torch.randn(15, 4))
        theirs.weight_ih = ours.weight_ih = weight
        close(ours(x), theirs(x))


def test_modules_made_in_inference_mode():
    with torch.inference_mode():
        for name, shape in (("LSTM", (3, 2, 4)), ("LSTMCell", (2, 4))):
            theirs, ours = pair(name, 4, 5)
            for _ in range(2):
                x = torch.randn(shape)
                close(ours(x), theirs(x))


# --- what falls back ------------------------------------------------------------------------------


def test_gradients_of_gradients():
    for name in SEQUENCES:
        _, ours = pair(name, 3, 4, num_layers=2, bidirectional=True, dtype=torch.float64)
        x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x, m=ours: tensors(m(x)), (x,))


def test_gradients_of_gradients_with_lengths():
    weights = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((12, 3), (12, 4))]
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([2, 3])

    def function(x, *weights):
        return fast.layer("gru", x, [(*weights, None, None, None)], lengths=lengths)[:2]

    assert torch.autograd.gradcheck(function, (x, *weights))
    assert torch.autograd.gradgradcheck(function, (x, *weights))


@pytest.mark.parametrize("name", SEQUENCES)
def test_transforms_of_torch_func_go_through_torch(name):
    theirs, ours = pair(name, 4, 5)
    x = torch.randn(3, 2, 4)

    def loss_of(module):
        return lambda x: sum(t.square().sum() for t in tensors(module(x)))

    close(torch.func.grad(loss_of(ours))(x), torch.func.grad(loss_of(theirs))(x))
    weights = {name: torch.randn(p.shape) for name, p in ours.named_parameters()}
    expected, got = (torch.func.functional_call(m, weights, (x,)) for m in (theirs, ours))
    close(got, expected)
    errors = []  # torch has no vmap of its recurrent operators
    for module in (theirs, ours):
        with pytest.raises(RuntimeError, match="Batching rule not implemented") as error:
            torch.vmap(module)(x[None])
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_other_dtypes_go_through_torch():
    theirs, ours = pair("LSTM", 4, 5, dtype=torch.bfloat16)
    x = torch.randn(3, 2, 4, dtype=torch.bfloat16)
    with torch.no_grad():
        for a, b in zip(tensors(ours(x)), tensors(theirs(x)), strict=True):
            assert torch.equal(a, b)
    assert fast.explain(ours, x) == {"LSTM": "torch: the weights are bfloat16"}


def test_autocast_goes_through_torch():
    theirs, ours = pair("GRU", 4, 5)
    x = torch.randn(3, 2, 4)
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(ours(x)[0], theirs(x)[0])
        assert fast.explain(ours, x) == {"GRU": "torch: autocast is on"}


def test_explain_names_each_module_of_a_model():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = fast.GRU(4, 4), torch.nn.LSTM(4, 4)
            self.unused = fast.LSTMCell(4, 4)

        def forward(self, x):
            return self.second(self.first(x)[0])[0]

    assert fast.explain(Model(), torch.randn(3, 2, 4)) == {
        "first": "fastrnn",
        "second": "torch: a LSTM of torch, see accelerate",
        "unused": "torch: not reached by this call",
    }
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        fast.explain(3)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    "x, hx",
    [
        (torch.randn(3, 2, 5), None),
        (torch.randn(3, 2, 4, 1), None),
        (torch.randn(3, 2, 4).double(), None),
        (torch.randn(0, 2, 4), None),
        (torch.randn(3, 2, 4), torch.randn(1, 3, 5)),
        (torch.randn(3, 4), torch.randn(1, 1, 5)),
        ("x", None),
    ],
)
def test_errors_are_torchs(name, x, hx):
    if name == "LSTM" and hx is not None:
        hx = (hx, hx)
    errors = []
    for module in pair(name, 4, 5):
        with pytest.raises(Exception) as error:
            module(x, hx)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


def test_a_written_input_is_noticed_by_backward():
    _, ours = pair("GRU", 4, 5)
    x = torch.randn(3, 2, 4)
    y, _ = ours(x)
    x.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_twice_needs_retain_graph():
    _, ours = pair("GRU", 4, 5)
    y = ours(torch.randn(3, 2, 4))[0].sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


# --- the rest -------------------------------------------------------------------------------------


def test_threads_follow_torch():
    before, ours = torch.get_num_threads(), fast.GRU(4, 5)
    try:
        torch.set_num_threads(1)
        ours(torch.randn(3, 2, 4))
        assert fastrnn.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
        ours(torch.randn(3, 2, 4))
    assert fastrnn.get_num_threads() == before


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"])
@pytest.mark.parametrize("directions", [1, 2])
def test_layer_is_what_fastrnns_own_layers_do(kind, directions):
    classes = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "gru_reset_before": fastrnn.GRU}
    options = {"reset_after": False} if kind == "gru_reset_before" else {}
    if kind.startswith("rnn"):
        options = {"nonlinearity": kind[4:]}
    own = classes.get(kind, fastrnn.RNN)(4, 5, bidirectional=directions == 2, seed=0, **options)
    rng = np.random.default_rng(0)
    x, lengths = rng.normal(size=(6, 3, 4)).astype(np.float32), np.array([6, 0, 3])
    (y, _), pullback = own.vjp(x, None, lengths)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, _ = pullback(dy)
    given_x = torch.from_numpy(x).requires_grad_()
    own_weights = own.state_dict()
    weights = {n: torch.tensor(w, requires_grad=True) for n, w in own_weights.items()}
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    got = fast.layer(
        kind,
        given_x,
        [
            (
                *(weights[f"{n}_l0{s}"] for n in names),
                None,
            )
            for s in ("", "_reverse")[:directions]
        ],
        lengths=torch.from_numpy(lengths),
    )[0]
    got.backward(torch.from_numpy(dy))
    assert np.array_equal(got.detach().numpy(), y)
    assert np.array_equal(given_x.grad.numpy(), dx)
    for name, parameter in own.parameters().items():
        assert np.array_equal(weights[name].grad.numpy(), parameter.grad)


def test_layer_names_what_is_wrong():
    x, weights = torch.randn(3, 2, 4), [(torch.randn(15, 4), torch.randn(15, 5), None, None, None)]
    for change, message in (
        ({"kind": "elman"}, "kind: expected one of"),
        ({"x": torch.randn(3, 4)}, "x: expected a tensor of three dimensions, got the shape"),
        ({"x": x.half()}, "x: expected float32 or float64"),
        ({"weights": weights * 3}, "weights: expected one or two tuples of five"),
        ({"c0": torch.randn(1, 2, 5)}, "c0: expected None for 'gru'"),
        ({"h0": torch.randn(1, 2, 5).double()}, "h0: expected a plain torch.float32"),
        ({"lengths": torch.tensor([4, 1])}, "lengths"),
        ({"h0": torch.randn(1, 3, 5)}, "h0"),
    ):
        arguments = {"kind": "gru", "x": x, "weights": weights} | change
        with pytest.raises((ValueError, TypeError), match=message):
            fast.layer(**arguments)
