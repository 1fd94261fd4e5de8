"""``fastrnn info`` and ``bench``: what there is, and how fast it is."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from .common import (
    CommandError,
    Commands,
    add_command,
    add_json,
    add_model,
    config,
    load,
    model_file,
    require,
)

__all__ = ["add_bench", "add_info"]


def add_info(commands: Commands) -> None:
    """Add the command ``info``."""
    parser = add_command(
        commands,
        "info",
        _info,
        help="show version, instruction set and threads, or what a model is",
        usage="fastrnn info [MODEL] [--json]",
        description="Show version, instruction set and threads; with MODEL, what the model is.",
    )
    add_model(parser, nargs="?")
    add_json(parser)


def _info(arguments: argparse.Namespace) -> int:
    facts = config()
    if arguments.model is not None:
        loaded = load(arguments.model)
        facts = {
            "model": str(model_file(arguments.model)),
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


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    text = "not measured" if value is None else str(value)
    return text if text.isprintable() else repr(text)


def add_bench(commands: Commands) -> None:
    """Add the command ``bench``."""
    from ..bench import command

    parser = add_command(
        commands,
        "bench",
        _bench,
        help="measure this machine, fastrnn and the other libraries that are installed",
        usage="fastrnn bench [options]",
        description=command.DESCRIPTION,
        epilog=command.EPILOG,
    )
    command.add_arguments(parser)


def _bench(arguments: argparse.Namespace) -> int:
    require("tqdm", "matplotlib", extra="bench")
    from ..bench import command

    try:
        return command.run(arguments)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from None
