"""fastrnn as a backend of ONNX: https://onnx.ai/onnx/api/backend.html.

The module `fastrnn.interop.onnx` has the functions by which `onnx.backend.test` and others run
models; for programs, `import_model` is the plainer way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .importer import Model, import_model
from .nodes import Array
from .program import Program
from .reading import supported_model
from .tensors import require_onnx

__all__ = ["BackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class BackendRep:
    """A model ready to run, as `prepare` returns it.

    Attributes
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Return the outputs.

        Parameters
        ----------
        inputs : array, sequence of arrays, or mapping of str to array
            In the order of the model's inputs, or by name.

        Raises
        ------
        TypeError, ValueError
            As of `Model.run`.
        """
        names = [info.name for info in self.model.inputs]
        if not isinstance(inputs, Mapping):
            arrays = inputs if isinstance(inputs, Sequence) else [inputs]
            if len(arrays) != len(names):
                raise ValueError(f"inputs: expected {len(names)}, got {len(arrays)}")
            inputs = dict(zip(names, arrays, strict=True))
        return tuple(self.model.run(None, inputs))


def supports_device(device: str) -> bool:
    """Return whether models can run there: on "CPU" alone.

    Parameters
    ----------
    device : str
        As "CPU" or "CUDA:1".
    """
    return device.partition(":")[0].upper() == "CPU"


def is_compatible(model: Any, device: str = "CPU", **kwargs: Any) -> bool:
    """Return whether fastrnn has all operators of a model.

    Parameters
    ----------
    model : onnx.ModelProto
    device : str, default "CPU"
    """
    try:
        prepare(model, device)
    except (NotImplementedError, TypeError, ValueError):
        return False
    return True


def prepare(model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
    """Return a model ready to run.

    Parameters
    ----------
    model : onnx.ModelProto
        Or what else `import_model` takes.
    device : str, default "CPU"

    Raises
    ------
    ValueError
        For another device, and as of `import_model`.
    NotImplementedError, TypeError
        As of `import_model`.
    """
    if not supports_device(device):
        raise ValueError(f"device: expected 'CPU', got {device!r}")
    return BackendRep(import_model(model))


def run_model(model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
    """Return the outputs of a model, prepared and run once.

    Parameters
    ----------
    model : onnx.ModelProto
    inputs : as of `BackendRep.run`
    device : str, default "CPU"

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As of `prepare` and `Model.run`.
    """
    return prepare(model, device, **kwargs).run(inputs)


def run_node(
    node: Any,
    inputs: Any,
    device: str = "CPU",
    outputs_info: Sequence[Any] | None = None,
    **kwargs: Any,
) -> tuple[Array, ...]:
    """Return the outputs of one node.

    Parameters
    ----------
    node : onnx.NodeProto
    inputs : sequence of arrays, or mapping of str to array
        Of the inputs that are not left out.
    device : str, default "CPU"
    outputs_info : sequence of (dtype, shape), optional
        Not needed.
    opset_version : int, optional
        Of the operators; the latest that the package onnx has, if left out.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As of `prepare` and `Model.run`.
    """
    if not supports_device(device):
        raise ValueError(f"device: expected 'CPU', got {device!r}")
    onnx = require_onnx()
    helper, types = onnx.helper, onnx.TensorProto
    names = list(dict.fromkeys(name for name in node.input if name))
    arrays = [inputs[name] for name in names] if isinstance(inputs, Mapping) else list(inputs)
    if len(arrays) != len(names):
        raise ValueError(f"inputs: expected {len(names)}, got {len(arrays)}")
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
    ]
    wanted = [helper.make_tensor_value_info(o, types.UNDEFINED, None) for o in node.output if o]
    version = kwargs.get("opset_version") or onnx.defs.onnx_opset_version()
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = onnx.IR_VERSION, {"": version}
    onnx.checker.check_node(node, context)
    graph = helper.make_graph([node], "one_node", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    program = Program(supported_model(model).graph, version)
    with np.errstate(all="ignore"):
        return tuple([np.array(output) for output in program.run(arrays)])
