"""Batch scoring of data sets larger than memory with Ray Data: `predict`."""

from __future__ import annotations

from typing import Any

import ray.data

from ..batch import Predictor

__all__ = ["predict"]


def predict(dataset: Any, predictor: Predictor, *, actors: int = 1, **options: Any) -> Any:
    """Return a data set with the outputs of its sequences as another column.

    Nothing is read or computed before the result is. The bits are those of one process, whatever
    the blocks, their order and the number of actors.

    Parameters
    ----------
    dataset : ray.data.Dataset
        With a column of sequences, as `Predictor` takes them; ``ray.data.read_parquet`` gives one.
    predictor : Predictor
        Each actor loads its model once, before its first block.
    actors : int, default 1
        Processes that compute, each on one core unless `options` say otherwise.
    **options
        For ``Dataset.map_batches``, as ``batch_size`` (rows that an actor takes at once) or
        ``num_cpus``.

    Returns
    -------
    ray.data.Dataset

    Raises
    ------
    TypeError
        For arguments of another kind.

    Examples
    --------
    >>> import ray
    >>> from fastrnn.interop.ray import Predictor, predict
    >>> dataset = ray.data.read_parquet("in/")  # doctest: +SKIP
    >>> predictor = Predictor("model.safetensors", "x", num_threads=1)  # doctest: +SKIP
    >>> predict(dataset, predictor, actors=8).write_parquet("out/")  # doctest: +SKIP
    """
    if not isinstance(dataset, ray.data.Dataset):
        raise TypeError(f"dataset: expected a ray.data.Dataset, got {type(dataset).__name__}")
    if not isinstance(predictor, Predictor):
        raise TypeError(f"predictor: expected a Predictor, got {type(predictor).__name__}")
    return dataset.map_batches(
        _Actor,
        fn_constructor_args=(predictor,),
        batch_format="pyarrow",
        **{"concurrency": actors, "num_cpus": 1, **options},
    )


class _Actor:
    """A process of Ray with its model."""

    def __init__(self, predictor: Predictor) -> None:
        predictor.type  # noqa: B018  loads the model, so that a wrong file ends it here
        self.predictor = predictor

    def __call__(self, table: Any) -> Any:
        return self.predictor(table)
