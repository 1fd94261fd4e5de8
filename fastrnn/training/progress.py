"""How far a training is, on a terminal or in a log: `Progress`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from .callbacks import Callback

if TYPE_CHECKING:
    from .history import Record
    from .run import Status
    from .trainer import Trainer

__all__ = ["Progress", "numbered", "rate"]

LINE_SECONDS = 30.0  # between two lines where there is no terminal
BAR_SECONDS = 0.1


class Progress(Callback):
    """A bar with loss, speed and time left, and a line for each epoch.

    Where the file is no terminal, or tqdm is not installed, a line for each epoch and for each half
    minute.

    Parameters
    ----------
    bar_file : text file, optional
        Of the bar or the lines between epochs; standard error by default.
    line_file : text file, optional
        Of the epochs' lines; standard error by default.
    """

    def __init__(self, bar_file: TextIO | None = None, line_file: TextIO | None = None) -> None:
        self._bar_file = bar_file
        self._line_file = line_file
        self._bar: Any = None
        self._shown = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Show the bar."""
        self._shown = time.monotonic()
        self._bar = _make_bar(self._bar_file or sys.stderr)

    def on_step(self, trainer: Trainer) -> None:
        """Move on."""
        now = time.monotonic()
        if now < self._shown + (BAR_SECONDS if self._bar is not None else LINE_SECONDS):
            return
        self._shown = now
        status = self.status(trainer)
        text = f"loss {status.loss:.4f}, {rate(status)}, {_clock(status.seconds_left)} left"
        place = numbered(status.epoch, status)
        if self._bar is None:
            line = f"{place}, {status.part:.0%}: {text}"
            print(line, file=self._bar_file or sys.stderr, flush=True)
            return
        self._bar.bar_format = f"{place} {{percentage:3.0f}}%|{{bar}}| {text}"
        self._bar.n = status.part
        self._bar.refresh()

    def on_epoch(self, trainer: Trainer) -> None:
        """Write the epoch's line, above the bar."""
        self.write(self.line(trainer))

    def write(self, line: str) -> None:
        """Write a line, above the bar."""
        file = self._line_file or sys.stderr
        if self._bar is None:
            print(line, file=file, flush=True)
        else:
            self._bar.write(line, file=file)
            file.flush()

    def status(self, trainer: Trainer) -> Status:
        """Return what is shown; to be overridden where the items have another name."""
        return trainer.status()

    def line(self, trainer: Trainer) -> str:
        """Return what is said of the last epoch; to be overridden to say it otherwise."""
        record, status = trainer.history[-1], self.status(trainer)
        parts = [_number(record, name) for name in ("loss", *(m.name for m in trainer.metrics))]
        speed = rate(status._replace(items_per_second=record["items_per_second"]))
        if record["skipped"]:
            parts.append(f"{record['skipped']} steps skipped")
        number = numbered(record["epoch"] - status.first_epoch, status)
        return f"{number}: {', '.join(parts)}, {record['seconds']:.1f} s, {speed}"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _number(record: Record, name: str) -> str:
    """Return "loss 1.2345 (validation 1.3456)"."""
    text = f"{name.replace('_', ' ')} {record[name]:.5g}"
    held_out = record.get(f"validation_{name}")
    return text if held_out is None else f"{text} (validation {held_out:.5g})"


def numbered(epoch: int, status: Status) -> str:
    """Return "epoch 3/10", or "epoch 3" where it is not known how many there will be."""
    return f"epoch {epoch}/{status.epochs}" if status.epochs else f"epoch {epoch}"


def rate(status: Status) -> str:
    """Return "1,234 sequences/s"."""
    return f"{status.items_per_second:,.0f} {status.unit}/s"


def _clock(seconds: float) -> str:
    whole = round(min(seconds, 359999))
    hours, minutes = whole // 3600, whole // 60 % 60
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{whole % 60:02d}"


def _make_bar(file: TextIO) -> Any:
    """Return tqdm's bar of 0 to 1, or None where lines are better."""
    if not file.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(
        total=1.0,
        bar_format="{percentage:3.0f}%|{bar}|",
        leave=False,
        dynamic_ncols=True,
        file=file,
    )
