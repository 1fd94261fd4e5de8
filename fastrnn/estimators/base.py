"""What all estimators share: settings of the training, the training itself, files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import serialization
from ..base import check_flag, check_number, check_size
from ..data import Loader
from ..layers import Sequential
from ..training.arguments import OPTIMIZERS, Loss
from ..training.history import History
from ..training.trainer import Trainer
from ._sklearn import BaseEstimator, check_is_fitted, check_random_state
from .network import CELLS, check_choice

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NetworkEstimator"]


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: a network, trained by `fastrnn.Trainer`.

    A subclass has its parameters in its constructor, as scikit-learn asks for, all of those below
    among them; says by `_loss` what it learns, and by `_describe` and `_restore` what a file holds
    beside the network.
    """

    cell: str
    hidden_size: int
    num_layers: int
    dropout: float
    lr: float
    batch_size: int
    max_epochs: int
    optimizer: str
    weight_decay: float
    clip_norm: float | None
    early_stopping: bool
    validation_fraction: float
    patience: int
    random_state: Any
    verbose: bool

    model_: Sequential

    _loss: str | Loss

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set what the constructor was given, unchanged, as scikit-learn wants it."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    def _check_settings(self) -> None:
        """Raise TypeError or ValueError, naming it, for a parameter that does not fit."""
        check_choice("cell", self.cell, CELLS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("hidden_size", "num_layers", "batch_size", "max_epochs", "patience"):
            check_size(name, getattr(self, name))
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_number("weight_decay", self.weight_decay, 0.0)
        _check_positive("lr", self.lr)
        if self.clip_norm is not None:
            _check_positive("clip_norm", self.clip_norm)
        _check_positive("validation_fraction", self.validation_fraction, 1.0)
        check_flag("early_stopping", self.early_stopping)

    # --- training -----------------------------------------------------------------------------

    def _start(self, first: bool) -> None:
        """Check the parameters; at the `first` part of a training, draw all anew from then on."""
        self._check_settings()
        if first:
            self._random = check_random_state(self.random_state)

    def _seed(self) -> int:
        """Return the next of the seeds that follow from `random_state`."""
        return int(self._random.randint(2**31 - 1))

    def _set_model(self, model: Sequential) -> None:
        """Set the network, with a trainer that has not begun."""
        self.model_ = model
        optimizer = OPTIMIZERS[self.optimizer](
            model.parameters(),
            lr=self.lr,
            weight_decay=self.weight_decay,  # type: ignore[call-arg]
        )
        self._trainer = Trainer(model, self._loss, optimizer, clip_norm=self.clip_norm)

    def _train(self, data: Loader, validation: Loader | None, epochs: int) -> None:
        """Train the network; with a validation, until it is at its best there."""
        self._trainer.fit(
            data,
            validation=validation,
            epochs=epochs,
            patience=None if validation is None else self.patience,
            progress=bool(self.verbose),
        )
        self.model_.zero_grad()  # they would be pickled

    @property
    def history_(self) -> History:
        """What `fastrnn.Trainer.fit` says of each epoch: "loss", "validation_loss", ..."""
        check_is_fitted(self)
        return self._trainer.history

    @property
    def n_iter_(self) -> int:
        """Number of epochs."""
        return len(self.history_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    # --- files --------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator to a file, without pickle.

        The file is in the safetensors format, as `fastrnn.save` writes it: the network's weights,
        and all else as JSON. It is replaced in one step. The state of the optimiser is not in it,
        so that a `partial_fit` after loading starts that anew.

        Parameters
        ----------
        path : str or os.PathLike
            Usually "....safetensors".

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError
            For parameters or labels that JSON cannot hold, such as a RandomState.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        names = {"estimator": type(self).__name__, "params": self.get_params(deep=False)}
        metadata = {**names, "history": self.history_.records, **self._describe()}
        serialization.save(self.model_, path, json.loads(json.dumps(metadata, default=_plain)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` saved; nothing is unpickled, and nothing in the file is trusted.

        Raises
        ------
        ValueError
            If the file is damaged, or no estimator of this class; the message names the file.
        OSError
            If it cannot be read.
        """
        model = serialization.load(path)
        metadata = serialization.load_metadata(path)
        try:
            return cls._from_file(model, metadata)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: not a {cls.__name__} ({error})") from None

    @classmethod
    def _from_file(cls, model: Any, metadata: Mapping[str, Any]) -> Self:
        if metadata["estimator"] != cls.__name__:
            raise ValueError(f"it is a {metadata['estimator']}")
        self = cls(**metadata["params"])
        self._start(first=True)
        history = metadata["history"]
        if not isinstance(history, list) or not all(isinstance(epoch, dict) for epoch in history):
            raise ValueError("history: expected a list of objects")
        self._restore(model, metadata)
        self._trainer.history, self._trainer.epoch = History(history), len(history)
        return self

    def _describe(self) -> dict[str, Any]:
        """Return what was fitted beside the network, as JSON takes it."""
        raise NotImplementedError

    def _restore(self, model: Any, metadata: Mapping[str, Any]) -> None:
        """Set what `_describe` described and the network, all checked."""
        raise NotImplementedError


def _check_positive(name: str, value: Any, high: float = math.inf) -> None:
    if not 0.0 < check_number(name, value, 0.0, high) < high:
        limit = "" if high == math.inf else f" and below {high:g}"
        raise ValueError(f"{name}: expected a number above 0{limit}, got {value}")


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected what JSON can hold, got {type(value).__name__}")
