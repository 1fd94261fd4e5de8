"""A model measured and asked, batch by batch: `Evaluator`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import losses, nesting
from .. import metrics as metrics_module
from ..base import Layer
from ..data import Batch, Loader
from .arguments import Loss, find_loader, find_loss, paired

__all__ = ["Evaluator", "Sums", "added"]

Sums = list[NDArray[np.float64]]  # of each metric


class Evaluator:
    """Calls a model batch by batch; measures its loss and its metrics.

    Parameters
    ----------
    model : Layer
    loss : {"cross_entropy", "mse"} or callable
    metrics : sequence of str or fastrnn.metrics.Metric
        As of `Trainer`.

    Raises
    ------
    TypeError, ValueError
        For an argument of another kind, or an unknown name.
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss = "cross_entropy",
        metrics: Iterable[str | metrics_module.Metric] = (),
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model: expected a Layer, got {type(model).__name__}")
        self.model = model
        self.loss = find_loss(loss)
        self.metrics = metrics_module.find(metrics)

    # --- how the model is called, to be overridden for models of another kind ---

    def forward(self, batch: Batch, state: Any = None) -> tuple[Any, Any]:
        """Return (outputs, state) of a batch, in inference.

        Override it and `compute_loss`, for training also `vjp`, for a model that is called in
        another way.

        Parameters
        ----------
        batch : Batch
        state : optional
            Carried over from the batch before, if the loader is stateful.
        """
        return nesting.call(self.model, batch.inputs, state, batch.lengths, {})

    def compute_loss(self, batch: Batch, outputs: Any) -> tuple[float, Any, int]:
        """Return the mean loss of a batch, its gradient, and the number of what it is the mean of.

        Parameters
        ----------
        batch : Batch
        outputs : ndarray
            As `forward` and `vjp` return them.

        Raises
        ------
        ValueError
            If the batch has no targets.
        """
        if batch.targets is None:
            raise ValueError("data: expected batches with targets, got one without")
        options = {} if batch.mask is None else {"mask": batch.mask}
        result: Any = self.loss(outputs, batch.targets, **options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"loss: expected it to return (value, d_outputs), got {result!r:.60}")
        value, d_outputs = result
        return value, d_outputs, number_of_targets(batch, self.loss)

    # --- measuring ---

    def evaluate(
        self, data: Any, targets: Any = None, *, batch_size: int | None = None
    ) -> dict[str, float]:
        """Return the loss and the metrics over data, in inference.

        Parameters
        ----------
        data : Loader or (inputs, targets)
            As `fit` takes it; not shuffled.
        targets : optional
            Where `data` are the inputs alone.
        batch_size : int, optional
            Of (inputs, targets); 32 by default. The result does not depend on it, but for rounding.

        Returns
        -------
        dict of str to float
            "loss", the mean over all that counts, and the metrics by name. With `ema`, of the
            average weights.
        """
        loader = find_loader(paired(data, targets), self.model, batch_size=batch_size)
        total, count, sums = 0.0, 0, Sums()
        with self._averaged():
            for batch, outputs in self._outputs(loader):
                value, _, counted = self.compute_loss(batch, outputs)
                if counted:
                    total, count = total + float(value) * counted, count + counted
                sums = added(sums, self._measure(batch, outputs))
        return self._results(total, count, sums)

    def predict(self, data: Any, batch_size: int | None = None) -> list[NDArray[Any]]:
        """Return the model's outputs, one array for each example, in the examples' order.

        Parameters
        ----------
        data : Loader, inputs or (inputs, targets)
            As `fit` takes it; targets are not needed.
        batch_size : int, optional
            Of inputs; 32 by default.

        Returns
        -------
        list of ndarray
            Outputs of each step are cut at their sequence's length: (length, ...). Of streams,
            one array (T, ...) for each.
        """
        loader = find_loader(data, self.model, batch_size=batch_size)
        found: list[list[NDArray[Any]]] = []
        indices: list[int] = []
        with self._averaged():
            for batch, outputs in self._outputs(loader):
                rows = self._rows(batch, outputs, loader)
                if loader.stateful:
                    found = found or [[] for _ in rows]
                    for parts, row in zip(found, rows, strict=True):
                        parts.append(row)
                    continue
                start = len(found)
                found += [[row] for row in rows]
                own = range(start, len(found)) if batch.indices is None else batch.indices
                indices += [int(index) for index in own]
        whole = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in found]
        order = range(len(whole)) if loader.stateful else np.argsort(indices, kind="stable")
        return [whole[index] for index in order]

    def _outputs(self, loader: Loader) -> Iterator[tuple[Batch, Any]]:
        """Yield each batch of an epoch with what the model gives for it."""
        state = None
        for batch in loader.batches():
            outputs, state = self.forward(batch, state if loader.stateful else None)
            yield batch, outputs

    def _rows(self, batch: Batch, outputs: Any, loader: Loader) -> list[NDArray[Any]]:
        """Return the outputs of a batch example by example."""
        if self.model.pools_time:
            return list(outputs)
        rows = list(outputs if loader.batch_first else np.moveaxis(outputs, 1, 0))
        if batch.lengths is None:
            return rows
        return [row[:length] for row, length in zip(rows, batch.lengths, strict=True)]

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model has the weights that are to be measured."""
        return contextlib.nullcontext()

    def _results(self, loss: float, count: int, sums: Sums) -> dict[str, float]:
        found = {"loss": loss / count if count else math.nan}
        for index, metric in enumerate(self.metrics):
            found[metric.name] = float(metric.result(sums[index])) if sums else math.nan
        return found

    def _measure(self, batch: Batch, outputs: Any) -> Sums:
        targets: Any = batch.targets
        return [metric.measure(outputs, targets, batch.mask) for metric in self.metrics]


def added(sums: Sums, more: Sums) -> Sums:
    """Return the sums of each metric, those of another batch added."""
    return [a + b for a, b in zip(sums, more, strict=True)] if sums else more


def number_of_targets(batch: Batch, loss: Loss) -> int:
    """Return the number of targets that count, values of vectors one by one."""
    targets, mask = batch.targets, batch.mask
    assert targets is not None
    counted = np.ones(targets.shape, bool) if mask is None else mask
    if loss is losses.cross_entropy and targets.size:
        counted = counted & (targets != losses.IGNORE_INDEX)
    return int(np.count_nonzero(counted)) * math.prod(targets.shape[counted.ndim :])
