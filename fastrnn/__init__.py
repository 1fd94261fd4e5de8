"""fastrnn: recurrent networks on the CPU, fast, for training and inference."""

from __future__ import annotations

from . import losses, optim
from ._core import __version__, get_num_threads
from ._core import config as config
from .attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MultiHeadAttention,
    SelfAttentivePooling,
)
from .base import Layer, Parameter
from .cells import Cell
from .gradcheck import check_gradients
from .layers import Dropout, Embedding, Linear, Sequential
from .loop import RecurrentLoop
from .normalization import LayerNorm
from .recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from .seq2seq import Bridge, EncoderDecoder, InputFeedingDecoder, LuongDecoder, PlainDecoder
from .serialization import load, save
from .threads import set_num_threads, show_config

__all__ = [
    "AUGRU",
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Bridge",
    "Cell",
    "DotAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GeneralAttention",
    "IndRNN",
    "InputFeedingDecoder",
    "Layer",
    "LayerNorm",
    "Linear",
    "LuongDecoder",
    "MultiHeadAttention",
    "Parameter",
    "PlainDecoder",
    "RecurrentLoop",
    "SelfAttentivePooling",
    "Sequential",
    "__version__",
    "check_gradients",
    "config",
    "get_num_threads",
    "load",
    "losses",
    "optim",
    "save",
    "set_num_threads",
    "show_config",
]
