"""A model over a column of a table of Arrow: `Predictor`, which Ray Data and Dask run."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Layer, check_size
from ..serialization import load
from ..threads import set_num_threads
from ..training.evaluation import Evaluator

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise ImportError(
        "fastrnn.interop.batch needs the package pyarrow: pip install 'fastrnn[dask]' or "
        "'fastrnn[ray]'"
    ) from error

__all__ = ["Predictor"]

Array = NDArray[Any]
Model = str | os.PathLike[str] | bytes


class Predictor:
    """Takes tables with a column of sequences, and gives them back with a column of outputs.

    Each sequence is run from zeros, and its outputs are the same bits whatever table it is in,
    so how a data set is cut into parts, and who computes which, does not matter.

    A sequence is a list: of integers, for a model that takes tokens; of numbers, one for each step;
    or of lists of as many numbers as a step has features. Outputs are lists of lists, one for each
    step, or one list for each sequence if the model pools over time (`LastStep` as its last layer).

    Parameters
    ----------
    model : path or bytes
        A file that `fastrnn.save` wrote, or its content, for machines that do not share files. A
        process loads it once, at the first table, however many predictors it gets.
    column : str
        The column of sequences.
    output : str, default "output"
        The column of outputs to add.
    batch_size : int, default 64
        The most sequences that are computed at once.
    max_steps : int, default 65536
        The most steps that are computed at once, unless one sequence has more: this bounds the
        memory it takes, beside that of the table and of its outputs.
    num_threads : int, optional
        For `fastrnn.set_num_threads` in the process that computes. One each where as many processes
        or threads as there are cores compute. By default it stays as it is.

    Raises
    ------
    TypeError, ValueError
        For arguments that are not what is said here.
    ImportError
        If the package pyarrow is missing.

    Examples
    --------
    A file larger than memory, in this process alone::

        predictor = Predictor("model.safetensors", "x")
        source = pyarrow.parquet.ParquetFile("in.parquet")
        for batch in source.iter_batches():
            table = predictor(pyarrow.Table.from_batches([batch]))
    """

    def __init__(
        self,
        model: Model,
        column: str,
        output: str = "output",
        *,
        batch_size: int = 64,
        max_steps: int = 65536,
        num_threads: int | None = None,
    ) -> None:
        self.model = model if isinstance(model, bytes) else _absolute(model)
        for name, value in (("column", column), ("output", output)):
            if not isinstance(value, str):
                raise TypeError(f"{name}: expected the name of a column, got {value!r}")
        self.column, self.output = column, output
        self.batch_size = check_size("batch_size", batch_size)
        self.max_steps = check_size("max_steps", max_steps)
        self.num_threads = (
            num_threads if num_threads is None else check_size("num_threads", num_threads)
        )

    def __call__(self, table: Any) -> Any:
        """Return the table with the outputs of its sequences.

        Parameters
        ----------
        table : pyarrow.Table

        Returns
        -------
        pyarrow.Table
            The columns of `table`, and the outputs; a column that has their name is replaced.

        Raises
        ------
        ValueError, TypeError
            If the column is missing, holds no sequences or missing values, or is not what the model
            takes; or for a file that holds no model.
        OSError
            If the model's file cannot be read.
        """
        if not isinstance(table, pa.Table):
            raise TypeError(f"table: expected a pyarrow.Table, got {type(table).__name__}")
        if self.column not in table.column_names:
            names = ", ".join(table.column_names)
            raise ValueError(f"column: expected one of {names}, got {self.column!r}")
        outputs = self.outputs(table.column(self.column))
        if self.output in table.column_names:
            return table.set_column(table.column_names.index(self.output), self.output, outputs)
        return table.append_column(self.output, outputs)

    def outputs(self, column: Any) -> Any:
        """Return the outputs of a column of sequences.

        Parameters
        ----------
        column : pyarrow.ChunkedArray

        Returns
        -------
        pyarrow.ChunkedArray
            As many chunks as were computed one after the other.

        Raises
        ------
        ValueError, TypeError, OSError
            As of a call.
        """
        if self.num_threads is not None:
            set_num_threads(self.num_threads)
        model = _loaded(self.model)
        evaluator = Evaluator(model)
        chunks = []
        for chunk in column.chunks:
            for part in self._parts(_sequences(self.column, chunk, model)):
                rows = evaluator.predict(part, self.batch_size)
                chunks.append(_as_lists(rows, model.pools_time))
        return pa.chunked_array(chunks, self.type)

    @property
    def type(self) -> Any:
        """Type of the column of outputs, of Arrow."""
        model = _loaded(self.model)
        parameter = next(iter(model.parameters().values()), None)
        double = parameter is not None and parameter.dtype == np.float64
        step = pa.list_(pa.float64() if double else pa.float32())
        return step if model.pools_time else pa.list_(step)

    def _parts(self, sequences: list[Array]) -> Iterator[list[Array]]:
        """Yield the sequences in runs of at most `max_steps`, each at least one sequence."""
        first = steps = 0
        for index, sequence in enumerate(sequences):
            if index > first and steps + len(sequence) > self.max_steps:
                yield sequences[first:index]
                first, steps = index, 0
            steps += len(sequence)
        if sequences:
            yield sequences[first:]


def _absolute(model: Any) -> str:
    """Return the path of a model, as other processes on this machine find it."""
    try:
        return os.path.abspath(os.fsdecode(model))
    except TypeError:
        kind = type(model).__name__
        raise TypeError(
            f"model: expected the path of a file that fastrnn.save wrote, or its bytes, got {kind}"
        ) from None


_loading = threading.Lock()  # threads that come at once do not load it each


def _loaded(model: str | bytes) -> Layer:
    """Return the model, loaded anew only if its file has changed."""
    with _loading:
        if isinstance(model, bytes):
            return _load_bytes(model)
        found = os.stat(model)
        return _load_file(model, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4)
def _load_file(path: str, _mtime: int, _size: int) -> Layer:
    return load(path)


@functools.lru_cache(maxsize=4)
def _load_bytes(content: bytes) -> Layer:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        with open(path, "wb") as file:
            file.write(content)
        return load(path)


# --- between lists of Arrow and arrays ------------------------------------------------------------


def _sequences(name: str, column: Any, model: Layer) -> list[Array]:
    """Return one array for each list: (length,) tokens, or (length, F) numbers."""
    _check_whole(name, column)
    if isinstance(column.type, pa.BaseExtensionType):
        return _tensors(name, column)
    if not _is_list(column.type):
        raise TypeError(f"{name}: expected a column of lists, got {column.type}")
    steps = _steps(name, column.flatten(), model)
    ends = np.cumsum(_lengths(column))
    return np.split(steps, ends[:-1]) if len(ends) else []


def _steps(name: str, steps: Any, model: Layer) -> Array:
    """Return all steps of a column as one array: (steps,) tokens, or (steps, F) numbers."""
    _check_whole(name, steps)
    if not _is_list(steps.type):
        return _as_steps(_numbers(name, steps))
    values, sizes = _numbers(name, steps.flatten()), _lengths(steps)
    F = int(sizes[0]) if len(sizes) else _features(model)
    if (sizes != F).any():
        other = sizes[sizes != F][0]
        raise ValueError(f"{name}: expected {F} numbers in each step, got {other} in one")
    return _as_features(values.reshape(len(steps), F))


def _tensors(name: str, column: Any) -> list[Array]:
    """Return one array for each tensor, (length,) or (length, F), of Arrow or of Ray."""
    own = hasattr(column, "to_numpy_ndarray")
    tensors = column.to_numpy_ndarray() if own else column.to_numpy(zero_copy_only=False)
    arrays = [np.asarray(tensor) for tensor in tensors]
    for array in arrays:
        if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
            shown = f"{array.dtype} of the shape {array.shape}"
            raise TypeError(f"{name}: expected tensors (length,) or (length, F), got {shown}")
    return [_as_features(array) if array.ndim == 2 else _as_steps(array) for array in arrays]


def _as_steps(values: Array) -> Array:
    """Return one number of each step as a token or, if it is no integer, as the only feature."""
    return values if values.dtype.kind in "iu" else values[:, None]


def _as_features(values: Array) -> Array:
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _features(model: Layer) -> int:
    """Return how many numbers a step has, where no step is there to show it."""
    for name in ("input_size", "in_features"):
        if hasattr(model, name):
            return int(getattr(model, name))
    return max((_features(child) for child in list(model.children().values())[:1]), default=0)


def _numbers(name: str, values: Any) -> Array:
    _check_whole(name, values)
    kinds = pa.types
    if not (kinds.is_integer(values.type) or kinds.is_floating(values.type)):
        raise TypeError(f"{name}: expected numbers in its lists, got {values.type}")
    numbers: Array = values.to_numpy(zero_copy_only=False)
    return numbers


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _lengths(column: Any) -> NDArray[np.int64]:
    if pa.types.is_fixed_size_list(column.type):
        return np.full(len(column), column.type.list_size, np.int64)
    lengths: Array = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _check_whole(name: str, values: Any) -> None:
    if values.null_count:
        raise ValueError(f"{name}: expected no missing values, got {values.null_count}")


def _as_lists(rows: list[Array], pooled: bool) -> Any:
    """Return outputs (O,) as lists of numbers, outputs (length, O) as lists of such lists."""
    steps = np.stack(rows) if pooled else np.concatenate(rows)
    if steps.size >= 2**31:  # which Arrow's lists cannot count
        raise ValueError(f"output: expected less than 2**31 numbers of a run, got {steps.size}")
    numbers = pa.array(steps.reshape(-1))
    lists = pa.ListArray.from_arrays(_offsets([steps.shape[1]] * len(steps)), numbers)
    if pooled:
        return lists
    return pa.ListArray.from_arrays(_offsets([len(row) for row in rows]), lists)


def _offsets(lengths: list[int]) -> NDArray[np.int32]:
    return np.cumsum([0, *lengths]).astype(np.int32)
