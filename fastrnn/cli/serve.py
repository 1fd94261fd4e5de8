"""``fastrnn serve``: models over HTTP and WebSockets."""

from __future__ import annotations

import argparse
from dataclasses import Field
from typing import Any

from .common import CommandError, Commands, add_command, option, require

__all__ = ["add_serve"]

NOTES = """\
examples:
  fastrnn serve book                                 at http://127.0.0.1:8000/
  fastrnn serve speech=gru.safetensors book --port 9000
  fastrnn serve book,max_sessions=100 --host 0.0.0.0 --token-file tokens

A model is a file that fastrnn.save wrote, or the folder of one. NAME= is its
name in URLs; quotas follow with commas: max_sessions, max_steps, max_running.
A changed file is served as soon as it is whole; sessions of the old one go on
with the old one.

With tokens, each request needs one: Authorization: Bearer TOKEN. They come from
--token-file, one a line, or the environment variable FASTRNN_TOKENS, at least
16 characters each:
  python -c "import secrets; print(secrets.token_urlsafe())" > tokens
The server does not encrypt: over a network, put a proxy with TLS before it.

SIGTERM ends it once all that was accepted is answered.
"""


def add_serve(commands: Commands) -> None:
    """Add the command ``serve``."""
    from ..serve.settings import settings_fields

    parser = add_command(
        commands,
        "serve",
        _serve,
        help="serve models over HTTP and WebSockets",
        usage="fastrnn serve [NAME=]MODEL[,QUOTA=N...] ... [--port N] ...",
        description="Serve models: whole sequences, streams, generated text, and a page to try it.",
        epilog=NOTES,
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help="file or folder of a model")
    groups: dict[str, Any] = {}
    for each in settings_fields():
        group = each.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], each)
    groups["network"].add_argument(
        "--token-file", metavar="FILE", help="bearer tokens that let clients in, one a line"
    )


def _add(group: argparse._ArgumentGroup, each: Field[Any]) -> None:
    """Add the option of one setting."""
    flag, more = "--" + each.name.replace("_", "-"), each.metadata
    if each.type == "bool":
        group.add_argument(flag, action="store_true", help=more["help"])
        return
    kind = {"i": int, "f": float, "s": str, "t": str}[str(each.type)[0]]
    several = str(each.type).startswith("tuple")
    known = "" if several or each.default is None else f" (default: {_shown(each.default)})"
    group.add_argument(
        flag,
        metavar=more["metavar"],
        type=kind,
        choices=more.get("choices"),
        action="append" if several else "store",
        default=None if several else each.default,
        help=more["help"] + known,
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _serve(arguments: argparse.Namespace) -> int:
    require(
        "fastapi",
        "uvicorn",
        "httptools",
        "websockets",
        "prometheus_client",
        "safetensors",
        extra="serve",
    )
    from ..serve import ModelSettings, Settings, read_tokens, serve
    from ..serve.settings import settings_fields

    try:
        tokens = read_tokens(arguments.token_file)
    except (OSError, ValueError) as error:
        raise CommandError(f"--token-file: {_words(error)}") from None
    values = {each.name: getattr(arguments, each.name) for each in settings_fields()}
    several = [each.name for each in settings_fields() if str(each.type).startswith("tuple")]
    values |= {name: tuple(values[name] or ()) for name in several}
    try:
        settings = Settings(tokens=tokens, **values)
    except (TypeError, ValueError) as error:
        raise CommandError(option(error)) from None
    try:
        serve(settings, [ModelSettings.parse(text) for text in arguments.models])
    except OSError as error:
        raise CommandError(_words(error)) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    return 0


def _words(error: Exception) -> str:
    """Return what an error says, as the other commands put it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror or error}"
    return str(error)
