"""The pictures: a roofline, and how many times as fast as the best peer fastrnn is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .limits import Machine
from .peers import OURS
from .report import best_peer, counted, measured

__all__ = ["ratios", "roofline"]

COLOURS = {"LSTM": "#0072b2", "GRU": "#d55e00", "RNN": "#009e73"}
MARKERS = {"inference": "o", "step": "^", "training": "s"}
FASTER, SLOWER = "#0072b2", "#d55e00"


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def roofline(report: Mapping[str, Any], path: Path) -> None:
    """Draw GFLOP/s over FLOP per weight byte read, under what the machine allows."""
    plt = _pyplot()
    machines = [Machine.from_dict(values) for values in report["limits"].values()]
    x, y = _spans(list(measured(report)), max(machine.peak for machine in machines))
    decades_x, decades_y = (math.log10(high / low) for low, high in (x, y))
    width = 6.0
    size = (width * len(machines), width * decades_y / decades_x + 1.2)
    figure, axes = plt.subplots(
        1, len(machines), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, machine in zip(axes[0], machines, strict=True):
        _scale(axis, x, y)
        _ceilings(axis, machine, x, y)
        _points(axis, [r for r in measured(report) if r["threads"] == machine.threads])
        axis.set_title(counted(machine.threads))
        axis.set_xlabel("FLOP for each byte of weights read")
        axis.grid(alpha=0.2)
    axes[0][0].set_ylabel("GFLOP/s")
    _legend(figure, plt)
    figure.savefig(path, dpi=130)
    plt.close(figure)


Span = tuple[float, float]


def _spans(results: list[Any], peak: float) -> tuple[Span, Span]:
    """Return what both axes show: all points, fastrnn's and the best peers', and the peak."""
    places = [_intensity(result) for result in results]
    times = [r["programs"][OURS]["median"] for r in results]
    rates = [r["flops"] / seconds / 1e9 for r, seconds in zip(results, times, strict=True)]
    rates += [r["flops"] / best[1] / 1e9 for r in results if (best := best_peer(r))]
    y = (min(*rates, peak / 1e11) / 1.5, max(*rates, peak / 1e9) * 1.8)
    return (min(0.3, *places) / 1.3, max(100.0, *places) * 2), y


def _scale(axis: Any, x: Span, y: Span) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(*x)
    axis.set_ylim(*y)
    axis.set_aspect("equal")  # a bandwidth is a line at 45 degrees
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")


def _intensity(result: Mapping[str, Any]) -> float:
    return float(result["flops"] / result["streamed_bytes"])


def _points(axis: Any, results: list[Any]) -> None:
    for result in results:
        ours = result["programs"][OURS]["median"]
        style = {
            "color": COLOURS[result["case"]["cell"]],
            "marker": MARKERS[result["case"]["mode"]],
            "linestyle": "none",
        }
        x = _intensity(result)
        axis.plot(x, result["flops"] / ours / 1e9, markersize=5, alpha=0.9, **style)
        best = best_peer(result)
        if best is not None:
            hollow = {**style, "markerfacecolor": "none", "markersize": 5, "alpha": 0.45}
            axis.plot(x, result["flops"] / best[1] / 1e9, **hollow)


def _ceilings(axis: Any, machine: Machine, x: Span, y: Span) -> None:
    peak = machine.peak / 1e9
    for level in machine.levels:
        slope = level.bandwidth / 1e9
        start = max(x[0], y[0] / slope)
        axis.plot([start, peak / slope], [start * slope, peak], color="0.6", lw=1, zorder=0)
        axis.annotate(
            f"{level.name} {slope:.0f} GB/s",
            (start * 1.15, start * 1.15 * slope * 1.06),
            rotation=45,
            rotation_mode="anchor",
            fontsize=7.5,
            color="0.3",
        )
    ridge = peak / max(level.bandwidth / 1e9 for level in machine.levels)
    axis.plot([ridge, x[1]], [peak, peak], color="0.2", linewidth=1.2, zorder=0)
    name = f"{machine.isa} FMA {peak:.0f} GFLOP/s"
    axis.annotate(name, (x[1] * 0.95, peak * 1.06), ha="right", fontsize=8)


def _legend(figure: Any, plt: Any) -> None:
    handles = [
        plt.Line2D([], [], color=colour, marker="o", linestyle="none", label=cell)
        for cell, colour in COLOURS.items()
    ]
    handles += [
        plt.Line2D([], [], color="0.4", marker=marker, linestyle="none", label=mode)
        for mode, marker in MARKERS.items()
    ]
    hollow = {"color": "0.4", "marker": "o", "linestyle": "none", "markerfacecolor": "none"}
    handles.append(plt.Line2D([], [], label="best peer", **hollow))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def ratios(report: Mapping[str, Any], path: Path) -> None:
    """Draw one bar for each case and number of threads: the best peer's time over fastrnn's."""
    plt = _pyplot()
    rows = [(result, best) for result in measured(report) if (best := best_peer(result))]
    threads = sorted({result["threads"] for result, _ in rows})
    names = list(dict.fromkeys(result["name"] for result, _ in rows))
    height = max(2.0, 0.19 * len(names) + 1.2)
    size = (4.2 + 3.4 * len(threads), height)
    columns = max(len(threads), 1)
    figure, axes = plt.subplots(1, columns, figsize=size, sharey=True, squeeze=False)
    if not rows:
        axes[0][0].set_axis_off()
        axes[0][0].text(0.5, 0.5, "no other library was measured", ha="center")
    top = max((best[1] / r["programs"][OURS]["median"] for r, best in rows), default=1.0)
    bottom = min((best[1] / r["programs"][OURS]["median"] for r, best in rows), default=1.0)
    for axis, count in zip(axes[0], threads, strict=False):
        for result, best in rows:
            if result["threads"] == count:
                _bar(axis, names.index(result["name"]), result, best)
        axis.axvline(1, color="0.2", linewidth=1)
        axis.set_xscale("log")
        axis.set_xlim(min(0.7, bottom * 0.8), top * 2.2)
        axis.set_xticks([t for t in (0.5, 1, 2, 5, 10, 20, 50) if bottom * 0.8 <= t <= top * 2])
        axis.xaxis.set_major_formatter("{x:g}×")
        axis.minorticks_off()
        axis.set_title(counted(count))
        axis.set_xlabel("times as fast as the best peer")
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_ylim(len(names) - 0.4, -0.6)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bar(axis: Any, place: int, result: Mapping[str, Any], best: tuple[str, float]) -> None:
    name, seconds = best
    ratio = seconds / result["programs"][OURS]["median"]
    axis.barh(place, ratio - 1, 0.75, left=1, color=FASTER if ratio >= 1 else SLOWER)
    axis.annotate(
        f" {ratio:.2f} {name}", (max(ratio, 1), place), va="center", fontsize=6.5, color="0.25"
    )
