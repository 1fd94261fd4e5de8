"""`accelerate`, `restore`, `enable` and `disable`: Keras's recurrent layers with fastrnn's kernels.

`keras.layers.RNN.call` does what concerns the layer (states, statefulness, casts) and hands the
steps to `inner_loop`. That method is what is exchanged, on one layer or on the classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from .backends import BACKENDS
from .loop import FallbackError, reason_against, run

__all__ = ["Report", "accelerate", "disable", "enable", "explain", "restore"]

RNN = keras.layers.RNN
# The classes with a loop of their own, and Keras's loops.
LOOPS = {cls: cls.inner_loop for cls in (RNN, keras.layers.LSTM, keras.layers.GRU)}


class Report(NamedTuple):
    """What `accelerate` did.

    Attributes
    ----------
    replaced : list of str
        Paths of the recurrent layers that now use the kernels.
    left : dict of str to str
        Paths of the other recurrent layers, and why they are as before.
    """

    replaced: list[str]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{path}: fastrnn" for path in self.replaced]
        lines += [f"{path}: left, {reason}" for path, reason in self.left.items()]
        return "\n".join(lines) or "no recurrent layers"


def _loop(original: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an inner loop by the kernels, or as `original` does where they cannot."""
    try:
        return run(layer, *args, **kwargs)
    except FallbackError:
        return original(layer, *args, **kwargs)


class _InstanceLoop:
    """The inner loop of one layer, set on the layer itself."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _loop(type(self._layer).inner_loop, self._layer, *args, **kwargs)


def _recurrent_layers(model: Any) -> Iterator[Any]:
    if not isinstance(model, keras.Layer):
        raise TypeError(f"model: expected a Keras model or layer, got {type(model).__name__}")
    for layer in model._flatten_layers():
        if isinstance(layer, RNN):
            yield layer


def accelerate(model: Any) -> Report:
    """Let the recurrent layers of a model use fastrnn, in place.

    These are SimpleRNN, LSTM, GRU and RNN of their cells, at any depth, also in Bidirectional and
    TimeDistributed. Their weights, options and results stay as they are, and a saved model is a
    plain file of Keras. Calls that the kernels cannot run go the way of Keras: see `explain`.

    Parameters
    ----------
    model : keras.Model or keras.Layer
        Built or not, compiled or not. What was traced before this call (`predict` of a compiled
        model) is traced anew.

    Returns
    -------
    Report
        Which layers were exchanged, and why the others were not.

    Raises
    ------
    TypeError
        If it is no layer.
    """
    report = Report([], {})
    for layer in _recurrent_layers(model):
        path = layer.path or layer.name
        reason = explain(layer)
        if reason is not None:
            report.left[path] = reason
            continue
        report.replaced.append(path)
        if "inner_loop" not in vars(layer):
            layer.inner_loop = _InstanceLoop(layer)
    _forget_traces(model)
    return report


def restore(model: Any) -> list[str]:
    """Take back what `accelerate` did, in place; return the paths of the layers concerned."""
    paths = []
    for layer in _recurrent_layers(model):
        if isinstance(vars(layer).get("inner_loop"), _InstanceLoop):
            del layer.inner_loop
            paths.append(layer.path or layer.name)
    _forget_traces(model)
    return paths


def _forget_traces(model: Any) -> None:
    """Let a model make its compiled functions anew, as those of before know the other loops."""
    for layer in model._flatten_layers():
        for kind in ("train", "test", "predict"):
            if getattr(layer, f"{kind}_function", None) is not None:
                setattr(layer, f"{kind}_function", None)


def explain(layer: Any) -> str | None:
    """Return why a recurrent layer cannot use fastrnn, or None if it can.

    Some calls of a layer that can still go the way of Keras: training with recurrent dropout,
    masks with `unroll`, tensors on another device than the CPU, inputs of another dtype.
    """
    if keras.backend.backend() not in BACKENDS:
        return f"Keras runs on the backend {keras.backend.backend()}"
    if not isinstance(layer, RNN):
        return f"a {type(layer).__name__} is no RNN"
    if type(layer).inner_loop not in _KNOWN_LOOPS:
        return f"{type(layer).__name__} has an inner_loop of its own"
    return reason_against(layer)


def _class_loop(original: Any) -> Any:
    @functools.wraps(original)
    def inner_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _loop(original, self, *args, **kwargs)

    return inner_loop


_OUR_LOOPS = {cls: _class_loop(original) for cls, original in LOOPS.items()}
_KNOWN_LOOPS = (*LOOPS.values(), *_OUR_LOOPS.values())


def enable() -> None:
    """Let all recurrent layers of the process use fastrnn, also those of models built later."""
    for cls, loop in _OUR_LOOPS.items():
        cls.inner_loop = loop


def disable() -> None:
    """Take back what `enable` did; layers of `accelerate` stay as they are."""
    for cls, loop in LOOPS.items():
        cls.inner_loop = loop
