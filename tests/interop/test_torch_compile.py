"""torch.compile and torch.export around fastrnn's modules, and the operators they leave whole."""

import copy
import io
import shutil
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from fastrnn.interop import torch as fast  # noqa: E402
from torch_cases import CELLS, LAYERS, NAMES, LastOutput, double, flat, results  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
close = torch.testing.assert_close
TOLERANCES = {"rtol": 1e-9, "atol": 1e-10}


class Tagger(nn.Module):
    def __init__(self, name="LSTM", **options):
        super().__init__()
        self.embedding = nn.Embedding(17, 6, dtype=torch.float64)
        options = {"bidirectional": True, "batch_first": True, "num_layers": 2, **options}
        self.layer = getattr(nn, name)(6, 5, **options, dtype=torch.float64)
        width = 5 * (2 if options["bidirectional"] else 1)
        self.head = nn.Linear(width, 17, dtype=torch.float64)

    def forward(self, tokens):
        return self.head(torch.tanh(self.layer(self.embedding(tokens))[0]))


class Stepper(nn.Module):
    """A cell in a loop."""

    def __init__(self, name):
        super().__init__()
        self.cell = getattr(nn, name)(3, 4, dtype=torch.float64)

    def forward(self, x):
        state = None
        for step in x:
            state = self.cell(step, state)
        return state


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No graphs of other tests; one thread, as these models are small."""
    torch._dynamo.reset()
    counters.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    yield
    torch.set_num_threads(before)
    torch._dynamo.reset()


def tokens(batch=4, steps=7):
    return torch.arange(batch * steps).reshape(batch, steps) * 5 % 17


@pytest.fixture(params=[False, True], ids=["around", "inside"])
def options(request):
    """Whether torch.compile looks into layers, which it does not do of its own accord."""
    with torch._dynamo.config.patch(allow_rnn=request.param):
        yield {"fullgraph": request.param}


@pytest.fixture
def inside():
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


def train(call, model, n=4):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for step in range(n):
        x = tokens(batch=3 + step % 2)
        loss = nn.functional.cross_entropy(call(x).flatten(0, 1), (x.flatten() + 1) % 17)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- torch.compile -------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_training_with_batches_of_several_sizes(backend, options):
    model = Tagger()
    other = copy.deepcopy(model)
    expected = train(other, other)
    fast.accelerate(model)
    compiled = torch.compile(model, backend=backend, **options)
    close(train(compiled, model), expected, rtol=1e-9, atol=0)
    with torch.no_grad():
        close(compiled(tokens(5)), other(tokens(5)), rtol=1e-7, atol=1e-8)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_inductor(inside):
    model = Tagger(num_layers=1)
    expected = results(model, tokens())
    fast.accelerate(model)
    compiled = torch.compile(model, backend="inductor", fullgraph=True)
    close(results(compiled, tokens()), expected, **TOLERANCES)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, options):
    model = Tagger(name)
    expected = results(model, tokens())
    fast.accelerate(model)
    compiled = torch.compile(model, backend="aot_eager", **options)
    close(results(compiled, tokens()), expected, **TOLERANCES)
    with torch.no_grad():
        close(compiled(tokens()), expected[0], **TOLERANCES)


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_part_of_the_graph(name):
    model, x = Stepper(name), torch.randn(3, 2, 3, dtype=torch.float64)
    expected = results(model, x)
    fast.accelerate(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    close(results(compiled, x), expected, **TOLERANCES)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_of_ours_is_compiled_between_graphs(name):
    model = Tagger(name)
    fast.accelerate(model)
    compiled = torch.compile(model, backend="eager")
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            compiled(tokens())
    assert all("wrap RNN, GRU, or LSTM" in reason for reason in counters["graph_break"])


def test_dynamic_sizes_need_one_graph(inside):
    model = Tagger(num_layers=1)
    fast.accelerate(model)
    compiled = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    for batch, steps in ((4, 7), (3, 5), (9, 2), (2, 11)):
        close(compiled(tokens(batch, steps)), model(tokens(batch, steps)), **TOLERANCES)
    assert counters["stats"]["unique_graphs"] == 1


def test_accelerated_and_restored_after_compilation(options):
    model = Tagger("GRU", bidirectional=False)
    compiled = torch.compile(model, backend="aot_eager", **options)
    with torch.no_grad():
        expected = compiled(tokens())
        assert fast.accelerate(compiled).replaced.keys() == {"_orig_mod.layer"}
        assert type(model.layer) is fast.GRU
        close(compiled(tokens()), expected, **TOLERANCES)
        model.layer.weight_hh_l0.mul_(2)
        after = compiled(tokens())
        assert not torch.allclose(after, expected)
        fast.restore(compiled)
        assert type(model.layer) is nn.GRU
        close(compiled(tokens()), after, **TOLERANCES)


def test_a_recurrent_module_compiled_by_itself(inside):
    module, x = double("GRU", 3, 4), torch.randn(5, 2, 3, dtype=torch.float64)
    expected = results(module, x)
    compiled = torch.compile(module, backend="aot_eager")
    assert fast.accelerate(compiled).replaced == {"_orig_mod": fast.GRU}
    close(results(compiled, x), expected, **TOLERANCES)


def test_a_users_class(options):
    model = nn.Sequential(LastOutput(3, 4, dtype=torch.float64), nn.Linear(4, 2).double())
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    expected = results(model, x)
    fast.accelerate(model)
    close(results(torch.compile(model, backend="aot_eager", **options), x), expected, **TOLERANCES)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo's
@pytest.mark.parametrize("given", ["packed", "bfloat16", "unbatched", "dropout", "strided"])
def test_other_inputs(given, options):
    module = double("LSTM", 3, 4, num_layers=2, dropout=0.5 if given == "dropout" else 0.0)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    if given == "packed":
        x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
    elif given == "bfloat16":
        module, x = module.bfloat16(), x.bfloat16()
    elif given == "unbatched":
        x = x[:, 0]
    elif given == "strided":
        x = torch.stack([x, x], -1)[..., 1]
    torch.manual_seed(3)
    expected = flat(module(x))
    fast.accelerate(module)
    compiled = torch.compile(lambda x: module(x), backend="eager")
    torch.manual_seed(3)
    tolerances = {"rtol": 1e-2, "atol": 1e-2} if given == "bfloat16" else TOLERANCES
    close(flat(compiled(x)), expected, **tolerances)


# --- torch.export --------------------------------------------------------------------------------


def export(model, args, strict, dynamic):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own deprecations on the way
        return torch.export.export(model, args, strict=strict, dynamic_shapes=dynamic)


def reloaded(program):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file)
        file.seek(0)
        return torch.export.load(file)


def operators(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])
@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("name", LAYERS)
def test_exported_layers(name, strict, grad):
    model = Tagger(name)
    other = copy.deepcopy(model)
    fast.accelerate(model)
    dims = {0: torch.export.Dim("batch", min=2, max=64), 1: torch.export.Dim("steps", min=2)}
    with torch.set_grad_enabled(grad):
        program = export(model, (tokens(),), strict, (dims,))
        assert "fastrnn.layer.default" in operators(program)
        for again in (program.module(), reloaded(program).module()):
            for x in (tokens(), tokens(3, 9)):
                close(again(x), other(x), **TOLERANCES)


@pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])
@pytest.mark.parametrize("name", CELLS)
def test_exported_cells(name, strict):
    model, x = Stepper(name), torch.randn(2, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        fast.accelerate(model)
        program = export(model, (x,), strict, ({1: torch.export.Dim("batch", min=2)},))
        assert "fastrnn.layer.default" in operators(program)
        close(program.module()(x), expected, **TOLERANCES)
        close(program.module()(x[:, :2]), model(x[:, :2]), **TOLERANCES)


# --- the operators -------------------------------------------------------------------------------

KINDS = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def operator_arguments(kind, directions, bias, projects, lengths, state, dtype, grad):
    T, B, inputs, H, P = 3, 2, 3, 4, 2 if projects else 4

    def make(*shape):
        return torch.randn(*shape, dtype=dtype, requires_grad=grad)

    weights = []
    for _ in range(directions):
        weights += [make(KINDS[kind] * H, inputs), make(KINDS[kind] * H, P)]
        weights += [make(KINDS[kind] * H) for _ in range(2 * bias)]
        weights += [make(P, H) for _ in range(projects)]
    h0 = make(directions, B, P) if state else None
    c0 = make(directions, B, H) if state and kind == "lstm" else None
    lengths = torch.tensor([2, 3]) if lengths else None
    return make(T, B, inputs), weights, h0, c0, lengths, kind, directions, grad


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "kind, directions, bias, projects, lengths, state",
    [
        ("rnn_tanh", 1, True, False, False, False),
        ("rnn_relu", 2, False, False, True, True),
        ("gru", 2, True, False, False, True),
        ("gru", 1, False, False, True, False),
        ("lstm", 1, True, False, False, True),
        ("lstm", 2, True, True, True, True),
        ("lstm", 2, False, True, False, False),
    ],
)
def test_opcheck(kind, directions, bias, projects, lengths, state, dtype, grad):
    arguments = operator_arguments(kind, directions, bias, projects, lengths, state, dtype, grad)
    with torch.set_grad_enabled(grad):
        checked = torch.library.opcheck(torch.ops.fastrnn.layer.default, arguments)
    assert set(checked.values()) == {"SUCCESS"}


def test_every_class_of_torch_has_a_test_here():
    assert set(NAMES) == set(LAYERS) | set(CELLS)
