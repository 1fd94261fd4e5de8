"""A background thread that prepares the next batches."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from ..base import check_size
from .batches import Batch, Loader

__all__ = ["prefetch"]


def prefetch(loader: Loader, ahead: int = 2) -> Loader:
    """Return a loader that gives the same batches, the next of them prepared in the background.

    A thread reads files and collates while the model computes. It runs only while someone iterates
    and ends with the iteration, also one that is left early. An error of the loader reaches the
    reader. A process forked in the middle of an epoch goes on without a thread.

    Parameters
    ----------
    loader : Loader
    ahead : int, default 2
        How many batches may wait, and need memory.

    Returns
    -------
    Loader
        With the `config` of the loader: the batches are the same.

    Raises
    ------
    TypeError
        For what is no loader.
    ValueError
        For `ahead` below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import SequenceLoader, prefetch
    >>> loader = SequenceLoader(np.zeros((5, 7, 3)), batch_size=2)
    >>> [batch.inputs.shape for batch in prefetch(loader)]
    [(7, 2, 3), (7, 2, 3), (7, 1, 3)]
    """
    if not isinstance(loader, Loader):
        raise TypeError(f"loader: expected a Loader, got {type(loader).__name__}")
    return Prefetched(loader, check_size("ahead", ahead))


class Prefetched(Loader):
    """What `prefetch` returns."""

    def __init__(self, loader: Loader, ahead: int) -> None:
        self.loader, self.ahead = loader, ahead
        self.stateful, self.batch_first = loader.stateful, loader.batch_first

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.loader)

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of the loader; the thread runs from the first to the last."""
        work = _Work(self.loader.batches(epoch, start), self.ahead)
        process, read = os.getpid(), 0
        try:
            while (batch := work.next()) is not None:
                yield batch
                read += 1
                if os.getpid() != process:  # a child of a fork, where the thread does not live
                    yield from self.loader.batches(epoch, start + read)
                    return
        finally:
            if os.getpid() == process:
                work.end()

    def config(self) -> dict[str, Any]:
        """Return what decides the batches, which is the loader's own."""
        return self.loader.config()

    def __repr__(self) -> str:
        return f"prefetch({self.loader!r}, ahead={self.ahead})"


class _Work:
    """The thread of one iteration, and what it shares with the reader.

    The thread takes a place before it prepares a batch, the reader gives it back once it has the
    batch: so at most `ahead` are prepared and not yet read, and to end, a place is enough to wake a
    thread that waits for one. Neither ever waits for a time.
    """

    def __init__(self, batches: Iterator[Batch], ahead: int) -> None:
        self._ready: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
        self._places = threading.Semaphore(ahead)
        self._ended = threading.Event()
        # As a daemon it does not keep a program from ending whose iteration was never closed.
        self._thread = threading.Thread(
            target=_prepare,
            args=(batches, self._ready, self._places, self._ended),
            name="fastrnn-prefetch",
            daemon=True,
        )
        self._thread.start()

    def next(self) -> Batch | None:
        """Return the next batch, None after the last one, or raise the thread's error."""
        batch = self._ready.get()
        self._places.release()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def end(self) -> None:
        """Let the thread end, and wait for it."""
        self._ended.set()
        self._places.release()
        if threading.current_thread() is not self._thread:  # where garbage is collected
            self._thread.join()


def _prepare(
    batches: Iterator[Batch],
    ready: SimpleQueue[Batch | BaseException | None],
    places: threading.Semaphore,
    ended: threading.Event,
) -> None:
    """Run in the thread; it knows nothing of its reader, who may then be collected as garbage."""
    try:
        while places.acquire() and not ended.is_set():
            batch = next(batches, None)
            ready.put(batch)
            if batch is None:
                break
    except BaseException as error:  # whatever it is, it is the reader's
        ready.put(error)
