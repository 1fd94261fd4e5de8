"""The command line: ``fastrnn train``, ``sample``, ``eval``, ``inspect``, ``info`` and ``bench``.

Results go to standard output, progress and errors to standard error. The exit status is 0; 2 for
bad input, which gets one line; 1 if training diverged or a file could not be written; 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .progress import Progress

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

    from .text import Recipe, TextModel, Training

__all__ = ["main"]

MODEL_FILE = "model.safetensors"


class CommandError(Exception):
    """Ends the command: one line for standard error, and the exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default that of the process); return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a model may know more than the terminal
        sys.stdout.reconfigure(errors="replace")
    name = "fastrnn"
    try:
        arguments = _parser().parse_args(argv)
        name = f"fastrnn {arguments.command}"
        run: Callable[[argparse.Namespace], int] = arguments.run
        status = run(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except CommandError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.status
    except MemoryError:
        print(f"{name}: not enough memory", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


# --- train ----------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    _require("safetensors", "tqdm")
    from . import text

    recipe = _recipe(arguments)
    limit = math.inf if arguments.time_limit is None else arguments.time_limit
    if not limit > 0:
        raise CommandError(f"--time-limit: expected a number above 0, got {limit}")
    content = _read_text(arguments.file)
    _set_threads(arguments.threads)
    try:
        training = text.Training(content, recipe)
    except ValueError as error:
        raise CommandError(str(error).replace("text:", f"{arguments.file}:", 1)) from None
    path = _output_file(arguments.out)
    facts = _config()
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


# --- sample, eval, inspect, info, bench ----------------------------------------------------------


def _sample(arguments: argparse.Namespace) -> int:
    from . import text

    loaded = _load(arguments.model)
    try:
        loaded.vocabulary.encode(arguments.prime)
    except ValueError as error:
        raise CommandError(f"--prime: {error}") from None
    names = ("length", "prime", "temperature", "top_k", "top_p", "seed")
    options = {name: getattr(arguments, name) for name in names}
    try:
        characters = text.sample(loaded.model, loaded.vocabulary, **options)
    except ValueError as error:
        raise CommandError(_option(error)) from None
    sys.stdout.write(arguments.prime)
    for character in characters:
        sys.stdout.write(character)
        sys.stdout.flush()
    print()
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from . import data, training

    loaded = _load(arguments.model)
    content = _read_text(arguments.file)
    _set_threads(arguments.threads)
    if arguments.unknown not in (None, *loaded.vocabulary.characters):
        raise CommandError(
            f"--unknown: expected a character that the model knows, got {arguments.unknown!r}"
        )
    if arguments.validation:
        content = data.split(content)[1]
    batch = loaded.recipe.batch
    if len(content) <= batch:
        raise CommandError(
            f"{arguments.file}: expected more than {batch} characters (the streams the model was "
            f"trained with), got {len(content)}"
        )
    try:
        ids = loaded.vocabulary.encode(content, unknown=arguments.unknown)
    except ValueError as error:
        raise CommandError(f"{arguments.file}: {error}") from None
    streams = data.Streams(ids, batch)
    loss = training.evaluate(loaded.model, streams, seq_len=loaded.recipe.seq_len)
    count = len(streams) * streams.batch
    if arguments.json:
        finite = loss if math.isfinite(loss) else None
        print(json.dumps({"loss": finite, "characters": count}))
    else:
        bits = loss / math.log(2)
        print(f"{loss:.4f} nats/char ({bits:.4f} bits) over {count:,} characters")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from .inspect import command

    try:
        return command.run(arguments, _load(arguments.model), _read_text(arguments.file))
    except ValueError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"--out: {arguments.out}: {error.strerror or error}") from None


def _info(arguments: argparse.Namespace) -> int:
    facts = _config()
    if arguments.model is not None:
        loaded = _load(arguments.model)
        facts = {
            "model": str(_model_file(arguments.model)),
            "parameters": loaded.model.num_parameters(),
            **asdict(loaded.recipe),
            **{name: value for name, value in loaded.metadata.items() if name != "recipe"},
        }
    if arguments.json:
        print(json.dumps(facts))
        return 0
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):16} {_shown(value)}")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    _require("tqdm", "matplotlib", extra="bench")
    from .bench import command

    try:
        return command.run(arguments)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from None


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    text = "not measured" if value is None else str(value)
    return text if text.isprintable() else repr(text)


# --- what the commands share ----------------------------------------------------------------------


def _require(*modules: str, extra: str = "train") -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(f"needs {' and '.join(missing)}: pip install 'fastrnn[{extra}]'")


def _config() -> dict[str, Any]:
    from . import config

    return dict(config())


def _set_threads(count: int | None) -> None:
    from . import set_num_threads

    if count is not None:
        try:
            set_num_threads(count)
        except ValueError as error:
            raise CommandError(_option(error, "threads")) from None


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from .text import Recipe

    try:
        return Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    except ValueError as error:
        raise CommandError(_option(error)) from None


def _option(error: ValueError, option: str | None = None) -> str:
    """Return the message with an option for the argument it names: "--seq-len: expected ..."."""
    argument, _, rest = str(error).partition(":")
    return f"--{(option or argument).replace('_', '-')}:{rest}"


