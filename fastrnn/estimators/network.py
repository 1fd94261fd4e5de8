"""The networks of the estimators: a recurrent stack between what goes in and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import Layer
from ..init import forget_bias_
from ..layers import Dropout, Embedding, Linear, Sequential
from ..pooling import LastStep, MaxPooling, MeanPooling
from ..recurrent import GRU, LSTM, RNN

__all__ = ["CELLS", "POOLINGS", "build_network", "check_choice", "check_network"]

CELLS: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
POOLINGS = {"last": LastStep, "mean": MeanPooling, "max": MaxPooling}


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Return the argument `name`; ValueError if it is not among the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def build_network(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    output_size: int,
    *,
    num_embeddings: int | None = None,
    bidirectional: bool = False,
    dropout: float = 0.0,
    pooling: str | None = None,
    seed: int | None = None,
) -> Sequential:
    """Return embedding (for token ids), recurrent stack, pooling, dropout and a linear layer.

    An LSTM's forget gate starts open, with a bias of 1: Jozefowicz et al. (2015), "An empirical
    exploration of recurrent network architectures".

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    input_size : int
        Features of a step, or of a token's vector.
    hidden_size, num_layers, output_size : int
    num_embeddings : int, optional
        Where given, the inputs are token ids below it.
    bidirectional : bool
    dropout : float
        Probability, between the recurrent layers and before the linear one.
    pooling : {"last", "mean", "max"}, optional
        How a sequence becomes one vector; None for one output for each step.
    seed : int, optional
        Of the weights and of the dropout.
    """
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    if num_embeddings is not None:
        layers.append(Embedding(num_embeddings, input_size, seed=rng))
    recurrent = CELLS[cell](
        input_size,
        hidden_size,
        num_layers,
        dropout=dropout,
        bidirectional=bidirectional,
        seed=rng,
    )
    layers.append(forget_bias_(recurrent, 1.0) if isinstance(recurrent, LSTM) else recurrent)
    if pooling is not None:
        layers.append(POOLINGS[pooling]())
    if dropout:
        layers.append(Dropout(dropout, seed=rng))
    features = hidden_size * (2 if bidirectional else 1)
    return Sequential(*layers, Linear(features, output_size, seed=rng))


def check_network(
    model: Layer,
    input_size: int,
    output_size: int,
    pools_time: bool = False,
    num_embeddings: int | None = None,
) -> Sequential:
    """Return a model that was read from a file; ValueError if an estimator cannot have made it.

    Of the sizes, only those of the inputs and the outputs are looked at: all that others change is
    which numbers come out, or that the layers do not fit one another, which they say themselves.
    """
    layers = list(model) if isinstance(model, Sequential) else []
    if not isinstance(model, Sequential) or len(layers) < 2 or not model.recurrent:
        raise ValueError(f"expected a recurrent network, got {model}")
    first, last = layers[0], layers[-1]
    expected = (input_size if num_embeddings is None else num_embeddings), output_size
    taken = first.num_embeddings if isinstance(first, Embedding) else _input_size(first)
    given = last.out_features if isinstance(last, Linear) else None
    embedded = isinstance(first, Embedding) == (num_embeddings is not None)
    if (taken, given) != expected or not embedded or model.pools_time != pools_time:
        raise ValueError(f"expected a network of {expected[0]} inputs, {expected[1]} outputs")
    return model


def _input_size(layer: Layer) -> int | None:
    return layer.input_size if isinstance(layer, (RNN, LSTM, GRU)) else None
