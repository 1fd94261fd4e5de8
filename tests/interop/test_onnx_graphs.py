"""Imported ONNX models: whole graphs beside ONNX Runtime, what models refuse, what they promise."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose models these are")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402
from fastrnn.interop.onnx import export_model, import_model, is_compatible, run_node  # noqa: E402
from fastrnn.interop.onnx.nodes import OPERATORS  # noqa: E402
from onnx_export_cases import assert_close, runtime_of  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT
rng = np.random.default_rng(7)


def text_model(text, **arrays):
    """A model in ONNX's textual form, with arrays as its initialisers."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model)
    return model


def as_runtime(model, **inputs):
    """Outputs of the imported model, having compared them with those of ONNX Runtime."""
    outputs = import_model(model).run(None, inputs)
    for got, want in zip(outputs, runtime_of(model).run(None, inputs), strict=True):
        assert_close(got, want)
    return outputs


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


# --- graphs ---------------------------------------------------------------------------------------


def lstm_of_any_shape():
    """As PyTorch writes it: first states of zeros, of the batch's size, two directions."""
    return text_model(
        """
        g (float[T, B, 3] x) => (float[T, B, 8] y, float[2, B, 4] hn) {
            shape = Shape(x)
            one = Constant<value_ints=[1]>()
            batch = Gather(shape, one)
            two = Constant<value_ints=[2]>()
            units = Constant<value_ints=[4]>()
            sizes = Concat<axis=0>(two, batch, units)
            zeros = ConstantOfShape(sizes)
            Y, hn, cn = LSTM<hidden_size=4, direction="bidirectional">(x, W, R, , , zeros, zeros)
            turned = Transpose<perm=[0, 2, 1, 3]>(Y)
            flat = Constant<value_ints=[0, 0, -1]>()
            y = Reshape(turned, flat)
        }
        """,
        W=normal(2, 16, 3),
        R=normal(2, 16, 4),
    )


def test_shapes_in_turns():
    """What depends on shapes alone is kept for each shape, and for no other."""
    model = lstm_of_any_shape()
    session, imported = runtime_of(model), import_model(model)
    for T, B in [(5, 2), (3, 2), (5, 1), (5, 2), (1, 7), (3, 2)]:
        x = normal(T, B, 3)
        for got, want in zip(
            imported.run(None, {"x": x}), session.run(None, {"x": x}), strict=True
        ):
            assert_close(got, want)


def test_more_shapes_than_are_kept():
    model = lstm_of_any_shape()
    session, imported = runtime_of(model), import_model(model)
    for T in [*range(1, 50), 1]:
        x = normal(T, 2, 3)
        assert_close(imported(x)[0], session.run(None, {"x": x})[0])


def test_zeros_kept_for_a_shape_are_not_the_callers():
    model = text_model(
        """
        g (float[N] x) => (float[M] zeros, float[N] same) {
            shape = Shape(x)
            zeros = ConstantOfShape(shape)
            same = Identity(x)
        }
        """
    )
    imported = import_model(model)
    x = normal(3)
    zeros, same = imported(x)
    zeros += 1
    same += 1
    again, same = imported(x)
    np.testing.assert_array_equal(again, 0)
    np.testing.assert_array_equal(same, x)


def test_constants_and_views_given_out_are_copies():
    model = text_model(
        """
        g (float[2, 3] x) => (float[2, 3] sum, float[3, 2] turned, float[2, 3] weights) {
            weights = Identity(w)
            sum = Add(x, w)
            turned = Transpose(x)
        }
        """,
        w=np.ones((2, 3), np.float32),
    )
    imported, x = import_model(model), normal(2, 3)
    before = x.copy()
    for output in imported(x):
        output += 5
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(imported(x)[0], before + 1)
    np.testing.assert_array_equal(imported(x)[2], 1)


def test_scan_with_weights_from_outside():
    """A graph in a graph takes an initialiser and an input of that around it."""
    model = text_model(
        """
        g (float[T, B, 3] x, float[B, 4] h0, float scale) => (float[B, 4] hn, float[T, B, 4] y) {
            hn, y = Scan<num_scan_inputs=1, body=step (float[B, 4] h, float[B, 3] x_t)
                => (float[B, 4] h_next, float[B, 4] y_t) {
                    a = MatMul(x_t, W)
                    b = MatMul(h, R)
                    c = Add(a, b)
                    d = Mul(c, scale)
                    h_next = Tanh(d)
                    y_t = Identity(h_next)
                }>(h0, x)
        }
        """,
        W=normal(3, 4),
        R=normal(4, 4),
    )
    as_runtime(model, x=normal(6, 2, 3), h0=normal(2, 4), scale=np.array(0.5, np.float32))


