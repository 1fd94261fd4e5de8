"""An exponential moving average of the weights: `Average`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..base import Layer, RealArray, check_number

__all__ = ["Average"]


class Average:
    """w_avg = decay * w_avg + (1 - decay) * w, from the first weights of a training on.

    Before `start` and after `finish` there is no average but the model's own weights, whoever
    changes them.

    Parameters
    ----------
    model : Layer
    decay : float
        From 0 to 1.
    """

    def __init__(self, model: Layer, decay: float) -> None:
        self.decay = check_number("ema", decay, 0.0, 1.0)
        self._model = model
        self._weights: dict[str, RealArray] | None = None

    def start(self) -> None:
        """Begin with the model's weights, unless an interrupted training goes on."""
        if self._weights is None:
            self._weights = self._model.state_dict()

    def update(self) -> None:
        """Take the model's weights in."""
        assert self._weights is not None
        for name, parameter in self._model.parameters().items():
            average = self._weights[name]
            average += (parameter.data - average) * average.dtype.type(1.0 - self.decay)

    def finish(self) -> None:
        """Give the model the average weights for good."""
        if self._weights is not None:
            self._model.load_state_dict(self._weights)
            self._weights = None

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Give the model the average weights for a while."""
        if self._weights is None:
            yield
            return
        own = self._model.state_dict()
        self._model.load_state_dict(self._weights)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def weights(self) -> dict[str, RealArray]:
        """Return a copy of the average weights."""
        own = self._weights
        return self._model.state_dict() if own is None else {k: w.copy() for k, w in own.items()}

    def state_dict(self) -> dict[str, Any] | None:
        """Return a copy of the average weights; None outside of a training."""
        return None if self._weights is None else self.weights()

    def load_state_dict(self, state_dict: Mapping[str, Any] | None) -> None:
        """Restore what `state_dict` returned; ValueError if it does not fit the model."""
        if state_dict is None:
            self._weights = None
            return
        found = {name: np.array(state_dict[name]) for name in self._model.parameters()}
        for name, parameter in self._model.parameters().items():
            got = found[name]
            if (got.dtype, got.shape) != (parameter.dtype, parameter.shape):
                raise ValueError(
                    f"average of {name}: expected {parameter.dtype} of {parameter.shape}, "
                    f"got {got.dtype} of {got.shape}"
                )
        self._weights = found
