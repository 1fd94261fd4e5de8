"""What all estimators share: settings of the training, the training itself, files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import optim, serialization
from ..base import check_flag, check_number, check_size
from ..data import Loader
from ..layers import Sequential
from ._sklearn import BaseEstimator, check_is_fitted, check_random_state
from ._standin import Trainer
from .network import CELLS, check_choice

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NetworkEstimator"]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "sgd": optim.SGD,
}
Loss = str | Callable[..., Any]


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: a network, trained by `fastrnn.Trainer`.

    A subclass has its parameters in its constructor, as scikit-learn asks for, all of those below
    among them; and says by `_describe` and `_restore` what a file holds beside the network.
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
    history_: list[dict[str, Any]]
    n_iter_: int

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set what the constructor was given, unchanged, as scikit-learn wants it."""
        vars(self).update({k: v for k, v in arguments.items() if k not in ("self", "__class__")})

    def _check_settings(self) -> None:
        """Raise TypeError or ValueError, naming it, for a parameter that does not fit."""
        check_choice("cell", self.cell, CELLS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("hidden_size", "num_layers", "batch_size", "max_epochs", "patience"):
            check_size(name, getattr(self, name))
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_number("weight_decay", self.weight_decay, 0.0)
        for name, least in (("lr", 0.0), ("clip_norm", 0.0), ("validation_fraction", 0.0)):
            value = getattr(self, name)
            if not (name == "clip_norm" and value is None) and not check_number(name, value, least):
                raise ValueError(f"{name}: expected a number above 0, got {value}")
        check_number("validation_fraction", self.validation_fraction, 0.0, 1.0)
        check_flag("early_stopping", self.early_stopping)

    # --- training -----------------------------------------------------------------------------

    def _start(self, first: bool) -> None:
        """Begin a training: at its `first` part, everything is drawn and counted anew."""
        self._check_settings()
        if first:
            self._random = check_random_state(self.random_state)
            self._optimizer: optim.Optimizer | None = None
            self.history_ = []

    def _seed(self) -> int:
        """Return the next of the seeds that follow from `random_state`."""
        return int(self._random.randint(2**31 - 1))

    def _train(self, data: Loader, validation: Loader | None, loss: Loss, epochs: int) -> None:
        """Train the network; with a validation, until it is at its best there."""
        if self._optimizer is None:
            self._optimizer = OPTIMIZERS[self.optimizer](
                self.model_.parameters(),
                lr=self.lr,
                weight_decay=self.weight_decay,  # type: ignore[call-arg]
            )
        trainer = Trainer(self.model_, loss, self._optimizer, clip_norm=self.clip_norm)
        history = trainer.fit(
            data,
            validation=validation,
            epochs=epochs,
            patience=None if validation is None else self.patience,
            restore_best=validation is not None,
            progress=bool(self.verbose),
        )
        self.model_.zero_grad()  # they would be pickled
        self.history_ += history.epochs
        self.n_iter_ = len(self.history_)

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
        metadata = {**names, "history": self.history_, **self._describe()}
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
        self.history_, self.n_iter_ = history, len(history)
        self._restore(model, metadata)
        return self

    def _describe(self) -> dict[str, Any]:
        """Return what was fitted beside the network, as JSON takes it."""
        raise NotImplementedError

    def _restore(self, model: Any, metadata: Mapping[str, Any]) -> None:
        """Set what `_describe` described and the network, all checked."""
        raise NotImplementedError


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected what JSON can hold, got {type(value).__name__}")
