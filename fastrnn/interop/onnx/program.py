"""A graph as a list of steps: every node prepared once, every value in a numbered place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np

from .nodes import MOST_BYTES, OPERATORS, Array, Kernel, Node, graphs_of
from .shape_groups import Step, grouped
from .tensors import array_of, attributes_of

__all__ = ["Program"]


class Program:
    """A graph, prepared: ``program.run(arrays)`` takes and returns lists of arrays.

    The first place is None, for inputs left out; those of the graph's inputs and captures follow,
    then all others. What is constant lies in the template that each run begins with a copy of; what
    only depends on constants was computed when the program was made. Programs hold no state: runs
    may overlap in time.

    Parameters
    ----------
    graph : onnx.GraphProto
        Checked by onnx.checker: nodes are in the order of their use.
    version : int
        Of the set of operators.
    outer : mapping of str to ndarray, optional
        Constants of the graphs around this one.
    overridden : collection of str, optional
        Names of initialisers that are inputs.

    Attributes
    ----------
    inputs : tuple of str
        Names, without those of initialisers that are not overridden.
    captures : tuple of str
        Names of other graphs' values, taken as inputs after these.
    num_outputs : int

    Raises
    ------
    ValueError, TypeError
        If an attribute or a constant is not what the operator takes.
    """

    def __init__(
        self,
        graph: Any,
        version: int,
        outer: Mapping[str, Array] = MappingProxyType({}),
        overridden: Collection[str] = (),
    ) -> None:
        self._version = version
        self._constants: dict[str, Array] = dict(outer)
        self._template: list[Any] = [None]
        self._places: dict[str, int] = {}
        self._steps: list[Step] = []
        self._folded = 0  # bytes
        if graph.sparse_initializer:
            names = ", ".join(repr(t.values.name) for t in graph.sparse_initializer)
            raise TypeError(f"model: expected no sparse tensors, got {names}")
        initialisers = [t for t in graph.initializer if t.name not in overridden]
        initialised = {tensor.name for tensor in initialisers}
        for tensor in initialisers:
            self._constants[tensor.name] = array_of(tensor)
        self.inputs = tuple(i.name for i in graph.input if i.name not in initialised)
        for name in self.inputs:
            self._constants.pop(name, None)  # of an outer graph, where names may be the same
            self._place(name)
        self.captures = self._outer_names(graph)
        for name in self.captures:
            self._place(name)
        self._arguments = len(self._template)
        for node in graph.node:
            self._add(node)
        self._outputs = [self._argument(output.name) for output in graph.output]
        self.num_outputs = len(self._outputs)
        self._finish()
        del self._constants, self._places, self._steps  # what is used of them is kept elsewhere

    # --- preparing --------------------------------------------------------------------------------

    def _outer_names(self, graph: Any) -> tuple[str, ...]:
        """Return the names that the graph, or one in it, takes from graphs around it."""
        known = {*self._places, *self._constants}
        found: dict[str, None] = {}
        for node in graph.node:
            for name in _names_taken(node):
                if name and name not in known:
                    found[name] = None
            known.update(node.output)
        found.update({o.name: None for o in graph.output if o.name not in known})
        return tuple(found)

    def _place(self, name: str, value: Any = None) -> int:
        self._places[name] = len(self._template)
        self._template.append(value)
        return self._places[name]

    def _argument(self, name: str) -> int:
        """Return the place of a value, made for a constant at its first use."""
        if not name:
            return 0
        if name not in self._places:
            return self._place(name, self._constants[name])
        return self._places[name]

    def _add(self, proto: Any) -> None:
        """Add a node, or compute what it gives where its inputs are constant."""
        if proto.op_type == "Identity" and proto.input[0] in self._places:
            self._places[proto.output[0]] = self._places[proto.input[0]]  # nothing to be done
            return
        label = f"node {proto.name or proto.output[0]!r} ({proto.op_type})"
        captured: list[str] = []

        def subprogram(graph: Any) -> Program:
            program = Program(graph, self._version, self._constants)
            captured.extend(program.captures)
            self._count(program._folded)
            return program

        names = list(proto.input)
        node = Node(
            proto.op_type,
            self._version,
            attributes_of(proto),
            [self._constants.get(name) if name else None for name in names],
            [bool(name) for name in names],
            len(proto.output),
            subprogram,
        )
        try:
            kernel = OPERATORS[proto.op_type](node)
            names += captured
            if all(not name or name in self._constants for name in names):
                self._fold(kernel, names, proto.output)
                return
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _labelled(error, label) from error
        places = [0 if i in node.unused else self._argument(name) for i, name in enumerate(names)]
        for name in proto.output:  # another name's constant, in an outer graph, is hidden
            self._constants.pop(name, None)
        outputs = [self._place(name) if name else 0 for name in proto.output]
        self._steps.append(
            Step(
                kernel,
                tuple(places),
                tuple(outputs),
                label,
                of_shapes=proto.op_type in ("Shape", "Size"),
                mixed=any(True for _ in graphs_of(proto)),
            )
        )

    def _fold(self, kernel: Kernel, names: Sequence[str], outputs: Sequence[str]) -> None:
        with np.errstate(all="ignore"):
            result = kernel(*[self._constants[name] if name else None for name in names])
        results = result if type(result) is tuple else (result,)
        for name, value in zip(outputs, results, strict=False):
            array = np.asarray(value)
            array.flags.writeable = False
            self._constants[name] = array
            self._places.pop(name, None)
            self._count(array.nbytes if array.base is None else 0)

    def _count(self, size: int) -> None:
        """Count what is computed of constants: a small file could fill the memory with it."""
        self._folded += size
        if self._folded > 2 * MOST_BYTES:
            raise ValueError(f"constants: expected at most {2 * MOST_BYTES:,} bytes made of others")

    def _finish(self) -> None:
        """Put the steps together as they run, each with the values that are used no more after it.

        A list of places is read by an itemgetter, which is fastest; of a slice where it is one, so
        that it gives a list there, too.
        """

        def new_place() -> int:
            self._template.append(None)
            return len(self._template) - 1

        constants = {i for i, value in enumerate(self._template) if value is not None}
        variables = set(range(1, self._arguments))
        steps = grouped(self._steps, variables, set(self._outputs), new_place)
        kept, running = {0, *self._outputs, *constants}, []
        for step in reversed(steps):
            ended = {*step.inputs, *step.outputs} - kept
            kept |= ended
            first, *others = step.inputs
            get = itemgetter(*step.inputs) if others else itemgetter(slice(first, first + 1))
            running.append((step.kernel, get, step.outputs[0], step.outputs, tuple(ended)))
        self._running = running[::-1]
        self._labels = [step.label for step in steps]

    # --- running ----------------------------------------------------------------------------------

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the outputs; numbers may be NumPy's scalars.

        Parameters
        ----------
        arguments : sequence of ndarray
            The inputs, then the captures.

        Raises
        ------
        ValueError, TypeError
            With the node's name, if an array is not what its operator takes.
        """
        values = self._template.copy()
        values[1 : self._arguments] = arguments
        try:
            for step in self._running:
                kernel, get, place, places, ended = step
                result = kernel(*get(values))
                if type(result) is tuple:
                    for place, value in zip(places, result, strict=False):
                        values[place] = value
                    values[0] = None
                else:
                    values[place] = result
                for place in ended:
                    values[place] = None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            number = next(i for i, each in enumerate(self._running) if each is step)
            raise _labelled(error, self._labels[number]) from error
        return [values[place] for place in self._outputs]


def _names_taken(node: Any) -> list[str]:
    """Return the names of a node's inputs, and of what graphs in it take from around them."""
    names = list(node.input)
    for graph in graphs_of(node):
        own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            names += [name for name in _names_taken(inner) if name not in own]
            own.update(inner.output)
        names += [output.name for output in graph.output if output.name not in own]
    return names


def _labelled(error: Exception, label: str) -> Exception:
    """Return the error with the name of the node in front."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{label}: {error}")
