"""Time series as sliding windows, with what comes after each as its targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..base import RealArray, check_dtype, check_flag, check_size
from .batches import Batch, Loader
from .ragged import RaggedArray
from .sources import plain_array

__all__ = ["WindowLoader", "sliding_windows"]

Array = NDArray[Any]
Integers = NDArray[np.int64]
Column = int | str


def sliding_windows(
    x: ArrayLike, window: int, stride: int = 1, batch_first: bool = False
) -> NDArray[Any]:
    """Return all windows of a series, side by side as a batch, without a copy.

    Parameters
    ----------
    x : array_like, (N, ...)
        Time first; also memory-mapped.
    window : int
        Steps of a window.
    stride : int, default 1
        Steps from the start of one window to that of the next.
    batch_first : bool, default False
        The layout of the result.

    Returns
    -------
    ndarray, (window, n, ...) or (n, window, ...)
        A read-only view with n = (N - window) // stride + 1 windows. Where they overlap, they share
        memory: copy before changing anything.

    Raises
    ------
    ValueError
        For a series without axis or shorter than a window.
    TypeError
        For what is no array of numbers.

    Examples
    --------
    >>> from fastrnn.data import sliding_windows
    >>> sliding_windows([1, 2, 3, 4, 5], window=3, stride=2, batch_first=True)
    array([[1, 2, 3],
           [3, 4, 5]])
    """
    size, step = check_size("window", window), check_size("stride", stride)
    series = np.asarray(plain_array("x", x))
    if series.ndim == 0 or len(series) < size:
        raise ValueError(
            f"x: expected at least window = {size} steps, got the shape {series.shape}"
        )
    view = np.lib.stride_tricks.sliding_window_view(series, size, axis=0)[::step]
    return np.moveaxis(view, -1, 1 if check_flag("batch_first", batch_first) else 0)


class WindowLoader(Loader):
    """Sliding windows of one time series or several, and the steps after each as targets.

    Windows lie within one series, and so do their targets. Window n of a series begins at its step
    n * stride; all windows of the first series come first, then those of the second.

    Parameters
    ----------
    series : array_like (N, F) or (N,), DataFrame, Series, or a list of them, or RaggedArray
        Time first. Arrays are kept, not copied, also memory-mapped ones larger than memory. Several
        series have the same columns.
    window : int
        Steps of the inputs.
    horizon : int, default 1
        Steps after the window that are its targets; 0 for none.
    targets : column or list of columns, optional
        Which columns to forecast, by number or, of a DataFrame, by name; by default all.
    known : column or list of columns, optional
        Columns whose future is known, as the calendar, weather forecasts or prices. Step t of the
        inputs has them a second time, behind all columns: as they are at step t + horizon. So the
        last `horizon` steps hold the future of these columns.
    stride : int, default 1
        Steps from the start of one window to that of the next.
    batch_size : int, default 32
    shuffle : bool, default False
        Whether the windows come in an order drawn anew in each epoch, which needs 8 bytes of memory
        for each of them.
    seed : int, default 0
        The order of an epoch follows from this and the number of the epoch.
    batch_first : bool, default False
        Whether inputs are (B, window, F) and not (window, B, F).
    drop_last : bool, default False
        Whether a last batch of fewer windows is left out.
    dtype : {float32, float64}, default float32
        What numbers are converted to, batch by batch.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit one another, or series too short for a single window.

    Notes
    -----
    Inputs are (window, B, F), with `known` (window, B, F + K). Targets are (B, horizon) for a
    single column (or a series without columns), (B, horizon, K) for a list.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import WindowLoader
    >>> (batch,) = WindowLoader(np.arange(6), window=3, horizon=2)
    >>> batch.inputs[:, :, 0].T.tolist(), batch.targets.tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """

    def __init__(
        self,
        series: Any,
        window: int,
        horizon: int = 1,
        *,
        targets: Column | Sequence[Column] | None = None,
        known: Column | Sequence[Column] | None = None,
        stride: int = 1,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        batch_first: bool = False,
        drop_last: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.window = check_size("window", window)
        self.horizon = check_size("horizon", horizon, 0)
        self.stride = check_size("stride", stride)
        self.batch_size = check_size("batch_size", batch_size)
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = check_size("seed", seed, 0)
        self.batch_first = check_flag("batch_first", batch_first)
        self.drop_last = check_flag("drop_last", drop_last)
        self.dtype = check_dtype(dtype)
        self._tables, names, flat = _tables(series)
        F = self._tables[0].shape[1]
        if not self.horizon and not (targets is None and known is None):
            raise ValueError("horizon: expected at least 1 with targets or known, got 0")
        self._targets = _columns("targets", targets, names, F)
        self._known = _columns("known", [] if known is None else known, names, F)
        self._single = flat if targets is None else np.ndim(targets) == 0
        self._ends = np.cumsum([self._count(len(table)) for table in self._tables])
        if not self._ends[-1]:
            raise ValueError(
                f"series: expected at least window + horizon = {self.window + self.horizon} steps, "
                f"got {max(map(len, self._tables))}"
            )

    def _count(self, steps: int) -> int:
        """Return the number of windows of a series."""
        return max(0, (steps - self.window - self.horizon) // self.stride + 1)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        more = 0 if self.drop_last else self.batch_size - 1
        return (int(self._ends[-1]) + more) // self.batch_size

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on."""
        N = int(self._ends[-1])
        order = np.random.default_rng((self.seed, epoch)).permutation(N) if self.shuffle else None
        for number in range(start, len(self)):
            begin, end = number * self.batch_size, min(N, (number + 1) * self.batch_size)
            yield self._batch(np.arange(begin, end) if order is None else order[begin:end])

    def _batch(self, indices: Integers) -> Batch:
        which = np.searchsorted(self._ends, indices, side="right")
        first = np.concatenate([[0], self._ends])[which]
        begins = (indices - first) * self.stride
        inputs = self._take(which, begins, self.window)
        if self._known.size:
            later = self._take(which, begins + self.horizon, self.window)
            inputs = np.concatenate([inputs, later[:, :, self._known]], axis=2)
        if not self.batch_first:
            inputs = np.ascontiguousarray(np.swapaxes(inputs, 0, 1))
        if not self.horizon:
            return Batch(inputs, indices=indices)
        targets = self._take(which, begins + self.window, self.horizon)
        chosen = self._targets[0] if self._single else self._targets
        return Batch(inputs, targets[:, :, chosen], indices=indices)

    def _take(self, which: Integers, begins: Integers, steps: int) -> RealArray:
        """Return `steps` steps from `begins` on of the series `which`, as (B, steps, F)."""
        out = np.empty((len(which), steps, self._tables[0].shape[1]), self.dtype)
        rows = begins[:, np.newaxis] + np.arange(steps)
        for n in np.unique(which):
            here = which == n
            out[here] = self._tables[n][rows[here]]
        return out

    def config(self) -> dict[str, Any]:
        """Return what decides the batches."""
        return {
            "series": len(self._tables),
            "steps": sum(map(len, self._tables)),
            "window": self.window,
            "horizon": self.horizon,
            "targets": self._targets.tolist(),
            "known": self._known.tolist(),
            "stride": self.stride,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "batch_first": self.batch_first,
            "drop_last": self.drop_last,
            "dtype": self.dtype.name,
        }


