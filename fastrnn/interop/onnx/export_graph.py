"""An ONNX graph in the making."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ...base import Layer
from ...serialization import library_version

OPSET = 17  # the first with LayerNormalization; ONNX Runtime has it since 1.12
IR_VERSION = 8

Shape = tuple[int | str, ...]  # with names for what is free
Names = list[str]  # of arrays in the graph
Body = Callable[[Names, Names], tuple[Names, Names]]
Converter = Callable[["Graph", Any, str, "Value"], "Value"]


class Value(NamedTuple):
    """An array in the graph: its name, and its shape."""

    name: str
    shape: Shape

    def of_features(self, size: int, layer: str, wanted: int) -> Value:
        """Return the array with another last axis, having checked this one."""
        if self.shape[-1] != wanted and isinstance(self.shape[-1], int):
            raise ValueError(f"model: {layer} expects {wanted} features, gets {self.shape[-1]}")
        return Value(self.name, (*self.shape[:-1], size))


class _Output(NamedTuple):
    """An output of the model."""

    name: str
    value: Value
    dtype: DTypeLike | None


class Options(NamedTuple):
    """What the graph is to be: arguments of `export_model`."""

    method: str
    ids: bool
    lengths: str  # their dtype, "" for none
    states: bool
    input_names: Sequence[str] | None  # in place of the graph's own
    output_names: Sequence[str] | None

    @property
    def step(self) -> bool:
        """Whether there is no axis of time."""
        return self.method == "step"


class Graph:
    """An ONNX graph in the making."""

    def __init__(
        self, dtype: DTypeLike, options: Options, converters: Mapping[type[Layer], Converter]
    ) -> None:
        try:
            self.onnx = importlib.import_module("onnx")
        except ImportError:
            raise ImportError(
                "ONNX models need the package onnx: pip install 'fastrnn[onnx]'"
            ) from None
        self.dtype = np.dtype(dtype)
        self.options = options
        self.suffixes: dict[str, str] = {}  # of the names of states, by layer
        self.lengths = ""  # the input (B,), as int64
        self._converters = converters
        self._real: dict[int, str] = {}
        self._numbers = itertools.count()
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[_Output] = []
        self._last: list[_Output] = []  # outputs after the others

    def convert(self, layer: Layer, name: str, x: Value) -> Value:
        """Add a layer of one input and one output (and states); `name` is its place."""
        return self._converters[type(layer)](self, layer, name, x)

    # --- inputs, outputs and constants --------------------------------------------------------

    def input(
        self,
        name: str,
        shape: Shape,
        dtype: DTypeLike | None = None,
        default: ArrayLike | None = None,
    ) -> Value:
        """Declare an input of the model; one with a default value may be left out.

        The name may become another: see `Options.input_names`.
        """
        given = self.options.input_names
        if given is not None and len(self._inputs) < len(given):
            name = given[len(self._inputs)]
        self._inputs.append(self._info(name, shape, dtype))
        if default is not None:
            self.constant(name, default)
        return Value(name, shape)

    def lengths_input(self) -> None:
        """Declare the input "lengths", if there is to be one."""
        if self.options.lengths:
            name = self.input("lengths", ("B",), self.options.lengths).name
            self.lengths = name if self.options.lengths == "int64" else self.cast(name, "int64")

    def output(self, name: str, value: Value, dtype: DTypeLike | None = None) -> None:
        """Give an array to the caller under a name."""
        self._outputs.append(_Output(name, value, dtype))

    def last_state(self, name: str, value: Value) -> None:
        """Give an array to the caller, after the outputs that are no states."""
        self._last.append(_Output(name, value, None))

    def constant(self, name: str, array: ArrayLike) -> str:
        """Return the name of an array that is part of the model."""
        plain = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        self._constants[name] = self.onnx.numpy_helper.from_array(plain, name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a number of the model's dtype."""
        return self.constant(f"number_{value:.17g}", np.array(value, self.dtype))

    def integers(self, *values: int) -> str:
        """Return the name of a vector of integers, as axes."""
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def _info(self, name: str, shape: Shape | None, dtype: DTypeLike | None = None) -> Any:
        kind = self.tensor_type(self.dtype if dtype is None else dtype)
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def tensor_type(self, dtype: DTypeLike) -> Any:
        """Return ONNX's number of a dtype."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def _named(self, value: str, name: str) -> str:
        self._nodes.append(self.onnx.helper.make_node("Identity", [value], [name]))
        return name

    # --- operators ----------------------------------------------------------------------------

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Return the name of an operator's only output."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], count: int, **attributes: Any
    ) -> list[str]:
        """Return the names of an operator's outputs."""
        name = f"{operator}_{next(self._numbers)}"
        outputs = [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        helper = self.onnx.helper
        self._nodes.append(helper.make_node(operator, inputs, outputs, name, **attributes))
        return outputs

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """Return an array in another dtype."""
        return self.node("Cast", value, to=self.tensor_type(dtype))

    def where(self, condition: str, value: str, other: float = 0.0) -> str:
        """Return `value` where the condition holds, else a number."""
        return self.node("Where", condition, value, self.number(other))

    def joined(self, parts: Sequence[str], axis: int) -> str:
        """Return arrays one after the other along an axis."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=axis)

    def parts(self, value: str, count: int, axis: int) -> list[str]:
        """Return an array cut into equal parts along an axis."""
        return [value] if count == 1 else self.nodes("Split", [value], count, axis=axis)

    def swapped(self, value: str, swap: bool, rank: int = 3) -> str:
        """Return an array with its first two axes swapped, if they are to be."""
        return self.node("Transpose", value, perm=[1, 0, *range(2, rank)]) if swap else value

    def zeros(self, N: int, H: int, like: str, axis: int) -> str:
        """Return zeros (N, B, H), B that of the axis of another array."""
        row = self.constant(f"zeros_{N}_{H}", np.zeros((N, 1, H), self.dtype))
        return self.repeated(row, like, axis)

    def repeated(self, value: str, like: str, axis: int) -> str:
        """Return an array (N, 1, H), or (N, B, H), as (N, B, H), B that of the axis of another."""
        one = self.integers(1)
        B = self.node("Shape", like, start=axis, end=axis + 1)
        return self.node("Expand", value, self.node("Concat", one, B, one, axis=0))

    def steps(self, like: str, axis: int) -> str:
        """Return the numbers (T,) of the steps along an axis."""
        T = self.node("Shape", like, start=axis, end=axis + 1)
        first, by = (self.constant(f"integer_{i}", np.array(i, np.int64)) for i in (0, 1))
        return self.node("Range", first, self.node("Squeeze", T), by)

    def real_steps(self, like: str, axis: int) -> str:
        """Return whether a step is before a row's end: (T, B, 1), with `axis` 1 (B, T, 1).

        Time is the axis `axis` of the sequences `like`; the model has one length of sequences.
        """
        if axis not in self._real:
            steps = self.node("Unsqueeze", self.steps(like, axis), self.integers(1 - axis, 2))
            ends = self.node("Unsqueeze", self.lengths, self.integers(axis, 2))
            self._real[axis] = self.node("Less", steps, ends)
        return self._real[axis]

    def scan(
        self,
        body: Body,
        states: Names,
        sequences: Names,
        real: str = "",
        reverse: bool = False,
    ) -> tuple[Names, Names]:
        """Run a part of the graph step by step, by the operator Scan.

        Parameters
        ----------
        body : callable
            From states and one step of each sequence to new states and outputs; adds nodes.
        states, sequences : list of str
            Time is the first axis of sequences.
        real : str
            The steps that there are, (T, B, 1); at others states stay and outputs are 0.
        reverse : bool
            Whether the last step comes first; outputs are in the order of time.

        Returns
        -------
        The last states, and the outputs of all steps.
        """
        helper, tag = self.onnx.helper, f"scan_{next(self._numbers)}"
        outer, self._nodes = self._nodes, []
        before = [f"{tag}_state_{i}" for i in range(len(states))]
        items = [f"{tag}_item_{i}" for i in range(len(sequences))]
        infos = [self._info(name, None) for name in (*before, *items)]
        after, outputs = body(before, items)
        if real:
            infos.append(self._info(f"{tag}_real", None, np.bool_))
            pairs = zip(after, before, strict=True)
            after = [self.node("Where", f"{tag}_real", new, old) for new, old in pairs]
            outputs = [self.where(f"{tag}_real", output) for output in outputs]
        given = [self._named(v, f"{tag}_given_{i}") for i, v in enumerate([*after, *outputs])]
        graph = helper.make_graph(
            self._nodes, tag, infos, [self._info(name, None) for name in given]
        )
        self._nodes = outer
        scanned = [*sequences, *[real] * bool(real)]
        way = int(reverse)
        results = self.nodes(
            "Scan",
            [*states, *scanned],
            len(given),
            body=graph,
            num_scan_inputs=len(scanned),
            scan_input_directions=[way] * len(scanned),
            scan_output_directions=[way] * len(outputs),
        )
        return results[: len(states)], results[len(states) :]

    # --- the model ----------------------------------------------------------------------------

    def finish(self, metadata: Mapping[str, str]) -> Any:
        """Return the checked model."""
        helper, outputs = self.onnx.helper, [*self._outputs, *self._last]
        own = [info.name for info in self._inputs]
        _checked_names("input_names", self.options.input_names, own)
        names = [output.name for output in outputs]
        names = _checked_names("output_names", self.options.output_names, names)
        infos = []
        for name, output in zip(names, outputs, strict=True):
            self._named(output.value.name, name)
            infos.append(self._info(name, output.value.shape, output.dtype))
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "fastrnn", self._inputs, infos, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fastrnn",
            producer_version=library_version(),
        )
        helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        return model


def _checked_names(argument: str, given: Sequence[str] | None, own: list[str]) -> list[str]:
    """Return the names that are given, or else the graph's own; ValueError if they do not fit."""
    if given is None:
        return own
    names = list(given)
    if len(names) != len(own):
        raise ValueError(f"{argument}: expected {len(own)} names, got {len(names)}")
    return names


def joined_name(name: str, child: str) -> str:
    """Return the name of a layer's child, as parameters begin with it."""
    return f"{name}.{child}" if name else child
