"""``fastrnn train``: a character model from a text."""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from ..serialization import write_atomically
from .common import (
    MODEL_FILE,
    CommandError,
    Commands,
    add_command,
    add_running,
    config,
    option,
    output_folder,
    read_text,
    require,
    set_threads,
)
from .config import CONFIG_FILE, add_config, effective

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

    from ..text import Recipe, Training

__all__ = ["add_train"]

CONFIG_NOTE = "# fastrnn train FILE --config config.toml trains this model again.\n"
TRAIN_NOTES = """\
examples:
  fastrnn train book.txt --out book
  fastrnn train book.txt --cell gru --hidden 256 --epochs 30 --out book-gru
  fastrnn train book.txt --epochs 1000 --time-limit 60        (one minute)

The first 95 % of the characters train, the last 5 % validate; losses are in
nats per character. DIR/model.safetensors is written after each epoch: it holds
the last model, not the best, and its validation loss. Ctrl-C saves what there
is, within the epoch, and ends with status 130.
"""


def add_train(commands: Commands) -> None:
    """Add the command ``train``."""
    parser = add_command(
        commands,
        "train",
        _train,
        help="train a character model on a text file",
        usage="fastrnn train FILE [options]",
        description="Train a character model on a text file.",
        epilog=TRAIN_NOTES,
    )
    parser.add_argument("file", metavar="FILE", help="text in UTF-8")
    add = parser.add_argument_group("model").add_argument
    add("--cell", metavar="CELL", default="lstm", help="lstm, gru or rnn (default: lstm)")
    add("--hidden", metavar="N", type=int, default=128, help="units of a layer (default: 128)")
    add("--layers", metavar="N", type=int, default=2, help="recurrent layers (default: 2)")
    add("--dropout", metavar="P", type=float, default=0.0, help="between layers (default: 0)")
    add = parser.add_argument_group("training").add_argument
    add("--seq-len", metavar="N", type=int, default=50, help="window, in characters (default: 50)")
    add("--batch", metavar="N", type=int, default=50, help="parallel streams (default: 50)")
    add("--epochs", metavar="N", type=int, default=10, help="passes over the text (default: 10)")
    add("--lr", metavar="X", type=float, default=2e-3, help="learning rate (default: 0.002)")
    add(
        "--clip",
        metavar="X",
        type=float,
        default=5.0,
        help="limit of each gradient value, 0 for none (default: 5)",
    )
    add("--seed", metavar="N", type=int, default=1, help="of weights and dropout (default: 1)")
    add("--time-limit", metavar="S", type=float, help="end training after S seconds")
    running = add_running(parser)
    add_config(running, "train")
    running.add_argument(
        "--out", metavar="DIR", default="fastrnn-model", help="default: fastrnn-model"
    )


def _train(arguments: argparse.Namespace) -> int:
    require("safetensors", "tqdm")
    from .. import text

    recipe = _recipe(arguments)
    limit = math.inf if arguments.time_limit is None else arguments.time_limit
    if not limit > 0:
        raise CommandError(f"--time-limit: expected a number above 0, got {limit}")
    if arguments.print_config:
        print(effective(arguments), end="")
        return 0
    content = read_text(arguments.file)
    set_threads(arguments.threads)
    try:
        training = text.Training(content, recipe)
    except ValueError as error:
        raise CommandError(str(error).replace("text:", f"{arguments.file}:", 1)) from None
    folder = output_folder(arguments.out)
    path = folder / MODEL_FILE
    write_atomically(folder / CONFIG_FILE, (CONFIG_NOTE + effective(arguments)).encode())
    facts = config()
    print(
        f"{arguments.file}: {len(content):,} characters, {len(training.vocabulary)} different\n"
        f"{recipe.cell.upper()} {recipe.layers} x {recipe.hidden}, "
        f"{training.model.num_parameters():,} parameters; "
        f"threads: {facts['threads']}, instruction set: {facts['isa']}",
        flush=True,
    )
    report = _run(training, path, limit)
    if report["interrupted"]:
        measured = ", not validated" if report["validation_loss"] is None else ""
        print(
            f"Interrupted after {report['epochs']:.2f} epochs; saved {path}{measured}.",
            file=sys.stderr,
        )
    else:
        print(f"Saved {path}. Let it write:\n  fastrnn sample {arguments.out} --temperature 0.7")
    if arguments.json:
        about = {"threads": facts["threads"], "isa": facts["isa"], "model": str(path)}
        print(json.dumps({**asdict(recipe), **report, **about}))
    return 130 if report["interrupted"] else 0


def _run(training: Training, path: Path, limit: float) -> dict[str, Any]:
    """Train for at most `limit` seconds, save after each epoch; return what `--json` reports."""
    spent = 0.0  # seconds of training, without validation
    windows = 0
    epoch_seconds = []
    with _Interrupt() as interrupt, Progress(training, limit) as progress:
        for epoch in range(1, training.recipe.epochs + 1):
            losses, before, start = [], spent, time.perf_counter()
            for loss in training.epoch():
                losses.append(_finite(loss, epoch, path))
                spent = before + time.perf_counter() - start
                progress.update(epoch, windows + len(losses), loss, spent)
                if interrupt.pressed or spent >= limit:
                    break
            windows += len(losses)
            if len(losses) == training.windows:
                epoch_seconds.append(spent - before)
            measured = None if interrupt.pressed else _finite(training.validate(), epoch, path)
            report = {
                "validation_loss": measured,
                "train_loss": sum(losses) / len(losses),
                "epochs": round(windows / training.windows, 4),
            }
            _save(training, path, report)
            progress.line(epoch, report, len(losses), spent - before)
            if interrupt.pressed or spent >= limit:
                break
    return {
        **report,
        "seconds_per_epoch": statistics.median_high(epoch_seconds) if epoch_seconds else None,
        "characters_per_second": windows * training.window_size / spent,
        "parameters": training.model.num_parameters(),
        "interrupted": interrupt.pressed,
    }


def _finite(loss: float, epoch: int, path: Path) -> float:
    if not math.isfinite(loss):
        kept = f"; {path} holds the model of epoch {epoch - 1}" if epoch > 1 else ""
        raise CommandError(
            f"the loss is {loss} in epoch {epoch}: try a lower --lr or --clip{kept}", 1
        )
    return loss


def _save(training: Training, path: Path, report: dict[str, Any]) -> None:
    try:
        training.save(path, **report)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}", 1) from None


class _Interrupt:
    """Holds Ctrl-C back until a window is complete (`pressed`); a second one ends at once."""

    pressed = False

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._previous)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from ..text import Recipe

    try:
        return Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    except ValueError as error:
        raise CommandError(option(error)) from None