def _tables(series: Any) -> tuple[list[Array], list[Any] | None, bool]:
    """Return all series as (N, F), names of columns, and whether they came without that axis."""
    several = isinstance(series, RaggedArray) or (
        isinstance(series, (list, tuple)) and len(series) > 0 and np.ndim(series[0]) > 0
    )
    parts = list(series) if several else [series]
    tables: list[Array] = []
    for n, part in enumerate(parts):
        name = f"series[{n}]" if several else "series"
        array = np.asarray(plain_array(name, part))
        if array.dtype.kind == "c" or array.ndim not in (1, 2):
            raise ValueError(
                f"{name}: expected real numbers (N, F) or (N,), got {array.dtype} {array.shape}"
            )
        tables.append(array[:, np.newaxis] if array.ndim == 1 else array)
        if tables[n].shape[1] != tables[0].shape[1]:
            raise ValueError(
                f"{name}: expected {tables[0].shape[1]} columns as the first, got {array.shape}"
            )
    names = [list(part.columns) for part in parts if hasattr(part, "columns")]
    if any(other != names[0] for other in names):
        raise ValueError(f"series: expected the same columns in all, got {names}")
    return tables, names[0] if names else None, np.ndim(parts[0]) == 1


def _columns(name: str, value: Any, names: list[Any] | None, F: int) -> Integers:
    """Return columns as numbers from 0 to F - 1; None for all."""
    if value is None:
        return np.arange(F)
    wanted = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    found = []
    for column in wanted:
        if names is not None and column in names:
            found.append(names.index(column))
        elif isinstance(column, (int, np.integer)) and -F <= column < F and names is None:
            found.append(int(column) % F)
        else:
            known = f"columns below {F}" if names is None else f"columns of {names}"
            raise ValueError(f"{name}: expected {known}, got {column!r}")
    if not found and name == "targets":
        raise ValueError("targets: expected at least one column, got none")
    return np.array(found, np.int64)
