"""A layer over whole sequences, batch first, by names: `SequenceModel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import nesting
from ..base import Layer
from ..layers import Sequential

__all__ = ["Feature", "SequenceModel"]

Array = NDArray[Any]
INT64 = np.dtype(np.int64)


class Feature(NamedTuple):
    """An input or output: its name, its type, and its shape, with -1 for what may vary."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    optional: bool = False


class SequenceModel:
    """Runs a layer over whole sequences: named arrays to named arrays, the batch axis first.

    Parameters
    ----------
    layer : Layer
    prefer_tokens : bool, default False
        Whether tokens are what "input" is described as, where it may be both.

    Attributes
    ----------
    inputs, outputs : list of Feature
    takes_tokens, takes_vectors : bool
        What "input" may be: integers (B, T), or real numbers (B, T, I).
    input_size : int
        Size I, or the number of tokens.
    width : int
        Values of a step where the layer is widest, for estimates of memory.

    Raises
    ------
    ValueError
        If the layer does not take one sequence and give one result.
    """

    def __init__(self, layer: Layer, prefer_tokens: bool = False) -> None:
        self.layer = layer
        layers = list(_walk(layer))
        sized = next((each for each in layers if _input_size(each)), layer)
        self.input_size = _input_size(sized)
        self.dtype = np.dtype(getattr(sized, "dtype", np.float32))
        self._batch_first = next(
            (each.batch_first for each in layers if hasattr(each, "batch_first")), True
        )
        # What a layer takes is found by trying one step, which also prepares its weights.
        vectors = self._try(np.zeros((1, 1, self.input_size), self.dtype))
        tokens = self._try(np.zeros((1, 1), INT64))
        self.takes_vectors, self.takes_tokens = isinstance(vectors, dict), isinstance(tokens, dict)
        found = vectors if isinstance(vectors, dict) else tokens
        if not isinstance(found, dict):
            raise ValueError(f"{type(layer).__name__} does not run over one sequence ({vectors})")
        self.inputs = self._inputs(prefer_tokens)
        self.outputs = [self._output(name, array) for name, array in found.items()]
        self.width = max(found["output"].shape[-1], *map(_output_size, layers))

    def _try(self, x: Array) -> dict[str, Array] | Exception:
        try:
            return self.run({"input": x})
        except (TypeError, ValueError, AttributeError) as error:
            return error

    def _inputs(self, prefer_tokens: bool) -> list[Feature]:
        one = Feature("input", INT64, (-1, -1))
        if self.takes_vectors and not (prefer_tokens and self.takes_tokens):
            one = Feature("input", self.dtype, (-1, -1, self.input_size))
        lengths = Feature("lengths", INT64, (-1,), optional=True)
        return [one, lengths] if self._takes_lengths else [one]

    def _output(self, name: str, array: Array) -> Feature:
        varying = 2 if name == "output" and not self.layer.pools_time else 1
        return Feature(name, array.dtype, (-1,) * varying + array.shape[varying:])

    @property
    def _takes_lengths(self) -> bool:
        return self.layer.recurrent or self.layer.uses_lengths

    def check(self, x: Array, lengths: Array | None) -> None:
        """Raise ValueError for arrays whose shape or type no run would take."""
        if x.dtype.kind == "i" and self.takes_tokens and x.ndim == 2:
            pass
        elif not self.takes_vectors:
            raise ValueError(f"input: expected tokens of the shape (batch, time), got {_shown(x)}")
        elif x.dtype != self.dtype or x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"input: expected {self.dtype} of the shape (batch, time, {self.input_size})"
                f"{', or tokens (batch, time)' if self.takes_tokens else ''}, got {_shown(x)}"
            )
        if lengths is None:
            return
        if lengths.dtype.kind != "i" or lengths.shape != x.shape[:1]:
            raise ValueError(
                f"lengths: expected integers of the shape {x.shape[:1]}, got {_shown(lengths)}"
            )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            "input" (B, T, I) of the layer's dtype, or (B, T) of int32 or int64; "lengths" (B,) of
            int32 or int64.

        Returns
        -------
        dict of str to ndarray
            "output" (B, T, O), (B, O) behind a pooling layer; "state.N.h" and, for an LSTM,
            "state.N.c" (B, L, H) of each recurrent layer N with L layers and directions.

        Raises
        ------
        ValueError, TypeError
            For what the layer does not take.
        """
        x, lengths = inputs["input"], inputs.get("lengths")
        if lengths is not None and not self._takes_lengths:
            raise ValueError("lengths: expected none, the model has no use for them")
        turned = x if self._batch_first else np.ascontiguousarray(x.swapaxes(0, 1))
        y, state = nesting.call(self.layer, turned, None, lengths, {})
        if not self._batch_first and not self.layer.pools_time:
            y = y.swapaxes(0, 1)
        outputs = {"output": y}
        for index, part in enumerate(_states(self.layer, state)):
            for name, array in zip("hc", part, strict=False):
                outputs[f"state.{index}.{name}"] = array.swapaxes(0, 1)
        return outputs


def _shown(array: Array) -> str:
    return f"{array.dtype} of the shape {array.shape}"


def _states(layer: Layer, state: Any) -> Iterator[tuple[Array, ...]]:
    """Yield the final state (h,) or (h, c) of each recurrent layer."""
    if not layer.recurrent:
        return
    if isinstance(layer, Sequential):
        inner = [each for each in layer if each.recurrent]
        for each, part in zip(inner, state, strict=True):
            yield from _states(each, part)
    elif "layer" in layer.children():  # a way around another one has that one's state
        yield from _states(layer.children()["layer"], state)
    else:
        yield state if isinstance(state, tuple) else (state,)


def _walk(layer: Layer) -> Iterator[Layer]:
    """Yield a layer and all that it is made of."""
    yield layer
    for child in layer.children().values():
        yield from _walk(child)


def _input_size(layer: Layer) -> int:
    names = ("input_size", "in_features", "num_embeddings", "num_features", "normalized_shape")
    return next((int(getattr(layer, name)) for name in names if hasattr(layer, name)), 0)


def _output_size(layer: Layer) -> int:
    names = ("hidden_size", "out_features", "embedding_dim")
    size = next((int(getattr(layer, name)) for name in names if hasattr(layer, name)), 1)
    return 2 * size if getattr(layer, "bidirectional", False) else size
