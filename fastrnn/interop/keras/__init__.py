"""Keras 3 and fastrnn: weights in and out, and Keras's layers with fastrnn's kernels.

`from_keras` and `to_keras` convert SimpleRNN, LSTM, GRU and Bidirectional; `accelerate` lets the
layers of an existing model use fastrnn, `restore` takes it back.
"""

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ImportError(
        "fastrnn.interop.keras needs the package keras: pip install 'fastrnn[keras]'"
    ) from None

from .accelerate import Report, accelerate, disable, enable, explain, restore
from .weights import from_keras, to_keras

__all__ = [
    "Report",
    "accelerate",
    "disable",
    "enable",
    "explain",
    "from_keras",
    "restore",
    "to_keras",
]
