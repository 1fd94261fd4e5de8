"""On many machines with Ray: `predict` scores data sets, `build_app` serves models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import ray as _ray  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastrnn.interop.ray needs the package ray: pip install 'fastrnn[ray]'"
    ) from error

if TYPE_CHECKING:
    from ..batch import Predictor
    from .data import predict
    from .serving import build_app

# By module, each imported at the first use of a name: who scores data serves nothing.
_MODULES = {"Predictor": "..batch", "build_app": ".serving", "predict": ".data"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)


__all__ = ["Predictor", "build_app", "predict"]
