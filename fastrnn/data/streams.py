"""One long sequence as parallel streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import check_number, check_size, integer_array

__all__ = ["Streams", "split"]

Integers = NDArray[np.int64]
Text = TypeVar("Text", str, NDArray[Any])


def split(sequence: Text, fraction: float = 0.95) -> tuple[Text, Text]:
    """Cut a text or an array in two: the first `fraction` of it to train on, the rest to validate.

    The cut comes before element ``int(len(sequence) * fraction)``.

    Parameters
    ----------
    sequence : str or ndarray
    fraction : float, default 0.95
        From 0 to 1.

    Returns
    -------
    first, second : as the sequence
        An array's are views.
    """
    cut = int(len(sequence) * check_number("fraction", fraction, 0.0, 1.0))
    return sequence[:cut], sequence[cut:]


class Streams:
    """One long sequence cut into equal contiguous pieces that run side by side.

    Stream b is the b-th of `batch` pieces, and the target of each element is the one after it: what
    truncated backpropagation through time reads window by window, carrying the state. What is left
    over at the end is dropped. There is no randomness: the same sequence gives the same windows.

    Parameters
    ----------
    ids : array_like of integers, (N,)
        An array is kept, not copied, also one in a file larger than memory (``np.memmap``, or
        ``np.load`` with ``mmap_mode="r"``), of any integer dtype: each window is read and
        converted when its turn comes.
    batch : int
        Number of streams B.

    Attributes
    ----------
    inputs, targets : ndarray of int64, (T, B)
        All of them, made when asked for. C-contiguous, with T = (N - 1) // B; ``targets[t, b]``
        follows ``inputs[t, b]`` in `ids`.

    Raises
    ------
    ValueError
        For `ids` of another rank or shorter than B + 1, or a `batch` below 1.
    TypeError
        For `ids` that are not integers.
    """

    def __init__(self, ids: ArrayLike, batch: int) -> None:
        sequence = np.asarray(ids)
        if sequence.dtype.kind not in "iu":
            sequence = integer_array("ids", ids)  # an empty list, or an error
        B = check_size("batch", batch)
        if sequence.ndim != 1:
            raise ValueError(f"ids: expected 1 dimension, got the shape {sequence.shape}")
        T = (len(sequence) - 1) // B
        if T < 1:
            raise ValueError(f"ids: expected at least batch + 1 = {B + 1}, got {len(sequence)}")
        self._inputs = sequence[: T * B].reshape(B, T).T  # views, of the dtype of `ids`
        self._targets = sequence[1 : T * B + 1].reshape(B, T).T

    def __len__(self) -> int:
        """Return T, the length of each stream."""
        return len(self._inputs)

    @property
    def batch(self) -> int:
        """Number of streams B."""
        return int(self._inputs.shape[1])

    @property
    def inputs(self) -> Integers:
        """All inputs (T, B)."""
        return self.window(0, len(self))[0]

    @property
    def targets(self) -> Integers:
        """All targets (T, B)."""
        return self.window(0, len(self))[1]

    def window(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """Return inputs and targets from step `start` to before `stop`, as new arrays."""
        return (
            integer_array("ids", self._inputs[start:stop].copy("C")),
            integer_array("ids", self._targets[start:stop].copy("C")),
        )

    def windows(self, seq_len: int, partial: bool = False) -> Iterator[tuple[Integers, Integers]]:
        """Yield the streams window by window: inputs and targets (seq_len, B), as new arrays.

        With `partial` the shorter window at the end comes too; without, it is left out.
        """
        step = check_size("seq_len", seq_len)
        end = len(self) if partial else len(self) - step + 1
        for t in range(0, end, step):
            yield self.window(t, t + step)

    def __repr__(self) -> str:
        return f"Streams(T={len(self)}, B={self.batch})"
