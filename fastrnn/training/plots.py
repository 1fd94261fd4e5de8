"""Pictures of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..figures import COLOURS, new_figure
from .history import metric_names

if TYPE_CHECKING:
    from .history import History

__all__ = ["plot_history"]

MOST_COLUMNS = 3


def plot_history(history: History, names: Sequence[str] | None = None) -> Any:
    """Draw the numbers of a history over its epochs: see `History.plot`."""
    if not len(history):
        raise ValueError("history: expected at least one epoch, got none")
    chosen = [names] if isinstance(names, str) else list(names or _default_names(history))
    for name in chosen:
        if name not in history[-1]:
            raise ValueError(f"names: expected some of {', '.join(history[-1])}, got {name!r}")
    columns = min(math.ceil(math.sqrt(len(chosen))), MOST_COLUMNS)
    rows = -(-len(chosen) // columns)
    figure, axes = new_figure(columns, rows, 4.2, 3.0, shared=False)
    for axis, name in zip(axes.flat, chosen, strict=False):
        _draw(axis, history, name)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    return figure


def _default_names(history: History) -> list[str]:
    names = ["loss", *metric_names(history[-1]), "gradient_norm"]
    return names if len(set(history["learning_rate"])) == 1 else [*names, "learning_rate"]


def _draw(axis: Any, history: History, name: str) -> None:
    """Draw one number, with what was validated or its largest beside it."""
    epochs, own = history["epoch"], history[name]
    partners = {f"validation_{name}": "validation", f"{name}_max": "largest"}
    partner = next((each for each in partners if each in history[-1]), None)
    label = "mean" if partner == f"{name}_max" else "training"
    axis.plot(epochs, own, color=COLOURS[0], marker=_mark(own), label=label)
    if partner is not None:
        other = history[partner]
        style = {"color": COLOURS[1], "linestyle": "--", "marker": _mark(other)}
        axis.plot(epochs, other, label=partners[partner], **style)
        axis.legend(frameon=False)
    if name.startswith("gradient_norm") and all(value and value > 0 for value in own):
        axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_title(name.replace("_", " "), loc="left", fontsize="medium")
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _mark(values: list[Any]) -> str | None:
    """Return a marker where a line would not be seen: of a single point."""
    return "o" if sum(v is not None and math.isfinite(v) for v in values) < 2 else None
