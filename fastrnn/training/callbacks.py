"""What happens beside the steps of a training: `Callback`, and stopping early."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import check_number, check_size

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Base of what is called while `Trainer.fit` runs; each method does nothing by default.

    ``trainer.step``, ``trainer.epoch`` and ``trainer.last`` (the record of the last step) say where
    it is; ``trainer.stop = True`` ends the training after the step.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step; after a checkpoint was read, if training goes on from one."""

    def on_step(self, trainer: Trainer) -> None:
        """After each step of the optimiser."""

    def on_epoch(self, trainer: Trainer) -> None:
        """After each epoch and its validation; its record is ``trainer.history[-1]``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, or when training was stopped; not after an exception."""

    def close(self) -> None:
        """At the very end, also after an exception: give back what is open."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep: numbers, strings, arrays and containers of them."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class EarlyStopping(Callback):
    """Stops when a number of the history has not improved for a while; keeps the best weights.

    Prechelt (1998), "Early stopping - but when?".

    Parameters
    ----------
    monitor : str
        Name in the history's records.
    mode : {"min", "max"}
        Whether a smaller or a larger number is better.
    patience : int or None
        Number of epochs in a row without improvement that are let pass; None never stops.
    min_delta : float, default 0.0
        How much better a number must be to count as improved.
    restore_best : bool, default True
        Whether the model ends with the weights of the best epoch.

    Attributes
    ----------
    best : float
    best_epoch : int
        Counted from 1; 0 if there is none.

    Raises
    ------
    ValueError, TypeError
        If `mode` is another, or a number is out of its range or of another type.
    """

    def __init__(
        self,
        monitor: str,
        mode: str = "min",
        patience: int | None = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.mode = mode
        self.patience = None if patience is None else check_size("patience", patience, 0)
        self.min_delta = check_number("min_delta", min_delta, 0.0)
        self.restore_best = restore_best
        self.best = math.inf if mode == "min" else -math.inf
        self.best_epoch = 0
        self._waited = 0
        self._weights: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Stop at once if the training that goes on had come to its end."""
        if self._weights is not None:
            shapes = {name: each.shape for name, each in trainer.model.parameters().items()}
            if {name: np.shape(weights) for name, weights in self._weights.items()} != shapes:
                raise ValueError("EarlyStopping: expected the best weights of this model")
        trainer.stop |= self._is_over()

    def on_epoch(self, trainer: Trainer) -> None:
        """Compare, keep the weights if they are the best, stop if it has been too long.

        Raises
        ------
        ValueError
            If the records have no number of the name `monitor`.
        """
        record = trainer.history[-1]
        if self.monitor not in record:
            raise ValueError(f"monitor: expected one of {', '.join(record)}, got {self.monitor!r}")
        value = record[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch, self._waited = value, record["epoch"], 0
            if self.restore_best:
                self._weights = trainer.weights()
            return
        self._waited += 1
        trainer.stop |= self._is_over()

    def _is_over(self) -> bool:
        return self.patience is not None and self._waited >= max(self.patience, 1)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the model its best weights."""
        self._waited = 0  # another training has its own patience
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self._waited,
            "weights": self._weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        best = check_number("best", state_dict["best"], -math.inf)
        best_epoch = check_size("best_epoch", state_dict["best_epoch"], 0)
        waited = check_size("waited", state_dict["waited"], 0)
        weights = state_dict["weights"]
        self._weights = None if weights is None else dict(weights)
        self.best, self.best_epoch, self._waited = best, best_epoch, waited


class CallbackList:
    """Several callbacks, called in their order."""

    def __init__(self, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: expected Callback objects, got {callback!r}")
        self._callbacks = callbacks

    def each(self, action: Callable[[Callback], None]) -> None:
        """Do something with every callback."""
        for callback in self._callbacks:
            action(callback)

    def close(self) -> None:
        """Close all, also if one of them fails."""
        with contextlib.ExitStack() as stack:
            for callback in reversed(self._callbacks):
                stack.callback(callback.close)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, by position and class."""
        return {key: callback.state_dict() for key, callback in self._named()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states; those of callbacks that are not here any more are passed by."""
        for key, callback in self._named():
            if key in state_dict:
                callback.load_state_dict(state_dict[key])

    def _named(self) -> list[tuple[str, Callback]]:
        names: dict[str, int] = {}
        found = []
        for callback in self._callbacks:
            name = type(callback).__name__
            names[name] = names.get(name, 0) + 1
            found.append((f"{name}{names[name]}", callback))
        return found