def _read_text(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CommandError(
            f"{path}: not UTF-8 text (byte 0x{byte:02x} at offset {error.start})"
        ) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not text:
        raise CommandError(f"{path}: the file is empty")
    return text


def _output_file(folder: str) -> Path:
    """Return the model's path in a folder that exists and can be written to, before training."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out: {folder}: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise CommandError(f"--out: {folder}: no permission to write there")
    return Path(folder) / MODEL_FILE


def _model_file(path: str) -> Path:
    return Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)


def _load(path: str) -> TextModel:
    _require("safetensors")
    from . import text

    try:
        return text.load_model(_model_file(path))
    except OSError as error:
        raise CommandError(f"{_model_file(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


# --- arguments ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors are one line, and all end in `main`."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


EXAMPLES = """\
examples:
  fastrnn train book.txt --out book        train a character model on a text
  fastrnn sample book --temperature 0.7    let it write
  fastrnn eval book other.txt              its loss on another text
  fastrnn inspect book book.txt            which cells follow quotes or lines
  fastrnn info book                        how it was made
  fastrnn bench --quick                    its speed beside other libraries

fastrnn COMMAND --help says more.
"""

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


def _parser() -> argparse.ArgumentParser:
    from .bench import command as bench_command
    from .inspect import command as inspect_command

    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="fastrnn",
        usage="fastrnn COMMAND ...",
        description="Fast recurrent networks on the CPU: train a character model, let it write.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands", prog="fastrnn"
    )
    train = commands.add_parser(
        "train",
        help="train a character model on a text file",
        usage="fastrnn train FILE [options]",
        description="Train a character model on a text file.",
        epilog=TRAIN_NOTES,
        formatter_class=raw,
    )
    train.set_defaults(run=_train)
    _add_train_arguments(train)

    sample = commands.add_parser(
        "sample",
        help="let a model write text",
        usage="fastrnn sample MODEL [options]",
        description="Write text with a model, character by character.",
        epilog='example:\n  fastrnn sample book --prime "It was " --temperature 0.7 --seed 1\n',
        formatter_class=raw,
    )
    sample.set_defaults(run=_sample)
    _add_model(sample)
    add = sample.add_argument
    add("--length", metavar="N", type=int, default=500, help="characters to write (default: 500)")
    add(
        "--temperature",
        metavar="X",
        type=float,
        default=1.0,
        help="below 1 safer, above 1 wilder, 0 always the likeliest (default: 1)",
    )
    add("--top-k", metavar="N", type=int, help="draw only from the N likeliest characters")
    add("--top-p", metavar="P", type=float, help="only from the likeliest that have the share P")
    add("--prime", metavar="TEXT", default="", help="text to go on from")
    add("--seed", metavar="N", type=int, help="number that makes the same text again")

    evaluate = commands.add_parser(
        "eval",
        help="measure a model's loss on a text file",
        usage="fastrnn eval MODEL FILE [options]",
        description="Measure a model's loss on a text file, in nats per character. The text is\n"
        "read in as many parallel streams as the model was trained with.",
        formatter_class=raw,
    )
    evaluate.set_defaults(run=_eval)
    _add_model(evaluate)
    add = evaluate.add_argument
    add("file", metavar="FILE", help="text in UTF-8")
    add("--validation", action="store_true", help="only the last 5 %% of it, as train does")
    add("--unknown", metavar="CHAR", help="stands in for characters the model does not know")
    _add_running(evaluate)

    inspect = commands.add_parser(
        "inspect",
        help="find and show cells that follow a property of a text",
        usage="fastrnn inspect MODEL FILE [options]",
        description=inspect_command.DESCRIPTION,
        epilog=inspect_command.EPILOG,
        formatter_class=raw,
    )
    inspect.set_defaults(run=_inspect)
    _add_model(inspect)
    inspect_command.add_arguments(inspect)

    info = commands.add_parser(
        "info",
        help="show version, instruction set and threads, or what a model is",
        usage="fastrnn info [MODEL] [--json]",
        description="Show version, instruction set and threads; with MODEL, what the model is.",
    )
    info.set_defaults(run=_info)
    _add_model(info, nargs="?")
    _add_json(info)

    bench = commands.add_parser(
        "bench",
        help="measure this machine, fastrnn and the other libraries that are installed",
        usage="fastrnn bench [options]",
        description=bench_command.DESCRIPTION,
        epilog=bench_command.EPILOG,
        formatter_class=raw,
    )
    bench.set_defaults(run=_bench)
    bench_command.add_arguments(bench)
    return parser


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
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
    running = _add_running(parser)
    running.add_argument(
        "--out", metavar="DIR", default="fastrnn-model", help="default: fastrnn-model"
    )


def _add_model(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs=nargs, help="model file, or the folder it is in"
    )


def _add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("running")
    group.add_argument("--threads", metavar="N", type=int, help="default: one for each core")
    _add_json(group)
    return group


def _add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="a JSON object as the last line")


if __name__ == "__main__":
    sys.exit(main())
