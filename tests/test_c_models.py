"""Files that the C library must refuse, with a status and a message that names the thing."""

import itertools
import json
import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fastrnn
from c_cases import cases, describe, file_of, safetensors, with_header
from c_library import ApiError, CModel

LINEAR = {"in_features": 2, "out_features": 3, "bias": False, "dtype": "float32"}
LSTM = {"input_size": 2, "hidden_size": 3}
LSTM_SHAPES = {"weight_ih": (12, 2), "weight_hh": (12, 3), "bias_ih": (12,), "bias_hh": (12,)}


def f32(*shape):
    return ("F32", shape, bytes(4 * int(np.prod(shape))))


LINEAR_TENSORS = {"weight": f32(3, 2)}
LSTM_TENSORS = {f"{name}_l0": f32(*shape) for name, shape in LSTM_SHAPES.items()}


def linear_file(tensors=None, **config):
    tensors = LINEAR_TENSORS if tensors is None else tensors
    return safetensors(tensors, describe("Linear", {**LINEAR, **config}))


def lstm_file(tensors=None, **config):
    tensors = LSTM_TENSORS if tensors is None else tensors
    return safetensors(tensors, describe("LSTM", {**LSTM, **config}))


def model_file(*layers, tensors):
    """Return the file of a Sequential of (class, config) pairs."""
    described = [{"class": name, "config": config} for name, config in layers]
    return safetensors(tensors, describe("Sequential", {"layers": described}))


def refused(content, status, message):
    with pytest.raises(ApiError) as error:
        CModel(content)
    assert (error.value.status, message in str(error.value)) == (status, True), str(error.value)


def test_the_files_to_be_damaged_are_sound(tmp_path):
    assert CModel(linear_file()).info.output_size == 3
    assert CModel(lstm_file()).info.state_size == 6
    path = tmp_path / "model"
    path.write_bytes(lstm_file())
    assert fastrnn.load(path).hidden_size == CModel(path).info.output_size


# --- damage ---------------------------------------------------------------------------------------


def small_file(tmp_path):
    layers = (fastrnn.Embedding(3, 2), fastrnn.GRU(2, 2), fastrnn.Linear(2, 1))
    return file_of(fastrnn.Sequential(*layers), tmp_path).read_bytes()


def test_truncated_at_every_byte(tmp_path):
    content, path = small_file(tmp_path), tmp_path / "truncated"
    for size in range(len(content)):
        refused(content[:size], "FR_INVALID_MODEL", "data: not a whole safetensors file")
        path.write_bytes(content[:size])
        refused(path, "FR_INVALID_MODEL", f"{path}: not a whole safetensors file")
    refused(content + b"\0", "FR_INVALID_MODEL", "bytes behind its tensors")


def test_every_byte_of_the_header_changed(tmp_path):
    content = bytearray(small_file(tmp_path))
    header = 8 + int.from_bytes(content[:8], "little")
    statuses, starts = set(), set()
    for at, byte in itertools.product(range(header), (0x22, 0x31, 0xFF)):
        before, content[at] = content[at], byte
        try:
            CModel(bytes(content))
        except ApiError as error:
            statuses.add(error.status)
            starts.add(str(error)[:6])
        content[at] = before
    assert statuses == {"FR_INVALID_MODEL", "FR_UNSUPPORTED"}
    assert starts == {"data: "}


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes(content):
    refused(content, "FR_INVALID_MODEL", "data: ")
    refused(with_header(content, b""), "FR_INVALID_MODEL", "data: ")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8 + 1, 2**64 - 8, 100])
def test_header_lengths_beyond_the_file(length):
    content = length.to_bytes(8, "little") + b"{}"
    refused(content, "FR_INVALID_MODEL", f"its header would have {length} bytes, and it has 10")


