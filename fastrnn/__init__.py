"""fastrnn: recurrent networks on the CPU, fast, for training and inference."""

from __future__ import annotations

from . import decoding, init, losses, optim
from ._core import __version__, get_num_threads
from ._core import config as config
from .activations import ReLU, Sigmoid, Tanh
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
from .layers import Dropout, Embedding, Linear, Sequential, VariationalDropout
from .loop import RecurrentLoop
from .normalization import BatchNorm, LayerNorm
from .pooling import LastStep, MaxPooling, MeanPooling
from .recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from .seq2seq import Bridge, EncoderDecoder, InputFeedingDecoder, LuongDecoder, PlainDecoder
from .serialization import load, save
from .threads import set_num_threads, show_config
from .wrappers import Highway, Residual

__all__ = [
    "AUGRU",
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "BatchNorm",
    "Bridge",
    "Cell",
    "DotAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GeneralAttention",
    "Highway",
    "IndRNN",
    "InputFeedingDecoder",
    "LastStep",
    "Layer",
    "LayerNorm",
    "Linear",
    "LuongDecoder",
    "MaxPooling",
    "MeanPooling",
    "MultiHeadAttention",
    "Parameter",
    "PlainDecoder",
    "ReLU",
    "RecurrentLoop",
    "Residual",
    "SelfAttentivePooling",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "VariationalDropout",
    "__version__",
    "check_gradients",
    "config",
    "decoding",
    "get_num_threads",
    "init",
    "load",
    "losses",
    "optim",
    "save",
    "set_num_threads",
    "show_config",
]
