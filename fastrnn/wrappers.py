"""Ways around a layer: `Residual` and `Highway`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, nesting
from .base import Layer, RealArray, check_gradient, check_number, check_size, real_array
from .layers import (
    LAYER_CLASSES,
    Linear,
    Seed,
    build_layer,
    describe_layer,
    described_shapes,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Highway", "Residual"]

Joined = tuple[RealArray, Callable[[Any], tuple[RealArray, RealArray]]]


class _Around(Layer):
    """A layer and a way around it: y = join(x, layer(x)), all of one shape.

    Recurrent if the layer is, with its states and lengths.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        if not isinstance(layer, Layer):
            raise TypeError(f"layer: expected a Layer, got {type(layer).__name__}")
        if layer.pools_time:
            raise ValueError(
                f"layer: expected one whose output is like its input, got {type(layer).__name__}"
            )
        self.layer = layer
        self.recurrent = layer.recurrent
        self.uses_lengths = layer.uses_lengths

    def children(self) -> dict[str, Layer]:
        """Return the layer, and what else the way around it is made of."""
        return {"layer": self.layer}

    def _join(self, x: RealArray, inner: RealArray) -> RealArray:
        return self._join_vjp(x, inner)[0]

    def _join_vjp(self, x: RealArray, inner: RealArray) -> Joined:
        """Return y and the pullback from dy to the gradients of x and of the layer's output."""
        raise NotImplementedError

    def _own_config(self) -> dict[str, Any]:
        """Return the constructor's arguments but the layer."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed), the layer as a description."""
        return {"layer": describe_layer(self.layer), **self._own_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from what `config` returned; its weights are drawn anew."""
        return cls(**{**config, "layer": build_layer(config.get("layer"))})

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        for name, shape in described_shapes(config.get("layer")):
            yield f"layer.{name}", shape

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> Any:
        """Inference: y, or (y, state) if the layer is recurrent."""
        marks = nesting.marks_of(mask, resets)
        nesting.check_extras(self, "state", state, lengths, marks)
        array = real_array("x", x)
        inner, state = nesting.call(self.layer, array, state, lengths, marks)
        y = self._join(array, _like(array, inner))
        return (y, state) if self.recurrent else y

    def step(self, x_t: ArrayLike, state: Any = None) -> Any:
        """One time step of a recurrent layer: x (B, ...) to (y, state)."""
        nesting.check_extras(self, "state", state, None, {})
        array = real_array("x_t", x_t)
        inner, state = nesting.step(self.layer, array, state)
        y = self._join(array, _like(array, inner))
        return (y, state) if self.recurrent else y

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
        """Forward pass of training; arguments as of the layer's own.

        Returns (y, pullback) with ``pullback(dy) -> dx``; if the layer is recurrent,
        ((y, state), pullback) with ``pullback(dy, dstate=None) -> (dx, dstate0)``.
        """
        marks = nesting.marks_of(mask, resets)
        nesting.check_extras(self, "state", state, lengths, marks)
        array = real_array("x", x)
        (inner, state), inside = nesting.vjp(
            self.layer, array, state, lengths, marks, checkpoint_every
        )
        y, apart = self._join_vjp(array, _like(array, inner))

        def pullback(dy: ArrayLike | None, dstate: Any = None) -> Any:
            if dy is None and self.recurrent:
                return inside(None, dstate)
            gradient = check_gradient(dy, y.shape, y.dtype)  # type: ignore[arg-type]
            direct, d_inner = apart(gradient)
            dx, dstate0 = inside(d_inner, dstate)
            dx = dx + direct
            return (dx, dstate0) if self.recurrent else dx

        return ((y, state) if self.recurrent else y), pullback

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        options = self._own_config().items()
        return ", ".join([repr(self.layer), *(f"{name}={value!r}" for name, value in options)])


def _like(x: RealArray, inner: RealArray) -> RealArray:
    if inner.shape != x.shape:
        raise ValueError(
            f"layer: expected an output of its input's shape {x.shape}, got {inner.shape}"
        )
    return inner


class Residual(_Around):
    """What a layer adds to its input: y = x + layer(x).

    He et al. (2016), "Deep residual learning for image recognition", eq. 1. Around a recurrent
    layer it is recurrent, with the layer's state and lengths; past a row's end y is x, as recurrent
    layers give zeros there.

    Parameters
    ----------
    layer : Layer
        Of any kind whose output has the shape of its input.

    Attributes
    ----------
    layer : Layer
        Its parameters are named "layer.weight_ih_l0", ...

    Examples
    --------
    >>> above = (fastrnn.Residual(fastrnn.LSTM(16, 16)) for _ in range(3))
    >>> deep = fastrnn.Sequential(fastrnn.LSTM(8, 16), *above)
    >>> deep(np.ones((5, 3, 8), np.float32))[0].shape
    (5, 3, 16)
    """

    def _join_vjp(self, x: RealArray, inner: RealArray) -> Joined:
        return x + inner, lambda dy: (dy, dy)


class Highway(_Around):
    """A gate between a layer and its input: y = t * layer(x) + (1 - t) * x.

    t = sigmoid(W x + b), for each feature: Srivastava, Greff & Schmidhuber (2015), "Training very
    deep networks", eq. 3. b starts negative, so that the layer begins near the identity. Around a
    recurrent layer it is recurrent, with the layer's state and lengths.

    Parameters
    ----------
    layer : Layer
        Of any kind whose output has the shape of its input.
    features : int
        Size F of the last axis of x and y.
    gate_bias : float, default -2.0
        Where every value of b starts.
    dtype : {"float32", "float64"}
        As of the layer.
    seed : int or numpy.random.Generator, optional
        Of the gate's initial weights W, drawn as those of `Linear`.

    Attributes
    ----------
    layer : Layer
        Its parameters are named "layer.weight_ih_l0", ...
    gate : Linear
        W and b; parameters "gate.weight", shape (F, F), and "gate.bias", shape (F,).
    """

    def __init__(
        self,
        layer: Layer,
        features: int,
        gate_bias: float = -2.0,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__(layer)
        self.features = check_size("features", features)
        self.gate_bias = check_number("gate_bias", gate_bias, -np.inf)
        self.gate = Linear(features, features, dtype=dtype, seed=seed)
        self.dtype = self.gate.dtype
        assert self.gate.bias is not None
        self.gate.bias.data = np.full(features, self.gate_bias)

    def children(self) -> dict[str, Layer]:
        """Return the layer and the gate."""
        return {**super().children(), "gate": self.gate}

    def _own_config(self) -> dict[str, Any]:
        return {
            "features": self.features,
            "gate_bias": self.gate_bias,
            "dtype": self.dtype.name,
        }

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        yield from super().parameter_shapes(config)
        features = check_size("features", config.get("features"))
        yield "gate.weight", (features, features)
        yield "gate.bias", (features,)

    def _join(self, x: RealArray, inner: RealArray) -> RealArray:
        return x + _sigmoid(self.gate(x)) * (inner - x)

    def _join_vjp(self, x: RealArray, inner: RealArray) -> Joined:
        scores, gate_pullback = self.gate.vjp(x)
        t, difference = _sigmoid(scores), inner - x

        def pullback(dy: RealArray) -> tuple[RealArray, RealArray]:
            d_inner = dy * t
            d_scores = dy * difference * (t * (1.0 - t))
            return dy - d_inner + gate_pullback(d_scores), d_inner

        return x + t * difference, pullback


def _sigmoid(x: RealArray) -> RealArray:
    return _core.sigmoid(x.reshape(-1)).reshape(x.shape)


LAYER_CLASSES.update(Residual=Residual, Highway=Highway)
