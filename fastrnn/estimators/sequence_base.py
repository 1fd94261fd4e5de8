"""What the estimators over sequences share: X, the network, and running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import RealArray, check_flag, check_size
from ..data import SequenceLoader
from ._sklearn import check_consistent_length, check_is_fitted, train_test_split, validate_data
from .base import NetworkEstimator
from .network import POOLINGS, build_network, check_choice, check_network
from .sequences import Sequences, Standardizer, each, kind_of, read_sequences, split_windows, take

__all__ = ["SequenceEstimator", "Targets"]

PREDICTION_BATCH = 256  # sequences at once, where nothing is kept for a pullback


class Targets(NamedTuple):
    """What a network is to learn.

    Attributes
    ----------
    values : ndarray (N, ...) or list of ndarray (length,)
    size : int
        Number of outputs of the network.
    strata : ndarray (N,), optional
        What a validation part should have in the same shares.
    """

    values: Any
    size: int
    strata: NDArray[Any] | None = None


class SequenceEstimator(NetworkEstimator):
    """Base of the estimators over sequences.

    A subclass defines `_targets` (what y means), and `_loss`.
    """

    n_steps: int | None
    num_embeddings: int | None
    embedding_dim: int | None
    bidirectional: bool
    standardize: bool

    _loss = "cross_entropy"
    _pooled = True

    def _check_settings(self) -> None:
        super()._check_settings()
        check_flag("bidirectional", self.bidirectional)
        check_flag("standardize", self.standardize)
        for name in ("n_steps", "num_embeddings", "embedding_dim"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        if self.num_embeddings is not None and self.embedding_dim is None:
            raise ValueError("num_embeddings: expected None without embedding_dim")

    def _pooling(self) -> str | None:
        """Return how a sequence becomes one vector; None if it does not."""
        if not self._pooled:
            return None
        if self.pooling == "auto":
            return "max" if self.bidirectional else "last"
        return str(check_choice("pooling", self.pooling, ("auto", *POOLINGS)))

    # --- what goes in -------------------------------------------------------------------------

    def _read(self, X: Any, first: bool) -> Sequences:
        """Return X as sequences; at the `first` sight its kind and its features are learned."""
        if first:
            self._kind = kind_of(X, tokens=self.embedding_dim is not None)
        if self._kind == "windows":
            table = validate_data(self, X, reset=first, dtype=(np.float64, np.float32))
            sequences: Sequences = split_windows(table, self.n_steps)
        else:
            sequences = read_sequences(X, tokens=self._kind == "tokens")
        if self._kind == "tokens":
            self._check_ids(sequences, first)
            return sequences
        size = sequences[0].shape[-1]
        if first:
            self._step_size = size
            if self._kind == "sequences":
                self.n_features_in_ = size
        if size != self._step_size:
            raise ValueError(f"X: expected {self._step_size} features of a step, got {size}")
        return sequences

    def _check_ids(self, sequences: Sequences, first: bool) -> None:
        low = min(int(ids.min()) for ids in sequences)
        high = max(int(ids.max()) for ids in sequences)
        if first:
            self._step_size = 0
            self._ids = high + 1 if self.num_embeddings is None else self.num_embeddings
        if low < 0 or high >= self._ids:
            wrong = low if low < 0 else high
            raise ValueError(f"X: expected token ids from 0 to {self._ids - 1}, got {wrong}")

    def _inputs(self, sequences: Sequences) -> Sequences:
        """Return sequences as the network takes them."""
        return sequences if self._kind == "tokens" else each(self._scaler, sequences)

    # --- training -----------------------------------------------------------------------------

    def _targets(
        self, y: Any, sequences: Sequences, first: bool, classes: NDArray[Any] | None
    ) -> Targets:
        """Return y as the loss takes it; at the `first` sight its classes or scale are learned."""
        raise NotImplementedError

    def _learn(
        self,
        X: Any,
        y: Any,
        first: bool,
        epochs: int | None = None,
        classes: NDArray[Any] | None = None,
    ) -> None:
        """Train on examples, `max_epochs` by default.

        `first`: from the beginning, with `classes` if they are known already.
        """
        self._start(first)
        pooling = self._pooling()
        sequences = self._read(X, first)
        if y is None:
            raise ValueError("This estimator requires y to be passed, but the target y is None")
        check_consistent_length(sequences, y)
        targets = self._targets(y, sequences, first, classes)
        if first:
            self._scaler = self._standardizer(sequences)
            network = build_network(
                self.cell,
                self.embedding_dim or self._step_size,
                self.hidden_size,
                self.num_layers,
                targets.size,
                num_embeddings=self._ids if self._kind == "tokens" else None,
                bidirectional=self.bidirectional,
                dropout=self.dropout,
                pooling=pooling,
                seed=self._seed(),
            )
            self._set_model(network)
        inputs, validation = self._inputs(sequences), None
        rows = np.arange(len(inputs))
        if self.early_stopping and epochs is None:
            rows, kept = self._split(rows, targets.strata)
            validation = self._loader(take(inputs, kept), take(targets.values, kept))
        data = self._loader(take(inputs, rows), take(targets.values, rows), seed=self._seed())
        self._train(data, validation, self.max_epochs if epochs is None else epochs)

    def _split(
        self, rows: NDArray[np.int64], strata: NDArray[Any] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the examples to train on and those to validate on, each in order."""
        if strata is not None and np.unique(strata, return_counts=True)[1].min() < 2:
            strata = None
        train, kept = train_test_split(
            rows, test_size=self.validation_fraction, stratify=strata, random_state=self._seed()
        )
        return np.sort(train), np.sort(kept)

    def _loader(self, inputs: Sequences, targets: Any, seed: int | None = None) -> SequenceLoader:
        """Return a loader of the batches of training, shuffled if there is a seed."""
        return SequenceLoader(
            inputs,
            targets,
            batch_size=self.batch_size,
            shuffle=seed is not None,
            seed=seed or 0,
            per_step=not self._pooled,
        )

    def _standardizer(self, sequences: Sequences) -> Standardizer:
        if self._kind == "tokens":
            return Standardizer.none(0)
        if not self.standardize:
            return Standardizer.none(self._step_size)
        rows = np.concatenate(sequences) if isinstance(sequences, list) else sequences
        return Standardizer.of(rows)

    # --- what comes out -----------------------------------------------------------------------

    def _outputs(self, X: Any) -> list[RealArray]:
        """Return what the network gives for each sequence, (O,) or for each of its steps."""
        check_is_fitted(self)
        inputs = self._inputs(self._read(X, first=False))
        return self._trainer.predict(SequenceLoader(inputs, batch_size=PREDICTION_BATCH))

    # --- files --------------------------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        if self._kind == "tokens":
            return {"kind": "tokens", "ids": self._ids}
        names = getattr(self, "feature_names_in_", None)
        return {
            "kind": self._kind,
            "features": int(self.n_features_in_),
            "names": None if names is None else names.tolist(),
            "scaling": self._scaler.as_json(),
        }

    def _restore(self, model: Any, metadata: Mapping[str, Any]) -> None:
        self._kind = metadata["kind"]
        if self._kind == "tokens":
            self._ids, self._step_size = check_size("ids", metadata["ids"]), 0
        else:
            check_choice("kind", self._kind, ("windows", "sequences"))
            self._restore_features(metadata)
        self._scaler = Standardizer.none(0)
        if self._kind != "tokens":
            self._scaler = Standardizer.from_json(metadata["scaling"], self._step_size)
        size = self._restore_targets(metadata)
        ids = self._ids if self._kind == "tokens" else None
        self._set_model(check_network(model, self._step_size, size, self._pooled, ids))

    def _restore_features(self, metadata: Mapping[str, Any]) -> None:
        self.n_features_in_ = self._step_size = check_size("features", metadata["features"])
        if self._kind == "windows":
            steps = self.n_features_in_ if self.n_steps is None else self.n_steps
            if self.n_features_in_ % steps:
                raise ValueError(f"features: expected a multiple of {steps}")
            self._step_size = self.n_features_in_ // steps
        names = metadata["names"]
        if names is not None:
            if not isinstance(names, list) or len(names) != self.n_features_in_:
                raise ValueError(f"names: expected {self.n_features_in_}")
            self.feature_names_in_ = np.array([str(name) for name in names], dtype=object)

    def _restore_targets(self, metadata: Mapping[str, Any]) -> int:
        """Set what `_targets` learned; return the number of the network's outputs."""
        raise NotImplementedError
