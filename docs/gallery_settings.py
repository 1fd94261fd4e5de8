"""How the examples run for the gallery: their command lines and their pictures."""

import shutil
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "build" / "docs-examples"

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# The examples run as they are, but files go to the build folder, and what is long is shortened.
ARGUMENTS = {
    "demo": ["--seconds", "20", "--out", str(OUT / "demo")],
    "gradient_flow": ["--out", str(OUT / "gradient_flow.png")],
    "interpretable_cells": ["--out", str(OUT / "cells.html")],
    "sunspots": ["--out", str(OUT / "sunspots.png")],
    "train_classifier": ["--out", str(OUT / "training.png")],
    "twice_as_long": ["--steps", "250"],
}


def picture_style(_configuration, _script):
    """Give matplotlib the style of the gallery's pictures."""
    import matplotlib as mpl

    mpl.rcParams.update(STYLE)


class Arguments:
    """The command line of each example."""

    def __call__(self, _configuration, script):
        """Return the arguments of a script."""
        OUT.mkdir(parents=True, exist_ok=True)
        return ARGUMENTS.get(Path(script["src_file"]).stem, [])

    def __repr__(self):
        return "Arguments()"  # the same in each build: no change of the configuration


arguments = Arguments()


def written_pictures(_block, variables, configuration):
    """Take the pictures that an example wrote to files."""
    from sphinx_gallery.scrapers import figure_rst

    paths = []
    for picture in sorted(OUT.glob("*.png")):
        path = Path(next(variables["image_path_iterator"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(picture, path)
        paths.append(str(path))
    return figure_rst(paths, configuration["src_dir"])
