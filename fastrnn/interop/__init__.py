"""Models for, and of, other programs: `fastrnn.interop.onnx`."""

from . import onnx

__all__ = ["onnx"]
