"""The progress of ``fastrnn train`` on a terminal, or in a log."""

from __future__ import annotations

import math
import statistics
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .text import Training

__all__ = ["Progress"]


class Progress:
    """A bar on standard error; where that is no terminal, a line every half minute."""

    def __init__(self, training: Training, limit: float) -> None:
        from tqdm import tqdm

        self._training, self._limit = training, limit
        epochs = training.recipe.epochs
        self._windows = epochs * training.windows
        self._epochs = f"/{epochs}" if math.isinf(limit) else ""
        self._terminal = sys.stderr.isatty()
        self._interval = 0.1 if self._terminal else 30.0
        self._shown = 0.0
        self._losses: deque[float] = deque(maxlen=50)
        self._bar = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f}%|{bar}|",
            leave=False,
            dynamic_ncols=True,
            disable=not self._terminal,
        )

    def update(self, epoch: int, windows: int, loss: float, spent: float) -> None:
        """Say that so many windows of all epochs are done, in so many seconds."""
        self._losses.append(loss)
        if spent < self._shown + self._interval:
            return
        self._shown = spent
        part = min(max(windows / self._windows, spent / self._limit), 1.0)
        left = round(spent * (1 - part) / part)
        where = f"epoch {epoch}{self._epochs}"
        text = (
            f"loss {statistics.fmean(self._losses):.3f}, {self._rate(windows, spent)}, "
            f"{left // 60}:{left % 60:02d} left"
        )
        if self._terminal:
            self._bar.bar_format = f"{where} {{percentage:3.0f}}%|{{bar}}| {text}"
            self._bar.n = part
            self._bar.refresh()
        else:
            print(f"{where}, {part:.0%}: {text}", file=sys.stderr, flush=True)

    def line(self, epoch: int, report: dict[str, Any], windows: int, seconds: float) -> None:
        """Print an epoch's line on standard output, above the bar."""
        loss = report["validation_loss"]
        part = "" if windows == self._training.windows else f" ({report['epochs'] % 1:.0%})"
        validation = "not validated" if loss is None else f"validation {loss:.4f} nats/char"
        self._bar.write(
            f"epoch {epoch}{self._epochs}{part}: train {report['train_loss']:.4f}, "
            f"{validation}, {seconds:.1f} s, {self._rate(windows, seconds)}",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def _rate(self, windows: int, seconds: float) -> str:
        return f"{windows * self._training.window_size / seconds:,.0f} char/s"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
