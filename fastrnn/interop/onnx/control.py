"""ONNX's operators that run graphs: If, Loop and Scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from .nodes import Array, Kernel, Node, operator


def _outputs(arrays: list[Any]) -> Any:
    """Return what a kernel returns: a tuple of several outputs."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _check_body(body: Any, node: Node, carried: int, others: int) -> None:
    """Raise ValueError if a body does not take and give as many values as its node.

    carried: that go from step to step; others: inputs that the node has besides.
    """
    if carried < 0 or node.num_inputs - others != carried or node.num_outputs < carried:
        raise ValueError(
            f"body: expected as many carried values as of the node, got {len(body.inputs)} inputs "
            f"for the node's {node.num_inputs} inputs and {node.num_outputs} outputs"
        )


@operator("If")
def _if(node: Node) -> Kernel:
    then = node.subprogram(node.attribute("then_branch"))
    other = node.subprogram(node.attribute("else_branch"))
    count = len(then.captures)
    for branch in (then, other):
        if branch.inputs or branch.num_outputs != node.num_outputs:
            raise ValueError(
                f"branches: expected no inputs and {node.num_outputs} outputs, got "
                f"{len(branch.inputs)} and {branch.num_outputs}"
            )

    def kernel(condition: Array, *captures: Array) -> Any:
        if condition.item():
            return _outputs(then.run(captures[:count]))
        return _outputs(other.run(captures[count:]))

    return kernel


@operator("Loop")
def _loop(node: Node) -> Kernel:
    body = node.subprogram(node.attribute("body"))
    carried = len(body.inputs) - 2  # after the iteration's number and the condition
    _check_body(body, node, carried, 2)

    def kernel(limit: Array | None, condition: Array | None, *values: Array) -> Any:
        state, captures = list(values[:carried]), values[carried:]
        scanned: list[list[Array]] = [[] for _ in range(node.num_outputs - carried)]
        number, going = 0, condition is None or bool(condition.item())
        while going and (limit is None or number < limit.item()):
            again, *results = body.run(
                [np.array(number, np.int64), np.array(going), *state, *captures]
            )
            state = results[:carried]
            for values_so_far, value in zip(scanned, results[carried:], strict=True):
                values_so_far.append(value)
            number, going = number + 1, bool(again)
        if number == 0 and scanned:
            raise ValueError("M: expected at least one iteration, for the shape of what is scanned")
        return _outputs([*state, *map(np.stack, scanned)])

    return kernel


@operator("Scan")
def _scan(node: Node) -> Kernel:
    """From version 9 on; in version 8 it had an axis of batches."""
    if node.version < 9:
        raise ValueError(f"version: expected the operators of 9 or later, got {node.version}")
    body = node.subprogram(node.attribute("body"))
    scans = node.attribute("num_scan_inputs")
    carried = len(body.inputs) - scans
    _check_body(body, node, carried, scans)
    results = node.num_outputs - carried
    axes = node.attribute("scan_input_axes", [0] * scans)
    backwards = node.attribute("scan_input_directions", [0] * scans)
    if scans < 1 or not len(axes) == len(backwards) == scans:
        raise ValueError(f"num_scan_inputs: expected axes and directions of {scans} inputs")
    output_axes = node.attribute("scan_output_axes", [0] * results)
    output_backwards = node.attribute("scan_output_directions", [0] * results)

    def kernel(*values: Array) -> Any:
        state = list(values[:carried])
        captures = values[carried + scans :]
        sequences = []
        for x, axis, turned in zip(values[carried:], axes, backwards, strict=False):
            steps = np.moveaxis(x, axis, 0)
            sequences.append(steps[::-1] if turned else steps)
        scanned: list[list[Array]] = [[] for _ in range(results)]
        for step in zip(*sequences, strict=True):
            given = body.run([*state, *step, *captures])
            state = given[:carried]
            for values_so_far, value in zip(scanned, given[carried:], strict=True):
                values_so_far.append(value)
        if not len(sequences[0]) and results:
            raise ValueError("scan: expected at least one step, for the shape of what is scanned")
        stacked = [
            np.stack(part[::-1] if turned else part, axis)
            for part, axis, turned in zip(scanned, output_axes, output_backwards, strict=True)
        ]
        return _outputs([*state, *stacked])

    return kernel
