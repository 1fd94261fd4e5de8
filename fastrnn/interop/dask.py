"""Batch scoring of data sets larger than memory with Dask: `predict`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .batch import Predictor

try:
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa
except ImportError as error:
    raise ImportError(
        "fastrnn.interop.dask needs the package dask: pip install 'fastrnn[dask]'"
    ) from error

__all__ = ["Predictor", "predict"]


def predict(frame: Any, predictor: Predictor) -> Any:
    """Return a frame with the outputs of its sequences as another column.

    Nothing is read or computed before the result is. The bits are those of one process, whatever
    the partitions and the scheduler.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        With a column of sequences, as `Predictor` takes them. Read it with Arrow's types, which
        keep lists as they are.
    predictor : Predictor

    Returns
    -------
    dask.dataframe.DataFrame
        The column of outputs has an Arrow type of pandas, which ``to_parquet`` writes.

    Raises
    ------
    TypeError, ValueError
        For arguments of another kind, or a frame without the column.
    OSError
        If the model's file cannot be read.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from fastrnn.interop.dask import Predictor, predict
    >>> frame = dd.read_parquet("in/", dtype_backend="pyarrow")  # doctest: +SKIP
    >>> scored = predict(frame, Predictor("model.safetensors", "x"))  # doctest: +SKIP
    >>> scored.to_parquet("out/")  # doctest: +SKIP
    """
    if not isinstance(frame, dd.DataFrame):
        raise TypeError(f"frame: expected a dask.dataframe.DataFrame, got {type(frame).__name__}")
    if not isinstance(predictor, Predictor):
        raise TypeError(f"predictor: expected a Predictor, got {type(predictor).__name__}")
    if predictor.column not in frame.columns:
        names = ", ".join(map(str, frame.columns))
        raise ValueError(f"column: expected one of {names}, got {predictor.column!r}")
    if isinstance(frame.dtypes[predictor.column], pd.StringDtype):
        raise TypeError(
            f"column: expected sequences, got text in {predictor.column!r}; Dask makes text of "
            "lists unless dask.config.set({'dataframe.convert-string': False}) was called before"
        )
    outputs = pd.Series([], dtype=pd.ArrowDtype(predictor.type))
    meta = frame._meta.assign(**{predictor.output: outputs})
    return frame.map_partitions(_scored, predictor, meta=meta)


def _scored(part: pd.DataFrame, predictor: Predictor) -> pd.DataFrame:
    """Return a partition with its outputs."""
    outputs = pa.chunked_array([], predictor.type)
    if len(part):
        outputs = predictor.outputs(pa.chunked_array([_as_arrow(part[predictor.column])]))
    values = pd.arrays.ArrowExtensionArray(outputs)
    return part.assign(**{predictor.output: pd.Series(values, index=part.index)})


def _as_arrow(column: pd.Series) -> Any:
    """Return a column as an array of Arrow, which has no arrays of two axes in a list."""
    if column.dtype == object:
        column = column.map(lambda value: list(value) if np.ndim(value) == 2 else value)
    array = pa.Array.from_pandas(column)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
