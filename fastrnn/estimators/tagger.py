"""One label for each step: `SequenceTagger`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import labels
from .label_base import LabelEstimator
from .sequence_base import Targets
from .sequences import Sequences

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SequenceTagger"]


class SequenceTagger(LabelEstimator):
    """A recurrent network that gives each step of a sequence one of several labels.

    An embedding (for token ids), a recurrent stack and a linear layer for each step, trained by the
    mean cross entropy over the real steps; padding counts nowhere.

    Parameters
    ----------
    bidirectional : bool, default True
        Whether each layer also reads the sequence backwards, so that a label follows from the steps
        on both sides.
    cell, hidden_size, num_layers, dropout, n_steps, embedding_dim, num_embeddings, standardize, \
lr, batch_size, max_epochs, optimizer, weight_decay, clip_norm, early_stopping, \
validation_fraction, patience, random_state, verbose
        As of `SequenceClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (C,)
        The labels, sorted.
    model_, history_, n_iter_, n_features_in_, feature_names_in_
        As of `SequenceClassifier`.

    Examples
    --------
    Is a step higher than the one before it and the one after?

    >>> import numpy as np
    >>> from fastrnn.estimators import SequenceTagger
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=rng.integers(5, 12)) for _ in range(250)]
    >>> peaks = lambda x: [a < b > c for a, b, c in zip([9, *x], x, [*x[1:], 9])]
    >>> y = [["peak" if peak else "-" for peak in peaks(x)] for x in X]
    >>> tagger = SequenceTagger(hidden_size=16, lr=1e-2, random_state=0)
    >>> tagger.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.9
    True
    """

    _pooled = False

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool = True,
        dropout: float = 0.0,
        n_steps: int | None = None,
        embedding_dim: int | None = None,
        num_embeddings: int | None = None,
        standardize: bool = True,
        lr: float = 3e-3,
        batch_size: int = 32,
        max_epochs: int = 50,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: Sequence[ArrayLike]) -> Self:
        """Train anew.

        Parameters
        ----------
        X : list of arrays, or array
            See `SequenceClassifier`.
        y : sequence of array_like, each (length,)
            A label for each step: numbers or texts.

        Returns
        -------
        SequenceTagger
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a parameter, X or y that does not fit; the message names it.
        """
        self._learn(X, y, first=True)
        return self

    def predict_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the probability of each class at each step, a list of arrays (length, C)."""
        return [labels.softmax(logits) for logits in self._outputs(X)]

    def predict(self, X: Any) -> list[NDArray[Any]]:
        """Return the most probable label of each step, a list of arrays (length,)."""
        return [self.classes_[logits.argmax(axis=-1)] for logits in self._outputs(X)]

    def score(self, X: Any, y: Sequence[ArrayLike]) -> float:
        """Return the share of the steps, of all sequences together, whose label is right."""
        found = self.predict(X)
        given = _label_arrays(y, [len(array) for array in found])
        return float((np.concatenate(found) == np.concatenate(given)).mean())

    def _targets(
        self, y: Any, sequences: Sequences, first: bool, classes: NDArray[Any] | None
    ) -> Targets:
        arrays = _label_arrays(y, [len(sequence) for sequence in sequences])
        steps = np.concatenate(arrays)
        codes = self._codes(steps, first, classes)
        ends = np.cumsum([len(array) for array in arrays])
        parts = np.split(codes, ends[:-1])
        stacked = isinstance(sequences, np.ndarray)
        return Targets(np.stack(parts) if stacked else parts, len(self.classes_))


def _label_arrays(y: Sequence[ArrayLike], lengths: list[int]) -> list[NDArray[Any]]:
    """Return the labels of each sequence as an array; ValueError for another number of steps."""
    arrays = [np.asarray(item) for item in y]
    if len(arrays) != len(lengths):
        raise ValueError(f"y: expected labels of {len(lengths)} sequences, got {len(arrays)}")
    for index, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if array.shape != (length,):
            raise ValueError(f"y[{index}]: expected the shape ({length},), got {array.shape}")
    return arrays
