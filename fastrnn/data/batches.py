"""What a model is trained on: `Batch`, and `Loader`, the base of all that give batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import check_flag, check_size
from .streams import Streams

__all__ = ["Batch", "Loader", "StreamLoader"]

Array = NDArray[Any]
Integers = NDArray[np.int64]


class Batch(NamedTuple):
    """Examples side by side, as a model and a loss take them.

    Attributes
    ----------
    inputs : ndarray
        As the model takes them: (T, B, F) numbers or (T, B) token ids; (B, T, ...) for a model
        with ``batch_first``. A tuple of arrays for a trainer that calls its model in another way.
    targets : ndarray, optional
        As the loss takes them: (B, ...) for one of each sequence, (T, B, ...) for one of each step.
    lengths : ndarray of int64, shape (B,), optional
        Of the inputs; None if all are T long.
    mask : ndarray of bool, optional
        Of the targets' shape or its leading axes: True where a target counts; None if all do.
    indices : ndarray of int64, shape (B,), optional
        Which of the loader's examples these are.
    """

    inputs: Any
    targets: Array | None = None
    lengths: Integers | None = None
    mask: NDArray[np.bool_] | None = None
    indices: Integers | None = None


class Loader:
    """Base of what gives batches, epoch by epoch.

    What an epoch's batches are follows from the loader's arguments and the number of the epoch
    alone, its order too: so training can go on from any place. A subclass defines `__len__`,
    `batches` and `config`.

    Attributes
    ----------
    stateful : bool
        Whether a batch goes on where the one before it ended, so that the state of a recurrent
        model is carried from one to the next within an epoch.
    batch_first : bool
        Whether the inputs, and the targets of each step, are (B, T, ...) instead of (T, B, ...).
    """

    stateful: bool = False
    batch_first: bool = False

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        raise NotImplementedError(f"{type(self).__name__} does not define __len__")

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from number `start` on; both count from 0."""
        raise NotImplementedError(f"{type(self).__name__} does not define batches")

    def config(self) -> dict[str, Any]:
        """Return what decides the batches, as JSON takes it: a checkpoint tells others by it."""
        raise NotImplementedError(f"{type(self).__name__} does not define config")

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({options})"


class StreamLoader(Loader):
    """The windows of parallel streams, in their order: truncated backpropagation through time.

    Parameters
    ----------
    streams : Streams
    seq_len : int
        Length of a window.
    partial : bool, default False
        Whether the shorter window at the end comes too; without, it is left out.

    Raises
    ------
    TypeError, ValueError
        If `streams` are no `Streams`, or seq_len is less than 1.
    """

    stateful = True

    def __init__(self, streams: Streams, seq_len: int, partial: bool = False) -> None:
        if not isinstance(streams, Streams):
            raise TypeError(f"streams: expected Streams, got {type(streams).__name__}")
        self.streams = streams
        self.seq_len = check_size("seq_len", seq_len)
        self.partial = check_flag("partial", partial)

    def __len__(self) -> int:
        """Return the number of windows of an epoch."""
        more = self.seq_len - 1 if self.partial else 0
        return (len(self.streams) + more) // self.seq_len

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the windows from number `start` on; they are the same in every epoch."""
        for index in range(start, len(self)):
            yield Batch(*self.streams.window(index * self.seq_len, (index + 1) * self.seq_len))

    def config(self) -> dict[str, Any]:
        """Return what decides the batches."""
        return {
            "steps": len(self.streams),
            "batch": self.streams.batch,
            "seq_len": self.seq_len,
            "partial": self.partial,
        }