def entry(dtype="F32", shape=(3, 2), offsets=(0, 24), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ("[]", 0, "its header is no JSON object"),
        ({"weight": entry(offsets=(0, 25))}, 24, "'weight' does not lie within it"),
        ({"weight": entry(offsets=(24, 0))}, 24, "'weight' does not lie within it"),
        ({"weight": entry(offsets=(0, 2**63 - 1))}, 24, "'weight' does not lie within it"),
        ({"weight": entry(offsets=(0, 2**64))}, 24, "expected at most 2 sizes"),
        ({"weight": entry(offsets=(-24, 0))}, 24, "expected at most 2 sizes"),
        ({"weight": entry(offsets=(0, 24, 24))}, 24, "expected at most 2 sizes"),
        ({"weight": entry(offsets=(0,))}, 24, "'weight' does not lie within it"),
        ({"weight": entry(offsets=(0, 24.0))}, 24, "expected at most 2 sizes"),
        ({"weight": entry(offsets=(0, 20))}, 24, "has 20 bytes, which is not its shape"),
        ({"weight": entry(shape=(3, 3))}, 24, "has 24 bytes, which is not its shape"),
        ({"weight": entry(shape=(2**32, 2**32))}, 24, "the shape '[4294967296, 4294967296]'"),
        ({"weight": entry(shape=(2**62, 4, 3))}, 24, "the shape '[4611686018427387904, 4, 3]'"),
        ({"weight": entry(shape=(-3, -2))}, 24, "expected at most 8 sizes, got '[-3, -2]'"),
        ({"weight": entry(shape=(3, True))}, 24, "expected at most 8 sizes"),
        ({"weight": entry(shape=(3, 2.0))}, 24, "expected at most 8 sizes"),
        ({"weight": entry(shape=(3, 1e400))}, 24, "is no JSON"),
        ({"weight": entry(shape=(1,) * 9)}, 4, "expected at most 8 sizes"),
        ({"weight": entry(dtype="F31")}, 24, "unknown dtype 'F31'"),
        ({"weight": entry(dtype=32)}, 24, "'weight' lacks its dtype"),
        ({"weight": [1]}, 24, "'weight' lacks its dtype"),
        ({"weight": {"dtype": "F32", "shape": []}}, 24, "'weight' lacks its data_offsets"),
        ({"a": entry(), "b": entry()}, 24, "a gap before 'b', or it overlaps"),
        ({"a": entry(), "b": entry(offsets=(20, 44))}, 44, "a gap before 'b', or it overlaps"),
        ({"a": entry(), "b": entry(offsets=(25, 49))}, 49, "a gap before 'b', or it overlaps"),
        ({"a": entry(offsets=(4, 28))}, 28, "a gap before 'a'"),
        ({"a": entry()}, 25, "bytes behind its tensors"),
        ({"__metadata__": []}, 0, "__metadata__ is no object"),
        ({"__metadata__": {"fastrnn": {}}}, 0, "__metadata__: 'fastrnn' is no string"),
        ({"__metadata__": {"format": "pt"}}, 0, "no fastrnn model"),
    ],
)
def test_headers(header, size, message):
    text = header if isinstance(header, str) else json.dumps(header)
    refused(with_header(text, bytes(size)), "FR_INVALID_MODEL", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "byte 1: expected '\"', got the text's end"),
        ('{"a":1', "byte 6: expected ',' or '}', got the text's end"),
        ('{"a":1,}', "byte 7: expected '\"', got '}'"),
        ('{"a" 1}', "expected ':', got '1'"),
        ('{"a":[1,]}', "expected a value, got ']'"),
        ('{"a":[1}', "expected ',' or ']', got '}'"),
        ('{"a":1}x', "expected its end, got 'x'"),
        ('{"a":1}\0', "expected its end"),
        ("{'a':1}", "expected '\"'"),
        ('{"a":NaN}', "expected a value, got 'N'"),
        ('{"a":-Infinity}', "expected a digit, got 'I'"),
        ('{"a":nul}', "expected a value, got 'n'"),
        ('{"a":01}', "expected ',' or '}', got '1'"),
        ('{"a":1.}', "expected a digit, got '}'"),
        ('{"a":.5}', "expected a value, got '.'"),
        ('{"a":1e}', "expected a digit"),
        ('{"a":+1}', "expected a value, got '+'"),
        ('{"a":"\\x41"}', "expected an escape, got 'x'"),
        ('{"a":"\\u12g4"}', "expected a hexadecimal digit, got 'g'"),
        ('{"a":"\n"}', "expected a string's end"),
        ('{"a":"', "expected a string's end, got the text's end"),
        ('{"a":1,"a":2}', "the name 'a' twice in one object"),
        ('{"a":{"b":1,"\\u0062":2}}', "the name 'b' twice in one object"),
        ('{"":1,"":2}', "the name '' twice in one object"),
        (b'{"a\xff":1}', "expected UTF-8, got '\\xff'"),
        (b'{"\xc0\x80":1}', "expected UTF-8"),
        (b'{"\xed\xa0\x80":1}', "expected UTF-8"),
        (b'{"\xf4\x90\x80\x80":1}', "expected UTF-8"),
        (b'{"\xe2\x82', "expected UTF-8"),
        ('{"a":' + "[" * 100 + "]" * 100 + "}", "nested too deeply (more than 100 levels)"),
        ('{"a":' * 1_000_000, "nested too deeply (more than 100 levels)"),
        ("// comment", "its header is no JSON object"),
    ],
)
def test_json_that_is_none(text, message):
    expected = "no JSON object" if "no JSON object" in message else "the header is no JSON: byte "
    refused(with_header(text, b""), "FR_INVALID_MODEL", message)
    refused(with_header(text, b""), "FR_INVALID_MODEL", expected)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@hypothesis.given(st.dictionaries(st.text(), JSON), st.booleans(), st.sampled_from([None, 1]))
