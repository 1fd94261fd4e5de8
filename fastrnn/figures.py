"""What the package's pictures share: how a figure is made, and its colours."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "DASHES", "new_figure"]

# Told apart also by those who confuse red and green (Okabe & Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")


def new_figure(
    columns: int, rows: int, width: float, height: float, shared: bool = True
) -> tuple[Any, Any]:
    """Return a figure and its panels (rows, columns), each of a size in inches.

    It is made without pyplot, whose state belongs to the caller. With `shared`, all panels have the
    same axes.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'fastrnn[viz]'") from None
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=130)
    axes = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
