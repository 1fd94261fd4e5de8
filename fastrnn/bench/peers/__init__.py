"""The programs that are compared: fastrnn itself and every other library, one class each.

A library is imported only when its class is asked to prepare a case.
"""

from __future__ import annotations

from .base import Peer, Program, UnsupportedError
from .jax_scan import Jax
from .keras_tensorflow import Keras
from .numpy_loop import NumPy
from .onednn_driver import OneDnn
from .onnx_runtimes import OnnxRuntime, OpenVino
from .ourselves import Fastrnn
from .pytorch import Torch, TorchCompile, TorchInt8

__all__ = ["OURS", "PEERS", "Peer", "Program", "UnsupportedError"]

OURS = Fastrnn.name
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Fastrnn(),
        NumPy(),
        Torch(),
        TorchCompile(),
        TorchInt8(),
        OnnxRuntime(),
        OpenVino(),
        Keras(),
        Jax(),
        OneDnn(),
    )
}