def test_json_of_python_is_read_but_not_a_part_of_it(metadata, ascii_only, indent):
    description = describe("Linear", LINEAR, metadata)
    text = json.dumps(description, ensure_ascii=ascii_only, indent=indent)
    content = safetensors(LINEAR_TENSORS, fastrnn=text)
    assert json.loads(CModel(content).metadata) == metadata
    for cut in range(1, len(text), max(1, len(text) // 20)):
        content = safetensors(LINEAR_TENSORS, fastrnn=text[:-cut])
        refused(content, "FR_INVALID_MODEL", "the description of the model is no JSON")


# --- descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([], "is no JSON object"),
        ({}, "expected format 1, got none"),
        ({"format": 2}, "expected format 1, got '2'"),
        ({"format": True}, "expected format 1, got 'true'"),
        ({"format": 1.0}, "expected format 1, got '1.0'"),
        ({"format": 1, "metadata": {}}, "lacks an entry"),
        ({"format": 1, "model": {}}, "lacks an entry"),
        ({"format": 1, "model": {}, "metadata": 1}, "lacks an entry"),
        ({"format": 1, "model": 1, "metadata": {}}, "model: expected an object with"),
        ({"format": 1, "model": {"class": 1, "config": 1}, "metadata": {}}, "model: expected an"),
        (describe("Linear", []), "model (Linear): config: expected an object, got '[]'"),
        (describe("Sequential", {}), "model (Sequential): config: expected the entry layers"),
        (describe("Sequential", {"layers": 1}), "config: expected the entry layers, a list"),
        (describe("Sequential", {"layers": [1]}), "layer 0: expected an object"),
        (describe("Sequential", {"layers": [], "x": 1}), "config: unexpected entry 'x'"),
    ],
)
def test_descriptions(description, message):
    refused(safetensors(LINEAR_TENSORS, description), "FR_INVALID_MODEL", message)


def nested(depth):
    inner = {"class": "Linear", "config": LINEAR}
    for _ in range(depth):
        inner = {"class": "Sequential", "config": {"layers": [inner]}}
    return {"format": 1, "model": inner, "metadata": {}}


