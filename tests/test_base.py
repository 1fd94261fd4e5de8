"""Parameter, Layer's handling of weights, and the checks of arguments."""

import copy
from collections import OrderedDict

import numpy as np
import pytest

from fastrnn.base import (
    Layer,
    Parameter,
    check_dtype,
    check_flag,
    check_number,
    check_size,
    integer_array,
    real_array,
)


class Affine(Layer):
    """Two parameters and nothing else."""

    def __init__(self, dtype="float32"):
        super().__init__()
        self.weight = self._parameters["weight"] = Parameter(np.full((2, 3), 2.0, dtype))
        self.bias = self._parameters["bias"] = Parameter(np.full(3, 5.0, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameter_owns_a_contiguous_copy(dtype):
    source = np.asfortranarray(np.arange(6, dtype=dtype).reshape(2, 3))
    parameter = Parameter(source)
    source[:] = -1.0
    assert parameter.data.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert parameter.data.flags.c_contiguous
    assert (parameter.shape, parameter.dtype, parameter.size) == ((2, 3), np.dtype(dtype), 6)
    assert (parameter.grad, parameter.requires_grad) == (None, True)


@pytest.mark.parametrize("data", [[1, 2], [1.0, 2.0], (1, 2.5)])
def test_parameter_of_python_numbers_is_float32(data):
    parameter = Parameter(data)
    assert parameter.dtype == np.float32
    assert parameter.data.tolist() == list(data)


@pytest.mark.parametrize("dtype", ["int64", "float16", "complex128", "bool", ">f4", "U1"])
def test_parameter_refuses_other_dtypes(dtype):
    with pytest.raises(TypeError, match=r"^data: expected an array of float32 or float64, got "):
        Parameter(np.zeros(2, dtype))


def test_parameter_data_is_read_only():
    parameter = Parameter([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        parameter.data[0] = 9.0
    assert parameter.data.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "value", [[3, 4], np.array([3.0, 4.0]), np.array([3, 4]), np.array([3.0, 4.0], np.float16)]
)
def test_parameter_data_is_assigned_by_copy_in_its_own_dtype(value):
    parameter = Parameter([1.0, 2.0])
    seen = parameter.data
    parameter.data = value
    assert parameter.data.tolist() == [3.0, 4.0]
    assert parameter.dtype == np.float32
    assert parameter.version == 1
    assert seen.tolist() == [3.0, 4.0]  # a view of the same array


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1.0], ValueError, r"data: expected the shape \(2,\), got \(1,\)"),
        (3.0, ValueError, r"data: expected the shape \(2,\), got \(\)"),
        ([1j, 2], TypeError, "data: expected an array of real numbers, got complex128"),
        (["a", "b"], TypeError, "data: expected an array of real numbers, got <U1"),
    ],
)
def test_parameter_data_is_unchanged_by_a_bad_assignment(value, error, message):
    parameter = Parameter([1.0, 2.0])
    with pytest.raises(error, match=message):
        parameter.data = value
    assert parameter.data.tolist() == [1.0, 2.0]
    assert parameter.version == 0


def test_parameter_data_may_be_assigned_from_itself():
    parameter = Parameter([1.0, 2.0, 3.0])
    parameter.data = parameter.data[::-1]
    assert parameter.data.tolist() == [3.0, 2.0, 1.0]


def test_parameter_grad():
    parameter = Parameter(np.ones((2, 1)))
    grad = parameter.ensure_grad()
    assert grad.tolist() == [[0.0], [0.0]]
    assert grad.dtype == np.float64
    grad += 1.0
    assert parameter.ensure_grad() is grad
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad is grad
    assert grad.tolist() == [[0.0], [0.0]]
    parameter.zero_grad()
    assert parameter.grad is None
    parameter.zero_grad(set_to_none=False)
    assert parameter.grad is None


def test_parameter_deepcopy_is_independent():
    parameter = Parameter([1.0, 2.0], requires_grad=False)
    other = copy.deepcopy(parameter)
    other.data = [3.0, 4.0]
    assert parameter.data.tolist() == [1.0, 2.0]
    assert other.data.tolist() == [3.0, 4.0]
    assert not other.requires_grad


def test_parameter_repr():
    assert repr(Parameter([1.0])) == "Parameter(array([1.], dtype=float32))"
    assert repr(Parameter([1.0], requires_grad=False)).endswith(", requires_grad=False)")


