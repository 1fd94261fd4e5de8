"""Saving and loading, of good files and of hostile ones."""

import copy
import json
import os
import stat
import struct
import sys

import numpy as np
import pytest

import fastrnn.serialization
from fastrnn.layers import Dropout, Embedding, Linear, Sequential
from fastrnn.recurrent import GRU, LSTM, RNN
from fastrnn.serialization import load, load_metadata, save


def model(dtype="float32"):
    return Sequential(
        Embedding(7, 3, padding_idx=0, dtype=dtype, seed=1),
        Dropout(0.25),
        Sequential(LSTM(3, 4, num_layers=2, bidirectional=True, dtype=dtype, seed=2)),
        GRU(8, 3, reset_after=False, bias=False, dtype=dtype, seed=3),
        RNN(3, 4, nonlinearity="relu", dropout=0.5, dtype=dtype, seed=4),
        Linear(4, 5, dtype=dtype, seed=5),
    )


def linear_file(path, **changes):
    """Write what `save` writes for Linear(3, 2), with changes to its parts; return the path.

    The names of the parts: tensors, format, version, model, metadata, text (of the description).
    """
    parts = {
        "tensors": {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)},
        "format": 1,
        "version": "0.1.0",
        "model": {"class": "Linear", "config": {"in_features": 3, "out_features": 2}},
        "metadata": {},
        "text": None,
        **changes,
    }
    tensors, text = parts.pop("tensors"), parts.pop("text")
    description = {name: part for name, part in parts.items() if part is not ...}
    header = {"__metadata__": {"fastrnn": json.dumps(description) if text is None else text}}
    data = b""
    for name, array in tensors.items():
        kind = {"f4": "F32", "f8": "F64", "f2": "F16", "i4": "I32"}[array.dtype.str[1:]]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        data += array.tobytes()
    return raw_file(path, json.dumps(header).encode(), data)


def raw_file(path, header, data=b"", size=None):
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + data)
    return path


