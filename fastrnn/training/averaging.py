"""An exponential moving average of the weights: `Average`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..base import Layer, RealArray, check_number

__all__ = ["Average"]


class Average:
    """w_avg = decay * w_avg + (1 - decay) * w, from the first weights on.

    Parameters
    ----------
    model : Layer
    decay : float
        From 0 to 1.
    """

    def __init__(self, model: Layer, decay: float) -> None:
        self.decay = check_number("ema", decay, 0.0, 1.0)
        self._weights: dict[str, RealArray] = model.state_dict()

    def update(self, model: Layer) -> None:
        """Take the model's weights in."""
        for name, parameter in model.parameters().items():
            average = self._weights[name]
            average += (parameter.data - average) * average.dtype.type(1.0 - self.decay)

    def assign(self, model: Layer) -> None:
        """Give the model the average weights."""
        model.load_state_dict(self._weights)

    @contextlib.contextmanager
    def swapped(self, model: Layer) -> Iterator[None]:
        """Give the model the average weights for a while."""
        own = model.state_dict()
        self.assign(model)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the average weights."""
        return {name: weights.copy() for name, weights in self._weights.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, weights in self._weights.items():
            np.copyto(weights, state_dict[name])
