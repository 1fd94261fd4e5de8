"""One label for each sequence: `SequenceClassifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import labels
from ._sklearn import ClassifierMixin, assert_all_finite, check_classification_targets, column_or_1d
from .label_base import LabelEstimator
from .sequence_base import Targets
from .sequences import Sequences

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SequenceClassifier"]


class SequenceClassifier(ClassifierMixin, LabelEstimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence one of several labels.

    An embedding (for token ids), a recurrent stack, a pooling over time and a linear layer, trained
    by cross entropy.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}, default "lstm"
    hidden_size : int, default 64
        Units of a layer, in each direction.
    num_layers : int, default 1
    bidirectional : bool, default False
        Whether each layer also reads the sequence backwards.
    pooling : {"auto", "last", "mean", "max"}, default "auto"
        How a sequence becomes one vector: its last step, or the mean or the largest value over its
        steps. "auto" is "last" for one direction and "max" for two.
    dropout : float, default 0.0
        Probability, between the layers and before the last.
    n_steps : int, optional
        Into how many steps a row of a table is cut (see Notes); by default each column is a step.
    embedding_dim : int, optional
        Where given, sequences are made of token ids, each a vector of that size.
    num_embeddings : int, optional
        Number of token ids; by default the largest id of the first `fit` and one.
    standardize : bool, default True
        Whether each feature of a step is brought to mean 0 and standard deviation 1, as the
        training sequences have them over all their steps.
    lr : float, default 3e-3
        Learning rate.
    batch_size : int, default 32
        Sequences of one step of the optimiser.
    max_epochs : int, default 50
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, default "adam"
    weight_decay : float, default 0.0
        As the optimiser takes it.
    clip_norm : float, optional, default 1.0
        Limit of the norm of the gradient.
    early_stopping : bool, default False
        Whether a part of the examples is kept to validate on, training ends when the loss there has
        not become smaller for `patience` epochs, and the best weights are taken.
    validation_fraction : float, default 0.1
        The share of that part, of each class where that can be.
    patience : int, default 10
    random_state : int, RandomState or None
        Of the initial weights, the dropout, the order and the choice of the validation part. The
        same number gives the same bits.
    verbose : bool, default False
        Whether progress is shown.

    Attributes
    ----------
    classes_ : ndarray, shape (C,)
        The labels, sorted.
    model_ : Sequential
        The network.
    history_ : list of dict
        What `fastrnn.Trainer.fit` says of each epoch: "loss", "validation_loss", ...
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Columns of a table, else features of a step; not for token ids.
    feature_names_in_ : ndarray of str
        Names of the columns of a pandas table.

    Notes
    -----
    X may be:

    - a list of arrays (length, F), or (length,) for F = 1; of different lengths;
    - an array (N, T, F);
    - with `embedding_dim`, a list of integer arrays (length,), or an array (N, T);
    - a table (N, n_features), as scikit-learn's tools and pipelines give it: each row is a sequence
      of `n_steps` steps of n_features / n_steps features.

    There is no `sample_weight` and no `class_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.estimators import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 12), 1)).cumsum(axis=0) for _ in range(100)]
    >>> y = ["up" if x[-1, 0] > x[0, 0] else "down" for x in X]
    >>> classifier = SequenceClassifier(hidden_size=16, max_epochs=20, random_state=0)
    >>> classifier.fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.8
    True
    """

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        pooling: str = "auto",
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

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Train anew.

        Parameters
        ----------
        X : list of arrays, or array
            See the class.
        y : array_like, shape (N,)
            Labels: numbers or texts.

        Returns
        -------
        SequenceClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a parameter, X or y that does not fit; the message names it.
        """
        self._learn(X, y, first=True)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape (N, C), in the order of `classes_`."""
        return labels.softmax(np.stack(self._outputs(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each sequence, shape (N,)."""
        best = np.stack(self._outputs(X)).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[best]
        return chosen

    def _targets(
        self, y: Any, sequences: Sequences, first: bool, classes: NDArray[Any] | None
    ) -> Targets:
        array = column_or_1d(y, warn=True)
        assert_all_finite(array, input_name="y")
        check_classification_targets(array)
        codes = self._codes(array, first, classes)
        return Targets(codes, len(self.classes_), strata=codes)
