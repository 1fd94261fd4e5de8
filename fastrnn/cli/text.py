"""``fastrnn sample``, ``eval`` and ``inspect``: what a character model writes and knows."""

from __future__ import annotations

import argparse
import json
import math
import sys

from .common import (
    CommandError,
    Commands,
    add_command,
    add_model,
    add_running,
    load,
    option,
    read_text,
    set_threads,
)

__all__ = ["add_eval", "add_inspect", "add_sample"]


def add_sample(commands: Commands) -> None:
    """Add the command ``sample``."""
    parser = add_command(
        commands,
        "sample",
        _sample,
        help="let a model write text",
        usage="fastrnn sample MODEL [options]",
        description="Write text with a model, character by character.",
        epilog='example:\n  fastrnn sample book --prime "It was " --temperature 0.7 --seed 1\n',
    )
    add_model(parser)
    add = parser.add_argument
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


def _sample(arguments: argparse.Namespace) -> int:
    from .. import text

    loaded = load(arguments.model)
    try:
        loaded.vocabulary.encode(arguments.prime)
    except ValueError as error:
        raise CommandError(f"--prime: {error}") from None
    names = ("length", "prime", "temperature", "top_k", "top_p", "seed")
    options = {name: getattr(arguments, name) for name in names}
    try:
        characters = text.sample(loaded.model, loaded.vocabulary, **options)
    except ValueError as error:
        raise CommandError(option(error)) from None
    sys.stdout.write(arguments.prime)
    for character in characters:
        sys.stdout.write(character)
        sys.stdout.flush()
    print()
    return 0


def add_eval(commands: Commands) -> None:
    """Add the command ``eval``."""
    parser = add_command(
        commands,
        "eval",
        _eval,
        help="measure a model's loss on a text file",
        usage="fastrnn eval MODEL FILE [options]",
        description="Measure a model's loss on a text file, in nats per character. The text is\n"
        "read in as many parallel streams as the model was trained with.",
        epilog="examples:\n"
        "  fastrnn eval book other.txt --unknown ' '\n"
        "  fastrnn eval book book.txt --validation       what train measured\n",
    )
    add_model(parser)
    add = parser.add_argument
    add("file", metavar="FILE", help="text in UTF-8")
    add("--validation", action="store_true", help="only the last 5 %% of it, as train does")
    add("--unknown", metavar="CHAR", help="stands in for characters the model does not know")
    add_running(parser)


def _eval(arguments: argparse.Namespace) -> int:
    from .. import data
    from ..training import Evaluator

    loaded = load(arguments.model)
    content = read_text(arguments.file)
    set_threads(arguments.threads)
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
    loader = data.StreamLoader(streams, loaded.recipe.seq_len, partial=True)
    loss = Evaluator(loaded.model).evaluate(loader)["loss"]
    count = len(streams) * streams.batch
    if arguments.json:
        finite = loss if math.isfinite(loss) else None
        print(json.dumps({"loss": finite, "characters": count}))
    else:
        bits = loss / math.log(2)
        print(f"{loss:.4f} nats/char ({bits:.4f} bits) over {count:,} characters")
    return 0


def add_inspect(commands: Commands) -> None:
    """Add the command ``inspect``."""
    from ..inspect import command

    parser = add_command(
        commands,
        "inspect",
        _inspect,
        help="find and show cells that follow a property of a text",
        usage="fastrnn inspect MODEL FILE [options]",
        description=command.DESCRIPTION,
        epilog=command.EPILOG,
    )
    add_model(parser)
    command.add_arguments(parser)


def _inspect(arguments: argparse.Namespace) -> int:
    from ..inspect import command

    try:
        return command.run(arguments, load(arguments.model), read_text(arguments.file))
    except ValueError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"--out: {arguments.out}: {error.strerror or error}") from None
