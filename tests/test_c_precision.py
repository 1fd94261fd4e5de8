"""Small weights in the C library: those of `fastrnn.quantize`, stored or made while loading."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fastrnn
from c_cases import cases, describe, file_of, randomize, safetensors
from c_library import PRECISIONS, ApiError, CModel, CStream, step_streams

EXACT = ("bf16", "int8")  # the same bits on every processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("precision")


@hypothesis.settings(max_examples=60)
@hypothesis.given(cases(), st.sampled_from(EXACT))
def test_stored_and_made_while_loading_are_those_of_python(folder, case, precision):
    small = fastrnn.quantize(case.model, precision)
    expected = small(case.x_by_step)[0].swapaxes(0, 1)
    path = file_of(case.model, folder)
    models = [CModel(path, precision), CModel(file_of(small, folder))]
    for model in models:
        assert PRECISIONS[model.info.precision] == precision
        np.testing.assert_array_equal(model.run(case.x), expected)
    if not case.streams:
        return
    streams = [CStream(models[0]) for _ in case.x]
    together = [step_streams(streams, x) for x in case.x_by_step]
    np.testing.assert_array_equal(np.stack(together, 1), expected)
    stream = streams[0]
    stream.reset()
    np.testing.assert_array_equal([stream.step(x) for x in case.x[0]], expected[0])
    stream.reset()
    np.testing.assert_array_equal(stream.process(case.x[0]), expected[0])


def example():
    layers = (fastrnn.LSTM(5, 40, proj_size=7), fastrnn.GRU(7, 33), fastrnn.Linear(33, 3))
    model = randomize(fastrnn.Sequential(*layers), 1)
    return model, np.random.default_rng(2).normal(0, 1, (1, 20, 5)).astype(np.float32)


def test_bf16_dot_is_close(tmp_path):
    model, x = example()
    path = file_of(model, tmp_path)
    expected = CModel(path, "bf16").run(x)
    made = CModel(path, "bf16_dot")
    stored = CModel(file_of(fastrnn.quantize(model, "bf16_dot"), tmp_path))
    for other in (made, stored):
        assert PRECISIONS[other.info.precision] == "bf16_dot"
        np.testing.assert_allclose(other.run(x), expected, atol=0.1)


def test_smaller_ones_take_less_memory(tmp_path):
    path = file_of(fastrnn.LSTM(200, 200), tmp_path)
    sizes = [CModel(path, precision).info.memory for precision in ("float32", "bf16", "int8")]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    assert 0.22 < sizes[2] / sizes[0] < 0.35


def test_stored_ones_cannot_grow(tmp_path):
    model, _ = example()
    order = {"float32": 0, "bf16": 1, "bf16_dot": 1, "int8": 2}
    for stored in ("bf16", "bf16_dot", "int8"):
        path = file_of(fastrnn.quantize(model, stored), tmp_path)
        for asked in order:
            if order[asked] >= order[stored]:
                assert PRECISIONS[CModel(path, asked).info.precision] == asked
                continue
            message = rf"layer 0 \(LSTM\): precision: expected {stored}, as .* got {asked}$"
            with pytest.raises(ApiError, match=message) as error:
                CModel(path, asked)
            assert error.value.status == "FR_UNSUPPORTED"


def test_int8_of_bf16_is_that_of_the_rounded_weights(tmp_path):
    model, x = example()
    rounded = fastrnn.quantize(model, "bf16")
    model.load_state_dict(rounded.state_dict())
    expected = fastrnn.quantize(model, "int8")(x.swapaxes(0, 1))[0].swapaxes(0, 1)
    np.testing.assert_array_equal(CModel(file_of(rounded, tmp_path), "int8").run(x), expected)


def test_layers_of_several_precisions(tmp_path):
    layers = fastrnn.quantize(fastrnn.GRU(4, 5), "int8"), fastrnn.RNN(5, 6)
    model = fastrnn.Sequential(*layers)
    path = file_of(model, tmp_path)
    assert PRECISIONS[CModel(path).info.precision] == "as_stored"
    assert PRECISIONS[CModel(path, "int8").info.precision] == "int8"
    x = np.random.default_rng(1).normal(0, 1, (2, 6, 4)).astype(np.float32)
    expected = model(x.swapaxes(0, 1))[0].swapaxes(0, 1)
    np.testing.assert_array_equal(CModel(path).run(x), expected)


def test_models_without_recurrent_layers_stay_float32(tmp_path):
    path = file_of(fastrnn.Linear(3, 4), tmp_path)
    assert PRECISIONS[CModel(path, "int8").info.precision] == "float32"


# --- files that quantising cannot give ------------------------------------------------------------


def rnn_file(**changes):
    """Return the file of an RNN(3, 2) of int8, some tensors changed."""
    tensors = {
        "weight_ih_l0": ("I8", (2, 3), bytes(range(6))),
        "weight_ih_l0_scale": ("F32", (2,), np.ones(2, "<f4").tobytes()),
        "weight_hh_l0": ("I8", (2, 2), bytes(4)),
        "weight_hh_l0_scale": ("F32", (2,), bytes(8)),
    }
    tensors |= changes
    config = {"input_size": 3, "hidden_size": 2, "bias": False, "precision": "int8"}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return safetensors(kept, describe("RNN", config))


def scales(*values):
    return ("F32", (len(values),), np.array(values, "<f4").tobytes())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_ih_l0": ("I8", (2, 3), b"\0\0\0\0\0\x80")}, "weight_ih_l0: expected integers"),
        ({"weight_ih_l0": ("U8", (2, 3), bytes(6))}, "weight_ih_l0: expected I8, got U8"),
        ({"weight_ih_l0": ("F32", (2, 3), bytes(24))}, "weight_ih_l0: expected I8, got F32"),
        ({"weight_ih_l0_scale": None}, "the weights weight_ih_l0_scale are missing"),
        ({"weight_ih_l0_scale": scales(1, 1, 1)}, "weight_ih_l0_scale: expected the shape (2,)"),
        ({"weight_ih_l0_scale": scales(1, np.nan)}, "weight_ih_l0_scale: expected finite scales"),
        ({"weight_ih_l0_scale": scales(1, np.inf)}, "weight_ih_l0_scale: expected finite scales"),
        ({"weight_ih_l0_scale": scales(-1, 1)}, "weight_ih_l0_scale: expected finite scales"),
        ({"weight_hh_l0_scale": ("F64", (2,), bytes(16))}, "weight_hh_l0_scale: expected F32"),
        ({"bias_scale": scales(1)}, "unexpected weights 'bias_scale'"),
    ],
)
def test_integers_that_no_quantising_gives(changes, message):
    assert PRECISIONS[CModel(rnn_file()).info.precision] == "int8"
    with pytest.raises(ApiError) as error:
        CModel(rnn_file(**changes))
    assert (error.value.status, message in str(error.value)) == ("FR_INVALID_MODEL", True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_cannot_become_integers(tmp_path, value):
    layer = fastrnn.GRU(2, 3)
    weight = layer.parameters()["weight_hh_l0"]
    weight.data = np.where(np.arange(27).reshape(9, 3) == 13, value, weight.data)
    for each in (layer, fastrnn.quantize(layer, "bf16")):
        path = file_of(each, tmp_path)
        assert CModel(path, "bf16").info.precision == 2
        with pytest.raises(ApiError, match="weight_hh_l0: expected finite weights") as error:
            CModel(path, "int8")
        assert error.value.status == "FR_UNSUPPORTED"


def test_columns_that_sums_of_integers_cannot_hold(tmp_path):
    path = file_of(fastrnn.RNN(133145, 1), tmp_path)
    assert CModel(path, "bf16").info.precision == 2
    with pytest.raises(ApiError, match="expected at most 133144 columns for int8, got 133145"):
        CModel(path, "int8")
