"""What every layer is made of: `Parameter`, `Layer`, and the checks of arguments they share."""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["IncompatibleKeys", "Layer", "Parameter"]

RealArray = NDArray[np.floating[Any]]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)


def check_size(name: str, value: Any, minimum: int = 1) -> int:
    """Return the argument `name` as an int: TypeError if it is none, ValueError if too small."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if size < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {size}")
    return size


def check_flag(name: str, value: Any) -> bool:
    """Return the argument `name` as a bool; TypeError if it is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_number(name: str, value: Any, low: float, high: float = np.inf) -> float:
    """Return the argument `name` as a float; ValueError outside [low, high] and for NaN."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not low <= number <= high:
        limits = f"at least {low}" if high == np.inf else f"a number from {low} to {high}"
        raise ValueError(f"{name}: expected {limits}, got {number}")
    return number


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as NumPy's float32 or float64; TypeError for any other."""
    if dtype is not None:  # which NumPy takes for float64
        with contextlib.suppress(TypeError):
            found = np.dtype(dtype)
            if found == FLOAT32:
                return FLOAT32
            if found == FLOAT64:
                return FLOAT64
    raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")


def real_array(name: str, value: ArrayLike, dtype: np.dtype[Any] | None = None) -> RealArray:
    """Return the argument `name` as a C-contiguous array of `dtype`, copied only if it must be.

    Python numbers and (nested) lists are converted. An array of another dtype is a TypeError,
    never a silent cast. With `dtype` None, float32 and float64 are both taken (and lists become
    float32).
    """
    if not hasattr(value, "__array__"):
        dtype = dtype or FLOAT32
        try:
            return np.asarray(value, dtype=dtype, order="C")
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: expected an array of {dtype} ({error})") from None
    array: RealArray = np.asarray(value, order="C")
    if array.dtype != dtype and (dtype is not None or array.dtype not in (FLOAT32, FLOAT64)):
        raise TypeError(
            f"{name}: expected an array of {dtype or 'float32 or float64'}, got {array.dtype}"
        )
    return array if array.flags.aligned else array.copy()


