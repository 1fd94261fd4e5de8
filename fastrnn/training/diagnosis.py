"""Where numbers of a training are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core, nesting
from ..base import Layer, Parameter
from ..data import Batch
from ..layers import Sequential

__all__ = ["first_nonfinite_layer", "gradient_squares", "nonfinite_weight"]


def gradient_squares(parameters: Mapping[str, Parameter]) -> dict[str, float]:
    """Return the squared norm of each gradient that there is, by name; sums are in float64."""
    return {
        name: _core.sum_of_squares(np.ascontiguousarray(parameter.grad))
        for name, parameter in parameters.items()
        if parameter.grad is not None and parameter.requires_grad
    }


def nonfinite_weight(model: Layer) -> str | None:
    """Return the name of the first parameter that holds NaN or infinite numbers, if one does."""
    for name, parameter in model.parameters().items():
        if not math.isfinite(_core.sum_of_squares(parameter.data)) and not _finite(parameter.data):
            return name
    return None


def first_nonfinite_layer(model: Layer, batch: Batch, state: Any) -> str:
    """Say in words where a batch first gives numbers that are not finite.

    The layers of a `Sequential` are run again one after the other; of another model only its
    inputs and weights are looked at.
    """
    if not _finite(batch.inputs):
        return "the inputs hold numbers that are not finite"
    if batch.targets is not None and not _finite(batch.targets):
        return "the targets hold numbers that are not finite"
    name = nonfinite_weight(model)
    if name is not None:
        return f"the weights {name} hold numbers that are not finite"
    bad = [
        name
        for name, parameter in model.parameters().items()
        if parameter.grad is not None and not _finite(parameter.grad)
    ]
    if bad:
        return f"the gradients of {', '.join(bad)} are not finite"
    return _in_layers(model, batch, state)


def _in_layers(model: Layer, batch: Batch, state: Any) -> str:
    if not isinstance(model, Sequential):
        return f"inputs and weights of {type(model).__name__} are finite"
    x: Any = batch.inputs
    states = iter(state if state is not None else [None] * len(model))
    lengths = batch.lengths
    with np.errstate(all="ignore"):
        for index, layer in enumerate(model):
            own = next(states) if layer.recurrent else None
            x, _ = nesting.call(layer, x, own, lengths, {})
            lengths = None if layer.pools_time else lengths
            if not _finite(x):
                return f"layer {index}, {type(layer).__name__}, gives numbers that are not finite"
    return "the outputs of all layers are finite"


def _finite(array: Any) -> bool:
    return bool(np.isfinite(array).all())
