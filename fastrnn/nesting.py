"""One way to run any layer, recurrent or not, for layers that are made of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from .base import Layer

__all__ = ["Marks", "call", "check_extras", "marks_of", "step", "vjp"]

Marks = Mapping[str, ArrayLike]  # of single steps, by the name of a recurrent layer's argument


def marks_of(mask: ArrayLike | None, resets: ArrayLike | None) -> Marks:
    """Return what is given of them."""
    marks = {"mask": mask, "resets": resets}
    return {name: value for name, value in marks.items() if value is not None}


def call(
    layer: Layer, x: ArrayLike, state: Any, lengths: ArrayLike | None, marks: Marks
) -> tuple[Any, Any]:
    """Return (y, state) of any layer; the state is None if it is not recurrent."""
    if layer.recurrent:
        y, state = layer(x, state, lengths, **marks)
        return y, state
    _check_no_mask(layer, marks)
    return (layer(x, lengths=lengths) if layer.uses_lengths else layer(x)), None


def step(layer: Layer, x: ArrayLike, state: Any) -> tuple[Any, Any]:
    """Return (y, state) of one time step; ValueError for a layer that makes one of many."""
    if layer.pools_time:
        raise ValueError(
            f"step: expected layers that give each step a result, got {type(layer).__name__}"
        )
    if layer.recurrent:
        y, state = layer.step(x, state)  # type: ignore[attr-defined]
        return y, state
    return layer(x), None


def vjp(
    layer: Layer,
    x: ArrayLike,
    state: Any,
    lengths: ArrayLike | None,
    marks: Marks,
    checkpoint_every: int | None = None,
) -> tuple[tuple[Any, Any], Callable[[Any, Any], tuple[Any, Any]]]:
    """Return ((y, state), pullback) of any layer, with ``pullback(dy, dstate) -> (dx, dstate0)``.

    All states are None if the layer is not recurrent.
    """
    if layer.recurrent:
        result, pullback = layer.vjp(x, state, lengths, checkpoint_every, **marks)
        return result, pullback
    _check_no_mask(layer, marks)
    y, back = layer.vjp(x, lengths=lengths) if layer.uses_lengths else layer.vjp(x)
    return (y, None), lambda dy, dstate: (back(dy), None)


def _check_no_mask(layer: Layer, marks: Marks) -> None:
    """Raise ValueError where a layer would take masked steps for real ones."""
    if layer.uses_lengths and "mask" in marks:
        raise ValueError(
            f"mask: expected None in a model with {type(layer).__name__}, which takes lengths alone"
        )


def check_extras(
    layer: Layer, name: str, state: Any, lengths: ArrayLike | None, marks: Marks
) -> None:
    """Raise TypeError for a state (called `name`), lengths or marks it has no use for."""
    if marks and not layer.recurrent:
        raise TypeError(f"{next(iter(marks))}: expected None, the model has no recurrent layer")
    if state is not None and not layer.recurrent:
        raise TypeError(f"{name}: expected None, the model has no recurrent layer")
    if lengths is not None and not (layer.recurrent or layer.uses_lengths):
        raise TypeError(
            "lengths: expected None, the model has no recurrent layer or other that uses them"
        )
