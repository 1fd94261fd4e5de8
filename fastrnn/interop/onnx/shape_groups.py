"""Steps that depend on shapes alone, computed once for each shape.

PyTorch and TensorFlow write graphs that ask for the sizes of their inputs and compute with them:
zeros of the state's shape, the sizes of a Reshape. With the same shapes they give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .nodes import Kernel

__all__ = ["Step", "grouped"]

MOST_SHAPES, MOST_BYTES = 32, 2**20  # kept for each group of steps; bytes for each of the shapes


class Step(NamedTuple):
    """A node in use: its kernel, and the places of what it takes and gives.

    A kernel that gives a tuple has several outputs; a place of 0 is for what nobody takes.
    of_shapes: it looks at the shapes of its inputs alone. mixed: it runs graphs.
    """

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str
    of_shapes: bool = False
    mixed: bool = False


def grouped(
    steps: Sequence[Step], variables: set[int], needed: set[int], new_place: Callable[[], int]
) -> list[Step]:
    """Return the steps with those that depend on shapes alone put together.

    A group stands before the first other step that takes something of it.

    Parameters
    ----------
    steps : sequence of Step
    variables : set of int
        Places of what is no constant before the first step: inputs.
    needed : set of int
        Places of outputs.
    new_place : callable
    """
    tokens: dict[int, int] = {}  # of each value that depends on shapes alone: its group's token
    pending: list[Step] = []
    result: list[Step] = []
    varying = set(variables)  # places of all other values

    def emit() -> None:
        if pending:
            token = new_place()
            result.append(_group(pending, tokens, token))
            tokens.update({place: token for step in pending for place in step.outputs})
            pending.clear()

    waiting: set[int] = set()  # places of what pending steps give
    for step in steps:
        if step.of_shapes or not (step.mixed or varying.intersection(step.inputs)):
            pending.append(step)
            waiting.update(step.outputs)
            continue
        if waiting.intersection(step.inputs):
            emit()
            waiting.clear()
        varying.update(step.outputs)
        result.append(step)
    if waiting & needed:
        emit()
    return result


def _group(steps: Sequence[Step], tokens: dict[int, int], token: int) -> Step:
    """Return one step for all of these; its last output, the token, stands for its shapes."""
    steps = tuple(steps)
    own = {place for step in steps for place in step.outputs}
    shaped = [p for step in steps if step.of_shapes for p in step.inputs if p not in own]
    others = [p for step in steps if not step.of_shapes for p in step.inputs if p not in own]
    sources, values = [*dict.fromkeys(shaped)], [*dict.fromkeys(others)]
    before = [*dict.fromkeys(tokens[place] for place in values if place in tokens)]
    places = [*sources, *before, *values]
    outputs = sorted(own - {0})
    known: dict[Any, tuple[Any, ...]] = {}

    def kernel(*arguments: Any) -> tuple[Any, ...]:
        key = (
            *[array.shape for array in arguments[: len(sources)]],
            *arguments[len(sources) : len(sources) + len(before)],
        )
        found = known.get(key)
        if found is None:
            found = (*_run(steps, dict(zip(places, arguments, strict=True)), outputs), key)
            if sum(array.nbytes for array in found[:-1]) <= MOST_BYTES:
                if len(known) >= MOST_SHAPES:
                    known.clear()
                known[key] = found
        return found

    label = steps[0].label if len(steps) == 1 else f"{steps[0].label} to {steps[-1].label}"
    return Step(kernel, tuple(places), (*outputs, token), label)


def _run(steps: Sequence[Step], values: dict[int, Any], outputs: Sequence[int]) -> list[Any]:
    """Return the outputs, read-only: they are given out more than once."""
    values[0] = None
    for step in steps:
        result = step.kernel(*[values[place] for place in step.inputs])
        results = result if type(result) is tuple else (result,)
        for place, value in zip(step.outputs, results, strict=False):
            array = np.asarray(value).view()
            array.flags.writeable = False
            values[place] = array
        values[0] = None
    return [values[place] for place in outputs]
