"""Texts, character by character: `CharLanguageModel`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import text
from ..base import check_size
from ..data import StreamLoader, Streams, split
from ._sklearn import check_is_fitted
from .base import NetworkEstimator
from .network import check_network

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CharLanguageModel"]

LEAST_WINDOWS = 20  # steps of the optimiser in an epoch, where a short text could have fewer
SCORE_WINDOW = 1000  # characters at once, where nothing is kept for a pullback


class CharLanguageModel(NetworkEstimator):
    """A recurrent network that says which character comes next, and so writes texts.

    The model of `fastrnn.text`: a recurrent stack over one-hot characters and a linear layer,
    trained by cross entropy with truncated backpropagation through time.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}, default "lstm"
    hidden_size : int, default 128
    num_layers : int, default 2
    dropout : float, default 0.0
        Probability, between the recurrent layers.
    vocabulary : str, optional
        The characters there may be, each once; by default those of the first text.
    seq_len : int, default 50
        Characters that gradients go back through.
    batch_size : int, default 50
        Streams that a text is cut into, read side by side; fewer for a text so short that an epoch
        would have less than 20 windows.
    lr : float, default 2e-3
    max_epochs : int, default 10
    clip_norm : float, optional, default 5.0
    optimizer, weight_decay, patience, random_state, verbose
        As of `SequenceClassifier`.
    early_stopping, validation_fraction
        As of `SequenceClassifier`; the end of the text validates.

    Attributes
    ----------
    vocabulary_ : fastrnn.text.Vocabulary
    model_, history_, n_iter_
        As of `SequenceClassifier`; losses are in nats per character.

    Examples
    --------
    >>> from fastrnn.estimators import CharLanguageModel
    >>> writer = CharLanguageModel(hidden_size=32, num_layers=1, lr=1e-2, random_state=0)
    >>> writer.fit("to be or not to be, " * 100).sample(12, prime="to be or ", temperature=0)
    'not to be, t'
    >>> writer.perplexity("to be or not to be") < 2
    True
    """

    vocabulary: str | None
    seq_len: int
    vocabulary_: text.Vocabulary
    _loss = "cross_entropy"

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 2,
        *,
        dropout: float = 0.0,
        vocabulary: str | None = None,
        seq_len: int = 50,
        lr: float = 2e-3,
        batch_size: int = 50,
        max_epochs: int = 10,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        clip_norm: float | None = 5.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: None = None) -> Self:
        """Train anew.

        Parameters
        ----------
        X : str or sequence of str
            A text, or texts to be joined by line ends.
        y : None
            Not used; for scikit-learn's tools.

        Returns
        -------
        CharLanguageModel
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a parameter that does not fit, a text too short, or characters outside `vocabulary`.
        """
        return self._learn(_joined(X), first=True, epochs=None)

    def partial_fit(self, X: Any, y: None = None) -> Self:
        """Train one epoch more, on another text if you like, of characters that are known."""
        return self._learn(_joined(X), first=not hasattr(self, "model_"), epochs=1)

    def sample(
        self,
        length: int = 200,
        *,
        prime: str = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Return a text of `length` characters, each drawn given all before.

        Parameters
        ----------
        length : int, default 200
        prime : str, default ""
            The text to go on from.
        temperature, top_k, top_p, seed
            As of `fastrnn.text.sample`.
        """
        check_is_fitted(self)
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        drawn = text.sample(
            self.model_, self.vocabulary_, length, prime=prime, seed=seed, **options
        )
        return "".join(drawn)

    def score(self, X: Any, y: None = None) -> float:
        """Return the mean log-likelihood of a text, in nats per character: below 0, best near it.

        Parameters
        ----------
        X : str or sequence of str
            At least two characters: the first is given.
        y : None
            Not used.
        """
        check_is_fitted(self)
        streams = Streams(self.vocabulary_.encode(_joined(X)), 1)
        return -self._trainer.evaluate(StreamLoader(streams, SCORE_WINDOW, partial=True))["loss"]

    def perplexity(self, X: Any) -> float:
        """Return exp of the mean negative log-likelihood: among how many characters it wavers."""
        return math.exp(-self.score(X))

    def _check_settings(self) -> None:
        super()._check_settings()
        check_size("seq_len", self.seq_len)

    def _learn(self, content: str, first: bool, epochs: int | None) -> Self:
        self._start(first)
        if first:
            given = self.vocabulary
            self.vocabulary_ = (
                text.Vocabulary.from_text(content) if given is None else text.Vocabulary(given)
            )
        ids = self.vocabulary_.encode(content)
        validation = None
        if self.early_stopping and epochs is None:
            ids, kept = split(ids, 1.0 - self.validation_fraction)
            validation = self._loader("validation_fraction", kept)
        data = self._loader("X", ids)
        if first:
            seed = self._seed()
            sizes = self.hidden_size, self.num_layers, self.dropout
            self._set_model(text.build_model(self.cell, self.vocabulary_, *sizes, seed))
        self._train(data, validation, self.max_epochs if epochs is None else epochs)
        return self

    def _loader(self, name: str, ids: NDArray[np.int64]) -> StreamLoader:
        """Return the windows of a text, in as many streams as it is long enough for."""
        if len(ids) < 2:
            raise ValueError(f"{name}: expected at least 2 characters, got {len(ids)}")
        count = max(1, min(self.batch_size, len(ids) // (LEAST_WINDOWS * self.seq_len)))
        return StreamLoader(Streams(ids, count), self.seq_len, partial=True)

    def _describe(self) -> dict[str, Any]:
        return {"characters": self.vocabulary_.characters}

    def _restore(self, model: Any, metadata: Mapping[str, Any]) -> None:
        self.vocabulary_ = text.Vocabulary(metadata["characters"])
        size = len(self.vocabulary_)
        self._set_model(check_network(model, size, size))


def _joined(X: Any) -> str:
    """Return a text, or texts joined by line ends; TypeError for what is none."""
    if isinstance(X, str):
        return X
    try:
        return "\n".join(X)
    except TypeError:
        raise TypeError(f"X: expected a text or texts, got {type(X).__name__}") from None