def linear(**config):
    return {"class": "Linear", "config": config}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_was(tmp_path, dtype):
    saved = model(dtype)
    save(saved, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(saved)
    assert loaded.config() == saved.config()
    weights = saved.state_dict()
    assert list(loaded.state_dict()) == list(weights)
    for name, array in loaded.state_dict().items():
        assert array.dtype == np.dtype(dtype)
        assert np.array_equal(array, weights[name])
    ids = np.array([[1, 2], [0, 6], [5, 5]])
    y, state = saved(ids)
    other_y, other_state = loaded(ids)
    assert np.array_equal(y, other_y)
    assert np.array_equal(state[1], other_state[1])


@pytest.mark.parametrize(
    "layer", [LSTM(3, 4), Linear(3, 2), Embedding(4, 2), Dropout(0.1)], ids=repr
)
def test_single_layers_and_those_without_weights_come_back(tmp_path, layer):
    save(layer, str(tmp_path / "layer"))
    assert repr(load(str(tmp_path / "layer"))) == repr(layer)


def test_weights_that_are_not_finite_come_back(tmp_path):
    layer = Linear(2, 2)
    layer.weight.data = [[np.nan, np.inf], [-np.inf, 1e-45]]
    save(layer, tmp_path / "layer")
    assert np.array_equal(
        load(tmp_path / "layer").weight.data.view(np.uint32), layer.weight.data.view(np.uint32)
    )


def test_metadata_come_back(tmp_path):
    metadata = {
        "characters": 'aä€😀\ud800\0"\\',
        "epoch": 3,
        "losses": [1.5, None],
        "more": {"a": True},
    }
    save(Linear(3, 2), tmp_path / "model", metadata)
    assert load_metadata(tmp_path / "model") == metadata
    save(Linear(3, 2), tmp_path / "model")
    assert load_metadata(tmp_path / "model") == {}


def test_others_can_read_the_weights(tmp_path):
    """And the description stands where the documentation says."""
    from safetensors import safe_open

    layer = LSTM(3, 4, seed=1)
    save(layer, tmp_path / "model", {"a": 1})
    with safe_open(tmp_path / "model", framework="numpy") as file:
        assert set(file.keys()) == layer.parameters().keys()
        assert np.array_equal(file.get_tensor("weight_ih_l0"), layer.state_dict()["weight_ih_l0"])
        description = json.loads(file.metadata()["fastrnn"])
    assert description.keys() == {"format", "version", "model", "metadata"}
    assert description["format"] == 1
    assert description["model"] == {"class": "LSTM", "config": layer.config()}
    assert description["metadata"] == {"a": 1}


def test_the_file_of_the_other_tests_is_a_good_one(tmp_path):
    assert load(linear_file(tmp_path / "model"))([[1.0, 2.0, 3.0]]).tolist() == [[7.0, 7.0]]
    assert load_metadata(linear_file(tmp_path / "model", metadata={"a": [1]})) == {"a": [1]}


def nested(depth):
    description = {"class": "Dropout", "config": {}}
    for _ in range(depth):
        description = {"class": "Sequential", "config": {"layers": [description]}}
    return description


# What is changed in the file of Linear(3, 2), and what the error says of it.
ONE, TWO = np.ones((2, 3), np.float32), np.ones(2, np.float32)
HOSTILE = {
    "weights missing": ({"tensors": {"weight": ONE}}, "the weights bias are missing"),
    "weights unexpected": (
        {"tensors": {"weight": ONE, "bias": TWO, "gamma": TWO}},
        "unexpected weights gamma",
    ),
    "wrong shape": (
        {"tensors": {"weight": ONE.T.copy(), "bias": TWO}},
        r"weight: expected the shape \(2, 3\), got \[3, 2\]",
    ),
    "wrong rank": (
        {"tensors": {"weight": ONE, "bias": TWO[None]}},
        r"bias: expected the shape \(2,\), got \[1, 2\]",
    ),
    "wrong dtype": (
        {"tensors": {"weight": ONE.astype("f8"), "bias": TWO}},
        "weight: expected float32, got float64",
    ),
    "half precision": (
        {"tensors": {"weight": ONE, "bias": TWO.astype("f2")}},
        "bias: expected float32, got F16",
    ),
    "integers": (
        {"tensors": {"weight": ONE, "bias": TWO.astype("i4")}},
        "bias: expected float32, got I32",
    ),
    "no JSON": ({"text": "{'class': Linear}"}, "the description of the model is no JSON"),
    "empty JSON": ({"text": ""}, "the description of the model is no JSON"),
    "JSON list": ({"text": "[1]"}, "the description of the model is no JSON object"),
    "JSON too deep": ({"text": "[" * 10**6}, "the description of the model is no JSON"),
    "huge number": ({"text": '{"format": ' + "9" * 10**5 + "}"}, ""),
    "format newer": ({"format": 2}, "expected format 1, got 2"),
    "format true": ({"format": True}, "expected format 1, got True"),
    "format a float": ({"format": 1.0}, "expected format 1, got 1.0"),
    "format missing": ({"format": ...}, "expected format 1, got None"),
    "model missing": ({"model": ...}, "the description of the model lacks an entry"),
    "metadata missing": ({"metadata": ...}, "the description of the model lacks an entry"),
    "metadata a list": ({"metadata": []}, "the description of the model lacks an entry"),
    "model null": ({"model": None}, "expected an object with the entries class and config"),
    "model a name": ({"model": "Linear"}, "expected an object with the entries class and config"),
    "class unknown": ({"model": {"class": "Lstm", "config": {}}}, "expected one of .*, got 'Lstm'"),
    "class of Python": (
        {"model": {"class": "os.system", "config": {"command": "false"}}},
        "expected one of RNN, LSTM, .*, got 'os.system'",
    ),
    "class private": ({"model": {"class": "__init__", "config": {}}}, "expected one of RNN, LSTM"),
    "class a list": ({"model": {"class": ["Linear"], "config": {}}}, "expected one of RNN, LSTM"),
    "config missing": ({"model": {"class": "Linear"}}, "expected an object with the entries"),
    "config a list": ({"model": {"class": "Linear", "config": [3, 2]}}, "config of Linear: expec"),
    "config empty": ({"model": linear()}, "out_features: expected an integer, got None"),
    "argument unknown": (
        {"model": linear(in_features=3, out_features=2, device="gpu")},
        "unexpected keyword argument 'device'",
    ),
    "argument of another object": (
        {"model": linear(in_features=3, out_features=2, self=1)},
        "multiple values for argument 'self'",
    ),
    "size huge": (
        {"model": linear(in_features=10**12, out_features=10**12)},
        r"weight: expected the shape \(1000000000000, 1000000000000\), got \[2, 3\]",
    ),
    "size of a googol": (
        {"model": linear(in_features=10**100, out_features=2)},
        "weight: expected",
    ),
    "size negative": (
        {"model": linear(in_features=-3, out_features=2)},
        "in_features: expected at least 1, got -3",
    ),
    "size zero": ({"model": linear(in_features=3, out_features=0)}, "out_features: expected at l"),
    "size true": (
        {"model": linear(in_features=True, out_features=2)},
        "in_features: expected an i",
    ),
    "size a float": (
        {"model": linear(in_features=3.0, out_features=2)},
        "in_features: expected an",
    ),
    "size a string": (
        {"model": linear(in_features="3", out_features=2)},
        "in_features: expected a",
    ),
    "size a list": (
        {"model": linear(in_features=[3], out_features=2)},
        "in_features: expected an i",
    ),
    "size NaN": (
        {"model": linear(in_features=float("nan"), out_features=2)},
        "in_features: expect",
    ),
    "flag a number": (
        {"model": linear(in_features=3, out_features=2, bias=1)},
        "bias: expected True",
    ),
    "dtype unknown": (
        {"model": linear(in_features=3, out_features=2, dtype="object")},
        "dtype: expected float32 or float64, got 'object'",
    ),
    "dtype another": (
        {"model": linear(in_features=3, out_features=2, dtype="float64")},
        "weight: expected float64, got float32",
    ),
    "seed bad": (
        {"model": linear(in_features=3, out_features=2, seed=-1)},
        "",
    ),
    "layers huge": (
        {
            "model": {
                "class": "LSTM",
                "config": {"input_size": 3, "hidden_size": 2, "num_layers": 10**15},
            }
        },
        "the weights weight_ih_l0 are missing",
    ),
    "layers no list": (
        {"model": {"class": "Sequential", "config": {"layers": 3}}},
        "config of Sequ",
    ),
    "layers too deep": ({"model": nested(34), "tensors": {}}, "the model is nested too deeply"),
    "probability bad": (
        {"model": {"class": "Dropout", "config": {"p": 2}}, "tensors": {}},
        "p: expected a number from 0.0 to 1.0, got 2",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_description_is_a_value_error_that_says_what_is_wrong(tmp_path, name):
    changes, message = HOSTILE[name]
    path = linear_file(tmp_path / "model", **changes)
    with pytest.raises(ValueError, match=f"(?s).*{message}") as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_configuration_of_any_size_allocates_nothing(tmp_path):
    """These ask for some terabytes: a MemoryError, were they built."""
    configs = {
        "LSTM": {"input_size": 10**6, "hidden_size": 10**5, "num_layers": 2},
        "Linear": {"in_features": 10**6, "out_features": 10**6},
        "Embedding": {"num_embeddings": 10**6, "embedding_dim": 10**6},
    }
    model = {
        "class": "Sequential",
        "config": {"layers": [{"class": c, "config": configs[c]} for c in configs]},
    }
    for layer in [model, *model["config"]["layers"]]:
        path = linear_file(tmp_path / "model", model=layer)
        with pytest.raises(ValueError, match=r"are missing|expected the shape"):
            load(path)


DAMAGE = {
    "empty": lambda content: b"",
    "a few bytes": lambda content: content[:5],
    "only the size": lambda content: content[:8],
    "header cut": lambda content: content[:100],
    "weights cut": lambda content: content[:-1],
    "weights missing": lambda content: content[: 8 + struct.unpack("<Q", content[:8])[0]],
    "bytes appended": lambda content: content + b"\0",
    "header size huge": lambda content: struct.pack("<Q", 2**63) + content[8:],
    "header size negative": lambda content: b"\xff" * 8 + content[8:],
    "header size of a terabyte": lambda content: struct.pack("<Q", 10**12) + content[8:],
    "header size zero": lambda content: struct.pack("<Q", 0) + content[8:],
    "header no JSON": lambda content: content[:8] + b"x" + content[9:],
    "pickle": lambda content: b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N." + content,
    "zip": lambda content: b"PK\x03\x04" + content,
    "text": lambda content: b"Once upon a time there was a file of plain text.\n" * 10,
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("function", [load, load_metadata])
def test_a_damaged_file_is_a_value_error(tmp_path, name, function):
    path = tmp_path / "model"
    save(Linear(3, 2), path)
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    with pytest.raises(ValueError, match="not a whole safetensors file") as caught:
        function(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_cut_anywhere_is_a_value_error(tmp_path):
    path = tmp_path / "model"
    save(GRU(2, 3), path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 0]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [10**15, 10**15 + 24]},
        {"dtype": "O", "shape": [2, 3], "data_offsets": [0, 24]},
        "weight",
    ],
)
def test_a_hostile_header_is_a_value_error(tmp_path, entry):
    description = json.dumps({"format": 1, "metadata": {}, "model": linear()})
    header = {"__metadata__": {"fastrnn": description}, "weight": entry}
    path = raw_file(tmp_path / "model", json.dumps(header).encode(), bytes(24))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(path)


@pytest.mark.parametrize("function", [load, load_metadata])
def test_a_safetensors_file_of_others_is_a_value_error(tmp_path, function):
    from safetensors.numpy import save_file

    for metadata in (None, {"format": "pt"}):
        save_file({"weight": np.ones(3, np.float32)}, tmp_path / "model", metadata)
        with pytest.raises(ValueError, match=r"model: no fastrnn model \(load_state_dict takes"):
            function(tmp_path / "model")


@pytest.mark.parametrize("function", [load, load_metadata])
def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path, function):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        function(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        function(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="below"):
        function(tmp_path / "file" / "below")


@pytest.mark.parametrize("where", ["file/below", "no/such/folder", "folder"])
def test_a_file_that_cannot_be_written_is_an_os_error_and_leaves_nothing(tmp_path, where):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"file|no|folder"):
        save(Linear(3, 2), tmp_path / where)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b""


def test_a_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "model"
    save(Linear(3, 2), path)
    save(LSTM(3, 4), path)
    assert isinstance(load(path), LSTM)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_the_old_file_survives_when_saving_fails(tmp_path, monkeypatch, failing, error):
    def fail(*arguments):
        raise error

    path = tmp_path / "model"
    save(Linear(3, 2), path)
    before = path.read_bytes()
    monkeypatch.setattr(fastrnn.serialization.os, failing, fail)
    with pytest.raises(type(error)):
        save(LSTM(3, 4), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_the_content_is_on_the_disk_before_it_replaces_the_old(tmp_path, monkeypatch):
    synced = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)

    def replace_synced(source, target):
        assert synced == [os.stat(source).st_size]
        replace(source, target)

    monkeypatch.setattr(fastrnn.serialization.os, "fsync", record_fsync)
    monkeypatch.setattr(fastrnn.serialization.os, "replace", replace_synced)
    save(Linear(3, 2), tmp_path / "model")
    assert synced == [(tmp_path / "model").stat().st_size, "folder"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "model")
    save(Linear(3, 2), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert repr(load(tmp_path / "folder" / "model")) == repr(Linear(3, 2))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    save(Linear(3, 2), tmp_path / "model")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("model", "other")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"a": np.zeros(3)}, TypeError, "metadata: expected what JSON can hold"),
        ({"a": float("nan")}, ValueError, "metadata: expected what JSON can hold"),
        ({"a": b"bytes"}, TypeError, "metadata: expected what JSON can hold"),
    ],
)
def test_metadata_that_json_cannot_hold_are_refused_before_anything_is_written(
    tmp_path, metadata, error, message
):
    with pytest.raises(error, match=f"^{message}"):
        save(Linear(3, 2), tmp_path / "model", metadata)
    assert os.listdir(tmp_path) == []


