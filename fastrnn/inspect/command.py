"""``fastrnn inspect``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .cells import PROPERTIES, Activations, CellScore, activations, find_cells
from .page import color_text

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Find the cells of a character model that follow a property of a text, and write
a page with the text coloured by what they hold."""
EPILOG = """\
examples:
  fastrnn inspect book book.txt                       best cell of each property
  fastrnn inspect book book.txt --property quotes     ten best of one
  fastrnn inspect book book.txt --cell 17 --layer 0   this one

NAME: {properties}.

Cells are chosen on the first half of the text; scores are of the second half:
AUC (0.5 is chance) for properties that are true or false, else correlation.
""".format(properties=", ".join(PROPERTIES))
MOST = 10  # cells on the page for one property


class Chosen(NamedTuple):
    """A column of the activations for the page, with its label, and the line to print."""

    column: int
    label: str
    line: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, beside the model."""
    add = parser.add_argument
    add("file", metavar="FILE", help="text in UTF-8")
    add("--out", metavar="PAGE", default="cells.html", help="default: cells.html")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--property", metavar="NAME", choices=PROPERTIES, help="default: all of them"
    )
    choice.add_argument("--cell", metavar="N", type=int, help="show this cell, search for none")
    add("--layer", metavar="N", type=int, help="only cells of this layer, from 0")
    add("--unknown", metavar="CHAR", help="stands in for characters the model does not know")
    add(
        "--length",
        metavar="N",
        type=int,
        default=100_000,
        help="characters of the text to search through (default: 100000)",
    )
    add(
        "--show",
        metavar="N",
        type=int,
        default=5_000,
        help="characters of the text on the page (default: 5000)",
    )


def run(arguments: argparse.Namespace, loaded: Any, content: str) -> int:
    """Run the command for a loaded model and a text; ValueError for bad arguments."""
    for name in ("length", "show"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name}: expected at least 1, got {getattr(arguments, name)}")
    content = content[: arguments.length]
    if arguments.unknown not in (None, *loaded.vocabulary.characters):
        raise ValueError(
            f"--unknown: expected a character that the model knows, got {arguments.unknown!r}"
        )
    try:
        ids = loaded.vocabulary.encode(content, unknown=arguments.unknown)
    except ValueError as error:
        raise ValueError(f"{arguments.file}: {error}") from None
    found = activations(loaded.model, ids, _layers(arguments, loaded.model))
    chosen = _one(arguments.cell, found) if arguments.cell is not None else None
    chosen = chosen or _search(arguments.property, content, found)
    shown = slice(0, arguments.show)
    page = color_text(
        content[shown],
        np.ascontiguousarray(found.values[shown, [entry.column for entry in chosen]]),
        [entry.label for entry in chosen],
        f"{Path(arguments.file).name}, read by {Path(arguments.model).name}",
    )
    Path(arguments.out).write_text(page, encoding="utf-8")
    for entry in chosen:
        print(entry.line)
    print(f"Wrote {arguments.out}.")
    return 0


def _layers(arguments: argparse.Namespace, model: Any) -> list[str] | None:
    """Return the name of the layer asked for: --cell alone means the last."""
    last, layer = model[0].num_layers - 1, arguments.layer
    if layer is None:
        return None if arguments.cell is None else [f"0.l{last}"]
    if not 0 <= layer <= last:
        raise ValueError(f"--layer: expected a number from 0 to {last}, got {layer}")
    return [f"0.l{layer}"]


def _one(cell: int, found: Activations) -> list[Chosen]:
    units = len(found.units)
    if not 0 <= cell < units:
        raise ValueError(f"--cell: expected a number from 0 to {units - 1}, got {cell}")
    name = _name(found, cell)
    return [Chosen(cell, name, name)]


def _name(found: Activations, column: int) -> str:
    layer, unit = found.units[column]
    return f"layer {layer.removeprefix('0.l')} cell {unit}"


def _search(property: str | None, content: str, found: Activations) -> list[Chosen]:
    """Return the best cells for the property, or the best one for each that the text has."""
    if property is not None:
        try:
            best = find_cells(found.values, PROPERTIES[property](content), MOST)
        except ValueError as error:
            raise ValueError(f"--property {property}: {error}") from None
        return [_chosen(property, score, found) for score in best]
    chosen, problem = [], None
    for name, function in PROPERTIES.items():
        try:
            best = find_cells(found.values, function(content), 1)
        except ValueError as error:  # the text has none of it
            problem = error
        else:
            chosen.append((best[0].score, _chosen(name, best[0], found)))
    if not chosen:
        raise ValueError(f"--property: none can be looked for ({problem}); choose a --cell")
    return [entry for _, entry in sorted(chosen, key=lambda pair: -pair[0])]


def _chosen(property: str, score: CellScore, found: Activations) -> Chosen:
    where = _name(found, score.cell)
    value = f"{'correlation' if score.threshold is None else 'AUC'} {score.score:.3f}"
    value += "" if score.sign > 0 else ", inverted"
    label = f"{property}: {where} ({value})"
    return Chosen(score.cell, label, f"{property:14} {where:20} {value}")
