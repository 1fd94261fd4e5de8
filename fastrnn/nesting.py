"""One way to run any layer, recurrent or not, for layers that are made of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from .base import Layer

__all__ = ["call", "check_extras", "step", "vjp"]


def call(layer: Layer, x: ArrayLike, state: Any, lengths: ArrayLike | None) -> tuple[Any, Any]:
    """Return (y, state) of any layer; the state is None if it is not recurrent."""
    if layer.recurrent:
        y, state = layer(x, state, lengths)
        return y, state
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
    checkpoint_every: int | None = None,
) -> tuple[tuple[Any, Any], Callable[[Any, Any], tuple[Any, Any]]]:
    """Return ((y, state), pullback) of any layer, with ``pullback(dy, dstate) -> (dx, dstate0)``.

    All states are None if the layer is not recurrent.
    """
    if layer.recurrent:
        result, pullback = layer.vjp(x, state, lengths, checkpoint_every)
        return result, pullback
    y, back = layer.vjp(x, lengths=lengths) if layer.uses_lengths else layer.vjp(x)
    return (y, None), lambda dy, dstate: (back(dy), None)


def check_extras(layer: Layer, name: str, state: Any, lengths: ArrayLike | None) -> None:
    """Raise TypeError for a state (called `name`) or lengths that the layer has no use for."""
    if state is not None and not layer.recurrent:
        raise TypeError(f"{name}: expected None, the model has no recurrent layer")
    if lengths is not None and not (layer.recurrent or layer.uses_lengths):
        raise TypeError(
            "lengths: expected None, the model has no recurrent layer or other that uses them"
        )
