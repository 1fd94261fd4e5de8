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

    Attributes
    ----------
    inputs, outputs : tuple of ValueInfo
        With name, dtype and shape; without initialisers.
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
        self._program = Program(graph, opset_version(proto), {})
        by_name = {info.name: info for info in graph.input}
        self.inputs = tuple(value_info(by_name[name]) for name in self._program.inputs)
        self.outputs = tuple(value_info(info) for info in graph.output)
        self.metadata = {each.key: each.value for each in proto.metadata_props}

    def get_inputs(self) -> tuple[ValueInfo, ...]:
        """Return `inputs`, as ONNX Runtime's InferenceSession does."""
        return self.inputs

    def get_outputs(self) -> tuple[ValueInfo, ...]:
        """Return `outputs`, as ONNX Runtime's InferenceSession does."""
        return self.outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Parameters
        ----------
        *args, **kwargs : array_like
            The inputs, in the order of `inputs` or by name.

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
            All the inputs by name. Arrays must have the input's dtype; lists are converted.

        Returns
        -------
        list of ndarray
            Arrays of their own: they share no memory with the inputs or the model's weights.

        Raises
        ------
        TypeError
            If an input has another dtype.
        ValueError
            If an input is missing or unknown, has another shape, or does not fit a node: the
            node is named.
        """
        if input_feed.keys() != {info.name for info in self.inputs}:
            names = [info.name for info in self.inputs]
            raise ValueError(f"input_feed: expected {names}, got {list(input_feed)}")
        arguments = [info.checked(input_feed[info.name]) for info in self.inputs]
        with np.errstate(all="ignore"):  # as ONNX has it: 1 / 0 is infinite
            results = self._program.run(arguments)
        results = [_own(result, arguments) for result in results]
        if output_names is None:
            return results
        by_name = {info.name: result for info, result in zip(self.outputs, results, strict=True)}
        unknown = [name for name in output_names if name not in by_name]
        if unknown:
            raise ValueError(f"output_names: expected some of {list(by_name)}, got {unknown}")
        return [by_name[name] for name in output_names]

    def __repr__(self) -> str:
        def listed(values: tuple[ValueInfo, ...]) -> str:
            return ", ".join(f"{v.name}: {v.dtype} {v.shape}" for v in values)

        return f"Model({listed(self.inputs)} -> {listed(self.outputs)})"


def _own(result: Any, arguments: Sequence[Array]) -> Array:
    """Return an output as an array that neither the caller's arrays nor the weights change with."""
    array = np.asarray(result)
    if not array.flags.writeable or (
        not array.flags.owndata and any(np.may_share_memory(array, each) for each in arguments)
    ):
        return array.copy()
    return array.copy() if any(array is each for each in arguments) else array


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