@pytest.mark.parametrize("bias", [-10.0, 10.0])
def test_if_and_loop(bias):
    model = text_model(
        """
        g (float[3] x, int64 count) => (float[3] y, float[N, 3] all) {
            zero = Constant<value_float=0.0>()
            sum = ReduceSum<keepdims=0>(x)
            positive = Greater(sum, zero)
            first = If(positive) <
                then_branch = one () => (float[3] a) { a = Neg(x) },
                else_branch = other () => (float[3] b) { b = Add(x, w) }>
            true = Constant<value=bool {1}>()
            y, all = Loop(count, true, first) <body = step (int64 i, bool go, float[3] v)
                => (bool on, float[3] v_next, float[3] scanned) {
                    on = Identity(go)
                    step_size = Cast<to=1>(i)
                    v_next = Add(v, step_size)
                    scanned = Mul(v_next, w)
                }>
        }
        """,
        w=normal(3),
    )
    as_runtime(model, x=normal(3) + np.float32(bias), count=np.array(4, np.int64))


def test_initialisers_that_are_inputs_are_defaults():
    model = text_model(
        "g (float[2] x, float[2] w) => (float[2] y) { y = Mul(x, w) }",
        w=np.array([2, 3], np.float32),
    )
    imported, one = import_model(model), np.ones(2, np.float32)
    np.testing.assert_array_equal(imported(one), [2, 3])
    np.testing.assert_array_equal(imported(one, w=one * 5), [5, 5])
    np.testing.assert_array_equal(imported.run(None, {"w": one * 6, "x": one})[0], [6, 6])
    np.testing.assert_array_equal(imported(one), [2, 3])
    assert [info.name for info in imported.inputs] == ["x"]
    assert [info.name for info in imported.get_overridable_initializers()] == ["w"]


def test_functions_are_written_out_with_the_defaults_of_their_attributes():
    node = onnx.helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    x = normal(2, 3, 4, 5)
    axes = (0, 2, 3)
    want = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    np.testing.assert_allclose(run_node(node, [x])[0], want, rtol=0, atol=1e-4)


def test_functions_of_the_model():
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[N] x) => (float[N] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }
        """
    )
    np.testing.assert_array_equal(import_model(model)(np.ones(3, np.float32)), 2)


def test_run_as_inference_sessions_do():
    model = import_model(export_model(fastrnn.LSTM(3, 4, seed=0)))
    inputs = {"x": normal(5, 2, 3), "h0": normal(1, 2, 4), "c0": normal(1, 2, 4)}
    assert [info.name for info in model.get_inputs()] == ["x", "h0", "c0"]
    assert model.get_inputs()[0].type == "tensor(float)"
    assert model.inputs[0].dtype == np.float32
    assert model.inputs[0].shape == ("T", "B", 3)
    y, hn, cn = model.run(None, inputs)
    turned = model.run(["cn", "y"], inputs)
    np.testing.assert_array_equal(turned[0], cn)
    np.testing.assert_array_equal(turned[1], y)
    for one, other in zip(model(*inputs.values()), (y, hn, cn), strict=True):
        np.testing.assert_array_equal(one, other)
    assert repr(model).startswith("Model(x: float32 ('T', 'B', 3), ")


def test_threads_share_a_model():
    model = import_model(lstm_of_any_shape())
    inputs = [normal(T, 2, 3) for T in range(1, 9)]
    want = [model(x) for x in inputs]
    wrong = []

    def work():
        for _ in range(20):
            for x, outputs in zip(inputs, want, strict=True):
                if not all(map(np.array_equal, model(x), outputs)):
                    wrong.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what is refused ------------------------------------------------------------------------------


def test_all_unknown_operators_are_named():
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[1, 1, 4] x) => (float[N, M, K] y) {
            [first] a = LRN<size=3>(x)
            b = Relu(a)
            [second] c = com.microsoft.FastGelu(b)
            y = Det(c)
        }
        """
    )
    with pytest.raises(NotImplementedError) as error:
        import_model(model)
    for part in ("LRN ('first')", "com.microsoft.FastGelu ('second')", "Det ('y')"):
        assert part in str(error.value)
    assert not is_compatible(model)
    assert is_compatible(lstm_of_any_shape())


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "string"])
def test_other_types_are_refused(kind):
    model = text_model(f"g ({kind}[2] x) => ({kind}[2] y) {{ y = Identity(x) }}")
    with pytest.raises(TypeError, match=f"expected tensors of float32, .*, got {kind}"):
        import_model(model)


