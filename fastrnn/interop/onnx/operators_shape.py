"""ONNX's operators that move, select and make numbers: shapes, slices, indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .nodes import MOST_AXES, Array, Kernel, Node, check_elements, operator
from .tensors import dtype_of


def _are_axes(axes: Iterable[int]) -> bool:
    """Whether they count from the front, and some array has them, so that slices are few."""
    return all(0 <= axis < MOST_AXES for axis in axes)


# --- shapes ---------------------------------------------------------------------------------------


@operator("Shape")
def _shape(node: Node) -> Kernel:
    part = slice(node.attribute("start", 0), node.attribute("end"))
    return lambda x: np.array(x.shape[part], np.int64)


@operator("Size")
def _size(node: Node) -> Kernel:
    return lambda x: np.array(x.size, np.int64)


@operator("Reshape")
def _reshape(node: Node) -> Kernel:
    keep_zero = node.attribute("allowzero", 0)

    def plain(x: Array, sizes: Sequence[int]) -> Any:
        if 0 in sizes and not keep_zero:
            sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return x.reshape(sizes)

    shape = node.constant(1)
    if shape is not None:
        sizes = tuple(shape.tolist())
        if min(sizes, default=0) < -1:  # which NumPy takes as -1
            raise ValueError(f"shape: expected sizes of at least -1, got {sizes}")
        if 0 not in sizes or keep_zero:
            return lambda x, shape: x.reshape(sizes)
        return lambda x, shape: plain(x, sizes)
    return lambda x, shape: plain(x, shape.tolist())


@operator("Flatten")
def _flatten(node: Node) -> Kernel:
    axis = node.attribute("axis", 1)

    def kernel(x: Array) -> Any:
        rows = math.prod(x.shape[: axis if axis >= 0 else x.ndim + axis])
        return x.reshape(rows, -1 if rows else math.prod(x.shape[axis:]))

    return kernel


@operator("Transpose")
def _transpose(node: Node) -> Kernel:
    order = node.attribute("perm")
    return lambda x: x.transpose(order)


@operator("Squeeze")
def _squeeze(node: Node) -> Kernel:
    axes = node.integers("axes", 1)
    if axes is None and node.has(1):
        return lambda x, axes: x.squeeze(tuple(axes.reshape(-1).tolist()))
    return lambda x, _=None: x.squeeze(axes)


@operator("Unsqueeze")
def _unsqueeze(node: Node) -> Kernel:
    axes = node.integers("axes", 1)
    if axes is None:
        return lambda x, axes: np.expand_dims(x, tuple(axes.reshape(-1).tolist()))
    if not _are_axes(axes) or len({*axes}) < len(axes):  # from the end, or wrong
        return lambda x, _=None: np.expand_dims(x, axes)
    places = tuple([None if i in axes else slice(None) for i in range(max(axes, default=-1) + 1)])
    return lambda x, _=None: x[places]


@operator("Expand")
def _expand(node: Node) -> Kernel:
    def kernel(x: Array, shape: Array) -> Any:
        whole = tuple(shape.tolist())
        if whole == x.shape:
            return x
        whole = np.broadcast_shapes(x.shape, whole)
        check_elements(whole, x.dtype)
        return np.broadcast_to(x, whole)

    return kernel


@operator("Tile")
def _tile(node: Node) -> Kernel:
    def kernel(x: Array, repeats: Array) -> Any:
        check_elements([s * r for s, r in zip(x.shape, repeats.tolist(), strict=True)], x.dtype)
        return np.tile(x, repeats.tolist())

    return kernel


# --- making ---------------------------------------------------------------------------------------


@operator("Constant")
def _constant(node: Node) -> Kernel:
    kinds = {"value_float": np.float32, "value_int": np.int64}
    kinds |= {f"{name}s": dtype for name, dtype in kinds.items()}
    value = node.attribute("value")
    for name, dtype in kinds.items():
        if node.attribute(name) is not None:
            value = np.array(node.attribute(name), dtype)
    if value is None:
        raise TypeError("value: expected numbers")
    return lambda: value


@operator("ConstantOfShape")
def _constant_of_shape(node: Node) -> Kernel:
    value = np.asarray(node.attribute("value", np.zeros(1, np.float32)))
    number = value.reshape(-1)[0]

    def kernel(shape: Array) -> Any:
        sizes = tuple(shape.tolist())
        check_elements(sizes, value.dtype)
        return np.full(sizes, number, value.dtype)

    return kernel


@operator("Range")
def _range(node: Node) -> Kernel:
    def kernel(start: Array, limit: Array, delta: Array) -> Any:
        count = max(0, math.ceil((limit.item() - start.item()) / delta.item()))
        check_elements([count], np.dtype(np.float64))  # whatever the type, in between
        return (start + np.arange(count) * delta).astype(start.dtype)

    return kernel


@operator("EyeLike")
def _eye_like(node: Node) -> Kernel:
    kind, k = node.attribute("dtype"), node.attribute("k", 0)
    dtype = None if kind is None else dtype_of(kind)
    return lambda x: np.eye(x.shape[0], x.shape[1], k, dtype or x.dtype)


@operator("OneHot")
def _one_hot(node: Node) -> Kernel:
    axis = node.attribute("axis", -1)

    def kernel(indices: Array, depth: Array, values: Array) -> Any:
        count = int(depth.reshape(-1)[0])
        check_elements([*indices.shape, count], values.dtype)
        check_elements([count], np.dtype(np.int64))  # of the places
        wanted = np.expand_dims(np.where(indices < 0, indices + count, indices), axis)
        places = np.arange(count).reshape([-1] + [1] * (-axis - 1 if axis < 0 else 0))
        if axis >= 0:
            places = np.arange(count).reshape([-1] + [1] * (indices.ndim - axis))
        return np.where(wanted == places, values[1], values[0])

    return kernel


@operator("Trilu")
def _trilu(node: Node) -> Kernel:
    part = np.triu if node.attribute("upper", 1) else np.tril
    return lambda x, k=None: part(x, 0 if k is None else int(k))


@operator("Pad")
def _pad(node: Node) -> Kernel:
    mode, attribute = node.attribute("mode", "constant"), node.attribute("pads")
    names = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in names:
        raise ValueError(f"mode: expected one of {', '.join(names)}, got {mode!r}")

    def kernel(
        x: Array, pads: Any = attribute, value: Array | None = None, axes: Array | None = None
    ) -> Any:
        amounts = np.asarray(pads).reshape(2, -1).T.tolist()
        widths = [[0, 0] for _ in x.shape]
        for axis, amount in zip(
            range(x.ndim) if axes is None else axes.tolist(), amounts, strict=True
        ):
            widths[axis] = amount
        kept = [
            slice(max(0, -a), s - max(0, -b)) for (a, b), s in zip(widths, x.shape, strict=True)
        ]
        widths = [[max(0, a), max(0, b)] for a, b in widths]
        check_elements([s + a + b for s, (a, b) in zip(x.shape, widths, strict=True)], x.dtype)
        number = node.attribute("value", 0) if value is None else value.reshape(-1)[0]
        options = {"constant_values": number} if mode == "constant" else {}
        return np.pad(x[tuple(kept)], widths, mode, **options)

    return kernel


# --- joining and parting --------------------------------------------------------------------------


@operator("Concat")
def _concat(node: Node) -> Kernel:
    axis = node.attribute("axis", 1)
    return lambda *arrays: np.concatenate(arrays, axis)


@operator("Split")
def _split(node: Node) -> Kernel:
    axis, count = node.attribute("axis", 0), node.num_outputs

    def kernel(x: Array, split: Any = None) -> Any:
        size = x.shape[axis]
        if split is None:
            largest = -(-size // count)
            ends = [min(largest * (i + 1), size) for i in range(count)]
        else:
            ends = [*itertools.accumulate(split)]
            if len(ends) != count or ends[-1] != size or min(split) < 0:
                raise ValueError(f"split: expected {count} sizes of {size} in all, got {split}")
        before = (slice(None),) * (axis % x.ndim)
        return tuple([x[(*before, slice(*part))] for part in zip([0, *ends], ends, strict=False)])

    sizes = node.integers("split", 1)
    return kernel if sizes is None else lambda x, _=None: kernel(x, sizes)


@operator("Slice")
def _slice(node: Node) -> Kernel:
    names = ("starts", "ends", "axes", "steps")

    def slices(starts: Any, ends: Any, axes: Any, steps: Any) -> dict[int, slice]:
        axes = range(len(starts)) if axes is None else axes
        steps = [1] * len(starts) if steps is None else steps
        return {a: slice(*part) for a, *part in zip(axes, starts, ends, steps, strict=True)}

    def cut(x: Array, parts: dict[int, slice]) -> Any:
        places = [slice(None)] * x.ndim
        for axis, part in parts.items():
            places[axis] = part
        return x[tuple(places)]

    numbers = [node.integers(name, i + 1) for i, name in enumerate(names)]
    known = all(n is not None or not node.has(i + 1) for i, n in enumerate(numbers))
    if known:
        parts = slices(*numbers)
        if not _are_axes(parts):  # from the end, or wrong
            return lambda x, *_: cut(x, parts)
        places = tuple([parts.get(i, slice(None)) for i in range(max(parts, default=-1) + 1)])
        return lambda x, *_: x[places]

    def kernel(
        x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
    ) -> Any:
        given = [None if n is None else n.reshape(-1).tolist() for n in (starts, ends, axes, steps)]
        return cut(x, slices(*given))

    return kernel


# --- indices --------------------------------------------------------------------------------------


@operator("Gather")
def _gather(node: Node) -> Kernel:
    axis, indices = node.attribute("axis", 0), node.constant(1)
    if indices is not None and indices.ndim == 0 and _are_axes([axis]):
        places = (*[slice(None)] * axis, int(indices))
        return lambda x, indices: x[places]
    return lambda x, indices: x.take(indices, axis)


@operator("GatherElements")
def _gather_elements(node: Node) -> Kernel:
    axis = node.attribute("axis", 0)

    def kernel(x: Array, indices: Array) -> Any:
        _check_indices(indices, x.shape[axis])
        places: list[Array] = list(np.indices(indices.shape, sparse=True))
        places[axis] = indices
        return x[tuple(places)]

    return kernel


@operator("GatherND")
def _gather_nd(node: Node) -> Kernel:
    batch = node.attribute("batch_dims", 0)

    def kernel(x: Array, indices: Array) -> Any:
        if batch == 0:
            return x[tuple(np.moveaxis(indices, -1, 0))]
        rows = math.prod(x.shape[:batch])
        data = x.reshape(rows, *x.shape[batch:])
        places = indices.reshape(rows, *indices.shape[batch:])
        y = np.stack([d[tuple(np.moveaxis(i, -1, 0))] for d, i in zip(data, places, strict=True)])
        return y.reshape(*x.shape[:batch], *y.shape[1:])

    return kernel


REDUCTIONS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scatter(y: Array, places: tuple[Any, ...], updates: Array, reduction: str) -> Array:
    if reduction == "none":
        y[places] = updates
    elif reduction in REDUCTIONS:
        REDUCTIONS[reduction].at(y, places, updates)
    else:
        raise ValueError(f"reduction: expected one of none, {', '.join(REDUCTIONS)}")
    return y


@operator("Scatter", "ScatterElements")
def _scatter_elements(node: Node) -> Kernel:
    axis, reduction = node.attribute("axis", 0), node.attribute("reduction", "none")

    def kernel(x: Array, indices: Array, updates: Array) -> Any:
        _check_indices(indices, x.shape[axis])
        places: list[Array] = list(np.indices(indices.shape, sparse=True))
        places[axis] = indices
        return _scatter(x.copy(), tuple(places), updates, reduction)

    return kernel


@operator("ScatterND")
def _scatter_nd(node: Node) -> Kernel:
    reduction = node.attribute("reduction", "none")
    return lambda x, indices, updates: _scatter(
        x.copy(), tuple(np.moveaxis(indices, -1, 0)), updates, reduction
    )


def _check_indices(indices: Array, size: int) -> None:
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise ValueError(f"indices: expected -{size} to {size - 1}")


@operator("NonZero")
def _non_zero(node: Node) -> Kernel:
    return lambda x: np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Compress")
def _compress(node: Node) -> Kernel:
    axis = node.attribute("axis")
    return lambda x, condition: np.compress(condition, x, axis)


@operator("ReverseSequence")
def _reverse_sequence(node: Node) -> Kernel:
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)

    def kernel(x: Array, lengths: Array) -> Any:
        rows = np.moveaxis(x, (time, batch), (0, 1))
        if lengths.size and (lengths.min() < 0 or lengths.max() > len(rows)):
            raise ValueError(f"sequence_lens: expected 0 to {len(rows)}, got {lengths.tolist()}")
        steps = np.arange(len(rows))[:, None]
        turned = np.where(steps < lengths, lengths - 1 - steps, steps)
        y = rows[turned, np.arange(rows.shape[1])]
        return np.moveaxis(y, (0, 1), (time, batch))

    return kernel
