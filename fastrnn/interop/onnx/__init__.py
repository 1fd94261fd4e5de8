"""Models for, and of, ONNX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend import (
        BackendRep,
        is_compatible,
        prepare,
        run_model,
        run_node,
        supports_device,
    )
    from .export import export_model
    from .importer import Model, import_model
    from .layers import import_layers

# By module, each imported at the first use of a name: a program that exports does not import.
_MODULES = {
    "backend": [
        *("BackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"),
    ],
    "export": ["export_model"],
    "importer": ["Model", "import_model"],
    "layers": ["import_layers"],
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(f".{module}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BackendRep",
    "Model",
    "export_model",
    "import_layers",
    "import_model",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
