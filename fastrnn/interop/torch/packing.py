"""Weights of torch modules, packed for the kernels and packed anew when they change."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import _core

__all__ = [
    "Direction",
    "Packed",
    "directions_of",
    "memory_of",
    "numpy_of",
    "pack_layer",
    "sizes_of",
]


# weight_ih, weight_hh, bias_ih, bias_hh, weight_hr of one direction of one layer.
Direction = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]

# Torch does not count what is written to a parameter through `.data`, through NumPy or in inference
# mode. Calls of so many steps and rows or more look at all of the memory, which costs them a few
# per cent at most; shorter ones at a sample.
WHOLE_FROM = 64


def numpy_of(tensor: Tensor | None) -> Any:
    """Return a tensor's memory as an array; C-contiguous, so a copy where it is not."""
    # By NumPy, see _array_of.
    return None if tensor is None else np.ascontiguousarray(tensor.detach().numpy())


def memory_of(tensor: Tensor) -> Any:
    """Return the memory of a tensor of floats as an array, whose owner may still resize it."""
    return np.asarray(_Memory(tensor))


class _Memory:
    """The memory of a tensor, as NumPy asks for it.

    After `Tensor.numpy()` no one can resize the storage, which fully sharded training does with the
    weights that it has used, and others do with the buffer of their inputs.
    """

    __slots__ = ("__array_interface__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), False),
            "shape": tuple(tensor.shape),
            "strides": None if tensor.is_contiguous() else _byte_strides(tensor),
            "typestr": _FLOAT32 if tensor.dtype == torch.float32 else _FLOAT64,
        }


def _byte_strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(stride * tensor.element_size() for stride in tensor.stride())


_FLOAT32, _FLOAT64 = np.dtype(np.float32).str, np.dtype(np.float64).str


def _array_of(weight: Tensor | None) -> Any:
    # A copy is NumPy's: one by torch would wake its threads, which then keep ours from their cores.
    return None if weight is None else np.ascontiguousarray(memory_of(weight))


def sizes_of(weight_hh: Tensor, weight_hr: Tensor | None) -> tuple[int, int]:
    """Return the size of an output and that of the units: the same without a projection."""
    output = weight_hh.shape[1]
    return output, output if weight_hr is None else weight_hr.shape[1]


def directions_of(flat: Sequence[Tensor], bias: bool, projects: bool) -> list[Direction]:
    """Return the directions of all layers, of weights in the order of torch's `_flat_weights`."""
    count = 2 + 2 * bias + projects
    found: list[Direction] = []
    for first in range(0, len(flat), count):
        weights = flat[first : first + count]
        biases = (weights[2], weights[3]) if bias else (None, None)
        found.append((weights[0], weights[1], *biases, weights[-1] if projects else None))
    return found


def pack_layer(kind: str, directions: Sequence[Direction], training: bool) -> tuple[Any, ...]:
    """Return the cells of one layer, as `_core` takes them."""
    missing = (None,) * 6  # weights that torch's cells do not have
    return tuple(
        _core.pack_cell(kind, (*map(_array_of, weights), *missing), None, training)
        for weights in directions
    )


class Packed(NamedTuple):
    """A stack packed for inference, and what tells whether the weights are still those."""

    stack: Any
    key: list[int]
    watch: _core.Watch
    held: list[Tensor]  # so that what is watched stays, and no other tensor gets these addresses

    @classmethod
    def of(
        cls,
        kind: str,
        layers: Sequence[Sequence[Direction]],
        sources: Sequence[Tensor] | None = None,
    ) -> Packed:
        """Pack the directions of each layer.

        sources: the tensors that these weights were made of, which are those that change.
        """
        weights = [w for layer in layers for direction in layer for w in direction if w is not None]
        weights = weights if sources is None else list(sources)
        whole = all(w.is_contiguous() for w in weights)
        # Before they are read: what another thread writes meanwhile is then seen by the next call.
        key = key_of(weights) if whole else []
        watch = _core.Watch(tuple((w.data_ptr(), w.nbytes) for w in weights) if whole else ())
        stack = _core.StackFloat32 if weights[0].dtype == torch.float32 else _core.StackFloat64
        packed = stack([pack_layer(kind, layer, False) for layer in layers])
        # Strided weights, which are rare, are packed at each call: no key equals this one.
        return cls(packed, key, watch, [w.detach() for w in weights])

    def is_of(self, key: list[int], work: int) -> bool:
        """Whether weights of this key are those packed; `work`: steps times rows of the call."""
        return self.key == key and self.watch.unchanged(work >= WHOLE_FROM)


def key_of(weights: Sequence[Tensor]) -> list[int]:
    """Return addresses, contiguity and versions of weights; of inference mode there are none.

    A parameter that is given its own memory transposed has another contiguity, and nothing else.
    """
    where = [*map(Tensor.data_ptr, weights), *map(Tensor.is_contiguous, weights)]
    if any(map(Tensor.is_inference, weights)):  # all, or those that a parametrization made
        return where
    return [*where, *map(_version, weights)]


_version = operator.attrgetter("_version")
