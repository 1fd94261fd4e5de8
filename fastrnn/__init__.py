"""fastrnn: recurrent networks on the CPU, fast, for training and inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import losses, optim
from ._core import __version__, get_num_threads
from ._core import config as config
from .activations import ReLU, Sigmoid, Softmax, Tanh
from .base import Layer, Parameter
from .layers import Dropout, Embedding, Linear, Sequential, VariationalDropout
from .normalization import BatchNorm, LayerNorm
from .pooling import LastStep, MaxPooling, MeanPooling
from .recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from .serialization import load, save
from .threads import set_num_threads, show_config
from .wrappers import Highway, Residual

if TYPE_CHECKING:
    from . import data, decoding, init, interop, metrics
    from .attention import (
        AdditiveAttention,
        DotAttention,
        GeneralAttention,
        MultiHeadAttention,
        SelfAttentivePooling,
    )
    from .cells import Cell
    from .gradcheck import check_gradients
    from .loop import RecurrentLoop
    from .quantization import quantize
    from .seq2seq import Bridge, EncoderDecoder, InputFeedingDecoder, LuongDecoder, PlainDecoder
    from .streams import StreamPool
    from .training import Trainer

# What not every program uses is imported at its first use: a short `import fastrnn`.
_LATER = {
    "data": ["data"],
    "decoding": ["decoding"],
    "init": ["init"],
    "attention": [
        *("AdditiveAttention", "DotAttention", "GeneralAttention"),
        *("MultiHeadAttention", "SelfAttentivePooling"),
    ],
    "cells": ["Cell"],
    "estimators": ["estimators"],
    "gradcheck": ["check_gradients"],
    "interop": ["interop"],
    "loop": ["RecurrentLoop"],
    "metrics": ["metrics"],
    "quantization": ["quantize"],
    "seq2seq": [
        *("Bridge", "EncoderDecoder", "InputFeedingDecoder", "LuongDecoder", "PlainDecoder"),
    ],
    "streams": ["StreamPool"],
    "training": ["Trainer"],
}


def __getattr__(name: str) -> Any:
    for module_name, names in _LATER.items():
        if name in names:
            module = importlib.import_module(f".{module_name}", __name__)
            value = module if name == module_name else getattr(module, name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
    "Softmax",
    "StreamPool",
    "Tanh",
    "Trainer",
    "VariationalDropout",
    "__version__",
    "check_gradients",
    "config",
    "data",
    "decoding",
    "get_num_threads",
    "init",
    "interop",
    "load",
    "losses",
    "metrics",
    "optim",
    "quantize",
    "save",
    "set_num_threads",
    "show_config",
]