def test_state_dict_is_a_copy():
    layer = Affine()
    state_dict = layer.state_dict()
    assert list(state_dict) == ["weight", "bias"]
    state_dict["bias"][0] = 9.0
    assert layer.bias.data.tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_load_state_dict_converts_to_the_layers_dtype(dtype, source):
    layer = Affine(dtype)
    third = np.full(3, 1.0 / 3.0, source)
    weights = OrderedDict(bias=third, weight=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    assert layer.load_state_dict(weights) == ([], [])
    assert layer.weight.data.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert layer.bias.dtype == np.dtype(dtype)
    assert (layer.bias.data == third.astype(dtype)).all()
    assert layer.bias.version == 1


def test_load_state_dict_takes_anything_with_an_array():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0, 3.0])

    layer = Affine()
    layer.load_state_dict({**layer.state_dict(), "bias": Tensor()})
    assert layer.bias.data.tolist() == [1.0, 2.0, 3.0]


def test_load_state_dict_names_everything_that_is_wrong_and_writes_nothing():
    layer = Affine()
    before = layer.state_dict()
    with pytest.raises(ValueError, match="state_dict") as caught:
        layer.load_state_dict({"weight": np.zeros((3, 2)), "gamma": 1.0, "beta": 2.0})
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Affine:\n"
        '\tMissing key(s) in state_dict: "bias".\n'
        '\tUnexpected key(s) in state_dict: "gamma", "beta".\n'
        "\tsize mismatch for weight: expected the shape (2, 3), got (3, 2)."
    )
    with pytest.raises(ValueError, match="size mismatch for bias"):
        layer.load_state_dict({"weight": np.zeros((2, 3)), "bias": np.zeros(4)})
    for name, array in layer.state_dict().items():
        assert (array == before[name]).all()


def test_load_state_dict_not_strict_reports_names_but_still_checks_shapes():
    layer = Affine()
    result = layer.load_state_dict({"bias": np.zeros(3), "gamma": 1.0}, strict=False)
    assert result.missing_keys == ["weight"]
    assert result.unexpected_keys == ["gamma"]
    assert layer.bias.data.tolist() == [0.0, 0.0, 0.0]
    assert layer.weight.data.tolist() == [[2.0] * 3] * 2
    with pytest.raises(ValueError, match="size mismatch for bias"):
        layer.load_state_dict({"bias": np.zeros(4)}, strict=False)


def test_load_state_dict_refuses_what_is_no_array_of_numbers():
    class OnDevice:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the tensor is not in host memory")

    layer = Affine()
    weights = layer.state_dict()
    with pytest.raises(TypeError, match="bias: expected an array, got the tensor is not in host"):
        layer.load_state_dict({**weights, "bias": OnDevice()})
    with pytest.raises(TypeError, match="bias: expected an array of real numbers, got <U3"):
        layer.load_state_dict({**weights, "bias": "abc"})
    with pytest.raises(TypeError, match="state_dict: expected a mapping, got list"):
        layer.load_state_dict([("bias", 1.0)])


def test_layer_counts_a_shared_parameter_once():
    layer = Affine()
    assert layer.num_parameters() == 9
    layer._parameters["again"] = layer.bias
    assert layer.num_parameters() == 9


def test_layer_zero_grad():
    layer = Affine()
    grad = layer.bias.ensure_grad()
    grad += 1.0
    layer.zero_grad(set_to_none=False)
    assert layer.bias.grad is grad
    assert grad.tolist() == [0.0, 0.0, 0.0]
    layer.zero_grad()
    assert layer.bias.grad is None


def test_layer_parameters_is_not_the_layers_own_dict():
    layer = Affine()
    layer.parameters().clear()
    assert list(layer.parameters()) == ["weight", "bias"]


@pytest.mark.parametrize("method", ["__call__", "vjp", "config", "parameter_shapes"])
def test_layer_says_what_a_subclass_lacks(method):
    arguments = [{}] if method == "parameter_shapes" else []
    with pytest.raises(NotImplementedError, match=f"Affine does not define {method}"):
        getattr(Affine(), method)(*arguments)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_check_size_takes_integers(value):
    size = check_size("hidden_size", value)
    assert size == 3
    assert type(size) is int


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "hidden_size: expected an integer, got True"),
        (np.True_, TypeError, "hidden_size: expected an integer, got "),
        (3.0, TypeError, "hidden_size: expected an integer, got 3.0"),
        ("3", TypeError, "hidden_size: expected an integer, got '3'"),
        (None, TypeError, "hidden_size: expected an integer, got None"),
        (0, ValueError, "hidden_size: expected at least 1, got 0"),
        (-5, ValueError, "hidden_size: expected at least 1, got -5"),
    ],
)
def test_check_size_refuses(value, error, message):
    with pytest.raises(error, match=f"^{message}"):
        check_size("hidden_size", value)