def test_an_unknown_type_is_refused():
    model = lstm_of_any_shape()
    model.graph.initializer[0].data_type = 91
    with pytest.raises((TypeError, onnx.checker.ValidationError), match=r"91|data_type"):
        import_model(model)


def test_old_operators_are_refused():
    node = onnx.helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=1, output_sequence=1)
    values = [onnx.helper.make_tensor_value_info(n, FLOAT, [1, 1, 1]) for n in "xwr"]
    wanted = [onnx.helper.make_tensor_value_info("y", FLOAT, [1, 1, 1, 1])]
    graph = onnx.helper.make_graph([node], "g", values, wanted)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 1)])
    with pytest.raises(ValueError, match=r"\(opset\) of version 7 or later, got 1; .*converter"):
        import_model(model)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08\x12"])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "some.onnx"
    path.write_bytes(content)
    for given in (content, path, str(path)):
        with pytest.raises((ValueError, onnx.checker.ValidationError)):
            import_model(given)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_model(tmp_path / "none.onnx")


def test_cut_and_changed_files():
    """Any error that is one of those documented; no crash, no large allocation."""
    content = lstm_of_any_shape().SerializeToString()
    random = np.random.default_rng(0)
    known = (ValueError, TypeError, NotImplementedError, onnx.checker.ValidationError)
    for _ in range(300):
        changed = bytearray(content)
        for place in random.integers(len(content), size=3):
            changed[place] = random.integers(256)
        try:
            import_model(bytes(changed[: random.integers(len(content) // 2, len(content) * 2)]))
        except known:
            continue


def test_weights_in_other_files(tmp_path):
    model = lstm_of_any_shape()
    folder = tmp_path / "model"
    folder.mkdir()
    x = normal(4, 2, 3)
    want = import_model(model)(x)
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    for got, expected in zip(import_model(path)(x), want, strict=True):
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="lies in another file"):
        import_model(path.read_bytes())

    (folder / "w.bin").rename(tmp_path / "w.bin")
    for location in ("../w.bin", str(tmp_path / "w.bin")):
        outside = onnx.load(path, load_external_data=False)
        for tensor in outside.graph.initializer:
            tensor.external_data[0].value = location
        path.write_bytes(outside.SerializeToString())
        with pytest.raises((ValueError, onnx.checker.ValidationError)):
            import_model(path)


@pytest.mark.parametrize("shape", ["[1099511627776]", "[65536, 65536, 65536, 65536]", "[-1]"])
def test_sizes_in_a_file_are_bounded(shape):
    model = text_model(
        f"g () => (float[N] y) {{ s = Constant<value_ints={shape}>() y = ConstantOfShape(s) }}"
    )
    with pytest.raises(ValueError, match=r"node 'y' \(ConstantOfShape\): shape: expected"):
        import_model(model)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Unsqueeze(x, n)",
        "y = Squeeze(x, n)",
        "y = Slice(x, one, one, n)",
        "y = Gather<axis=1099511627776>(x, zero)",
        "y = Concat<axis=1099511627776>(x, x)",
        "y = Split<axis=1099511627776>(x)",
        "y = Tile(x, many)",
        "y = Pad(x, many)",
        "y = Conv<pads=[1099511627776, 1099511627776]>(x, x)",
        "y = AveragePool<kernel_shape=[1], pads=[1099511627776, 1099511627776]>(x)",
        "y = Transpose<perm=[1099511627776, 0, 1]>(x)",
    ],
)
def test_numbers_in_a_file_are_bounded(nodes):
    """Neither memory nor time is taken for them."""
    model = text_model(
        f"g (float[1, 2, 2] x) => (float[A, B, C] y) {{ {nodes} }}",
        n=np.array([2**40]),
        one=np.array([1]),
        zero=np.array(0),
        many=np.array([2**40] * (6 if "Pad" in nodes else 3)),
    )
    with pytest.raises(ValueError, match="node 'y'"):
        import_model(model)(normal(1, 2, 2))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ValueError, r"input_feed: expected \['x'\], got \[\]"),
        ({"x": normal(3, 2, 3), "z": 1}, ValueError, r"got \['x', 'z'\]"),
        ({"x": normal(3, 2, 3).astype(float)}, TypeError, "x: expected an array of float32, got"),
        ({"x": normal(3, 2, 4)}, ValueError, r"x: expected the shape \('T', 'B', 3\), got"),
        ({"x": normal(3, 2)}, ValueError, r"x: expected the shape \('T', 'B', 3\), got \(3, 2\)"),
    ],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        import_model(lstm_of_any_shape()).run(None, inputs)


