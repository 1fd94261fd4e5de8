"""``--config recipe.toml``: a command's flags from a file, and what they are in effect.

The table of the command's name holds the long flags without their dashes (``seq-len = 50``). What
the command line says comes first.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .common import CommandError, Parser

__all__ = ["CONFIG_FILE", "add_config", "config_file", "effective", "set_defaults"]

CONFIG_FILE = "config.toml"
MOST_BYTES = 1_000_000
# Of one run: they are no keys, and those that may be one are not kept.
RUN_ONLY = ("help", "config", "print-config", "json", "resume")
NOT_KEPT = ("out", "plot", "time-limit")


def add_config(parser: argparse._ActionsContainer, table: str) -> None:
    """Add --config and --print-config."""
    add = parser.add_argument
    add("--config", metavar="TOML", help=f"file with flags in a table [{table}]; flags override it")
    add("--print-config", action="store_true", help="print the flags in effect as TOML, and end")


def config_file(arguments: argparse.Namespace) -> str | None:
    """Return the file that holds flags: --config, or what the training to go on from left."""
    chosen: str | None = getattr(arguments, "config", None)
    if chosen is None and getattr(arguments, "resume", False):
        left = Path(arguments.out) / CONFIG_FILE
        return str(left) if left.exists() else None
    return chosen


def set_defaults(path: str, table: str, parser: Parser) -> None:
    """Make what a file says the defaults of a command's flags."""
    actions = dict(_actions(parser))
    defaults = {}
    for key, value in _table(path, table).items():
        if key not in actions:
            close = difflib.get_close_matches(key, actions, 1)
            hint = f"did you mean {close[0]}?" if close else f"see {parser.prog} --help"
            raise CommandError(f"{path}: {key}: no such key in [{table}] ({hint})")
        defaults[actions[key].dest] = _checked(f"{path}: {key}", value, actions[key])
    parser.set_defaults(**defaults)


def effective(arguments: argparse.Namespace) -> str:
    """Return the flags in effect as TOML, for `set_defaults`; those without a value are left out.

    Where the results go, and for how long this run may take, is no part of it.
    """
    lines = [f"[{arguments.command}]"]
    for name, action in _actions(arguments.parser):
        value = getattr(arguments, action.dest)
        if value is not None and name not in NOT_KEPT:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Yield name and action of each flag that a file may set."""
    for action in parser._actions:
        names = [flag.removeprefix("--") for flag in action.option_strings if flag[:2] == "--"]
        if names and names[0] not in RUN_ONLY:
            yield names[0], action


def _table(path: str, table: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        from .common import require

        require("tomli")
        import tomli as tomllib
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"expected at most {MOST_BYTES:,} bytes")
        found = tomllib.loads(content.decode())
    except OSError as error:
        raise CommandError(f"--config: {path}: {error.strerror or error}") from None
    except (RecursionError, ValueError) as error:
        raise CommandError(f"{path}: not TOML ({error})") from None
    for key, value in found.items():
        if not isinstance(value, dict):
            raise CommandError(f"{path}: {key}: expected it in a table [{table}]")
    if table not in found:
        raise CommandError(f"{path}: expected a table [{table}]")
    values: dict[str, Any] = found[table]
    return values


def _checked(name: str, value: Any, action: argparse.Action) -> Any:
    """Return the value as the flag would give it; CommandError for another type."""
    if action.nargs == 0:
        return _of_type(name, value, bool, "true or false")
    kinds = {int: (int, "an integer"), float: ((int, float), "a number"), None: (str, "a string")}
    kind, words = kinds[action.type]  # type: ignore[index]
    if action.nargs == "+":
        values = _of_type(name, value, list, f"an array, each {words}")
        return [_of_type(f"{name}[{i}]", part, kind, words) for i, part in enumerate(values)]
    found = _of_type(name, value, kind, words)
    return float(str(found)) if action.type is float else found  # as the flag: never too large


def _of_type(name: str, value: Any, kind: Any, words: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CommandError(f"{name}: expected {words}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return _toml(value) if isinstance(value, (bool, int, float, str)) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):  # as JSON, but for one control character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)  # infinities and NaN are written alike
