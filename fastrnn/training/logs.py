"""A training's numbers in files: `Log`."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import check_size
from ..serialization import write_atomically
from .callbacks import Callback

if TYPE_CHECKING:
    from .history import Record
    from .trainer import Trainer

__all__ = ["Log"]


class Log(Callback):
    """Writes log.csv and log.jsonl to a folder, and TensorBoard's events where it is installed.

    log.csv has a line for each epoch: the record of the history. log.jsonl has an object for each
    epoch, and for every n-th step: "step", "loss", "gradient_norm", "learning_rate". What is not
    finite is null, or empty. Training that goes on from a checkpoint goes on in the same files:
    what was noted after the checkpoint is taken out.

    Parameters
    ----------
    folder : str or os.PathLike
        Made if it does not exist.
    every : int, optional
        Number of steps between two that are noted; none by default.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int | None = None) -> None:
        self.folder = Path(folder)
        self.every = None if every is None else check_size("log_every", every)
        self._events: _Events | None = None
        self._columns: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        """Begin the files, or cut them back to where training goes on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if line["step"] <= trainer.step]
        if trainer.step == 0:
            kept = []
        write_atomically(self.folder / "log.jsonl", _joined(kept).encode())
        self._write_table(trainer.history)
        self._events = _event_writer(self.folder)

    def on_step(self, trainer: Trainer) -> None:
        """Note a step, if it is due."""
        if self.every is None or trainer.step % self.every:
            return
        record = {"step": trainer.step, **trainer.last}
        self._append("log.jsonl", _joined([record]))
        self._scalars("step", record, trainer.step)

    def on_epoch(self, trainer: Trainer) -> None:
        """Note an epoch."""
        record = trainer.history[-1]
        self._append("log.jsonl", _joined([record]))
        if self._columns == _columns(trainer.history):
            self._append("log.csv", _table([record], self._columns))
        else:  # a number that none had before, as that of a validation
            self._write_table(trainer.history)
        self._scalars("epoch", record, trainer.step)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _append(self, name: str, text: str) -> None:
        with open(self.folder / name, "a", encoding="utf-8", newline="") as file:
            file.write(text)

    def _write_table(self, history: Sequence[Record]) -> None:
        self._columns = _columns(history)
        heading = _table([{name: name for name in self._columns}], self._columns)
        rows = _table(history, self._columns)
        write_atomically(self.folder / "log.csv", (heading + rows).encode())

    def _lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of log.jsonl; the last one may be torn where a process died."""
        found = []
        try:
            text = (self.folder / "log.jsonl").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except (RecursionError, ValueError):
                break
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                break
            found.append(record)
        return found

    def _scalars(self, prefix: str, record: Record, step: int) -> None:
        if self._events is None:
            return
        numbers = {
            f"{prefix}/{name}": value
            for name, value in record.items()
            if name not in ("step", "epoch")
        }
        self._events.add_scalars(numbers, step)


def _joined(records: list[Record]) -> str:
    lines = [json.dumps({k: _plain(v) for k, v in record.items()}) for record in records]
    return "".join(f"{line}\n" for line in lines)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _columns(records: Sequence[Record]) -> list[str]:
    """Return the names of all numbers, in the order in which they came up."""
    return list(dict.fromkeys(name for record in records for name in record))


def _table(records: Sequence[Record], columns: list[str]) -> str:
    """Return the records as lines of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    for record in records:
        writer.writerow({name: _plain(value) for name, value in record.items()})
    return text.getvalue()


class _Events:
    """TensorBoard's file of events, written record by record.

    Its own writer would import TensorFlow where that is installed, which takes seconds.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        name = f"events.out.tfevents.{time.time():.0f}.{secrets.token_hex(4)}"
        file = open(folder / name, "xb")  # noqa: SIM115 - closed with the writer
        self._writer = RecordWriter(file)
        self._write(file_version="brain.Event:2")

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def add_scalars(self, numbers: dict[str, float], step: int) -> None:
        value = self._summary.Value
        values = [value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._write(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        self._writer.close()


def _event_writer(folder: Path) -> _Events | None:
    """Return a writer of TensorBoard's events to the folder, None where it is not installed."""
    try:
        return _Events(folder)
    except ImportError:
        return None
