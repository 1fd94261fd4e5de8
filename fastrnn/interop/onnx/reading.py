"""Models as they are read: checked, with the weights of other files, functions written out."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

from .nodes import DOMAINS, OPERATORS, graphs_of
from .tensors import check_here, require_onnx

__all__ = ["opset_version", "read_model", "supported_model"]

FIRST_OPSET = 7  # since then shapes are broadcast as NumPy's
MOST_NESTED = 8  # levels of functions in functions
MOST_NODES = 10**6  # of a model whose own functions are written out


def read_model(model: Any) -> Any:
    """Return a checked ModelProto of what `import_model` takes."""
    onnx = require_onnx()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        if isinstance(model, (bytes, bytearray, memoryview)):
            model = onnx.load_from_string(bytes(model))
        if isinstance(model, onnx.ModelProto):
            for tensor in model.graph.initializer:
                check_here(tensor)
            onnx.checker.check_model(model)
            return model
        path = os.fspath(model)
        with open(path, "rb"):  # for Python's own error where there is none
            pass
        proto = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(path)  # of the file: external data are below its folder
        onnx.load_external_data_for_model(proto, os.path.dirname(os.path.abspath(path)))
    except decode_error as error:
        raise ValueError(f"model: expected an ONNX model ({error})") from None
    return proto


def opset_version(proto: Any) -> int:
    """Return the version of the standard operators."""
    version = next((each.version for each in proto.opset_import if each.domain in DOMAINS), 0)
    if version < FIRST_OPSET:
        raise ValueError(
            f"model: expected operators (opset) of version {FIRST_OPSET} or later, got {version}; "
            "onnx.version_converter makes them newer"
        )
    return int(version)


def supported_model(proto: Any) -> Any:
    """Return the model, functions written out where there is no kernel of their name.

    Raises
    ------
    NotImplementedError
        Naming all the operators that there is no kernel for, with their nodes.
    """
    inliner = importlib.import_module("onnx.inliner")
    if proto.functions:
        _check_functions(proto)
        proto = inliner.inline_local_functions(proto)
    missing = _missing(proto)
    for _ in range(MOST_NESTED):
        functions = [name for name in missing if "." not in name and _is_function(proto, name)]
        if not functions:
            break
        try:
            proto = inliner.inline_selected_functions(
                _with_defaults(proto, functions), [("", name) for name in functions], False, True
            )
        except (RuntimeError, TypeError):  # one that onnx, or an older onnx, cannot write out
            break
        if missing == (missing := _missing(proto)):
            break
    if missing:
        listed = ", ".join(f"{name} ({', '.join(nodes)})" for name, nodes in missing.items())
        raise NotImplementedError(f"model: operators that fastrnn does not have: {listed}")
    return proto


def _check_functions(proto: Any) -> None:
    """Raise ValueError if the model's functions, written out, would be too many nodes.

    A few functions that each call the next twice would be 2 to the power of their number.
    """
    own = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[Any, int] = {}

    def size(nodes: Any) -> int:
        return sum(size_of(node) for node in nodes)

    def size_of(node: Any) -> int:
        key = (node.domain, node.op_type, node.overload)
        if key not in own:
            return 1 + sum(size(graph.node) for graph in graphs_of(node))
        if key not in sizes:
            sizes[key] = size(own[key].node)  # onnx.checker saw that none calls itself
        return sizes[key]

    count = size(proto.graph.node)
    if count > MOST_NODES:
        raise ValueError(
            f"model: expected at most {MOST_NODES:,} nodes, got functions of {count:,}"
        )


def _schema(proto: Any, name: str) -> Any:
    """Return onnx's description of a standard operator, None if there is none."""
    onnx = require_onnx()
    with contextlib.suppress(onnx.defs.SchemaError):
        return onnx.defs.get_schema(name, opset_version(proto), "")
    return None


def _is_function(proto: Any, name: str) -> bool:
    schema = _schema(proto, name)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _with_defaults(proto: Any, names: list[str]) -> Any:
    """Return a copy in which these operators' nodes have all their attributes.

    For onnx.inliner, one that is left out is left out in the function, too, without its default.
    """
    copy = require_onnx().ModelProto()
    copy.CopyFrom(proto)
    for node in _nodes(copy.graph):
        if node.op_type in names and node.domain in DOMAINS:
            given = {attribute.name for attribute in node.attribute}
            for name, each in _schema(proto, node.op_type).attributes.items():
                if name not in given and each.default_value.type:
                    node.attribute.append(each.default_value)
    return copy


def _missing(proto: Any) -> dict[str, list[str]]:
    """Return the nodes of each operator that there is no kernel for."""
    missing: dict[str, list[str]] = {}
    for node in _nodes(proto.graph):
        standard = node.domain in DOMAINS
        if not standard or node.op_type not in OPERATORS:
            name = node.op_type if standard else f"{node.domain}.{node.op_type}"
            missing.setdefault(name, []).append(repr(node.name or node.output[0]))
    return missing


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from _nodes(inner)
