"""Whole sequences as batches: `SequenceLoader`, and `as_loader` for all that takes data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._ragged import Rows
from ..base import check_dtype, check_flag, check_number, check_size
from .batches import Batch, Loader
from .buckets import Buckets
from .padding import lengths_to_mask
from .ragged import RaggedArray
from .sources import padding_bytes, plain_array, rows_of

__all__ = ["SequenceLoader", "as_loader"]

Array = NDArray[Any]
Integers = NDArray[np.int64]


class SequenceLoader(Loader):
    """Sequences with their targets, padded side by side with others of similar length.

    The share of padding among all elements (steps x sequences) of an epoch is at most `max_waste`,
    whatever the order: sequences are sorted into buckets by length, as wide as that allows, and
    meet only within them (see `Buckets`). For that some batches may be smaller than `batch_size`,
    mostly of the longest sequences. `waste` says what is reached.

    Parameters
    ----------
    inputs : list of ndarray, ndarray, RaggedArray, or of pandas
        A list of (length, F) numbers or (length,) ids, or one array (N, T, F) or (N, T). Arrays are
        kept, not copied, also memory-mapped ones larger than memory: a batch reads its rows only.
    targets : array_like, list of ndarray, or RaggedArray, optional
        One for each sequence, (N, ...); or one for each step, in a form that inputs can have, and
        with their lengths.
    batch_size : int, default 32
        The most sequences of a batch.
    shuffle : bool, default False
        Whether who is with whom, and the order of the batches, are drawn anew in each epoch.
        Without, the longest come first, and sequences of the same length in their order.
    seed : int, default 0
        The order of an epoch follows from this and the number of the epoch.
    max_waste : float, default 0.1
        The bound, from 0 (only sequences of the same length meet) to 1 (any may meet). Sequences of
        length 0 take one step, which counts as real here.
    batch_first : bool, default False
        Whether inputs, masks and targets of steps are (B, T, ...) and not (T, B, ...).
    padding_value, target_padding : float, default 0.0
        What fills inputs, and targets of steps, after a sequence's end.
    drop_last : bool, default False
        Whether each batch has `batch_size` sequences: those left over, of the shortest bucket and
        in each epoch others, are left out.
    per_step : bool, optional
        Whether targets are one for each step; by default they are where they have as many elements
        as their sequences have steps.
    dtype : {float32, float64}, optional
        What inputs, and targets that are no integers, are converted to, batch by batch. By default
        they keep theirs.

    Attributes
    ----------
    waste : float
        Share of padding among all elements of the first epoch.
    lengths : ndarray of int64, (N,)

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit one another, or are not what is said here. With `drop_last`
        also for a `max_waste` that full batches do not keep.

    Notes
    -----
    A batch has lengths unless all N sequences are of the same length and not empty, and then a
    mask for targets of steps; `indices` says which sequences it holds.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import SequenceLoader
    >>> reviews = [np.array([3, 1, 2]), np.array([5]), np.array([4, 4, 1])]
    >>> loader = SequenceLoader(reviews, [1, 0, 1], batch_size=2)
    >>> for batch in loader:
    ...     print(batch.inputs.tolist(), batch.targets, batch.lengths, batch.indices)
    [[3, 4], [1, 4], [2, 1]] [1 1] [3 3] [0 2]
    [[5]] [0] [1] [1]
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any = None,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        max_waste: float = 0.1,
        batch_first: bool = False,
        padding_value: float = 0.0,
        target_padding: float = 0.0,
        drop_last: bool = False,
        per_step: bool | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.batch_size = check_size("batch_size", batch_size)
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = check_size("seed", seed, 0)
        self.max_waste = check_number("max_waste", max_waste, 0.0, 1.0)
        self.batch_first = check_flag("batch_first", batch_first)
        self.drop_last = check_flag("drop_last", drop_last)
        self._dtype = None if dtype is None else check_dtype(dtype)
        self._inputs = rows_of("inputs", inputs)
        self.lengths: Integers = self._inputs.lengths
        if not len(self.lengths):
            raise ValueError("inputs: expected at least one sequence, got none")
        # Sequences that are all empty take one step, which is padding.
        self._ragged = bool((self.lengths != max(1, self.lengths[0])).any())
        self._padding = padding_bytes(self._inputs.dtype, self._inputs.shape, padding_value)
        self._targets: Array | None = None
        self._steps: Rows | None = None
        if targets is not None:
            self._take_targets(targets, per_step, target_padding)
        self._values = {"padding_value": padding_value, "target_padding": target_padding}
        self._buckets = Buckets(self.lengths, self.batch_size, self.max_waste, self.drop_last)

    def _take_targets(self, targets: Any, per_step: bool | None, padding: float) -> None:
        per_step = _are_per_step(targets, self.lengths) if per_step is None else per_step
        if check_flag("per_step", per_step):
            self._steps = rows_of("targets", targets)
            found = self._steps.lengths
        else:
            self._targets = plain_array("targets", targets)
            found = self._targets
        if found.shape[:1] != self.lengths.shape:
            raise ValueError(
                f"targets: expected {len(self.lengths)}, one for each sequence, "
                f"got the shape {found.shape}"
            )
        if self._steps is not None:
            wrong = np.flatnonzero(found != self.lengths)
            if wrong.size:
                n = wrong[0]
                raise ValueError(
                    f"targets[{n}]: expected the {self.lengths[n]} steps of its sequence, "
                    f"got {found[n]}"
                )
            self._target_padding = padding_bytes(
                self._steps.dtype, self._steps.shape, padding, "target_padding"
            )

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._buckets.batches)

    @property
    def waste(self) -> float:
        """Share of padding among all elements of the first epoch."""
        return self._buckets.waste(self._rng(0))

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on."""
        order, batches = self._buckets.epoch(self._rng(epoch))
        for begin, end in batches[start:].tolist():
            yield self._batch(order[begin:end])

    def _rng(self, epoch: int) -> np.random.Generator | None:
        return np.random.default_rng((self.seed, epoch)) if self.shuffle else None

    def _batch(self, indices: Integers) -> Batch:
        inputs, lengths = self._inputs.pad(indices, self.batch_first, self._padding, 1)
        targets, mask = None, None
        if self._targets is not None:
            targets = np.asarray(self._targets[indices])
        elif self._steps is not None:
            targets, _ = self._steps.pad(indices, self.batch_first, self._target_padding, 1)
            if self._ragged:
                T = inputs.shape[1 if self.batch_first else 0]
                mask = lengths_to_mask(lengths, T, self.batch_first)
        if self._dtype is not None:
            inputs = inputs.astype(self._dtype, copy=False)
            if targets is not None and targets.dtype.kind == "f":
                targets = targets.astype(self._dtype, copy=False)
        return Batch(inputs, targets, lengths if self._ragged else None, mask, indices)

    def config(self) -> dict[str, Any]:
        """Return what decides the batches."""
        return {
            "sequences": len(self.lengths),
            "steps": int(self.lengths.sum()),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "max_waste": self.max_waste,
            "batch_first": self.batch_first,
            **self._values,
            "drop_last": self.drop_last,
            "dtype": None if self._dtype is None else self._dtype.name,
        }


def _are_per_step(targets: Any, lengths: Integers) -> bool:
    """Return whether targets have as many elements as their sequences have steps."""
    if isinstance(targets, RaggedArray):
        return True
    if hasattr(targets, "dtype") and targets.dtype != object:
        return np.ndim(targets) > 1 and bool((lengths == targets.shape[1]).all())
    if not isinstance(targets, (Sequence, np.ndarray)) or len(targets) != len(lengths):
        return False
    counts = [len(target) if np.ndim(target) else -1 for target in targets]
    return np.array_equal(counts, lengths)


def as_loader(data: Any, **options: Any) -> Loader:
    """Return a loader of what a model is trained on.

    Parameters
    ----------
    data : Loader, (inputs, targets), ndarray, or RaggedArray
        A loader is returned as it is. Other things become a `SequenceLoader`; an array alone is
        inputs without targets.
    **options
        Of the `SequenceLoader`; a loader has its own.

    Returns
    -------
    Loader

    Raises
    ------
    TypeError
        For anything else, or options beside a loader.
    """
    if isinstance(data, Loader):
        if options:
            raise TypeError(
                f"data: the loader has its own options, got {', '.join(sorted(options))} besides"
            )
        return data
    if isinstance(data, tuple) and not hasattr(data, "_fields") and len(data) == 2:
        return SequenceLoader(*data, **options)
    if isinstance(data, (np.ndarray, RaggedArray)):
        return SequenceLoader(data, **options)
    raise TypeError(
        "data: expected a Loader (as SequenceLoader, WindowLoader, StreamLoader), "
        f"(inputs, targets) or an array of inputs, got {_kind(data)}"
    )


def _kind(data: Any) -> str:
    """Return what an argument is, in words, with what to do instead."""
    if isinstance(data, Batch):
        return "one Batch; (batch.inputs, batch.targets) of whole data makes a loader"
    if isinstance(data, tuple):
        return f"a tuple of {len(data)}"
    if isinstance(data, list):
        return "a list; a list of sequences without targets is given as (sequences, None)"
    return type(data).__name__
