"""fastrnn: recurrent networks on the CPU, fast, for training and inference."""

from __future__ import annotations

from . import decoding, losses, optim
from ._core import __version__, get_num_threads
from ._core import config as config
from .base import Layer, Parameter
from .cells import Cell
from .gradcheck import check_gradients
from .layers import Dropout, Embedding, Linear, Sequential
from .loop import RecurrentLoop
from .normalization import LayerNorm
from .recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from .serialization import load, save
from .threads import set_num_threads, show_config

__all__ = [
    "AUGRU",
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "Dropout",
    "Embedding",
    "IndRNN",
    "Layer",
    "LayerNorm",
    "Linear",
    "Parameter",
    "RecurrentLoop",
    "Sequential",
    "__version__",
    "check_gradients",
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
