"""Files of quantised models: small, the same bits after load, and every way to be wrong."""

import json
import struct
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn.serialization import load, load_metadata, save


def model():
    return fastrnn.Sequential(
        fastrnn.Embedding(7, 3, seed=1),
        fastrnn.LSTM(3, 40, num_layers=2, bidirectional=True, proj_size=9, seed=2),
        fastrnn.Residual(fastrnn.GRU(18, 18, bias=False, seed=3)),
        fastrnn.IndRNN(18, 4, seed=4),
        fastrnn.Linear(4, 5, seed=5),
    )


def parts_of(path):
    """The header of a file, without the metadata, its description, and the bytes of each tensor."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    description = json.loads(header.pop("__metadata__")["fastrnn"])
    data = content[8 + size :]
    tensors = {n: data[slice(*entry["data_offsets"])] for n, entry in header.items()}
    return header, description, tensors


def write(path, header, description, tensors):
    """Write such a file again, with offsets that fit."""
    data = b""
    for name, entry in header.items():
        entry["data_offsets"] = [len(data), len(data) + len(tensors[name])]
        data += tensors[name]
    text = json.dumps({"__metadata__": {"fastrnn": json.dumps(description)}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("precision", ["bf16", "int8", "bf16_dot"])
@pytest.mark.parametrize("ml_dtypes", [True, False])
def test_a_model_comes_back_bit_for_bit(tmp_path, precision, ml_dtypes, monkeypatch):
    if not ml_dtypes:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    saved = fastrnn.quantize(model(), precision)
    save(saved, tmp_path / "model", {"a": 1})
    loaded = load(tmp_path / "model")
    assert load_metadata(tmp_path / "model") == {"a": 1}
    assert repr(loaded) == repr(saved)
    assert loaded.config() == saved.config()
    for name, parameter in saved.parameters().items():
        twin = loaded.parameters()[name]
        assert type(twin) is type(parameter)
        np.testing.assert_array_equal(twin.data, parameter.data, strict=True)
        if parameter.fixed:
            np.testing.assert_array_equal(twin.values, parameter.values, strict=True)
            assert (twin.scales is None) == (parameter.scales is None)
            if twin.scales is not None:
                np.testing.assert_array_equal(twin.scales, parameter.scales, strict=True)
    ids = np.array([[1, 2], [0, 6], [5, 5]])
    np.testing.assert_array_equal(loaded(ids)[0], saved(ids)[0])


def test_the_file_is_as_documented(tmp_path):
    path = tmp_path / "model"
    layer = fastrnn.GRU(30, 50, seed=1)
    sizes = {}
    for precision in ("float32", "bf16", "int8"):
        small = layer if precision == "float32" else fastrnn.quantize(layer, precision)
        save(small, path)
        header, description, tensors = parts_of(path)
        sizes[precision] = sum(map(len, tensors.values()))
        assert description["format"] == 1
        assert description["model"] == {"class": "GRU", "config": small.config()}
        kinds = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
        assert kinds.pop("bias_ih_l0") == kinds.pop("bias_hh_l0") == ("F32", [150])
        dtype = {"float32": "F32", "bf16": "BF16", "int8": "I8"}[precision]
        assert kinds.pop("weight_ih_l0") == (dtype, [150, 30])
        assert kinds.pop("weight_hh_l0") == (dtype, [150, 50])
        if precision == "int8":
            for name in ("weight_ih_l0_scale", "weight_hh_l0_scale"):
                assert kinds.pop(name) == ("F32", [150])
        assert not kinds
    matrices = 150 * (30 + 50)
    assert sizes == {
        "float32": 4 * matrices + 1200,
        "bf16": 2 * matrices + 1200,
        "int8": matrices + 1200 + 1200,
    }


def test_bf16_tensors_are_bfloat16_to_others(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    small = fastrnn.quantize(fastrnn.LSTM(5, 7, seed=1), "bf16")
    save(small, tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        for name, parameter in small.parameters().items():
            tensor = file.get_tensor(name)
            assert tensor.dtype == (torch.bfloat16 if name.startswith("weight") else torch.float32)
            np.testing.assert_array_equal(tensor.float().numpy(), parameter.data)


def change_dtype(name, dtype, width):
    def change(header, description, tensors):
        header[name]["dtype"] = dtype
        tensors[name] = bytes(width * int(np.prod(header[name]["shape"])))

    return change


def change_config(**changes):
    def change(header, description, tensors):
        description["model"]["config"].update(changes)

    return change


def drop(*names):
    def change(header, description, tensors):
        for name in names:
            del header[name], tensors[name]

    return change


def add(name, dtype, shape, data):
    def change(header, description, tensors):
        header[name], tensors[name] = {"dtype": dtype, "shape": shape}, data

    return change


def no_precision(header, description, tensors):
    del description["model"]["config"]["precision"]


def put(name, at, array):
    def change(header, description, tensors):
        content = array.tobytes()
        start = at * array.itemsize
        old = tensors[name]
        tensors[name] = old[:start] + content + old[start + len(content) :]

    return change


F = np.float32
WRONG = {
    "scale missing": ("int8", drop("weight_hh_l0_scale"), "weights weight_hh_l0_scale are missing"),
    "scale of another shape": (
        "int8",
        add("weight_hh_l0_scale", "F32", [9, 1], bytes(36)),
        r"weight_hh_l0_scale: expected float32 of the shape \(9,\), got F32 of the shape \(9, 1\)",
    ),
    "scale of fewer rows": (
        "int8",
        add("weight_ih_l0_scale", "F32", [8], bytes(32)),
        r"weight_ih_l0_scale: expected float32 of the shape \(9,\), got F32 of the shape \(8,\)",
    ),
    "scale of another dtype": (
        "int8",
        add("weight_ih_l0_scale", "F64", [9], bytes(72)),
        r"weight_ih_l0_scale: expected float32 of the shape \(9,\), got F64",
    ),
    "scale NaN": ("int8", put("weight_ih_l0_scale", 8, F([np.nan])), "expected finite scales"),
    "scale infinite": ("int8", put("weight_hh_l0_scale", 0, F([np.inf])), "expected finite scales"),
    "scale negative": (
        "int8",
        put("weight_hh_l0_scale", 3, F([-1])),
        "weight_hh_l0_scale: expected finite scales from 0 on",
    ),
    "integer -128": (
        "int8",
        put("weight_hh_l0", 26, np.int8([-128])),
        "weight_hh_l0: expected integers from -127 to 127, got -128",
    ),
    "scale without integers": (
        "bf16",
        add("weight_hh_l0_scale", "F32", [9], bytes(36)),
        "unexpected weights weight_hh_l0_scale",
    ),
    "scale of a bias": (
        "int8",
        add("bias_hh_l0_scale", "F32", [9], bytes(36)),
        "unexpected weights bias_hh_l0_scale",
    ),
    "weights missing": ("int8", drop("weight_hh_l0"), "the weights weight_hh_l0 are missing"),
    "weights and scale missing": (
        "int8",
        drop("weight_hh_l0", "weight_hh_l0_scale"),
        "the weights weight_hh_l0 are missing",
    ),
    "weights of another shape": (
        "int8",
        add("weight_hh_l0", "I8", [9, 4], bytes(36)),
        r"weight_hh_l0: expected the shape \(9, 3\), got \[9, 4\]",
    ),
    "bf16 as float16": ("bf16", change_dtype("weight_ih_l0", "F16", 2), "bfloat16, got F16"),
    "bf16 as integers": ("bf16", change_dtype("weight_ih_l0", "U16", 2), "bfloat16, got U16"),
    "bf16 as float32": ("bf16", change_dtype("weight_ih_l0", "F32", 4), "bfloat16, got float32"),
    "bf16 as int8": (
        "bf16",
        change_dtype("weight_ih_l0", "I8", 1),
        "the weights weight_ih_l0_scale are missing",
    ),
    "int8 as float32": ("int8", change_dtype("weight_ih_l0", "F32", 4), "unexpected weights"),
    "int8 as unsigned": ("int8", change_dtype("weight_ih_l0", "U8", 1), "unexpected weights"),
    "bias as bf16": (
        "bf16",
        change_dtype("bias_ih_l0", "BF16", 2),
        "bias_ih_l0: expected float32, got bfloat16",
    ),
    "bias as int8": (
        "int8",
        change_dtype("bias_ih_l0", "I8", 1),
        "the weights bias_ih_l0_scale are missing",
    ),
    "precision of the other": (
        "int8",
        change_config(precision="bf16"),
        "weight_ih_l0: expected bfloat16, got int8",
    ),
    "precision left out": ("bf16", no_precision, "weight_ih_l0: expected float32, got bfloat16"),
    "precision unknown": (
        "int8",
        change_config(precision="int4"),
        "precision: expected one of 'bf16', 'int8', 'bf16_dot', got 'int4'",
    ),
    "precision float32": (
        "int8",
        change_config(precision="float32"),
        "precision: expected one of 'bf16', 'int8', 'bf16_dot', got 'float32'",
    ),
    "precision null": ("int8", change_config(precision=None), "precision: expected one of"),
    "precision a list": ("int8", change_config(precision=["int8"]), "precision: expected one of"),
    "precision a number": ("int8", change_config(precision=8), "precision: expected one of"),
    "float64": (
        "int8",
        change_config(dtype="float64"),
        "precision: expected a float32 layer, got float64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_a_value_error_that_says_what_is_wrong(tmp_path, name):
    precision, change, message = WRONG[name]
    path = tmp_path / "model"
    save(fastrnn.quantize(fastrnn.GRU(2, 3, seed=1), precision), path)
    parts = parts_of(path)
    write(path, *parts)
    load(path)  # writing it again is no change
    change(*parts)
    write(path, *parts)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("dtype", ["I8", "BF16"])
def test_small_weights_of_other_layers_are_an_error(tmp_path, dtype):
    path = tmp_path / "model"
    save(fastrnn.Linear(3, 2, seed=1), path)
    header, description, tensors = parts_of(path)
    header["weight"]["dtype"] = dtype
    tensors["weight"] = bytes(6 if dtype == "I8" else 12)
    header["weight_scale"], tensors["weight_scale"] = {"dtype": "F32", "shape": [2]}, bytes(8)
    if dtype == "BF16":
        del header["weight_scale"]
    write(path, header, description, tensors)
    with pytest.raises(ValueError, match=r"weight: expected float32, got (int8|bfloat16)"):
        load(path)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_file_cut_anywhere_is_a_value_error(tmp_path, precision):
    path = tmp_path / "model"
    save(fastrnn.quantize(fastrnn.GRU(2, 3), precision), path)
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load(path)
