"""Where a training is: in its epoch, and in its call of `fit`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import check_number, check_size
from ..data import Batch, Loader
from .callbacks import CallbackList

__all__ = ["EpochState", "Run", "Status", "groups", "number_of_items", "numbers"]


@dataclass
class EpochState:
    """Where an epoch is, and what was summed up in it: what a checkpoint keeps of it."""

    batch: int = 0  # batches that are done
    carried: Any = None  # state of a recurrent model whose loader is stateful
    loss: float = 0.0  # sum over what counted
    count: int = 0
    steps: int = 0
    norm: float = 0.0
    norm_max: float = 0.0
    skipped: int = 0
    items: int = 0
    seconds: float = 0.0
    sums: list[NDArray[np.float64]] = field(default_factory=list)

    @classmethod
    def restored(cls, state: dict[str, Any]) -> EpochState:
        """Return what a checkpoint kept; TypeError or ValueError for what it never holds."""
        found = cls(**state)
        for each in fields(cls):
            value = getattr(found, each.name)
            if isinstance(each.default, int):
                check_size(each.name, value, 0)
            elif isinstance(each.default, float):
                check_number(each.name, value, -math.inf)
        if not all(isinstance(sums, np.ndarray) for sums in found.sums):
            raise TypeError(f"sums: expected arrays, got {found.sums!r}")
        return found


class Status(NamedTuple):
    """How far a training is, for people.

    Attributes
    ----------
    epoch, epochs : int
        The one it is in, from 1, and how many there will be.
    first_epoch : int
        How many were completed before this call of `fit`.
    part : float
        Share of the whole that is done, from 0 to 1.
    loss : float
        Mean of the epoch so far.
    items_per_second : float
    unit : str
        What the items are: "sequences", or "steps" of streams.
    seconds_left : float
    """

    epoch: int
    epochs: int
    first_epoch: int
    part: float
    loss: float
    items_per_second: float
    unit: str
    seconds_left: float


class Run:
    """What one call of `fit` works with."""

    def __init__(
        self,
        loader: Loader,
        validation: Loader | None,
        callbacks: CallbackList,
        first_epoch: int,
        last_epoch: int,
        time_limit: float,
        monitor: str,
    ) -> None:
        self.loader, self.validation, self.callbacks = loader, validation, callbacks
        self.first_epoch, self.last_epoch = first_epoch, last_epoch
        self.time_limit, self.monitor = time_limit, monitor
        self.seconds = 0.0  # of steps, in this call
        self.resumed_at = 0.0  # epochs that were done before it

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {
            "data": self.loader.config(),
            "first_epoch": self.first_epoch,
            "callbacks": self.callbacks.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], epochs: int) -> None:
        """Restore it from a trainer's state; ValueError if it is that of other data."""
        data, first, callbacks = state["data"], state["first_epoch"], state["callbacks"]
        self.callbacks.load_state_dict(callbacks)  # first: one may know better what is wrong
        if data != self.loader.config():
            raise ValueError(f"expected the data {self.loader.config()}, got a training on {data}")
        first = check_size("first_epoch", first, 0)
        if first > state["epoch"]:
            raise ValueError(f"first_epoch: expected at most {state['epoch']}, got {first}")
        if state["now"]["batch"] > len(self.loader):
            raise ValueError(
                f"batch: expected at most {len(self.loader)}, got {state['now']['batch']}"
            )
        self.first_epoch, self.last_epoch = first, first + epochs


def numbers(name: str, values: dict[str, Any]) -> dict[str, float]:
    """Return a dict of numbers; TypeError if there are others in it."""
    for value in values.values():
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name}: expected numbers, got {value!r}")
    return dict(values)


def groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield the batches in groups of a size, the last one of what is left."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def number_of_items(batch: Batch, loader: Loader) -> int:
    """Return the number of sequences of a batch, of streams that of their steps."""
    inputs = batch.inputs[0] if isinstance(batch.inputs, tuple) else batch.inputs
    time_axis = 1 if loader.batch_first else 0
    B: int = inputs.shape[1 - time_axis]
    return B * int(inputs.shape[time_axis]) if loader.stateful else B
