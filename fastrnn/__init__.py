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
from .layers import Dropout, Embedding, Linear, Sequential
from .recurrent import GRU, LSTM, RNN
from .seq2seq import Bridge, EncoderDecoder, InputFeedingDecoder, LuongDecoder, PlainDecoder
from .serialization import load, save
from .threads import set_num_threads, show_config

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Bridge",
    "DotAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GeneralAttention",
    "InputFeedingDecoder",
    "Layer",
    "Linear",
    "LuongDecoder",
    "MultiHeadAttention",
    "Parameter",
    "PlainDecoder",
    "SelfAttentivePooling",
    "Sequential",
    "__version__",
    "config",
    "get_num_threads",
    "load",
    "losses",
    "optim",
    "save",
    "set_num_threads",
    "show_config",
]