def check_gradient(
    dy: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "dy"
) -> RealArray:
    """Return the gradient `name` of an output as an array; ValueError if it has another shape."""
    array = real_array(name, dy, dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: expected the output's shape {shape}, got {array.shape}")
    return array


def integer_array(name: str, value: ArrayLike) -> NDArray[np.int64]:
    """Return the argument `name` as a C-contiguous int64 array; TypeError if it is of others."""
    array = np.asarray(value)
    if array.size == 0 and not hasattr(value, "__array__"):
        array = array.astype(np.int64)  # an empty list
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an array of integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
        raise ValueError(f"{name}: expected integers below 2**63, got {array.max()}")
    array = np.asarray(array, dtype=np.int64, order="C")
    return array if array.flags.aligned else array.copy()


def check_lengths(name: str, lengths: ArrayLike, B: int, most: int) -> NDArray[np.int64]:
    """Return the lengths (B,), each from 0 to `most`; one number is the length of all."""
    array = integer_array(name, lengths)
    if array.ndim == 0:
        array = np.full(B, array)
    if array.shape != (B,):
        raise ValueError(f"{name}: expected the shape ({B},), got {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array > most))
    if wrong.size:
        raise ValueError(f"{name}: expected 0 to {most}, got {array[wrong[0]]} at index {wrong[0]}")
    return array


# Another object after each change of any parameter: who has prepared copies of weights looks here
# first, and at the versions of its own parameters only if it is another than last time. An object
# and not a number, as two threads that count at once can arrive at the same number.
last_change: object = object()


class Parameter:
    """A weight array that a layer owns, with its gradient.

    Parameters
    ----------
    data : array_like of any shape
        Copied. float32 and float64 arrays keep their dtype, Python numbers become float32.
    requires_grad : bool, default True
        False for a frozen weight: no gradient is accumulated and optimisers pass it by.

    Attributes
    ----------
    grad : ndarray or None
        Gradient, of the parameter's shape and dtype; None until a pullback writes one.
    version : int
        Goes up with each change of the data. Layers keep prepared copies of their weights and
        compare this number, so changes go through `data = ...` or an optimiser.

    Raises
    ------
    TypeError
        If `data` is an array of another dtype than float32 or float64.
    """

    __slots__ = ("_array", "grad", "requires_grad", "version")
    fixed: ClassVar[bool] = False  # True where no other weights can be copied in

    def __init__(self, data: ArrayLike, requires_grad: bool = True) -> None:
        array: RealArray = np.array(data, order="C")  # the only copy
        if not hasattr(data, "__array__") and array.dtype.kind in "fiu":
            array = array.astype(FLOAT32)
        if array.dtype not in (FLOAT32, FLOAT64):
            raise TypeError(f"data: expected an array of float32 or float64, got {array.dtype}")
        self._array = array
        self.grad: RealArray | None = None
        self.requires_grad = requires_grad
        self.version = 0

    @property
    def data(self) -> RealArray:
        """The weights, as a read-only view.

        Assigning copies the values in, converted to the parameter's dtype: ValueError if the
        shape differs, TypeError if they are not real numbers.
        """
        view: RealArray = self._array.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, value: ArrayLike) -> None:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"data: expected an array of real numbers, got {array.dtype}")
        if array.shape != self._array.shape:
            raise ValueError(f"data: expected the shape {self._array.shape}, got {array.shape}")
        self._array[...] = array
        self.bump()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._array.dtype

    @property
    def size(self) -> int:
        """Number of weights."""
        return self._array.size

    def bump(self) -> None:
        """Tell that the data changed; who writes to the owned array directly calls this."""
        global last_change
        self.version += 1
        last_change = object()  # after the version, which is then seen by who sees this

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradient; with `set_to_none` False, fill it with zeros in place."""
        if set_to_none:
            self.grad = None
        elif self.grad is not None:
            self.grad.fill(0.0)

    def ensure_grad(self) -> RealArray:
        """Return the gradient, made of zeros if there is none: what a pullback adds to."""
        if self.grad is None:
            self.grad = np.zeros(self._array.shape, self._array.dtype)
        return self.grad

    def add_grad(self, gradient: RealArray) -> None:
        """Add to the gradient, if the parameter requires one; ValueError for another shape."""
        if gradient.shape != self.shape:
            raise ValueError(f"gradient: expected the shape {self.shape}, got {gradient.shape}")
        if self.requires_grad:
            self.ensure_grad()[...] += gradient

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter({self._array!r}{frozen})"


def check_unchanged(parameter: Parameter, version: int) -> None:
    """Raise RuntimeError if the parameter is no longer of that version."""
    if parameter.version != version:
        raise RuntimeError("the weights changed between the forward pass and its pullback")


class IncompatibleKeys(NamedTuple):
    """What `Layer.load_state_dict` left out, as PyTorch returns it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Layer:
    """Base of all layers: an explicit forward pass and, for training, its vector-Jacobian product.

    A layer gives three things and holds no hidden state between calls:

    - ``layer(x)``: inference;
    - ``layer.vjp(x) -> (y, pullback)``: the forward pass of training; ``pullback(dy) -> dx`` takes
      the gradient of the loss back and adds to ``parameters()[name].grad`` of every parameter that
      requires a gradient. The pullback owns what it needs;
    - ``layer.parameters()``: its weights by PyTorch's names.

    Recurrent layers (``recurrent`` is True) take and return a state as well:
    ``layer(x, state=None, lengths=None) -> (y, state)``, ``layer.vjp(x, state=None, lengths=None)
    -> ((y, state), pullback)`` and ``pullback(dy, dstate=None) -> (dx, dstate0)``.

    Other layers that look at more than one step take ``lengths`` by that name (`uses_lengths` is
    True). Those that make one vector of a sequence say so by `pools_time`: behind them there are
    no steps any more.

    A subclass fills ``self._parameters`` in its constructor and defines `__call__`, `vjp`,
    `config` and `parameter_shapes`, and `children` if it is made of other layers. What it draws at
    random in training comes from ``self._rng``, if anything does: training that goes on after an
    interruption sets its state.
    """

    recurrent: bool = False
    uses_lengths: bool = False
    pools_time: bool = False
    _plain_arguments: ClassVar[tuple[str, ...]] = ()  # shown without their names by repr

    _parameters: dict[str, Parameter]

    def __init__(self) -> None:
        self._parameters = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inference: see the class."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def vjp(self, *args: Any, **kwargs: Any) -> Any:
        """Forward pass of training and its pullback: see the class."""
        raise NotImplementedError(f"{type(self).__name__} does not define vjp")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON takes them (without seeds)."""
        raise NotImplementedError(f"{type(self).__name__} does not define config")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build a layer from what `config` returned; its weights are drawn anew."""
        return cls(**config)

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter of a layer with this `config`, building nothing.

        Lazily, one by one and in the order of `parameters`: `fastrnn.load` compares them with a
        file before it allocates anything, and stops at the first that the file does not have.
        Raises TypeError or ValueError for a configuration the constructor would not take.
        """
        raise NotImplementedError(f"{cls.__name__} does not define parameter_shapes")

    def children(self) -> dict[str, Layer]:
        """Return the layers that this one is made of, by name."""
        return {}

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters by name, the own first; those of a child are prefixed: "0.bias"."""
        found = dict(self._parameters)
        for child, layer in self.children().items():
            found |= {f"{child}.{name}": each for name, each in layer.parameters().items()}
        return found

    def generators(self) -> dict[str, np.random.Generator]:
        """Return the random generators of dropout and the like, named as `parameters` are."""
        own = getattr(self, "_rng", None)
        found = {} if own is None else {"rng": own}
        for child, layer in self.children().items():
            found |= {f"{child}.{name}": each for name, each in layer.generators().items()}
        return found

    def num_parameters(self) -> int:
        """Return the number of weights; a parameter that is used twice counts once."""
        distinct = {id(parameter): parameter.size for parameter in self.parameters().values()}
        return sum(distinct.values())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; with `set_to_none` False, fill them with zeros in place."""
        for parameter in self.parameters().values():
            parameter.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, RealArray]:
        """Return a copy of every weight array by name."""
        return {name: parameter._array.copy() for name, parameter in self.parameters().items()}

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy weights in, converted to the layer's dtype; nothing is written if one does not fit.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            As `state_dict` returns it. PyTorch's, of CPU tensors, is taken as it is.
        strict : bool, default True
            Whether missing and unexpected names are an error.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected names (both empty if `strict`).

        Raises
        ------
        ValueError
            If names are missing or unexpected, a shape differs, or weights are read-only, of a
            quantised layer; all are listed.
        TypeError
            If an entry is not an array of real numbers.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
        parameters = self.parameters()
        missing = [name for name in parameters if name not in state_dict]
        unexpected = [name for name in state_dict if name not in parameters]
        arrays = {
            name: _real_numbers(name, state_dict[name]) for name in parameters if name in state_dict
        }

        problems = []
        if strict and missing:
            problems.append(f"Missing key(s) in state_dict: {_quoted(missing)}.")
        if strict and unexpected:
            problems.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}.")
        problems += [
            f"size mismatch for {name}: expected the shape {parameters[name].shape}, "
            f"got {array.shape}."
            for name, array in arrays.items()
            if array.shape != parameters[name].shape
        ]
        problems += [
            f"{name} is of a quantized layer, whose weights are read-only."
            for name in arrays
            if parameters[name].fixed
        ]
        if problems:
            lines = "\n\t".join(problems)
            raise ValueError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{lines}"
            )
        for name, array in arrays.items():
            parameters[name].data = array
        return IncompatibleKeys(missing, unexpected)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses: the arguments that are no defaults."""
        signature = inspect.signature(type(self)).parameters
        defaults = {name: parameter.default for name, parameter in signature.items()}
        return ", ".join(
            str(value) if name in self._plain_arguments else f"{name}={value!r}"
            for name, value in self.config().items()
            if (tuple(value) if isinstance(value, list) else value) != defaults.get(name)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _real_numbers(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a foreign tensor raises when it is not in host memory
        raise TypeError(f"{name}: expected an array, got {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of real numbers, got {array.dtype}")
    return array


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
