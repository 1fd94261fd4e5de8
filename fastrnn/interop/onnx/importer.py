"""ONNX models run by fastrnn: `import_model`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Their operators come into the table.
from . import control, operators_math, operators_nn, operators_shape, recurrent  # noqa: F401
from .nodes import Array
from .program import Program
from .reading import opset_version, read_model, supported_model
from .tensors import ValueInfo, value_info

__all__ = ["Model", "import_model"]


class Model:
    """An imported ONNX model; made by `import_model`.

    A model holds no state between calls, and may be called by several threads at a time.

    Parameters
    ----------
    proto : onnx.ModelProto
        Checked, with operators that there are kernels for.

    Attributes
    ----------
    inputs, outputs : tuple of ValueInfo
        With name, dtype and shape.
    defaults : tuple of ValueInfo
        Inputs that may be left out, as the model has arrays in their place.
    metadata : dict of str to str
        The model's ``metadata_props``.

    Examples
    --------
    >>> model = fastrnn.interop.onnx.import_model("tagger.onnx")  # doctest: +SKIP
    >>> y = model(x)  # doctest: +SKIP
    >>> y, hn = model.run(["y", "hn"], {"x": x, "h0": h0})  # doctest: +SKIP
    """

    def __init__(self, proto: Any) -> None:
        graph = proto.graph
        self._version = opset_version(proto)
        self._programs = {frozenset[str](): Program(graph, self._version)}  # by what is overridden
        initialised = {tensor.name for tensor in graph.initializer}
        inputs = [value_info(info) for info in graph.input]
        self.inputs = tuple(info for info in inputs if info.name not in initialised)
        self.outputs = tuple(value_info(info) for info in graph.output)
        self.defaults = tuple(info for info in inputs if info.name in initialised)
        self._names = {info.name for info in self.inputs}
        self._program = self._programs[frozenset()]
        self._graph = graph if self.defaults else None
        self._last_shapes: dict[str, tuple[int, ...]] = {}
        self.metadata = {each.key: each.value for each in proto.metadata_props}

    def get_inputs(self) -> tuple[ValueInfo, ...]:
        """Return `inputs`, as ONNX Runtime's InferenceSession does."""
        return self.inputs

    def get_overridable_initializers(self) -> tuple[ValueInfo, ...]:
        """Return `defaults`, as ONNX Runtime's InferenceSession does."""
        return self.defaults

    def get_outputs(self) -> tuple[ValueInfo, ...]:
        """Return `outputs`, as ONNX Runtime's InferenceSession does."""
        return self.outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Parameters
        ----------
        *args, **kwargs : array_like
            The inputs, in the order of `inputs` or by name; `defaults` by name.

        Returns
        -------
        ndarray, or tuple of ndarray
            The output, or the outputs in the order of `outputs`.

        Raises
        ------
        TypeError, ValueError
            As of `run`.
        """
        names = [info.name for info in self.inputs]
        if len(args) > len(names):
            raise TypeError(f"model: expected at most {len(names)} inputs, got {len(args)}")
        twice = kwargs.keys() & set(names[: len(args)])
        if twice:
            raise TypeError(f"model: got {', '.join(sorted(twice))} twice")
        outputs = self.run(None, dict(zip(names, args, strict=False)) | kwargs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> list[Array]:
        """Run the model, with the arguments of ONNX Runtime's ``InferenceSession.run``.

        Parameters
        ----------
        output_names : sequence of str or None
            Which outputs are wanted; None: all, in the order of `outputs`.
        input_feed : mapping of str to array_like
            All the inputs by name, and any of `defaults`: for each choice of these the model is
            prepared anew at its first use. Arrays must have the input's dtype; lists are converted.

        Returns
        -------
        list of ndarray
            They share no memory with the inputs or the model's weights.

        Raises
        ------
        TypeError
            If an input has another dtype.
        ValueError
            If an input is missing or unknown, has another shape, or does not fit a node: the
            node is named.
        """
        program, inputs = self._program, self.inputs
        if input_feed.keys() != self._names:
            program, inputs = self._overridden(input_feed)
        arguments = [self._checked(info, input_feed[info.name]) for info in inputs]
        with np.errstate(all="ignore"):  # as ONNX has it: 1 / 0 is infinite
            results = program.run(arguments)
        results = [_own(result, arguments) for result in results]
        if output_names is None:
            return results
        by_name = {info.name: result for info, result in zip(self.outputs, results, strict=True)}
        unknown = [name for name in output_names if name not in by_name]
        if unknown:
            raise ValueError(f"output_names: expected some of {list(by_name)}, got {unknown}")
        return [by_name[name] for name in output_names]

    def _checked(self, info: ValueInfo, value: Any) -> Array:
        """Return an input as an array; one like that of the last call is known to be right."""
        if (
            type(value) is not np.ndarray
            or value.dtype is not info.dtype
            or value.shape != self._last_shapes.get(info.name)
        ):
            value = info.checked(value)
            self._last_shapes[info.name] = value.shape
        array: Array = value
        return array

    def _overridden(self, input_feed: Mapping[str, Any]) -> tuple[Program, tuple[ValueInfo, ...]]:
        """Return the program with those of `defaults` as inputs that there are arrays for."""
        optional = {info.name for info in self.defaults}
        if input_feed.keys() - optional != self._names:
            expected = [info.name for info in self.inputs]
            raise ValueError(f"input_feed: expected {expected}, got {list(input_feed)}")
        names = frozenset(input_feed.keys() & optional)
        if names not in self._programs:
            self._programs[names] = Program(self._graph, self._version, overridden=names)
        by_name = {info.name: info for info in (*self.inputs, *self.defaults)}
        program = self._programs[names]
        return program, tuple(by_name[name] for name in program.inputs)

    def __repr__(self) -> str:
        def listed(values: tuple[ValueInfo, ...]) -> str:
            return ", ".join(f"{v.name}: {v.dtype} {v.shape}" for v in values)

        return f"Model({listed(self.inputs)} -> {listed(self.outputs)})"


def _own(result: Any, arguments: Sequence[Array]) -> Array:
    """Return an output as an array that neither the caller's arrays nor the weights change with.

    Weights are read-only, and a view's base is no view but owns the memory: NumPy has it so.
    """
    array = result if type(result) is np.ndarray else np.asarray(result)
    owner = array if array.base is None else array.base
    shared = any(owner is each or owner is each.base for each in arguments)
    return array.copy() if shared or not array.flags.writeable else array


def import_model(model: str | os.PathLike[str] | bytes | Any) -> Model:
    """Return an ONNX model as a function of arrays, its recurrent layers run by fastrnn.

    Every node is prepared once: weights are packed for the kernels, and what depends on constants
    alone is computed.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        A path, a file's content, or a model. Weights in files of their own are read from the
        model's folder, and only where a path is given.

    Returns
    -------
    Model

    Raises
    ------
    NotImplementedError
        If there are operators that fastrnn does not have: all of them are named.
    TypeError
        If there are tensors of types that it does not take: float16, bfloat16, strings ...
    ValueError
        If the file is no ONNX model, is of a version before 7, or an attribute has a wrong value.
    onnx.checker.ValidationError
        If the model is not valid.
    OSError
        If the file cannot be read.
    ImportError
        If the package onnx is missing.

    See Also
    --------
    export_model : the other way.
    """
    return Model(supported_model(read_model(model)))
