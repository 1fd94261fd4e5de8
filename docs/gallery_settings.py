"""How the examples run for the gallery: their command lines, the style of their pictures."""

from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "build" / "docs-examples"

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def picture_style(_configuration, _script):
    """Give matplotlib the style of the gallery's pictures."""
    import matplotlib as mpl

    mpl.rcParams.update(STYLE)


class Arguments:
    """The command line of each example: a short demonstration, and files go to the build folder."""

    def __call__(self, _configuration, script):
        """Return the arguments of a script."""
        name = Path(script["src_file"]).stem
        OUT.mkdir(parents=True, exist_ok=True)
        return {
            "demo": ["--seconds", "10", "--out", str(OUT / "demo")],
            "gradient_flow": ["--out", str(OUT / "gradient_flow.png")],
            "twice_as_long": ["--steps", "250"],
            "interpretable_cells": ["--out", str(OUT / "cells.html")],
        }.get(name, [])

    def __repr__(self):
        return "Arguments()"  # the same in each build: no change of the configuration


arguments = Arguments()