def test_nesting_has_the_limit_of_python(tmp_path):
    def outcomes(depth):
        name = "0." * depth + "weight"
        content = safetensors({name: f32(3, 2)}, nested(depth))
        (tmp_path / "model").write_bytes(content)
        for load in (CModel, lambda _: fastrnn.load(tmp_path / "model")):
            try:
                load(content)
                yield "loaded"
            except (ApiError, ValueError) as error:
                yield str(error).split(": ")[-1]

    both = [list(outcomes(depth)) for depth in range(28, 36)]
    assert all(c == python for c, python in both)
    assert ["loaded"] * 2 in both
    assert ["the model is nested too deeply (more than 100 levels)"] * 2 in both
    with pytest.raises(ApiError, match="nested too deeply"):
        CModel(safetensors(LINEAR_TENSORS, nested(300)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"input_size": 0}, "input_size: expected an integer from 1 to 2147483647, got '0'"),
        ({"input_size": -2}, "input_size: expected an integer from 1"),
        ({"input_size": 2.0}, "input_size: expected an integer from 1"),
        ({"input_size": True}, "input_size: expected an integer from 1"),
        ({"input_size": "2"}, "input_size: expected an integer from 1"),
        ({"input_size": None}, "input_size: expected an integer from 1"),
        ({"hidden_size": 10**18}, "hidden_size: expected an integer from 1"),
        ({"hidden_size": 10**30}, "hidden_size: expected an integer from 1"),
        ({"hidden_size": 2**31 - 1}, "weight_ih_l0: expected the shape (8589934588, 2)"),
        ({"num_layers": 10**18}, "num_layers: expected an integer from 1"),
        ({"num_layers": 10001}, "num_layers: expected at most 10000, got 10001"),
        ({"num_layers": 10000}, "the weights weight_ih_l1 are missing"),
        ({"bias": 1}, "bias: expected true or false, got '1'"),
        ({"bias": False}, "unexpected weights 'bias_hh_l0'"),
        ({"bidirectional": True}, "the weights weight_ih_l0_reverse are missing"),
        ({"bidirectional": True, "go_backwards": True}, "go_backwards: expected false"),
        ({"dropout": 1.5}, "dropout: expected a number from 0 to 1, got '1.5'"),
        ({"dropout": "a"}, "dropout: expected a number from 0 to 1"),
        ({"clip": 0}, "clip: expected a number above 0, got '0'"),
        ({"clip": -1}, "clip: expected a number of at least 0, got '-1'"),
        ({"cell_clip": []}, "cell_clip: expected a number of at least 0"),
        ({"zoneout": [0.1]}, "zoneout: expected a number or a list of two"),
        ({"zoneout": [0.1, 0.1, 0.1]}, "zoneout: expected a number or a list of two"),
        ({"zoneout": [0.1, 2]}, "zoneout: expected a number from 0 to 1, got '2'"),
        ({"zoneout": 0.1, "proj_size": 2}, "zoneout: expected 0 for h with proj_size"),
        ({"proj_size": 3}, "proj_size: expected less than hidden_size 3, got 3"),
        ({"proj_size": -1}, "proj_size: expected an integer from 0"),
        ({"proj_size": 2}, "weight_hh_l0: expected the shape (12, 2), got (12, 3)"),
        ({"activations": ["tanh"]}, "activations: expected a list of 3 functions"),
        ({"activations": "tanh"}, "activations: expected a list of 3 functions"),
        ({"activations": ["tanh", "tanh", "tan"]}, "activations: expected a function"),
        ({"activations": ["tanh", "tanh", ["elu", 1, 1]]}, "activations: expected a function"),
        ({"activations": ["tanh", "tanh", ["elu", "1"]]}, "activations: expected a number"),
        ({"activations": ["tanh", "tanh", "prelu"]}, "activations: expected a function"),
        ({"activations": ["tanh", "tanh", []]}, "activations: expected a function"),
        ({"activations": [[["tanh"]]] * 3}, "activations: expected a function"),
        ({"merge_mode": "max"}, "merge_mode: expected one of concat, sum, mean, mul, got"),
        ({"merge_mode": 1}, "merge_mode: expected one of concat, sum, mean, mul, got '1'"),
        ({"learned_state": True}, "the weights h_0 are missing"),
        ({"layer_norm": True}, "the weights gain_ih_l0 are missing"),
        ({"peephole": True}, "the weights peephole_l0 are missing"),
        ({"coupled": True}, "weight_ih_l0: expected the shape (9, 2), got (12, 2)"),
        ({"reset_after": True}, "config: unexpected entry 'reset_after'"),
        ({"hidden\ud800": 1}, "config: unexpected entry 'hidden\\xed\\xa0\\x80'"),
        ({"dtype": "float16"}, "dtype: expected 'float32', got '\"float16\"'"),
        ({"precision": "int4"}, "precision: expected one of float32, bf16, bf16_dot, int8"),
    ],
)
def test_configurations(config, message):
    refused(lstm_file(**config), "FR_INVALID_MODEL", message)


