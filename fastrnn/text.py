"""Character models: vocabulary, model, training by a recipe, sampling, saving and loading."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _ragged, optim, serialization
from .base import Layer, check_number, check_size
from .data import Streams, split
from .decoding import Sampler
from .layers import Linear, Sequential
from .recurrent import GRU, LSTM, RNN
from .training import evaluate, train_windows

__all__ = [
    "CELLS",
    "Recipe",
    "TextModel",
    "Training",
    "Vocabulary",
    "build_model",
    "load_model",
    "sample",
    "save_model",
]

CELLS: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


class Vocabulary:
    """The characters a model knows, and their token ids: character i has the id i.

    Parameters
    ----------
    characters : str
        At least one, each once.

    Raises
    ------
    ValueError
        If there is none, or one comes twice.
    """

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str):
            raise TypeError(f"characters: expected a str, got {type(characters).__name__}")
        if not characters or len(set(characters)) != len(characters):
            raise ValueError(f"characters: expected different characters, got {characters!r}")
        self.characters = characters
        points = [ord(character) for character in characters]
        self._table = np.full(max(points) + 1, -1, np.int64)
        self._table[points] = np.arange(len(points))

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """Return the vocabulary of a text: its distinct characters in the order of code points."""
        return cls(_ragged.characters(text))

    def encode(self, text: str, unknown: str | None = None) -> NDArray[np.int64]:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        unknown : str, optional
            The character of the vocabulary that stands in for those outside it.

        Returns
        -------
        ndarray of int64, (len(text),)

        Raises
        ------
        ValueError
            For a character outside the vocabulary, if `unknown` is not given; the message names
            the first. For an `unknown` that is not itself one character of the vocabulary.
        """
        if unknown is not None and (len(unknown) != 1 or unknown not in self):
            raise ValueError(f"unknown: expected a character of the vocabulary, got {unknown!r}")
        replacement = -1 if unknown is None else self.characters.index(unknown)
        ids, position = _ragged.encode(text, self._table, replacement)
        if unknown is None and position >= 0:
            raise ValueError(
                f"character {text[position]!r} (U+{ord(text[position]):04X}) at position "
                f"{position:,} is not among the {len(self)} characters of the vocabulary"
            )
        return ids

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of token ids (N,); ValueError for an id outside the vocabulary."""
        return _ragged.decode(np.ascontiguousarray(ids, np.int64), self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: str) -> bool:
        return character in self.characters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"


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


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults are char-rnn's.

    RMSprop with alpha 0.95, gradients clipped by value to `clip` (0: not at all), the learning rate
    multiplied by 0.97 after each epoch from the 10th on. The first 95 % of the characters train,
    the rest validates; each part is read as `batch` parallel streams in windows of `seq_len`.
    """

    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.0
    seq_len: int = 50
    batch: int = 50
    epochs: int = 10
    lr: float = 2e-3
    clip: float = 5.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {self.cell!r}")
        for name in ("hidden", "layers", "seq_len", "batch", "epochs"):
            check_size(name, getattr(self, name))
        check_size("seed", self.seed, 0)
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_number("clip", self.clip, 0.0)
        if not 0.0 < check_number("lr", self.lr, 0.0) < math.inf:
            raise ValueError(f"lr: expected a number above 0, got {self.lr}")


class Training:
    """The training of a character model on a text, epoch by epoch.

    Parameters
    ----------
    text : str
    recipe : Recipe

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the whole text.
    train, validation : Streams
    model : Sequential
    optimizer : RMSprop
    epochs : int
        Number of epochs that were completed.

    Raises
    ------
    ValueError
        If the text is too short for one window of each stream, or to validate on.
    """

    def __init__(self, text: str, recipe: Recipe) -> None:
        needed, batch = recipe.batch * recipe.seq_len, recipe.batch
        train, validation = split(text)
        if len(train) <= needed or len(validation) <= batch:
            raise ValueError(
                f"text: expected more than {needed:,} characters to train on ({batch} streams, "
                f"windows of {recipe.seq_len}) and more than {batch} to validate on, "
                f"got {len(train):,} and {len(validation):,}"
            )
        self.recipe = recipe
        self.vocabulary = Vocabulary.from_text(text)
        self.train = Streams(self.vocabulary.encode(train), batch)
        self.validation = Streams(self.vocabulary.encode(validation), batch)
        self.model = build_model(
            recipe.cell, self.vocabulary, recipe.hidden, recipe.layers, recipe.dropout, recipe.seed
        )
        self.optimizer = optim.RMSprop(self.model.parameters(), lr=recipe.lr, alpha=0.95)
        self.epochs = 0

    @property
    def windows(self) -> int:
        """Number of windows of an epoch."""
        return len(self.train) // self.recipe.seq_len

    @property
    def window_size(self) -> int:
        """Number of characters of a window: all streams together."""
        return self.recipe.batch * self.recipe.seq_len

    def epoch(self) -> Iterator[float]:
        """Train one epoch and yield the loss of each window, as `train_windows`."""
        yield from train_windows(
            self.model,
            self.train,
            self.optimizer,
            seq_len=self.recipe.seq_len,
            clip_value=self.recipe.clip or None,
        )
        self.epochs += 1
        if self.epochs >= 10:
            self.optimizer.lr *= 0.97

    def validate(self) -> float:
        """Return the loss over the whole validation part, in nats per character."""
        return evaluate(self.model, self.validation, seq_len=self.recipe.seq_len)

    def save(self, path: str | PathLike[str], **metadata: Any) -> None:
        """Save the model with its recipe and more `metadata`, as `save_model`."""
        save_model(path, self.model, self.vocabulary, recipe=asdict(self.recipe), **metadata)


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
    """Save a character model as a safetensors file; `metadata` is whatever JSON takes."""
    serialization.save(model, path, {**metadata, "characters": vocabulary.characters})


def load_model(path: str | PathLike[str]) -> TextModel:
    """Load what `save_model` saved.

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
