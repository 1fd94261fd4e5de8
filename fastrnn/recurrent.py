"""Recurrent layers with PyTorch's names, shapes and weights: RNN, LSTM, GRU and their variants."""

from __future__ import annotations

from .gru import AUGRU, GRU
from .lstm import LSTM
from .recurrent_base import Recurrent
from .rnn import RNN, IndRNN

__all__ = ["AUGRU", "GRU", "LSTM", "RNN", "IndRNN", "Recurrent"]
