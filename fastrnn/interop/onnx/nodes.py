"""What operators are made of: `Node`, a node of a graph as its builder sees it, and the table.

A builder looks at a node once, when the model is imported, and returns its kernel: a function of
the node's inputs that gives the output, or a tuple of several. What is constant is prepared by the
builder and not by the kernel: packed weights, axes, slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DOMAINS",
    "MOST_AXES",
    "MOST_BYTES",
    "OPERATORS",
    "Array",
    "Builder",
    "Kernel",
    "Node",
    "check_elements",
    "graphs_of",
    "operator",
]

Array = NDArray[Any]
Kernel = Callable[..., Any]

DOMAINS = ("", "ai.onnx")  # of the standard operators
MOST_AXES = 64  # that an array of NumPy has
MOST_BYTES = 2**31  # that an operator may make of a few numbers, as ConstantOfShape does


class Node:
    """A node: its operator, its attributes, and those of its inputs that are constant.

    Parameters
    ----------
    operator : str
    version : int
        Of the set of operators.
    attributes : mapping
        As Python objects; tensors are arrays, graphs are GraphProto.
    constants : sequence
        For each input its array, None where it is not known yet or left out.
    given : sequence of bool
        For each input, whether there is one.
    num_outputs : int
    subprogram : callable
        ``subprogram(graph) -> Program``: a graph that is an attribute, prepared. What it captures
        of the graphs around it, the kernel is given after the node's inputs.
    """

    def __init__(
        self,
        operator: str,
        version: int,
        attributes: Mapping[str, Any],
        constants: Sequence[Array | None],
        given: Sequence[bool],
        num_outputs: int,
        subprogram: Callable[[Any], Any],
    ) -> None:
        self.operator, self.version = operator, version
        self.num_inputs, self.num_outputs = len(given), num_outputs
        self.subprogram = subprogram
        self.unused: set[int] = set()  # inputs that the kernel does not look at: see `take`
        self._attributes, self._constants, self._given = dict(attributes), constants, given

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default where it is left out."""
        return self._attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Return whether the input is given."""
        return index < len(self._given) and self._given[index]

    def constant(self, index: int) -> Array | None:
        """Return an input if it is a constant, else None."""
        return self._constants[index] if index < len(self._constants) else None

    def take(self, index: int) -> Array | None:
        """Return an input if it is a constant; the kernel is then given None in its place.

        So the model need not keep what the builder made something else of.
        """
        array = self.constant(index)
        if array is not None:
            self.unused.add(index)
        return array

    def integers(self, name: str, index: int) -> tuple[int, ...] | None:
        """Return numbers that are an attribute in old operators, an input in new ones.

        None: they are left out, or only known when the model runs (`has` tells which).
        """
        if name in self._attributes:
            return tuple(self._attributes[name])
        array = self.constant(index)
        return None if array is None else tuple(array.reshape(-1).tolist())


Builder = Callable[[Node], Kernel]
OPERATORS: dict[str, Builder] = {}


def operator(*names: str) -> Callable[[Builder], Builder]:
    """Register the builder of these operators."""

    def register(builder: Builder) -> Builder:
        OPERATORS.update(dict.fromkeys(names, builder))
        return builder

    return register


def graphs_of(node: Any) -> Iterator[Any]:
    """Yield the graphs that are attributes of a NodeProto."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def check_elements(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise ValueError if an array of this shape is larger than an operator may make."""
    count = 1
    for size in shape:
        if size < 0:
            raise ValueError(f"shape: expected sizes of at least 0, got {tuple(shape)}")
        count *= int(size)
    if count * dtype.itemsize > MOST_BYTES:
        raise ValueError(
            f"shape: expected at most {MOST_BYTES:,} bytes, got {tuple(shape)} of {dtype}"
        )