@pytest.mark.parametrize(
    ("layer_class", "config", "message"),
    [
        ("GRU", {"input_size": 2}, "model (GRU): hidden_size: missing"),
        ("GRU", {**LSTM, "zoneout": [0.1, 0.1]}, "zoneout: expected a number, got"),
        ("GRU", {**LSTM, "cell_clip": 1}, "config: unexpected entry 'cell_clip'"),
        ("RNN", {**LSTM, "nonlinearity": "sin"}, "nonlinearity: expected a function"),
        ("IndRNN", {**LSTM, "layer_norm": True}, "config: unexpected entry 'layer_norm'"),
        ("Linear", {**LINEAR, "out_features": 4}, "weight: expected the shape (4, 2), got (3, 2)"),
        ("Embedding", {"num_embeddings": 3, "embedding_dim": 2, "padding_idx": 3}, "padding_idx"),
        ("Embedding", {"num_embeddings": 2**31, "embedding_dim": 2}, "num_embeddings: expected"),
        ("LayerNorm", {"normalized_shape": 6, "eps": -1}, "eps: expected a number of at least 0"),
        ("LayerNorm", {"normalized_shape": 6, "eps": "0"}, "eps: expected a number of at least 0"),
        ("Dropout", {"p": 2}, "p: expected a number from 0 to 1"),
        ("Tanh", {"x": 2}, "config: unexpected entry 'x'"),
        ("Softmax", {"dim": 1.5}, "dim: expected an integer"),
        ("LastStep", {"batch_first": 0}, "batch_first: expected true or false"),
    ],
)
def test_configurations_of_other_layers(layer_class, config, message):
    content = safetensors(LINEAR_TENSORS, describe(layer_class, config))
    refused(content, "FR_INVALID_MODEL", message)


def test_numbers_of_any_length():
    for text in ("1e-05", "0." + "0" * 400 + "1", "1" + "0" * 300 + "e-305", "0.00001"):
        config = '{"normalized_shape": 6, "bias": false, "eps": ' + text + "}"
        description = json.dumps(describe("LayerNorm", "?")).replace('"?"', config)
        CModel(safetensors({"weight": f32(6)}, fastrnn=description))
    huge = description.replace(text, "1e999")
    refused(safetensors({"weight": f32(6)}, fastrnn=huge), "FR_INVALID_MODEL", "eps: expected")


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LSTM_TENSORS)
def test_weights_that_are_missing_or_other(name):
    without = {key: value for key, value in LSTM_TENSORS.items() if key != name}
    refused(lstm_file(without), "FR_INVALID_MODEL", f"the weights {name} are missing")
    shape = LSTM_TENSORS[name][1]
    for dtype, size in (("F64", 8), ("F16", 2), ("I8", 1), ("BF16", 2)):
        other = {**without, name: (dtype, shape, bytes(size * int(np.prod(shape))))}
        refused(lstm_file(other), "FR_INVALID_MODEL", f"{name}: expected F32, got {dtype}")
    turned = {**without, name: f32(*reversed((*shape, 1)))}
    refused(lstm_file(turned), "FR_INVALID_MODEL", f"{name}: expected the shape (12,")
    more = {**LSTM_TENSORS, "\x1bname": f32(1)}
    refused(lstm_file(more), "FR_INVALID_MODEL", "unexpected weights '\\x1bname'")