def test_check_size_minimum():
    assert check_size("n", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="n: expected at least -2, got -3"):
        check_size("n", -3, minimum=-2)


@pytest.mark.parametrize("value", [1, 0, "True", None, 1.0])
def test_check_flag_refuses(value):
    with pytest.raises(TypeError, match="bias: expected True or False, got "):
        check_flag("bias", value)


def test_check_flag_takes_bools():
    assert check_flag("bias", True) is True
    assert check_flag("bias", np.False_) is False


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-0.1, ValueError, "p: expected a number from 0.0 to 1.0, got -0.1"),
        (1.1, ValueError, "p: expected a number from 0.0 to 1.0, got 1.1"),
        (np.nan, ValueError, "p: expected a number from 0.0 to 1.0, got nan"),
        ("0.5", TypeError, "p: expected a number, got '0.5'"),
        (True, TypeError, "p: expected a number, got True"),
        (None, TypeError, "p: expected a number, got None"),
        (10**400, TypeError, "p: expected a number, got 1000"),
    ],
)
def test_check_number_refuses(value, error, message):
    with pytest.raises(error, match=f"^{message}"):
        check_number("p", value, 0.0, 1.0)


def test_check_number_takes_the_ends_of_the_range():
    assert [check_number("p", value, 0.0, 1.0) for value in (0, 1, np.float32(0.5))] == [0, 1, 0.5]
    assert check_number("limit", np.inf, 0.0) == np.inf


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), "f4"])
def test_check_dtype_takes_numpys_spellings(dtype):
    assert check_dtype(dtype) is np.dtype("float32")


@pytest.mark.parametrize("dtype", ["float16", int, None, "no such type", ">f8", 3.0])
def test_check_dtype_refuses(dtype):
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got "):
        check_dtype(dtype)


def test_real_array_copies_only_what_is_not_contiguous():
    x = np.zeros((2, 3), np.float32)
    assert real_array("x", x, x.dtype) is x
    transposed = real_array("x", x.T, x.dtype)
    assert transposed.flags.c_contiguous
    assert not np.shares_memory(transposed, x)


def test_real_array_converts_python_numbers_but_never_arrays():
    assert real_array("x", [[1, 2]], np.dtype("float64")).dtype == np.float64
    assert real_array("x", [1.5]).dtype == np.float32
    assert real_array("x", np.zeros(2, np.float64)).dtype == np.float64
    with pytest.raises(TypeError, match="x: expected an array of float32, got float64"):
        real_array("x", np.zeros(2), np.dtype("float32"))
    with pytest.raises(TypeError, match="x: expected an array of float32 or float64, got int64"):
        real_array("x", np.zeros(2, np.int64))


@pytest.mark.parametrize("value", [[[1.0, 2.0], [3.0]], ["a"], [None, {}]])
def test_real_array_refuses_lists_of_others(value):
    with pytest.raises((TypeError, ValueError), match=r"^x: expected an array of float32"):
        real_array("x", value)


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2], np.uint8), np.array([1, 0, 2])[::2]])
def test_integer_array_gives_contiguous_int64(value):
    array = integer_array("ids", value)
    assert array.tolist() == [1, 2]
    assert array.dtype == np.int64
    assert array.flags.c_contiguous


def test_integer_array_takes_empty_lists():
    assert integer_array("ids", []).shape == (0,)
    assert integer_array("ids", [[], []]).shape == (2, 0)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1.0], TypeError, "ids: expected an array of integers, got float64"),
        ([True], TypeError, "ids: expected an array of integers, got bool"),
        (np.zeros(0), TypeError, "ids: expected an array of integers, got float64"),
        (np.array([2**63], np.uint64), ValueError, r"ids: expected integers below 2\*\*63, got 9"),
    ],
)
def test_integer_array_refuses(value, error, message):
    with pytest.raises(error, match=f"^{message}"):
        integer_array("ids", value)
