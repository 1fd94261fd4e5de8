"""The state of a training: `Resumable`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

from .. import metrics as metrics_module
from .. import optim
from ..base import Layer, check_number, check_size
from .arguments import AnySchedule, Loss, find_optimizer, find_schedule
from .averaging import Average
from .diagnosis import nonfinite_weight
from .evaluation import Evaluator
from .history import History, Record
from .run import EpochState, Run, numbers

__all__ = ["Resumable"]


class Resumable(Evaluator):
    """What a training has that changes, and how it is kept and restored: the base of `Trainer`.

    Parameters and attributes are those of `Trainer`.
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss,
        metrics: Iterable[str | metrics_module.Metric],
        optimizer: str | optim.Optimizer,
        schedule: AnySchedule | Callable[[optim.Optimizer], AnySchedule] | None,
        accumulate: int,
        ema: float | None,
    ) -> None:
        super().__init__(model, loss, metrics)
        self.optimizer = find_optimizer(optimizer, model)
        self.schedule = find_schedule(schedule, self.optimizer)
        self.accumulate = check_size("accumulate", accumulate)
        self._average = None if ema is None else Average(model, ema)
        self.step = 0
        self.epoch = 0
        self.history = History()
        self.last: Record = {}
        self._now = EpochState()
        self._largest = (0.0, "")  # norm of a parameter's gradient, and its name
        self._run: Run | None = None

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._average is None else self._average.swapped()

    def weights(self) -> dict[str, Any]:
        """Return a copy of the weights that count: with `ema`, of their average."""
        return self.model.state_dict() if self._average is None else self._average.weights()

    def check_finite_weights(self) -> None:
        """Raise FloatingPointError that names a weight, if one is NaN or infinite."""
        name = nonfinite_weight(self.model)
        if name is not None:
            raise FloatingPointError(
                f"step {self.step} (epoch {self.epoch + 1}): {name} holds numbers that are not "
                "finite; a checkpoint of them is not written"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the training, as a checkpoint keeps it.

        Returns
        -------
        dict
            Nested dicts, lists and tuples of numbers, strings, None and arrays.
        """
        return self._own_state() | ({} if self._run is None else self._run.state_dict())

    def _own_state(self) -> dict[str, Any]:
        generators = self.model.generators()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else dict(self.schedule.state_dict()),
            "average": None if self._average is None else self._average.state_dict(),
            "generators": {name: each.bit_generator.state for name, each in generators.items()},
            "step": self.step,
            "epoch": self.epoch,
            "now": {each.name: getattr(self._now, each.name) for each in fields(self._now)},
            "largest": list(self._largest),
            "last": self.last,
            "history": list(self.history),
            "classes": self._classes(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, of a trainer that was made in the same way.

        Parameters
        ----------
        state_dict : dict

        Raises
        ------
        ValueError
            If it is that of another training; nothing is changed then.
        """
        with self._all_or_nothing():
            self._load(state_dict)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put the trainer back as it was if it cannot be restored; ValueError says why."""
        before = self._own_state()
        try:
            yield
        except BaseException as error:
            self._load(before)
            if isinstance(error, (ArithmeticError, AttributeError, LookupError, TypeError)):
                raise ValueError(f"not a state of this training ({error!r})") from error
            raise

    def _load(self, state: dict[str, Any]) -> None:
        if state["classes"] != self._classes():
            raise ValueError(f"expected {self._classes()}, got {state['classes']}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
            self.optimizer.lr = state["optimizer"]["lr"]
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        for name, generator in self.model.generators().items():
            generator.bit_generator.state = state["generators"][name]
        self.step = check_size("step", state["step"], 0)
        self.epoch = check_size("epoch", state["epoch"], 0)
        self._now = EpochState.restored(state["now"])
        norm, name = state["largest"]
        self._largest = (check_number("largest", norm, 0.0), str(name))
        self.last = numbers("last", state["last"])
        self.history.records[:] = [dict(record) for record in state["history"]]

    def _classes(self) -> dict[str, Any]:
        schedule = None if self.schedule is None else type(self.schedule).__name__
        return {
            "optimizer": type(self.optimizer).__name__,
            "schedule": schedule,
            "metrics": [metric.name for metric in self.metrics],
            "accumulate": self.accumulate,
            "average": self._average is not None,
        }
