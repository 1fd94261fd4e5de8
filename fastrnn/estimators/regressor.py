"""Numbers for each sequence: `SequenceRegressor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import RealArray, check_flag, check_size
from ._sklearn import RegressorMixin, check_array, column_or_1d
from .sequence_base import SequenceEstimator, Targets
from .sequences import Sequences, Standardizer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SequenceRegressor"]


class SequenceRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence a number, or several.

    As `SequenceClassifier`, trained by the squared error. Targets are standardised inside, and
    predictions are in the targets' own units.

    Parameters
    ----------
    cell, hidden_size, num_layers, bidirectional, pooling, dropout, n_steps, embedding_dim, \
num_embeddings, standardize, lr, batch_size, max_epochs, optimizer, weight_decay, clip_norm, \
early_stopping, validation_fraction, patience, random_state, verbose
        As of `SequenceClassifier`.

    Attributes
    ----------
    model_ : Sequential
        The network.
    history_ : list of dict
        What `fastrnn.Trainer.fit` says of each epoch; losses are of standardised targets.
    n_iter_ : int
        Number of epochs.
    n_outputs_ : int
        Number of targets of a sequence.
    n_features_in_, feature_names_in_
        As of `SequenceClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.estimators import SequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 12), 1)) for _ in range(150)]
    >>> y = [100 + 10 * x.mean() for x in X]
    >>> regressor = SequenceRegressor(hidden_size=16, pooling="mean", random_state=0)
    >>> regressor.fit(X[:120], y[:120]).score(X[120:], y[120:]) > 0.9
    True
    """

    _loss = "mse"
    n_outputs_: int

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
            See `SequenceClassifier`.
        y : array_like of real numbers, shape (N,) or (N, n_outputs)

        Returns
        -------
        SequenceRegressor
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a parameter, X or y that does not fit; the message names it.
        """
        self._learn(X, y, first=True)
        return self

    def partial_fit(self, X: Any, y: ArrayLike) -> Self:
        """Train one epoch more, on other examples if you like; scales stay those of the first."""
        self._learn(X, y, first=not hasattr(self, "model_"), epochs=1)
        return self

    def predict(self, X: Any) -> RealArray:
        """Return the targets of each sequence, shape (N,) or (N, n_outputs) as those of `fit`."""
        outputs = np.stack(self._outputs(X))
        targets = self._target_scaler.undo(outputs)
        return targets[:, 0] if self._flat else targets

    def _targets(
        self, y: Any, sequences: Sequences, first: bool, classes: NDArray[Any] | None
    ) -> Targets:
        array = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if array.ndim == 2 and array.shape[1] == 1:
            array = column_or_1d(array, warn=True)
        flat, rows = array.ndim == 1, array.reshape(len(array), -1)
        if first:
            self._flat, self.n_outputs_ = flat, rows.shape[1]
            self._target_scaler = Standardizer.of(rows)
        if (flat, rows.shape[1]) != (self._flat, self.n_outputs_):
            raise ValueError(f"y: expected {self.n_outputs_} targets as before, got {array.shape}")
        return Targets(self._target_scaler(rows), self.n_outputs_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _describe(self) -> dict[str, Any]:
        targets = {"flat": self._flat, "targets": self._target_scaler.as_json()}
        return {**super()._describe(), "outputs": self.n_outputs_, **targets}

    def _restore_targets(self, metadata: Mapping[str, Any]) -> int:
        self.n_outputs_ = check_size("outputs", metadata["outputs"])
        self._flat = check_flag("flat", metadata["flat"])
        self._target_scaler = Standardizer.from_json(metadata["targets"], self.n_outputs_)
        return self.n_outputs_
