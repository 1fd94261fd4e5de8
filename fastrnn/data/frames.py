"""Sequences out of a pandas DataFrame; pandas itself is not imported."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from .ragged import RaggedArray
from .sources import from_pandas

__all__ = ["sequences_from_frame"]


def sequences_from_frame(
    frame: Any, by: Hashable, columns: Hashable | list[Hashable] | None = None
) -> tuple[RaggedArray, Any]:
    """Return the rows of a DataFrame in long format as sequences, one for each value of a column.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row for each step. The steps of a sequence come in the order of their rows, between
        which those of others may lie.
    by : column
        Whose value says which sequence a row belongs to.
    columns : column or list of columns, optional
        The values of a step: of a list a vector, of a single column (as of token ids) a number. By
        default the list of all but `by`.

    Returns
    -------
    sequences : RaggedArray
        In the order in which they begin, of the dtype that pandas gives to all columns together.
    keys : pandas.Index
        The value of `by` of each; for targets in their order: ``labels.loc[keys]``.

    Raises
    ------
    KeyError
        If a column is not there.
    ValueError
        For a frame without rows, or a missing value in `by`.
    TypeError
        For what is no DataFrame, or columns that are no numbers.

    Examples
    --------
    >>> import pandas
    >>> from fastrnn.data import sequences_from_frame
    >>> frame = pandas.DataFrame({"id": ["b", "a", "b", "b"], "x": [1.0, 2.0, 3.0, 4.0]})
    >>> sequences, keys = sequences_from_frame(frame, by="id", columns="x")
    >>> [(key, sequence.tolist()) for key, sequence in zip(keys, sequences)]
    [('b', [1.0, 3.0, 4.0]), ('a', [2.0])]
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "to_numpy"):
        raise TypeError(f"frame: expected a DataFrame, got {type(frame).__name__}")
    codes, keys = frame[by].factorize()
    if not len(codes):
        raise ValueError("frame: expected at least one row, got none")
    if codes.min() < 0:
        raise ValueError(f"by: expected a value in each row, got none in row {codes.argmin()}")
    if columns is None:
        columns = [column for column in frame.columns if column != by]
    order = np.argsort(codes, kind="stable")
    values = from_pandas(frame[columns])[order]
    if values.dtype.kind not in "biuf":
        raise TypeError(f"columns: expected numbers, got {values.dtype}")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    return RaggedArray(np.ascontiguousarray(values), offsets), keys
