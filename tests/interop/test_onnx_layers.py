"""ONNX models as layers that can be trained: the same numbers as the graph, and what is refused."""

import io
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose models these are")

import fastrnn  # noqa: E402
from fastrnn.interop.onnx import export_model, import_layers, import_model  # noqa: E402

F, H = 4, 6
rng = np.random.default_rng(3)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


MODELS = {
    "lstm": lambda **o: [fastrnn.LSTM(F, H, 2, peephole=True, clip=2.0, seed=0, **o)],
    "gru": lambda **o: [fastrnn.GRU(F, H, bidirectional=True, bias=False, seed=0, **o)],
    "coupled": lambda **o: [fastrnn.LSTM(F, H, coupled=True, seed=0, **o)],
    "before": lambda **o: [fastrnn.GRU(F, H, reset_after=False, seed=0, **o)],
    "rnn": lambda **o: [
        fastrnn.RNN(F, H, nonlinearity=("leaky_relu", 0.2), seed=0, **o),
        fastrnn.LayerNorm(H),
        fastrnn.Linear(H, 3, seed=1),
        fastrnn.Tanh(),
        fastrnn.Linear(3, 2, bias=False, seed=2),
        fastrnn.Sigmoid(),
    ],
    "sum": lambda **o: [
        fastrnn.GRU(F, H, bidirectional=True, merge_mode="sum", seed=0, **o),
        fastrnn.ReLU(),
        fastrnn.Softmax(),
    ],
    "mean": lambda **o: [fastrnn.RNN(F, H, bidirectional=True, merge_mode="mean", seed=0, **o)],
    "mul": lambda **o: [fastrnn.LSTM(F, H, bidirectional=True, merge_mode="mul", seed=0, **o)],
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_exported_models_come_back(name, batch_first):
    model = fastrnn.Sequential(*MODELS[name](batch_first=batch_first))
    again = import_layers(export_model(model, states=False))
    x = normal(3, 5, F)
    np.testing.assert_array_equal(again(x)[0], model(x)[0])
    kinds = [type(layer) for layer in again]
    assert kinds[-1] is type(model[-1])
    assert all(getattr(layer, "batch_first", batch_first) == batch_first for layer in again)
    assert all(layer.config()["batch_first"] == batch_first for layer in again if layer.recurrent)
    weights = sorted(map(str, (p.data.tobytes() for p in again.parameters().values())))
    assert weights == sorted(map(str, (p.data.tobytes() for p in model.parameters().values())))


def test_states_and_lengths_are_arguments():
    model = fastrnn.Sequential(fastrnn.Embedding(9, F, seed=0), fastrnn.GRU(F, H, seed=0))
    ids, lengths = rng.integers(9, size=(5, 3)), np.array([2, 5, 1])
    again = import_layers(export_model(model, lengths=True))
    _, state = model(ids, lengths=lengths)
    want, _ = model(ids, state, lengths)
    np.testing.assert_array_equal(again(ids, state, lengths)[0], want)


def torch_models():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self, batch_first, pooling):
            super().__init__()
            self.table = nn.Embedding(20, F)
            self.rnn = nn.LSTM(
                F, H, num_layers=2, bidirectional=pooling != "last", batch_first=batch_first
            )
            self.drop = nn.Dropout(0.3)
            self.last = nn.Linear(H * (1 if pooling == "last" else 2), 3)
            self.time, self.pooling = int(batch_first), pooling

        def forward(self, ids):
            y, _ = self.rnn(self.table(ids))
            if self.pooling == "last":
                y = y[:, -1] if self.time else y[-1]
            elif self.pooling == "mean":
                y = y.mean(self.time)
            return self.last(self.drop(y))

    return torch, Classifier


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "none"])
def test_models_of_pytorch(pooling, batch_first):
    torch, classifier = torch_models()
    torch.manual_seed(0)
    module = classifier(batch_first, pooling).eval()
    ids, file = torch.randint(0, 20, (5, 7)), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"ids": {0: "A", 1: "C"}}
        torch.onnx.export(
            module, (ids,), file, dynamo=False, input_names=["ids"], dynamic_axes=axes
        )
    layers = import_layers(file.getvalue())
    with torch.no_grad():
        want = module(ids).numpy()
    got = layers(ids.numpy())[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    (y, _), pullback = layers.vjp(ids.numpy())
    pullback(np.ones_like(y))
    assert all(p.grad is not None for p in layers.parameters().values())


def parsed(text, **arrays):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend(tensors)
    return model


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("y = Softsign(x)", r"node 'y' \(Softsign\): expected one that is a layer"),
        ("a = Tanh(x) b = Relu(x) y = Add(a, b)", "expected one node after 'x', got Tanh '', Relu"),
        ("y = Transpose<perm=[1, 0, 2]>(x)", "expected an output laid out as the input"),
        ("y = Transpose<perm=[2, 0, 1]>(x)", r"expected the perm \[1, 0, 2\]"),
        ("y = ReduceMax<axes=[0], keepdims=0>(x)", "expected the axis of time of a recurrent"),
        ("y = MatMul(x, x)", "expected a product with a constant matrix"),
        (
            """a, b = GRU<hidden_size=2, direction="reverse">(x, W, R) y = Squeeze(a, one)""",
            "expected forward or bidirectional",
        ),
        (
            "a, b = GRU<hidden_size=2>(x, W, R, , , ones) y = Squeeze(a, one)",
            "expected first states and lengths that are zeros or inputs",
        ),
        ("a, b = GRU<hidden_size=2>(x, W, R) y = Tanh(b)", "expected one node after 'a', got none"),
    ],
)
def test_what_is_no_chain(nodes, message):
    arrays = {"W": normal(1, 6, 3), "R": normal(1, 6, 2), "ones": np.ones((1, 2, 2), np.float32)}
    arrays["one"] = np.array([1])
    model = parsed(f"g (float[4, 2, 3] x) => (float[a, b, c] y) {{ {nodes} }}", **arrays)
    import_model(model)
    with pytest.raises(ValueError, match=message):
        import_layers(model)
