"""``fastrnn train``: a character model from a text."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from .config import add_config, effective

if TYPE_CHECKING:
    from ..text import Recipe, Training
    from .callbacks import Part

__all__ = ["add_train"]

CONFIG_NOTE = "# fastrnn train FILE --config config.toml trains this model again.\n"
TRAIN_NOTES = """\
examples:
  fastrnn train book.txt --out book
  fastrnn train book.txt --cell gru --hidden 256 --epochs 30 --out book-gru
  fastrnn train book.txt --epochs 1000 --time-limit 60        (one minute)
  fastrnn train book.txt --epochs 100 --patience 3 --schedule plateau
  fastrnn train book.txt --config recipe.toml --lr 0.001
  fastrnn train book.txt --out book --resume                  (after a kill)

The first 95 % of the characters train, the last 5 % validate; losses are in
nats per character. After each epoch DIR gets
  model.safetensors       the last model; in the end, with --patience, the best
  checkpoint.safetensors  for --resume, which gives the same bits as training
                          that was never interrupted
  log.csv, log.jsonl      losses, norms of gradients, speed; also TensorBoard's
                          events, where the package tensorboard is installed
config.toml holds the flags in effect; --resume reads it where no --config is
given. Ctrl-C saves what there is, within the epoch, and ends with status 130.
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
    add(
        "--optimizer",
        metavar="NAME",
        default="rmsprop",
        help="rmsprop, adam, adamw or sgd (default: rmsprop)",
    )
    add("--lr", metavar="X", type=float, default=2e-3, help="learning rate (default: 0.002)")
    add(
        "--schedule",
        metavar="NAME",
        default="late",
        help="of the learning rate: late, constant, exponential, cosine, plateau or warmup "
        "(default: late: * 0.97 after each epoch from the tenth)",
    )
    add(
        "--clip",
        metavar="X",
        type=float,
        default=5.0,
        help="limit of each gradient value, 0 for none (default: 5)",
    )
    add(
        "--clip-norm",
        metavar="X",
        type=float,
        default=0.0,
        help="limit of the norm of all gradients, 0 for none (default: 0)",
    )
    add(
        "--patience",
        metavar="N",
        type=int,
        default=0,
        help="end after N epochs without a better validation loss, with the best weights; "
        "0: never (default: 0)",
    )
    add("--seed", metavar="N", type=int, default=1, help="of weights and dropout (default: 1)")
    add("--time-limit", metavar="S", type=float, help="end training after S seconds")
    running = add_running(parser)
    add_config(running, "train")
    add = running.add_argument
    add("--out", metavar="DIR", default="fastrnn-model", help="default: fastrnn-model")
    add("--resume", action="store_true", help="go on from the checkpoint in DIR, if there is one")
    add(
        "--checkpoint-every",
        metavar="N",
        type=int,
        help="write the checkpoint every N windows, too",
    )


def _train(arguments: argparse.Namespace) -> int:
    require("safetensors", "tqdm")
    from .. import text

    recipe = _recipe(arguments)
    limits = {
        "--time-limit": arguments.time_limit,
        "--checkpoint-every": arguments.checkpoint_every,
    }
    for flag, value in limits.items():
        if value is not None and not value > 0:
            raise CommandError(f"{flag}: expected a number above 0, got {value}")
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
    facts = config()
    print(
        f"{arguments.file}: {len(content):,} characters, {len(training.vocabulary)} different\n"
        f"{recipe.cell.upper()} {recipe.layers} x {recipe.hidden}, "
        f"{training.model.num_parameters():,} parameters; "
        f"threads: {facts['threads']}, instruction set: {facts['isa']}",
        flush=True,
    )
    report = _run(training, folder, arguments)
    _say(training, report, arguments)
    if arguments.json:
        about = {"threads": facts["threads"], "isa": facts["isa"]}
        print(json.dumps({**asdict(recipe), **report, **about, "model": str(folder / MODEL_FILE)}))
    return 130 if report["interrupted"] else 0


