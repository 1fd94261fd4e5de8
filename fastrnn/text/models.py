"""Character models: built, sampled from, saved and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import serialization
from ..base import Layer, check_size
from ..decoding import Sampler
from ..layers import Linear, Sequential
from ..recurrent import GRU, LSTM, RNN
from .recipe import CELLS, Recipe
from .vocabulary import Vocabulary

__all__ = ["TextModel", "build_model", "load_model", "sample", "save_model"]


def build_model(
    cell: str,
    vocabulary: Vocabulary,
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.0,
    seed: int | None = None,
    dtype: DTypeLike = "float32",
) -> Sequential:
    """Return a character model: a recurrent stack over one-hot characters, then a linear layer.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    vocabulary : Vocabulary
    hidden, layers : int
        Units of a layer, and number of recurrent layers.
    dropout : float, default 0.0
        Probability of dropout between the recurrent layers, in training.
    seed : int, optional
        Of the initial weights and of the dropout.
    dtype : {"float32", "float64"}

    Returns
    -------
    Sequential
        From token ids (T, B), or (T,) unbatched, to logits (T, B, V) and the state.

    Raises
    ------
    ValueError
        For an unknown cell, or an argument that the layers do not take.
    """
    if cell not in CELLS:
        raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
    V = len(vocabulary)
    rng = np.random.default_rng(seed)
    recurrent = CELLS[cell](V, hidden, layers, dropout=dropout, dtype=dtype, seed=rng)
    return Sequential(recurrent, Linear(hidden, V, dtype=dtype, seed=rng))


# --- sampling -------------------------------------------------------------------------------------


def sample(
    model: Sequential,
    vocabulary: Vocabulary,
    length: int,
    *,
    prime: str = "",
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    """Write text with a model: yields `length` characters one by one, each drawn given all before.

    Parameters
    ----------
    model : Sequential
        As `build_model` makes it, over `vocabulary`.
    vocabulary : Vocabulary
    length : int
        Number of characters, from 0.
    prime : str, default ""
        The text to go on from; it is not repeated. Without one the model starts after a line end,
        or after the first character of the vocabulary if it has no line end.
    temperature : float, default 1.0
        The logits are divided by it: below 1 safer, above 1 wilder, 0 always the most probable.
    top_k : int, optional
        Only the k most probable characters are drawn.
    top_p : float, optional
        Only the most probable characters that together have this probability are drawn, as
        `fastrnn.decoding.Sampler` says.
    seed : int, optional
        Of the draws; the same seed gives the same text.

    Yields
    ------
    str
        One character.

    Raises
    ------
    ValueError
        For a negative length, temperature or seed, a `top_k` below 1, a `top_p` that is not above
        0 and at most 1, or a character of `prime` that is outside the vocabulary.
    """
    check_size("length", length, 0)
    sampler = Sampler(temperature, top_k, top_p, seed)
    start = "\n" if "\n" in vocabulary else vocabulary.characters[0]
    ids = vocabulary.encode(prime or start)
    return _continue(model, vocabulary, ids, length, sampler)


def _continue(
    model: Sequential,
    vocabulary: Vocabulary,
    ids: NDArray[np.int64],
    length: int,
    sampler: Sampler,
) -> Iterator[str]:
    logits, state = model(ids[:, np.newaxis])
    logits = logits[-1]
    for _ in range(length):
        tokens = sampler(logits)
        yield vocabulary.characters[tokens[0]]
        logits, state = model.step(tokens, state)


# --- save and load --------------------------------------------------------------------------------


class TextModel(NamedTuple):
    """A character model as `load_model` finds it in a file."""

    model: Sequential
    vocabulary: Vocabulary
    recipe: Recipe
    metadata: dict[str, Any]


def save_model(
    path: str | PathLike[str], model: Layer, vocabulary: Vocabulary, **metadata: Any
) -> None:
    """Save a character model as a safetensors file.

    Parameters
    ----------
    path : str or os.PathLike
    model : Layer
    vocabulary : Vocabulary
    **metadata
        Whatever JSON takes.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    serialization.save(model, path, {**metadata, "characters": vocabulary.characters})


def load_model(path: str | PathLike[str]) -> TextModel:
    """Load what `save_model` saved.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    TextModel

    Raises
    ------
    ValueError
        If the file is not a model file, or its model is not a character model: the message names
        the file and what is wrong with it.
    OSError
        If it cannot be read.
    """
    model = serialization.load(path)
    metadata = serialization.load_metadata(path)
    try:
        vocabulary = Vocabulary(metadata["characters"])
        recipe = Recipe(**metadata.get("recipe", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a character model ({error!r})") from None
    if not isinstance(model, Sequential) or not _fits(model, len(vocabulary)):
        raise ValueError(f"{path}: not a character model of {len(vocabulary)} characters: {model}")
    return TextModel(model, vocabulary, recipe, metadata)


def _fits(model: Sequential, V: int) -> bool:
    if len(model) != 2:
        return False
    first, last = model
    return (
        isinstance(first, (RNN, LSTM, GRU))
        and isinstance(last, Linear)
        and first.input_size == last.out_features == V
    )
