"""``fastrnn quantize``: a model with smaller weights."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .common import CommandError, Commands, add_command, add_model, model_file, require

__all__ = ["add_quantize"]

NOTES = """\
examples:
  fastrnn quantize book --to int8 --out book-int8.safetensors
  fastrnn eval book-int8.safetensors other.txt      what it lost

bf16      two bytes a weight, arithmetic in float32
int8      one byte a weight, products of integers
bf16_dot  as bf16, with the processor's own products of bf16 where it has some:
          not the same results everywhere

Only the matrices of recurrent layers become smaller. The new model can be used
as the old one, but not trained further.
"""


def add_quantize(commands: Commands) -> None:
    """Add the command ``quantize``."""
    from ..precision import PRECISIONS

    parser = add_command(
        commands,
        "quantize",
        _quantize,
        help="make a model smaller and faster, with weights in fewer bits",
        usage="fastrnn quantize MODEL --to NAME --out FILE",
        description="Write a model with the weights of its recurrent layers in fewer bits.",
        epilog=NOTES,
    )
    add_model(parser)
    parser.add_argument(
        "--to", metavar="NAME", choices=PRECISIONS, required=True, help=", ".join(PRECISIONS)
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write")


def _quantize(arguments: argparse.Namespace) -> int:
    require("safetensors")
    from ..quantization import quantize
    from ..serialization import load, load_metadata, save

    source, out = model_file(arguments.model), Path(arguments.out)
    try:
        model, metadata = load(source), load_metadata(source)
        before = os.path.getsize(source)
    except OSError as error:
        raise CommandError(f"{source}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    if out.exists() and out.samefile(source):
        raise CommandError(f"--out: {out}: this is the model itself")
    try:
        small = quantize(model, arguments.to)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{source}: {error}") from None
    try:
        save(small, out, metadata)
        after = os.path.getsize(out)
    except OSError as error:
        raise CommandError(f"--out: {out}: {error.strerror or error}") from None
    print(f"Wrote {out}: {after:,} bytes, {after / before:.0%} of {before:,}")
    return 0
