"""fastrnn: recurrent networks on the CPU, fast, for training and inference."""

from __future__ import annotations

from . import decoding, losses, optim
from ._core import __version__, get_num_threads
from ._core import config as config
from .base import Layer, Parameter
from .layers import Dropout, Embedding, Linear, Sequential
from .recurrent import GRU, LSTM, RNN
from .serialization import load, save
from .threads import set_num_threads, show_config

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "Layer",
    "Linear",
    "Parameter",
    "Sequential",
    "__version__",
    "config",
    "decoding",
    "get_num_threads",
    "load",
    "losses",
    "optim",
    "save",
    "set_num_threads",
    "show_config",
]
