"""Models of `onnx`, `torch`, `keras` and `jax`; many machines by `ray` and `dask`."""

import importlib
from typing import Any

__all__ = ["batch", "dask", "jax", "keras", "onnx", "ray", "torch"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