def test_models_may_be_nested_as_deep_as_they_can_be_loaded(tmp_path):
    model = Dropout()
    for _ in range(32):
        model = Sequential(model)
    save(model, tmp_path / "model")
    assert repr(load(tmp_path / "model")) == repr(model)
    with pytest.raises(ValueError, match="the model is nested too deeply"):
        save(Sequential(model, Sequential(model)), tmp_path / "model")


def test_what_is_no_layer_of_the_library_is_refused(tmp_path):
    class Mine(Dropout):
        """A layer that no table knows."""

    for thing in (Mine(), Sequential(Mine()), None, {"weight": np.ones(3)}):
        with pytest.raises(TypeError, match=r"^layer: expected one of RNN, LSTM, GRU, "):
            save(thing, tmp_path / "model")
    shared = Linear(3, 3)
    with pytest.raises(ValueError, match=r"^layer: expected each parameter once, got one under s"):
        save(Sequential(shared, shared), tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_a_changed_number_of_weights_is_noticed(tmp_path):
    """As when someone replaced a parameter by one of another shape behind the layer's back."""
    layer = copy.deepcopy(Linear(3, 2))
    layer._parameters["weight"] = Linear(4, 2).weight
    save(layer, tmp_path / "model")
    with pytest.raises(ValueError, match=r"weight: expected the shape \(2, 3\), got \[2, 4\]"):
        load(tmp_path / "model")


@pytest.mark.parametrize("function", [save, load, load_metadata])
def test_without_the_package_safetensors_the_error_says_what_to_install(
    tmp_path, monkeypatch, function
):
    path = linear_file(tmp_path / "model")
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[train\]'"):
        function(*([Linear(3, 2)] if function is save else []), path)
    assert path.read_bytes() == before
