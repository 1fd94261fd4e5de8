"""PyTorch's recurrent modules on fastrnn's kernels: `pip install 'fastrnn[torch]'`."""

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise ImportError(
        "fastrnn.interop.torch needs the package torch: pip install 'fastrnn[torch]'"
    ) from None

from .cells import GRUCell, LSTMCell, RNNCell
from .explaining import explain
from .functional import layer
from .modules import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "explain", "layer"]
