"""What the commands share: errors, checks, models and texts from files, arguments."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ..text import TextModel

__all__ = [
    "MODEL_FILE",
    "CommandError",
    "Parser",
    "add_command",
    "add_json",
    "add_model",
    "add_running",
    "config",
    "load",
    "model_file",
    "option",
    "output_folder",
    "read_text",
    "require",
    "set_threads",
]

MODEL_FILE = "model.safetensors"
PACKAGES = {"sklearn": "scikit-learn"}  # those that are not named as their modules


class CommandError(Exception):
    """Ends the command: one line for standard error, and the exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def require(*modules: str, extra: str = "train") -> None:
    """Raise CommandError, with what to install, if a module is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        names = " and ".join(PACKAGES.get(module, module) for module in missing)
        raise CommandError(f"needs {names}: pip install 'fastrnn[{extra}]'")


def config() -> dict[str, Any]:
    """Return version, instruction set and threads."""
    from .. import config

    return dict(config())


def set_threads(count: int | None) -> None:
    """Do what --threads says."""
    from .. import set_num_threads

    if count is not None:
        try:
            set_num_threads(count)
        except ValueError as error:
            raise CommandError(option(error, "threads")) from None


def option(error: Exception, name: str | None = None) -> str:
    """Return the message with an option for the argument it names: "--seq-len: expected ..."."""
    argument, _, rest = str(error).partition(":")
    return f"--{(name or argument).replace('_', '-')}:{rest}"


# --- files ----------------------------------------------------------------------------------------


def read_text(path: str) -> str:
    """Return the text of a file, which has some."""
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


def output_folder(folder: str) -> Path:
    """Return the folder --out, which exists then and can be written to."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out: {folder}: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise CommandError(f"--out: {folder}: no permission to write there")
    return Path(folder)


def model_file(path: str) -> Path:
    """Return the model's file, given itself or its folder."""
    return Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)


def load(path: str) -> TextModel:
    """Return the character model of a file or folder."""
    require("safetensors")
    from .. import text

    try:
        return text.load_model(model_file(path))
    except OSError as error:
        raise CommandError(f"{model_file(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


# --- arguments ------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Errors are one line, and all end in `main`."""

    def error(self, message: str) -> NoReturn:
        """Raise CommandError."""
        raise CommandError(f"{message} (see {self.prog} --help)")


Commands = Any  # argparse has no public name for what add_subparsers returns


def add_command(commands: Commands, name: str, run: Any, **texts: str) -> Parser:
    """Return the parser of a command; its arguments go to `run`, which returns the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser: Parser = commands.add_parser(name, formatter_class=raw, **texts)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_model(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the argument MODEL."""
    parser.add_argument(
        "model", metavar="MODEL", nargs=nargs, help="model file, or the folder it is in"
    )


def add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add a group with --threads and --json."""
    group = parser.add_argument_group("running")
    group.add_argument("--threads", metavar="N", type=int, help="default: one for each core")
    add_json(group)
    return group


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="a JSON object as the last line")
