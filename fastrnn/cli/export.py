"""``fastrnn export``: a character model for other programs."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..serialization import write_atomically
from .common import (
    CommandError,
    Commands,
    add_command,
    add_model,
    load,
    model_file,
    require,
)

if TYPE_CHECKING:
    from ..text import TextModel

__all__ = ["add_export"]

NOTES = """\
examples:
  fastrnn export book --out book.onnx
  fastrnn export book --out step.onnx --step
  fastrnn export book --out weights.npz
  fastrnn export book --out weights.bin --format safetensors

onnx         a graph of ONNX's operators: token ids (T, B) and states in, logits
             (T, B, V) and states out; the characters are in its metadata.
             --step: of one character, ids (B,) to logits (B, V)
safetensors  the weights by PyTorch's names, for load_state_dict of
             ModuleList([nn.LSTM(...), nn.Linear(...)]); characters as above
npz          the same names for numpy.load, and "characters"
"""


def add_export(commands: Commands) -> None:
    """Add the command ``export``."""
    parser = add_command(
        commands,
        "export",
        _export,
        help="write a model as ONNX, safetensors or npz, for other programs",
        usage="fastrnn export MODEL --out FILE [--format NAME] [--step | --lengths]",
        description="Write a character model in a format that other programs read.",
        epilog=NOTES,
    )
    add_model(parser)
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write")
    parser.add_argument(
        "--format",
        metavar="NAME",
        choices=list(WRITERS),
        help=f"{', '.join(WRITERS)} (default: by the end of FILE)",
    )
    of_onnx = parser.add_mutually_exclusive_group()
    of_onnx.add_argument("--step", action="store_true", help="onnx: of one character at a time")
    of_onnx.add_argument(
        "--lengths", action="store_true", help="onnx: with the length of each row as an input"
    )


def _export(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    name = arguments.format or out.suffix.lower().removeprefix(".")
    if name not in WRITERS:
        ends = ", ".join(f".{format}" for format in WRITERS)
        raise CommandError(f"--out: expected a name that ends in {ends}, or --format, got {out}")
    options = {name: True for name in ("step", "lengths") if getattr(arguments, name)}
    if options and name != "onnx":
        raise CommandError(f"--{next(iter(options))}: expected the format onnx, got {name}")
    loaded = load(arguments.model)
    if out.exists() and out.samefile(model_file(arguments.model)):
        raise CommandError(f"--out: {out}: this is the model itself")
    try:
        print(f"Wrote {out}: {WRITERS[name](loaded, out, **options)}")
    except (TypeError, ValueError) as error:
        raise CommandError(f"{model_file(arguments.model)}: {error}") from None
    except OSError as error:
        raise CommandError(f"--out: {out}: {error.strerror or error}") from None
    return 0


def _onnx(loaded: TextModel, out: Path, step: bool = False, lengths: bool = False) -> str:
    require("onnx", extra="onnx")
    from ..interop.onnx import export_model

    proto = export_model(
        loaded.model,
        out,
        method="step" if step else "call",
        ids=True,
        lengths=lengths,
        metadata=_facts(loaded),
    )
    inputs, outputs = (
        ", ".join(map(_signature, v)) for v in (proto.graph.input, proto.graph.output)
    )
    return f"{inputs} -> {outputs}"


def _signature(value: object) -> str:
    """Return the name and shape of a graph's input or output."""
    axes = value.type.tensor_type.shape.dim  # type: ignore[attr-defined]
    shape = ", ".join(axis.dim_param or str(axis.dim_value) for axis in axes)
    return f"{value.name} ({shape})"  # type: ignore[attr-defined]


def _safetensors(loaded: TextModel, out: Path) -> str:
    import safetensors.numpy

    weights = loaded.model.state_dict()
    write_atomically(out, safetensors.numpy.save(weights, {"format": "pt", **_facts(loaded)}))
    return _count(loaded)


def _npz(loaded: TextModel, out: Path) -> str:
    content = io.BytesIO()
    arrays: dict[str, Any] = dict(loaded.model.state_dict())
    np.savez(content, characters=np.array(loaded.vocabulary.characters), **arrays)
    write_atomically(out, content.getvalue())
    return _count(loaded)


def _count(loaded: TextModel) -> str:
    weights = loaded.model.state_dict()
    numbers = sum(array.size for array in weights.values())
    return f"{len(weights)} arrays, {numbers:,} numbers"


def _facts(loaded: TextModel) -> dict[str, str]:
    """Return what another program needs beside the weights."""
    recurrent = loaded.model[0].config()
    names = ("input_size", "hidden_size", "num_layers")
    facts = {name: str(recurrent[name]) for name in names}
    cell = type(loaded.model[0]).__name__
    return {"characters": loaded.vocabulary.characters, "cell": cell, **facts}


WRITERS: dict[str, Callable[..., str]] = {
    "onnx": _onnx,
    "safetensors": _safetensors,
    "npz": _npz,
}
