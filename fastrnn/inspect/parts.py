"""Models taken apart: the layers of a `Sequential`, the directions and layers of a stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..base import Layer, RealArray
from ..layers import Sequential
from ..recurrent import Recurrent
from ..recurrent_arguments import Call

__all__ = ["Leaf", "Part", "check_same_output", "leaves", "part_state", "take_apart"]


class Leaf(NamedTuple):
    """A layer of a model that has no layers itself; `prefix` is that of its parameters' names."""

    prefix: str
    layer: Layer
    state: Any


def leaves(model: Layer, state: Any = None, prefix: str = "") -> Iterator[Leaf]:
    """Yield the layers of a model in order; ValueError for a recurrent one of another kind."""
    if isinstance(model, Sequential):
        states = iter(model._states("state", state, None))
        for index, layer in enumerate(model):
            own = next(states) if layer.recurrent else None
            yield from leaves(layer, own, f"{prefix}{index}.")
    elif isinstance(model, Layer) and (isinstance(model, Recurrent) or not model.recurrent):
        yield Leaf(prefix, model, state)
    else:
        raise ValueError(
            f"model: expected RNN, LSTM, GRU or a Sequential with one of them, "
            f"got {type(model).__name__}"
        )


class Part(NamedTuple):
    """One direction of one layer of a stack, as a layer of its own with copied weights.

    It is time-major and runs forward; for the direction that runs backward, `reverse`, its inputs
    and outputs are to be turned around. `names` maps the names of its parameters to the stack's.
    The state to begin with, learned or not, is not in it: see `part_state`.
    """

    name: str  # l0, l0_reverse, l1, ...
    layer: Recurrent
    reverse: bool
    names: dict[str, str]


def take_apart(stack: Recurrent) -> list[list[Part]]:
    """Return, for each layer of the stack, its directions."""
    suffixes = ("", "_reverse") if stack.bidirectional else ("",)
    return [[_part(stack, f"l{k}{suffix}") for suffix in suffixes] for k in range(stack.num_layers)]


def _part(stack: Recurrent, name: str) -> Part:
    parameters = stack.parameters()
    changes = {
        "input_size": parameters[f"weight_ih_{name}"].shape[1],
        "num_layers": 1,
        "batch_first": False,
        "bidirectional": False,
        "go_backwards": False,
        "learned_state": False,
    }
    layer = type(stack).from_config({**stack.config(), **changes})
    names = {own: re.sub("_l0$", f"_{name}", own) for own in layer.parameters()}
    layer.load_state_dict({own: parameters[theirs].data for own, theirs in names.items()})
    return Part(name, layer, name.endswith("_reverse"), names)


def part_state(call: Call, index: int) -> Any:
    """Return the initial state of the part `index` of a stack: of layer k, direction d, k * D + d.

    The arguments are those of the stack, as its `_prepare` returns them.
    """
    own = slice(index, index + 1)
    if call.h0 is None or call.c0 is None:
        return None if call.h0 is None else call.h0[own]
    return call.h0[own], call.c0[own]


def check_same_output(y: RealArray, expected: ArrayLike) -> None:
    """Raise ValueError if a model taken apart gave y instead of what the model itself gives."""
    expected = np.asarray(expected)
    if y.shape != expected.shape or not np.allclose(y, expected, 1e-3, 1e-5, equal_nan=True):
        raise ValueError(
            "model: its layers, run one by one, do not give its output; it has an option that "
            "fastrnn.inspect does not know"
        )
