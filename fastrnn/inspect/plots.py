"""Pictures of what the other modules measure, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ..figures import COLOURS, DASHES, new_figure
from .gates import Saturation
from .gradients import GradientFlow

__all__ = ["plot_gradient_flow", "plot_saturation"]

NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell tanh(c)",
    "h": "output h",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}
DECADES = 20  # what a plot of gradients shows at most, below the largest


def plot_gradient_flow(
    flows: Mapping[str, GradientFlow] | Mapping[str, Mapping[str, GradientFlow]],
    of: Literal["h", "c"] = "h",
) -> Any:
    """Draw the norm of dL/dh_t over the distance from the last step, on a logarithmic scale.

    The numbers are those of `GradientFlow.by_distance`.

    Parameters
    ----------
    flows : mapping of str to GradientFlow
        A line each, and one for each layer of it, under these names; or a mapping of titles to
        such mappings, for panels side by side, as "no clipping" and "clipped".
    of : {"h", "c"}
        "c" for dL/dc_t of LSTMs instead.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is nothing to draw.
    ImportError
        Without matplotlib.
    """
    panels: dict[str, Mapping[str, GradientFlow]] = {}
    for title, entry in flows.items():
        if isinstance(entry, GradientFlow):
            panels.setdefault("", {})
            panels[""] = {**panels[""], title: entry}
        else:
            panels[title] = entry
    norms = [
        line
        for panel in panels.values()
        for flow in panel.values()
        for line in flow.by_distance(of).values()
    ]
    values = np.concatenate([*norms, []])
    values = values[np.isfinite(values) & (values > 0.0)]
    if not values.size:
        raise ValueError("flows: expected gradients other than zero, got none")
    figure, axes = new_figure(len(panels), 1, 4.6, 3.6)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for name, flow in panel.items():
            _draw_flow(axis, name, flow.by_distance(of), COLOURS[names.index(name) % len(COLOURS)])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("steps before the last")
        axis.set_yscale("log")
        axis.grid(alpha=0.25)
    top = values.max()
    axes[0][0].set_ylim(max(values.min(), top * 10.0**-DECADES) / 3, top * 3)
    axes[0][0].set_ylabel(rf"norm of $\partial L / \partial {of}_t$")
    handles = {
        label: handle
        for axis in axes[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    return figure


def _draw_flow(axis: Any, name: str, lines: Mapping[str, Any], colour: str) -> None:
    for index, (layer, norms) in enumerate(lines.items()):
        axis.plot(
            np.where(norms > 0.0, norms, np.nan),
            color=colour,
            linestyle=DASHES[index % len(DASHES)],
            label=name if len(lines) == 1 else f"{name}, {layer}",
        )


def plot_saturation(saturations: Mapping[str, Mapping[str, Saturation]]) -> Any:
    """Draw each unit at the fractions of time that it is left- and right-saturated, by gate.

    As figure 3 of Karpathy, Johnson & Fei-Fei (2016). No unit is beyond the dashed line, where it
    is always saturated; one at the right of a forget gate's panel forgets all the time, one at its
    top remembers.

    Parameters
    ----------
    saturations : mapping
        What `saturation` returned: a panel for each gate, a colour for each layer.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is nothing to draw.
    ImportError
        Without matplotlib.
    """
    gates = list(dict.fromkeys(gate for layer in saturations.values() for gate in layer))
    if not gates:
        raise ValueError("saturations: expected at least one layer, got none")
    columns = min(3, len(gates))
    figure, axes = new_figure(columns, -(-len(gates) // columns), 2.6, 2.7)
    for axis, gate in zip(axes.flat, gates, strict=False):
        axis.plot([0, 1], [1, 0], color="0.6", linewidth=0.8, linestyle="--")
        for index, (name, layer) in enumerate(saturations.items()):
            if gate in layer:
                found, colour = layer[gate], COLOURS[index % len(COLOURS)]
                axis.scatter(
                    found.left.ravel(), found.right.ravel(), 9, colour, alpha=0.6, label=name
                )
        axis.set_title(NAMES.get(gate, gate), fontsize=10)
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    for axis in axes.flat[len(gates) :]:
        axis.set_axis_off()
    figure.supxlabel("fraction left-saturated", fontsize=9)
    figure.supylabel("fraction right-saturated", fontsize=9)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return figure