def _run(training: Training, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and save the model; return what `--json` reports."""
    from ..training.checkpoints import FILE as CHECKPOINT_FILE
    from .callbacks import Interrupt, Keeper, TextProgress

    interrupt, progress = Interrupt(), TextProgress(arguments.time_limit is not None)
    keeper = Keeper(training, folder, CONFIG_NOTE + effective(arguments), progress)
    if arguments.resume and not (folder / CHECKPOINT_FILE).exists():
        print(f"No checkpoint in {folder}: training begins anew.", flush=True)
    try:
        training.fit(
            callbacks=[interrupt, keeper, progress],
            progress=False,
            checkpoint=folder,
            checkpoint_every=arguments.checkpoint_every,
            resume=arguments.resume,
            time_limit=arguments.time_limit,
        )
    except FloatingPointError as error:
        raise _diverged(error, training.trainer.epoch, folder / MODEL_FILE) from None
    except OSError as error:
        where = "" if "checkpoint" in str(error.strerror) else f"{folder}: "
        raise CommandError(f"{where}{error.strerror or error}", 1) from None
    except ValueError as error:  # the checkpoint is damaged, or another training's
        raise CommandError(str(error)) from None
    report = _result(training, keeper.part, interrupt.pressed)
    keeper.save(report)
    return {**report, **_speed(training, keeper.part), "interrupted": interrupt.pressed}


def _diverged(error: FloatingPointError, epochs: int, path: Path) -> CommandError:
    from ..training.trainer import ADVICE

    kept = f"; {path} holds the model of epoch {epochs}" if epochs else ""
    return CommandError(f"{str(error).removesuffix(ADVICE)} Try a lower --lr or --clip{kept}", 1)


def _result(training: Training, part: Part | None, interrupted: bool) -> dict[str, Any]:
    """Return what is known of the model as training left it; print the line of a part epoch."""
    from .callbacks import epoch_line, finite, report_of

    history, epochs = training.trainer.history, training.trainer.epoch
    if training.recipe.patience and history:  # the model has its best weights
        return report_of(min(history, key=lambda record: record["validation_loss"]))
    if part is None:
        return report_of(history[-1])
    loss = None if interrupted else finite(training.validate(), epochs + 1)
    number = f"{part.number} ({part.share:.0%})"
    print(epoch_line(number, part.loss, loss, part.seconds, part.per_second), flush=True)
    return {
        "validation_loss": loss,
        "train_loss": part.loss,
        "epochs": round(epochs + part.share, 4),
    }


def _speed(training: Training, part: Part | None) -> dict[str, Any]:
    """Return how long training took."""
    trainer, recipe = training.trainer, training.recipe
    seconds = trainer.history["seconds"]
    characters = trainer.step * recipe.batch * recipe.seq_len
    whole = sum(seconds) + (0.0 if part is None else part.seconds)
    return {
        "seconds_per_epoch": statistics.median_high(seconds) if seconds else None,
        "characters_per_second": characters / whole,
        "parameters": training.model.num_parameters(),
    }


def _say(training: Training, report: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print how training ended."""
    path = Path(arguments.out) / MODEL_FILE
    if report["interrupted"]:
        measured = ", not validated" if report["validation_loss"] is None else ""
        print(
            f"Interrupted after {report['epochs']:.2f} epochs; saved {path}{measured}. "
            "Go on: the same command with --resume.",
            file=sys.stderr,
        )
        return
    if report["epochs"] < training.trainer.epoch:
        print(f"The best of {training.trainer.epoch} epochs was epoch {report['epochs']}.")
    print(f"Saved {path}. Let it write:\n  fastrnn sample {arguments.out} --temperature 0.7")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from ..text import Recipe

    try:
        return Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    except ValueError as error:
        raise CommandError(option(error)) from None
