"""What a training gave, epoch by epoch: `History`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

__all__ = ["FIXED", "History", "metric_names"]

Record = dict[str, Any]


class History(Sequence[Record]):
    """The records of the epochs, in their order.

    A record is a dict: "epoch" (from 1), "step" (of the optimiser, from 1), "loss" (mean over what
    counted), the metrics, the same with ``validation_`` before them, "learning_rate" of the last
    step, "gradient_norm" (mean over the steps, before clipping) and "gradient_norm_max", "skipped"
    (steps left out as they were not finite), "seconds" and "items_per_second" (sequences; time
    steps of streams) of the training part alone.

    ``history[0]`` is the first record, ``history["loss"]`` the losses of all.

    Attributes
    ----------
    records : list of dict
    """

    def __init__(self, records: list[Record] | None = None) -> None:
        self.records = [] if records is None else records

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        if not isinstance(index, str):
            return self.records[index]
        if self.records and not any(index in record for record in self.records):
            raise KeyError(f"expected one of {', '.join(self.records[-1])}, got {index!r}")
        return [record.get(index) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def plot(self, names: Sequence[str] | None = None) -> Any:
        """Draw the curves of an epoch's numbers, training and validation together.

        Parameters
        ----------
        names : sequence of str, optional
            One panel each; by default the loss, the metrics, the gradients' norm and the learning
            rate, the last if it changed.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If there is no epoch, or no such name.
        ImportError
            If matplotlib is missing.
        """
        from .plots import plot_history

        return plot_history(self, names)

    def __repr__(self) -> str:
        if not self.records:
            return "History()"
        last = self.records[-1]
        shown = ", ".join(
            f"{name}={value:.4g}"
            for name, value in last.items()
            if isinstance(value, float) and ("loss" in name or name in metric_names(last))
        )
        return f"History({len(self)} epochs; last: {shown})"


def metric_names(record: Record) -> list[str]:
    """Return the names of the metrics of a record."""
    return [name for name in record if name not in FIXED and not name.startswith("validation_")]


FIXED = (
    *("epoch", "step", "loss", "learning_rate", "gradient_norm", "gradient_norm_max", "skipped"),
    *("seconds", "items_per_second"),
)