def test_layers_that_do_not_fit():
    first, second = ("Linear", LINEAR), ("Linear", LINEAR)
    tensors = {"0.weight": f32(3, 2), "1.weight": f32(3, 2)}
    message = "layer 1 (Linear): takes 2 values, but the layer before it gives 3"
    refused(model_file(first, second, tensors=tensors), "FR_INVALID_MODEL", message)
    embedding = ("Embedding", {"num_embeddings": 3, "embedding_dim": 2})
    content = model_file(first, embedding, tensors=tensors)
    refused(content, "FR_INVALID_MODEL", "layer 1 (Embedding): takes tokens, but there is a")
    recurrent = {f"1.{name}": tensor for name, tensor in LSTM_TENSORS.items()}
    content = model_file(("LastStep", {}), ("LSTM", LSTM), tensors=recurrent)
    refused(content, "FR_INVALID_MODEL", "layer 1 (LSTM): behind LastStep there are no steps")
    content = model_file(("LastStep", {}), ("LastStep", {}), tensors={})
    refused(content, "FR_INVALID_MODEL", "layer 1 (LastStep): behind LastStep there are no steps")


# --- sound models that are not supported ----------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (fastrnn.GRU(2, 3, dtype="float64"), "layer 1 (GRU): dtype: expected a float32 model"),
        (fastrnn.MeanPooling(), "layer 1: the class 'MeanPooling' is not supported here"),
        (fastrnn.AUGRU(2, 3), "layer 1: the class 'AUGRU' is not supported here"),
        (fastrnn.Softmax(0), "layer 1 (Softmax): dim: expected -1, the last axis, got '0'"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, layer, message):
    path = file_of(fastrnn.Sequential(fastrnn.Linear(2, 2), layer), tmp_path)
    refused(path, "FR_UNSUPPORTED", f"{path}: {message}")


@pytest.mark.parametrize("layers", [(), (fastrnn.Tanh(),), (fastrnn.Dropout(), fastrnn.LastStep())])
def test_models_without_sizes(tmp_path, layers):
    path = file_of(fastrnn.Sequential(*layers), tmp_path)
    refused(path, "FR_UNSUPPORTED", "expected a layer of which the sizes are known")


def test_any_number_of_layers():
    """In linear time, whatever is known of their sizes when."""
    layers = [("Tanh", {})] * 100_000 + [("Linear", LINEAR)]
    content = model_file(*layers, tensors={"100000.weight": f32(3, 2)})
    assert CModel(content).info.input_size == 2


# --- files ----------------------------------------------------------------------------------------


def test_paths_that_cannot_be_read(tmp_path):
    refused(tmp_path / "none", "FR_IO_ERROR", f"{tmp_path}/none: cannot be opened (No such file")
    refused(tmp_path, "FR_IO_ERROR", f"{tmp_path}: cannot be read (not a regular file)")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(pipe, "FR_IO_ERROR", "cannot be read (not a regular file)")
    refused("x" * 5000, "FR_IO_ERROR", "cannot be opened (File name too long)")


@hypothesis.settings(max_examples=50)
@hypothesis.given(cases(), st.data())
def test_models_with_a_tensor_less(tmp_path_factory, case, data):
    """Whatever is missing is named, of every layer and option."""
    path = file_of(case.model, tmp_path_factory.mktemp("less"))
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    names = [name for name in header if name != "__metadata__"]
    name = data.draw(st.sampled_from(names))
    header["other"] = header.pop(name)
    content = with_header(json.dumps(header), content[end:])
    refused(content, "FR_INVALID_MODEL", f"the weights {name} are missing")
