"""Imported ONNX models that are hostile or odd: errors that come at once, beside ONNX Runtime."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose models these are")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

from fastrnn.interop.onnx import import_model  # noqa: E402
from onnx_export_cases import runtime_of  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def text_model(text, **arrays):
    """A model in ONNX's textual form, with arrays as its initialisers."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "own" : 1]>\n' + text)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend(tensors)
    return model


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    ["Unsqueeze(x, far)", "Slice(x, zero, one, far)", f"Gather<axis={2**40}>(x, first)"],
)
def test_axes_that_no_array_has(node):
    model = text_model(
        f"g (float[T, 3] x) => (float[N] y) {{ y = {node} }}",
        far=np.array([2**40]),
        zero=np.array([0]),
        one=np.array([1]),
        first=np.array(0),
    )
    with pytest.raises(ValueError, match="node 'y'"):
        import_model(model)(X)


def test_a_slice_of_no_axes_is_all():
    model = text_model(
        "g (float[T, 3] x) => (float[T, 3] y) { y = Slice(x, none, none) }",
        none=np.array([], np.int64),
    )
    (want,) = runtime_of(model).run(None, {"x": X})
    np.testing.assert_array_equal(import_model(model)(X), want)


@pytest.mark.parametrize(
    "node",
    [
        f"Conv<pads=[{2**40}, {2**40}]>(x, w)",
        f"MaxPool<kernel_shape=[1], pads=[{2**40}, {2**40}]>(x)",
        f"AveragePool<kernel_shape=[1], pads=[{2**40}, {2**40}]>(x)",
        "Range(zero, far, one)",
        "OneHot(indices, far, truth)",
    ],
)
def test_sizes_beyond_memory(node):
    model = text_model(
        f"g (float[1, 1, T] x) => (float[N] y) {{ y = {node} }}",
        w=np.ones((1, 1, 1), np.float32),
        zero=np.float32(0),
        one=np.float32(1),
        far=np.float32(2**29),  # 2 GiB, but twice that in between
        indices=np.array([0]),
        truth=np.array([False, True]),
    )
    with pytest.raises(ValueError, match=r"node 'y' .*: shape: expected at most"):
        import_model(model)(X.reshape(1, 1, -1))


@pytest.mark.parametrize("attribute", ["strides=[-1]", "strides=[0]", "dilations=[-1]"])
def test_windows_that_do_not_go_forward(attribute):
    model = text_model(
        f"g (float[1, 1, T] x) => (float[N] y) {{ y = Conv<{attribute}>(x, w) }}",
        w=np.ones((1, 1, 1), np.float32),
    )
    with pytest.raises(ValueError, match="expected 1 or more"):
        import_model(model)(X.reshape(1, 1, -1))


def test_sizes_below_minus_one():
    model = text_model(
        "g (float[T, 3] x) => (float[N] y) { y = Reshape(x, sizes) }", sizes=np.array([2, -3])
    )
    with pytest.raises(ValueError, match="expected sizes of at least -1"):
        import_model(model)


def test_constants_of_constants_are_bounded(monkeypatch):
    monkeypatch.setattr("fastrnn.interop.onnx.program.MOST_BYTES", 2**20)
    nodes = "\n".join(f"c{i} = ConstantOfShape(sizes)" for i in range(4))
    text = f"g (float[T, 3] x) => (float[T, 3] y) {{ {nodes}\n y = Neg(x) }}"
    assert import_model(text_model(text, sizes=np.array([2**10])))(X).shape == X.shape
    with pytest.raises(ValueError, match=r"'c2'.*made of others"):
        import_model(text_model(text, sizes=np.array([2**18])))


# --- what is in the file --------------------------------------------------------------------------


def test_functions_that_double():
    calls = "".join(
        f'<domain: "own", opset_import: ["" : 17, "own" : 1]>\n'
        f"f{i} (a) => (b) {{ t = own.f{i + 1}(a)\n b = own.f{i + 1}(t) }}\n"
        for i in range(40)
    )
    last = '<domain: "own", opset_import: ["" : 17]>\nf40 (a) => (b) { b = Neg(a) }'
    model = text_model("g (float[T, 3] x) => (float[T, 3] y) { y = own.f0(x) }\n" + calls + last)
    with pytest.raises(ValueError, match="functions of 1,099,511,627,776"):
        import_model(model)


def test_sparse_tensors_are_refused():
    model = text_model("g (float[T, 3] x) => (float[T, 3] y) { y = Add(x, c) }")
    tensors = [
        onnx.numpy_helper.from_array(np.array([5], np.float32), "c"),
        onnx.numpy_helper.from_array(np.array([1]), "places"),
    ]
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(*tensors, [3]))
    with pytest.raises(TypeError, match="sparse tensors, got 'c'"):
        import_model(model)


@pytest.mark.parametrize("inputs", ["", ", float[N] s, float[N] more"])
def test_loops_whose_bodies_do_not_fit(inputs):
    model = text_model(
        f"""
        g (float[T, 3] x) => (float[N] y) {{
            y = Loop<body = b (int64 i, bool going{inputs}) => (bool on, float[N] z) {{
                on = Identity(going)
                z = Neg(x)
            }}>(steps, , x)
        }}
        """,
        steps=np.array(2),
    )
    with pytest.raises(ValueError, match=r"node 'y'.*body: expected as many"):
        import_model(model)


def test_branches_that_do_not_fit():
    branches = [f"b () => (float[T, 3] {name}) {{ {name} = Neg(x) }}" for name in "pq"]
    model = text_model(
        f"""
        g (float[T, 3] x, bool yes) => (float[T, 3] y, float[T, 3] z) {{
            y, z = If<then_branch = {branches[0]}, else_branch = {branches[1]}>(yes)
        }}
        """
    )
    with pytest.raises(ValueError, match="branches: expected no inputs and 2 outputs, got 0 and 1"):
        import_model(model)


def test_negative_sizes_of_a_tensor_in_another_file(tmp_path):
    model = text_model("g (float[T, 3] x) => (float[T, 3] y) { y = Add(x, c) }")
    tensor = model.graph.initializer.add(name="c", data_type=FLOAT, dims=[-1], data_location=1)
    for key, value in {"location": "c.bin", "length": "12"}.items():
        tensor.external_data.add(key=key, value=value)
    X.tofile(tmp_path / "c.bin")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="'c' has the sizes"):
        import_model(tmp_path / "model.onnx")


# --- nothing to do --------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("layout", [0, 1])
def test_no_steps_and_no_rows(operator, direction, T, B, layout):
    D, rows = 1 + (direction == "bidirectional"), 2 * {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]
    model = text_model(
        f"""
        g (float[T, B, 3] x) => (float[a, b, c, d] y, float[a, b, c] h) {{
            y, h = {operator}<hidden_size=2, direction="{direction}", layout={layout}>(x, W, R)
        }}
        """,
        W=np.ones((D, rows, 3), np.float32),
        R=np.ones((D, rows, 2), np.float32),
    )
    y, h = import_model(model)(np.ones((B, T, 3) if layout else (T, B, 3), np.float32))
    assert y.shape == ((B, T, D, 2) if layout else (T, D, B, 2))
    assert h.shape == ((B, D, 2) if layout else (D, B, 2))
    assert not h.any()
