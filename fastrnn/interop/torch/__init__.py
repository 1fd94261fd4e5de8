"""PyTorch's recurrent modules on fastrnn's kernels: `pip install 'fastrnn[torch]'`."""

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise ImportError(
        "fastrnn.interop.torch needs the package torch: pip install 'fastrnn[torch]'"
    ) from None

from . import cells, functional, modules, packing, reasons, threads
from .cells import GRUCell, LSTMCell, RNNCell
from .compiling import leave_uncompiled
from .explaining import explain
from .functional import layer
from .modules import GRU, LSTM, RNN
from .swap import Report, accelerate, restore

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Report",
    "accelerate",
    "explain",
    "layer",
    "restore",
]

for _module in (cells, functional, modules, packing, reasons, threads):
    leave_uncompiled(_module, but=("forward", "cell_kind"))
