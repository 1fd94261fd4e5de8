"""Layers around the recurrent ones: `Embedding`, `Linear`, dropout, and `Sequential`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core, nesting
from .activations import ReLU, Sigmoid, Softmax, Tanh
from .base import (
    Layer,
    Parameter,
    RealArray,
    check_dtype,
    check_flag,
    check_gradient,
    check_number,
    check_size,
    check_unchanged,
    integer_array,
    real_array,
)
from .normalization import BatchNorm, LayerNorm
from .pooling import LastStep, MaxPooling, MeanPooling
from .recurrent import AUGRU, GRU, LSTM, RNN, IndRNN

__all__ = ["Dropout", "Embedding", "Linear", "Sequential", "VariationalDropout"]

Seed = int | np.random.Generator | None


class Linear(Layer):
    """Affine map of the last axis: y = x W^T + b.

    Parameters
    ----------
    in_features, out_features : int
        Sizes I and O of the last axis of input and output.
    bias : bool, default True
        Whether there is a b.
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn from the uniform distribution over +-1 / sqrt(I) as PyTorch
        does: He et al. (2015), "Delving deep into rectifiers", with a gain of sqrt(1/3).

    Attributes
    ----------
    weight : Parameter, shape (O, I)
    bias : Parameter of shape (O,), or None
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.dtype = check_dtype(dtype)
        with_bias = check_flag("bias", bias)
        rng = np.random.default_rng(seed)
        bound = self.in_features**-0.5
        shapes = self.parameter_shapes({**self._sizes(), "bias": with_bias})
        for name, shape in shapes:
            initial = rng.uniform(-bound, bound, shape)
            self._parameters[name] = Parameter(initial.astype(self.dtype))
        self.weight = self._parameters["weight"]
        self.bias = self._parameters.get("bias")

    def _sizes(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {**self._sizes(), "bias": self.bias is not None, "dtype": self.dtype.name}

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        out_features = check_size("out_features", config.get("out_features"))
        yield "weight", (out_features, check_size("in_features", config.get("in_features")))
        if check_flag("bias", config.get("bias", True)):
            yield "bias", (out_features,)

    def _rows(self, x: ArrayLike) -> tuple[RealArray, tuple[int, ...]]:
        """Return x as (N, I), without a copy where it is contiguous, and the output's shape."""
        array = real_array("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.in_features:
            raise ValueError(f"x: expected the shape (..., {self.in_features}), got {array.shape}")
        return array.reshape(-1, self.in_features), (*array.shape[:-1], self.out_features)

    def __call__(self, x: ArrayLike) -> RealArray:
        """Return y, shape (..., O), for x of shape (..., I)."""
        rows, shape = self._rows(x)
        bias = None if self.bias is None else self.bias._array
        return _core.linear_forward(rows, self.weight._array, bias).reshape(shape)

    def vjp(self, x: ArrayLike) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return y and the pullback from dy (..., O) to dx (..., I).

        The pullback refers to x and the weights: x must not be changed in between, and changed
        weights are a RuntimeError.
        """
        rows, shape = self._rows(x)
        weight, bias, version = self.weight, self.bias, self.weight.version
        y = _core.linear_forward(rows, weight._array, None if bias is None else bias._array)

        def pullback(dy: ArrayLike) -> RealArray:
            d_rows = check_gradient(dy, shape, self.dtype).reshape(-1, self.out_features)
            check_unchanged(weight, version)
            dx = _core.linear_backward(
                rows,
                weight._array,
                d_rows,
                weight.ensure_grad() if weight.requires_grad else None,
                bias.ensure_grad() if bias is not None and bias.requires_grad else None,
                True,
            )
            assert dx is not None  # it was asked for
            return dx.reshape(*shape[:-1], self.in_features)

        return y.reshape(shape), pullback


class Embedding(Layer):
    """A table of vectors, looked up by integer id.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Number V and length E of the vectors.
    padding_idx : int, optional
        An id whose vector starts as zeros and gets no gradient; negative counts from the end.
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn from the normal distribution N(0, 1).

    Attributes
    ----------
    weight : Parameter, shape (V, E)

    Raises
    ------
    ValueError, TypeError
        If a size is less than 1 or no integer, or padding_idx is no row of the table.
    """

    _plain_arguments = ("num_embeddings", "embedding_dim")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = check_size("num_embeddings", num_embeddings)
        self.embedding_dim = check_size("embedding_dim", embedding_dim)
        self.dtype = check_dtype(dtype)
        if padding_idx is not None:
            padding_idx = check_size("padding_idx", padding_idx, minimum=-self.num_embeddings)
            if padding_idx >= self.num_embeddings:
                raise ValueError(
                    f"padding_idx: expected less than num_embeddings {num_embeddings}, "
                    f"got {padding_idx}"
                )
            padding_idx %= self.num_embeddings
        self.padding_idx = padding_idx
        initial = np.random.default_rng(seed).standard_normal((num_embeddings, embedding_dim))
        if padding_idx is not None:
            initial[padding_idx] = 0.0
        self.weight = self._parameters["weight"] = Parameter(initial.astype(self.dtype))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
            "dtype": self.dtype.name,
        }

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        num_embeddings = check_size("num_embeddings", config.get("num_embeddings"))
        yield "weight", (num_embeddings, check_size("embedding_dim", config.get("embedding_dim")))

    def _ids(self, ids: ArrayLike) -> NDArray[np.int64]:
        array = integer_array("ids", ids)
        # One pass: seen as unsigned numbers, the negative ones are the largest.
        if array.size and array.view(np.uint64).max() >= self.num_embeddings:
            wrong = array[(array < 0) | (array >= self.num_embeddings)][0]
            raise IndexError(
                f"ids: expected ids from 0 to {self.num_embeddings - 1} "
                f"(num_embeddings is {self.num_embeddings}), got {wrong}"
            )
        return array

    def __call__(self, ids: ArrayLike) -> RealArray:
        """Return the vectors, shape (..., E), of integer ids of any shape (...).

        Raises
        ------
        TypeError
            If the ids are no integers.
        IndexError
            If an id is negative or not below V.
        """
        return self.weight._array.take(self._ids(ids), axis=0)

    def vjp(self, ids: ArrayLike) -> tuple[RealArray, Callable[[ArrayLike], None]]:
        """Return the vectors, and the pullback of dy (..., E): it returns None, ids have no dx."""
        array = self._ids(ids)
        y = self.weight._array.take(array, axis=0)

        def pullback(dy: ArrayLike) -> None:
            d_rows = check_gradient(dy, y.shape, self.dtype).reshape(-1, self.embedding_dim)
            if not self.weight.requires_grad:
                return
            grad = self.weight.ensure_grad()
            padding = None if self.padding_idx is None else grad[self.padding_idx].copy()
            _core.embedding_backward(array.reshape(-1), d_rows, grad)
            if padding is not None:
                grad[self.padding_idx] = padding

        return y, pullback


class Dropout(Layer):
    """Set elements to zero with probability p and divide the others by 1 - p; in `vjp` only.

    Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting".

    Parameters
    ----------
    p : float, default 0.5
        Probability, from 0 to 1.
    seed : int or numpy.random.Generator, optional
        Of the choice of elements.
    """

    def __init__(self, p: float = 0.5, seed: Seed = None) -> None:
        super().__init__()
        self.p = check_number("p", p, 0.0, 1.0)
        self._rng = np.random.default_rng(seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {"p": self.p}

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"p={self.p}"

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield nothing: there are no parameters."""
        return iter(())

    def __call__(self, x: ArrayLike) -> RealArray:
        """Return x as it is."""
        return real_array("x", x)

    def vjp(self, x: ArrayLike) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return x with elements dropped, and the pullback that drops the same ones of dy."""
        array = real_array("x", x)
        scale = 0.0 if self.p == 1.0 else 1.0 / (1.0 - self.p)
        kept = self._rng.random(self._mask_shape(array.shape), np.float32) >= self.p
        factors = np.multiply(kept, scale, dtype=array.dtype)

        def pullback(dy: ArrayLike) -> RealArray:
            return check_gradient(dy, array.shape, factors.dtype) * factors

        return array * factors, pullback

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


class VariationalDropout(Dropout):
    """Dropout with one mask for all steps of a sequence; in `vjp` only.

    Gal & Ghahramani (2016), "A theoretically grounded application of dropout in recurrent neural
    networks", of the inputs and outputs of recurrent layers. (The same mask at each step also
    between one step and the next is a matter of the recurrent layer.)

    Parameters
    ----------
    p : float, default 0.5
        Probability, from 0 to 1.
    batch_first : bool, default False
        Whether x is (B, T, F) instead of (T, B, F). One sequence is (T, F) either way.
    seed : int or numpy.random.Generator, optional
        Of the choice of elements.
    """

    def __init__(self, p: float = 0.5, batch_first: bool = False, *, seed: Seed = None) -> None:
        super().__init__(p, seed)
        self.batch_first = check_flag("batch_first", batch_first)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {"p": self.p, "batch_first": self.batch_first}

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"p={self.p}" + (", batch_first=True" if self.batch_first else "")

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (2, 3):
            axes = "B, T" if self.batch_first else "T, B"
            raise ValueError(f"x: expected the shape ({axes}, F) or (T, F), got {shape}")
        time = 1 if self.batch_first and len(shape) == 3 else 0
        return (*shape[:time], 1, *shape[time + 1 :])


class Sequential(Layer):
    """Layers one after the other; each takes what the one before gave.

    With a recurrent layer among them the model is recurrent itself (`recurrent` is True): it takes
    and returns a state, a tuple with one entry for each recurrent layer in order, where None means
    zeros. `lengths` go to every recurrent layer and every other that uses them (`uses_lengths`), up
    to the first that pools over time.

    Parameters
    ----------
    *layers : Layer
        Parameters are named after their position: "0.weight_ih_l0", "1.weight", ...

    Raises
    ------
    TypeError
        If what is given is no `Layer`.

    Examples
    --------
    >>> model = fastrnn.Sequential(fastrnn.LSTM(8, 16, num_layers=2), fastrnn.Linear(16, 5))
    >>> x = np.ones((7, 3, 8), np.float32)  # T 7, B 3
    >>> y, state = model(x)
    >>> y.shape
    (7, 3, 5)
    >>> (y, state), pullback = model.vjp(x, state)
    >>> dx, dstate0 = pullback(np.ones_like(y))
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers: expected a Layer at position {index}, got {type(layer).__name__}"
                )
        self._layers = layers
        self._num_states = sum(layer.recurrent for layer in layers)
        self.recurrent = self._num_states > 0
        self.uses_lengths = any(layer.uses_lengths for layer in layers)
        self.pools_time = any(layer.pools_time for layer in layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer:
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def children(self) -> dict[str, Layer]:
        """Return the layers by position: "0", "1", ..."""
        return {str(index): layer for index, layer in enumerate(self._layers)}

    def config(self) -> dict[str, Any]:
        """Return {"layers": [...]} with class and configuration of each."""
        return {"layers": [describe_layer(layer) for layer in self._layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """Build the model from what `config` returned; its weights are drawn anew."""
        return cls(*(build_layer(description) for description in _descriptions(config)))

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        for index, description in enumerate(_descriptions(config)):
            for name, shape in described_shapes(description):
                yield f"{index}.{name}", shape

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> Any:
        """Inference: y, or (y, state) if the model is recurrent.

        `mask` and `resets` go to every recurrent layer, as `LSTM` takes them.
        """
        marks = nesting.marks_of(mask, resets)
        states = iter(self._states("state", state, lengths, marks))
        last = []
        for layer in self._layers:
            before = next(states) if layer.recurrent else None
            x, state = nesting.call(layer, x, before, lengths, marks)
            if layer.recurrent:
                last.append(state)
            if layer.pools_time:
                lengths = None
        return (x, tuple(last)) if self.recurrent else x

    def step(self, x: ArrayLike, state: Any = None) -> Any:
        """One time step of a recurrent model: x (B, ...) to (y, state)."""
        states = iter(self._states("state", state))
        last = []
        for layer in self._layers:
            x, state = nesting.step(layer, x, next(states) if layer.recurrent else None)
            if layer.recurrent:
                last.append(state)
        return (x, tuple(last)) if self.recurrent else x

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        checkpoint_every: int | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> Any:
        """Forward pass of training; `checkpoint_every` as of `LSTM.vjp`, for recurrent layers.

        Returns (y, pullback) with ``pullback(dy) -> dx``; if the model is recurrent,
        ((y, state), pullback) with ``pullback(dy, dstate=None) -> (dx, dstate0)``.
        """
        marks = nesting.marks_of(mask, resets)
        states = iter(self._states("state", state, lengths, marks))
        last = []
        pullbacks: list[Callable[..., Any]] = []
        for layer in self._layers:
            before = next(states) if layer.recurrent else None
            (x, state), pullback = nesting.vjp(layer, x, before, lengths, marks, checkpoint_every)
            pullbacks.append(pullback)
            if layer.recurrent:
                last.append(state)
            if layer.pools_time:
                lengths = None

        def back(dy: ArrayLike, dstate: Any = None) -> Any:
            dstates = list(self._states("dstate", dstate))
            first: list[Any] = []
            gradient: Any = dy
            for layer, pullback in zip(reversed(self._layers), reversed(pullbacks), strict=True):
                after = dstates.pop() if layer.recurrent else None
                gradient, dstate0 = pullback(gradient, after)
                if layer.recurrent:
                    first.append(dstate0)
            return (gradient, tuple(reversed(first))) if self.recurrent else gradient

        return ((x, tuple(last)) if self.recurrent else x), back

    def _states(
        self,
        name: str,
        state: Any,
        lengths: ArrayLike | None = None,
        marks: nesting.Marks = MappingProxyType({}),
    ) -> Sequence[Any]:
        """Return one state for each recurrent layer."""
        nesting.check_extras(self, name, state, lengths, marks)
        if state is None:
            return (None,) * self._num_states
        if not isinstance(state, (tuple, list)):
            raise TypeError(f"{name}: expected a tuple, got {type(state).__name__}")
        if len(state) != self._num_states:
            raise ValueError(
                f"{name}: expected {self._num_states} entries, one for each recurrent layer, "
                f"got {len(state)}"
            )
        return state

    def __repr__(self) -> str:
        if not self._layers:
            return "Sequential()"
        lines = [f"({index}): {layer!r}" for index, layer in enumerate(self._layers)]
        return "Sequential(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"


# The classes a saved model may name: a fixed table, so that a file cannot name anything else.
LAYER_CLASSES: dict[str, type[Layer]] = {
    layer_class.__name__: layer_class
    for layer_class in (
        *(RNN, LSTM, GRU, IndRNN, AUGRU),
        *(Embedding, Linear, Sequential),
        *(Dropout, VariationalDropout, LayerNorm, BatchNorm),
        *(LastStep, MeanPooling, MaxPooling),
        *(Tanh, Sigmoid, ReLU, Softmax),
    )
}


def describe_layer(layer: Layer) -> dict[str, Any]:
    """Return {"class": name, "config": arguments} of a layer, as JSON takes it."""
    name = type(layer).__name__
    if LAYER_CLASSES.get(name) is not type(layer):
        raise TypeError(f"layer: expected one of {', '.join(LAYER_CLASSES)}, got {name}")
    return {"class": name, "config": layer.config()}


def build_layer(description: Any) -> Layer:
    """Build the layer that `describe_layer` described; its weights are drawn anew."""
    layer_class, config = _read_description(description)
    return layer_class.from_config(config)


def described_shapes(description: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each parameter of a described layer, building nothing."""
    layer_class, config = _read_description(description)
    return layer_class.parameter_shapes(config)


def _read_description(description: Any) -> tuple[type[Layer], dict[str, Any]]:
    if not isinstance(description, dict) or description.keys() != {"class", "config"}:
        raise ValueError("layer: expected an object with the entries class and config")
    name, config = description["class"], description["config"]
    if isinstance(name, str) and name not in LAYER_CLASSES:
        importlib.import_module(".seq2seq", __package__)  # brings attention and decoders in
    if not isinstance(name, str) or name not in LAYER_CLASSES:
        raise ValueError(f"layer: expected one of {', '.join(LAYER_CLASSES)}, got {name!r}")
    if not isinstance(config, dict):
        raise ValueError(f"config of {name}: expected an object, got {config!r}")
    return LAYER_CLASSES[name], config


def _descriptions(config: Mapping[str, Any]) -> list[Any]:
    layers = config.get("layers")
    if config.keys() != {"layers"} or not isinstance(layers, list):
        raise ValueError("config of Sequential: expected the entry layers, a list, alone")
    return layers