def test_bad_calls():
    model = import_model(lstm_of_any_shape())
    x = normal(3, 2, 3)
    with pytest.raises(TypeError, match="at most 1 inputs, got 2"):
        model(x, x)
    with pytest.raises(TypeError, match="got x twice"):
        model(x, x=x)
    with pytest.raises(ValueError, match="output_names: expected some of"):
        model.run(["z"], {"x": x})


def test_errors_name_the_node():
    model = text_model(
        "g (float[N, M] x, int64[K] i) => (float[K, M] y) { [look_up] y = Gather(x, i) }"
    )
    with pytest.raises(ValueError, match=r"node 'look_up' \(Gather\): .*out of bounds"):
        import_model(model)(normal(2, 2), np.array([5]))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"direction": "sideways"}, "direction: expected one of forward, reverse, bidirectional"),
        ({"activations": ["Tanh"]}, "activations: expected 3, got 1"),
        ({"activations": ["Tanh", "Sine", "Tanh"]}, "activations: expected one of"),
        ({"clip": 0.0}, "clip: expected a number above 0"),
        ({"hidden_size": 7}, "R: expected a last axis of hidden_size 7, got 4"),
        ({"layout": 2}, "layout: expected 0 or 1, got 2"),
    ],
)
def test_wrong_attributes(attributes, message):
    node = onnx.helper.make_node("LSTM", ["x", "w", "r"], ["y"], "cell", **attributes)
    with pytest.raises(ValueError, match=rf"node 'cell' \(LSTM\): {message}"):
        run_node(node, [normal(2, 2, 3), normal(1, 16, 3), normal(1, 16, 4)])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 2, 3), (1, 16, 3), (1, 12, 4)], r"R: expected the shape \(1, 16, 4\)"),
        ([(2, 2, 5), (1, 16, 3), (1, 16, 4)], "inputs: expected X"),
        ([(2, 2, 3), (1, 16, 3), (1, 16, 4), (1, 9)], r"B: expected the shape \(1, 32\)"),
    ],
)
def test_wrong_shapes_of_weights(shapes, message):
    names = ["x", "w", "r", "b"][: len(shapes)]
    node = onnx.helper.make_node("LSTM", names, ["y"], "cell")
    values = [
        onnx.helper.make_tensor_value_info(name, FLOAT, [f"{name}{i}" for i in range(len(shape))])
        for name, shape in zip(names, shapes, strict=True)
    ]
    graph = onnx.helper.make_graph(
        [node], "g", values, [onnx.helper.make_tensor_value_info("y", FLOAT, list("abcd"))]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with pytest.raises(ValueError, match=rf"node 'cell' \(LSTM\): {message}"):
        import_model(model)(*[normal(*shape) for shape in shapes])


def test_the_page(tmp_path, monkeypatch):
    """The code of the sections before that on export runs; the operators are those there are."""
    page = Path(__file__).parents[2] / "docs" / "onnx.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    text = page.read_text(encoding="utf-8").split("## Export")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    rows = re.findall(r"^\| \w[\w ]+ \| ([A-Z]\w+(?:, \w+)*) \|$", text, re.MULTILINE)
    listed = [name for row in rows for name in row.split(", ")]
    assert sorted([*listed, "GRU", "LSTM", "RNN"]) == sorted(OPERATORS)
