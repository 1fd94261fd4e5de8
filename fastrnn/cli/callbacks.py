"""What the commands do while a model trains: stop at Ctrl-C, show progress, keep the model."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..serialization import write_atomically
from ..training import Callback, Progress
from ..training.progress import numbered
from .common import MODEL_FILE, CommandError
from .config import CONFIG_FILE

if TYPE_CHECKING:
    from types import FrameType

    from ..text import Training
    from ..training import Trainer
    from ..training.run import Status

__all__ = ["Interrupt", "Keeper", "Part", "TextProgress", "epoch_line", "finite", "report_of"]


class Interrupt(Callback):
    """Holds Ctrl-C back until a step is complete (`pressed`); a second one ends at once."""

    pressed = False

    def on_fit_start(self, trainer: Trainer) -> None:
        """Listen."""
        self._previous = signal.signal(signal.SIGINT, self._press)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_step(self, trainer: Trainer) -> None:
        """Stop if it was pressed."""
        trainer.stop |= self.pressed

    def on_epoch(self, trainer: Trainer) -> None:
        """Stop if it was pressed while the model was validated."""
        trainer.stop |= self.pressed

    def close(self) -> None:
        """Leave Ctrl-C as it was."""
        if hasattr(self, "_previous"):
            signal.signal(signal.SIGINT, self._previous)


class TextProgress(Progress):
    """The bar on standard error, a line for each epoch on standard output; `limited`: by time."""

    def __init__(self, limited: bool) -> None:
        super().__init__(line_file=sys.stdout)
        self._limited = limited

    def status(self, trainer: Trainer) -> Status:
        """Return what is shown."""
        status = trainer.status()
        return status._replace(unit="char", epochs=0 if self._limited else status.epochs)

    def line(self, trainer: Trainer) -> str:
        """Return what is said of the last epoch."""
        record = trainer.history[-1]
        number = numbered(record["epoch"], self.status(trainer))
        speed = record["seconds"], record["items_per_second"]
        return epoch_line(number, record["loss"], record["validation_loss"], *speed)


def epoch_line(
    number: str, loss: float, validation: float | None, seconds: float, per_second: float
) -> str:
    """Return what is said of an epoch, or of the part of one that was trained."""
    measured = "not validated" if validation is None else f"validation {validation:.4f} nats/char"
    return f"{number}: train {loss:.4f}, {measured}, {seconds:.1f} s, {per_second:,.0f} char/s"


class Part(NamedTuple):
    """Of an epoch that training was stopped in: its number, the share of it that was trained."""

    number: str
    share: float
    loss: float
    seconds: float
    per_second: float


class Keeper(Callback):
    """Saves the model after each epoch, and the configuration before the first.

    Attributes
    ----------
    part : Part or None
        Of the epoch in which training was stopped, if it was within one.
    """

    part: Part | None = None

    def __init__(
        self, training: Training, folder: Path, config: str, progress: TextProgress
    ) -> None:
        self._training, self._folder = training, folder
        self._config, self._progress = config, progress

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write the configuration, now that a checkpoint has been found to fit it."""
        write_atomically(self._folder / CONFIG_FILE, self._config.encode())
        if trainer.step:
            print(f"Going on after {trainer.epoch} epochs, {trainer.step} windows.", flush=True)

    def on_epoch(self, trainer: Trainer) -> None:
        """Save the model."""
        record = trainer.history[-1]
        finite(record["validation_loss"], record["epoch"])
        self.save(report_of(record))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Note how far it came within an epoch."""
        windows = len(self._training.train)
        steps = trainer.step - trainer.epoch * windows
        if steps:
            status, recipe = self._progress.status(trainer), self._training.recipe
            seconds = steps * recipe.batch * recipe.seq_len / status.items_per_second
            self.part = Part(
                numbered(trainer.epoch + 1, status),
                steps / windows,
                status.loss,
                seconds,
                status.items_per_second,
            )

    def save(self, report: dict[str, Any]) -> None:
        """Save the model with what was measured of it."""
        path = self._folder / MODEL_FILE
        try:
            self._training.save(path, **report)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror or error}", 1) from None


def report_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a model's file says of its training, from an epoch's record."""
    return {
        "validation_loss": record["validation_loss"],
        "train_loss": record["loss"],
        "epochs": record["epoch"],
    }


def finite(loss: float, epoch: int) -> float:
    """Return a validation loss; CommandError if it is not finite."""
    if not math.isfinite(loss):
        raise CommandError(
            f"the validation loss is {loss} in epoch {epoch}: try a lower --lr or --clip", 1
        )
    return loss
