"""ONNX's operators of networks: products, reductions, normalisation, softmax, convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import _core
from ...base import FLOAT32, FLOAT64
from .nodes import Array, Kernel, Node, check_elements, operator

# --- products -------------------------------------------------------------------------------------


@operator("MatMul")
def _matmul(node: Node) -> Kernel:
    weight = node.constant(1)
    if weight is None or weight.ndim != 2:
        return np.matmul
    node.take(1)
    product = _product(weight)

    def kernel(x: Array, _: None) -> Any:  # one product of all rows, not one for each (T, I)
        if x.ndim == 2:
            return product(x)
        return product(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], outputs)

    outputs = weight.shape[1]
    return kernel


SMALL = 2**14  # multiply-adds: below, the overhead of NumPy's product outweighs its speed


def _product(weight: Array, bias: Array | None = None) -> Kernel:
    """Return x -> x weight + bias for matrices x and a constant weight (I, O)."""
    I, O = weight.shape  # noqa: E741
    rows = np.ascontiguousarray(weight.T)
    small = SMALL if weight.dtype in (FLOAT32, FLOAT64) and min(I, O) else -1

    def kernel(x: Array) -> Any:
        if len(x) * I * O <= small and x.flags.c_contiguous and x.shape[1] == I:
            return _core.linear_forward(x, rows, bias)
        y = np.matmul(x, rows.T)
        if bias is not None:
            y += bias
        return y

    return kernel


@operator("Gemm")
def _gemm(node: Node) -> Kernel:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turn_a, turn_b = node.attribute("transA", 0), node.attribute("transB", 0)
    weight, bias = node.constant(1), node.constant(2)
    plain = alpha == beta == 1.0 and not turn_a and (bias is not None or not node.has(2))
    if plain and weight is not None and weight.ndim == 2:
        turned = weight.T if turn_b else weight
        if bias is None or bias.shape == turned.shape[1:]:
            node.take(1)
            product = _product(turned, node.take(2))
            return lambda x, *_: product(x)

    def kernel(a: Array, b: Array, c: Array | None = None) -> Any:
        y = np.matmul(a.T if turn_a else a, b.T if turn_b else b)
        if alpha != 1.0:
            y *= y.dtype.type(alpha)
        if c is not None and beta != 0.0:
            y += c if beta == 1.0 else y.dtype.type(beta) * c
        return y

    return kernel


@operator("Einsum")
def _einsum(node: Node) -> Kernel:
    equation = node.attribute("equation")
    return lambda *arrays: np.einsum(equation, *arrays)


# --- reductions -----------------------------------------------------------------------------------

Reduce = Callable[[Array, "tuple[int, ...] | None", bool], Any]


def _extreme(function: Any, least: bool) -> Reduce:
    def reduce(x: Array, axes: tuple[int, ...] | None, keep: bool) -> Any:
        if x.size:
            return function.reduce(x, axes, keepdims=keep)
        limits = {"f": np.inf, "b": True}.get(x.dtype.kind)
        if limits is None:
            info = np.iinfo(x.dtype)
            start: Any = info.max if least else info.min
        else:
            start = limits if least else {"f": -np.inf, "b": False}[x.dtype.kind]
        return function.reduce(x, axes, keepdims=keep, initial=start)

    return reduce


def _log_sum_exp(x: Array, axes: tuple[int, ...] | None, keep: bool) -> Any:
    most = np.max(x, axes, keepdims=True, initial=-np.inf)
    most = np.where(np.isfinite(most), most, 0).astype(x.dtype)
    y = np.log(np.sum(np.exp(x - most), axes, keepdims=True)) + most
    return y if keep else y.reshape(np.sum(x, axes).shape)


REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": lambda x, axes, keep: np.sum(np.abs(x), axes, x.dtype, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: np.sqrt(
        np.sum(np.square(x), axes, x.dtype, keepdims=keep)
    ).astype(x.dtype),
    "ReduceLogSum": lambda x, axes, keep: np.log(np.sum(x, axes, x.dtype, keepdims=keep)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(np.maximum, False),
    "ReduceMean": lambda x, axes, keep: np.mean(x, axes, keepdims=keep).astype(x.dtype),
    "ReduceMin": _extreme(np.minimum, True),
    "ReduceProd": lambda x, axes, keep: np.prod(x, axes, x.dtype, keepdims=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, x.dtype, keepdims=keep),
    "ReduceSumSquare": lambda x, axes, keep: np.sum(np.square(x), axes, x.dtype, keepdims=keep),
}


@operator(*REDUCTIONS)
def _reduce(node: Node) -> Kernel:
    function, keep = REDUCTIONS[node.operator], bool(node.attribute("keepdims", 1))
    nothing = bool(node.attribute("noop_with_empty_axes", 0))
    axes = node.integers("axes", 1)

    def reduce(x: Array, wanted: Sequence[int] | None) -> Any:
        if not wanted:
            return function(x[None], (0,), False) if nothing else function(x, None, keep)
        return function(x, tuple(wanted), keep)

    if axes is None and node.has(1):
        return lambda x, axes: reduce(x, axes.tolist())
    return lambda x, _=None: reduce(x, axes)


@operator("ArgMax", "ArgMin")
def _arg_extreme(node: Node) -> Kernel:
    function: Any = np.argmax if node.operator == "ArgMax" else np.argmin
    axis, keep = node.attribute("axis", 0), bool(node.attribute("keepdims", 1))

    def kernel(x: Array) -> Any:
        if not node.attribute("select_last_index", 0):
            return function(x, axis, keepdims=keep)
        return x.shape[axis] - 1 - function(np.flip(x, axis), axis, keepdims=keep)

    return kernel


@operator("TopK")
def _top_k(node: Node) -> Kernel:
    axis, largest = node.attribute("axis", -1), node.attribute("largest", 1)

    def kernel(x: Array, k: Array | None = None) -> Any:
        count = node.attribute("k", 0) if k is None else int(k.reshape(-1)[0])
        if not 0 <= count <= x.shape[axis]:
            raise ValueError(f"K: expected 0 to {x.shape[axis]}, got {count}")
        if largest:  # of equals the first: sorted backwards, they are the last
            order = np.argsort(np.flip(x, axis), axis, kind="stable")
            order = x.shape[axis] - 1 - np.flip(order, axis)
        else:
            order = np.argsort(x, axis, kind="stable")
        order = np.take(order, np.arange(count), axis)
        return np.take_along_axis(x, order, axis), order.astype(np.int64)

    return kernel


# --- softmax and normalisation --------------------------------------------------------------------


@operator("Softmax", "LogSoftmax", "Hardmax")
def _softmax(node: Node) -> Kernel:
    """Over one axis; before version 13 over that and all after it."""
    old = node.version < 13
    axis = node.attribute("axis", 1 if old else -1)
    function = {"Softmax": _exp_share, "LogSoftmax": _log_share, "Hardmax": _first_largest}[
        node.operator
    ]

    def flat(x: Array) -> Any:
        k = axis % x.ndim
        rows = x.reshape(*x.shape[:k], -1)
        return function(rows, -1).reshape(x.shape)

    return flat if old else lambda x: function(x, axis)


def _exp_share(x: Array, axis: int) -> Array:
    if not x.size:
        return x
    y = x - np.maximum.reduce(x, axis, keepdims=True)
    np.exp(y, y)
    y /= np.add.reduce(y, axis, keepdims=True)
    return y


def _log_share(x: Array, axis: int) -> Array:
    if not x.size:
        return x
    y = x - np.maximum.reduce(x, axis, keepdims=True)
    y -= np.log(np.add.reduce(np.exp(y), axis, keepdims=True))
    return y


def _first_largest(x: Array, axis: int) -> Array:
    y = np.zeros_like(x)
    np.put_along_axis(y, np.argmax(x, axis, keepdims=True), 1, axis)
    return y


@operator("LayerNormalization")
def _layer_normalization(node: Node) -> Kernel:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    several = node.num_outputs > 1

    def kernel(x: Array, scale: Array, bias: Array | None = None) -> Any:
        if axis in (-1, x.ndim - 1) and not several and scale.shape == x.shape[-1:]:
            return _rows_normalized(x, scale, bias, epsilon)
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdims=True)
        y = x - mean
        inverse = 1 / np.sqrt(np.square(y).mean(axes, keepdims=True) + epsilon)
        y *= inverse
        y *= scale
        if bias is not None:
            y += bias
        return (y, mean, inverse) if several else y

    return kernel


def _rows_normalized(x: Array, scale: Array, bias: Array | None, epsilon: float) -> Any:
    """Return the last axis normalised, as `fastrnn.LayerNorm`."""
    if bias is not None and bias.shape != scale.shape:
        bias = np.broadcast_to(bias, scale.shape).copy()
    rows = x.reshape(-1, x.shape[-1])
    return _core.layer_norm_forward(rows, scale, bias, epsilon, False)[0].reshape(x.shape)


@operator("BatchNormalization")
def _batch_normalization(node: Node) -> Kernel:
    if node.attribute("training_mode", 0) or node.num_outputs > 1:
        raise ValueError("training_mode: expected 0 and one output")
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Any:
        factor = scale / np.sqrt(variance + epsilon)
        shape = (-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else (-1,)
        offset = (bias - mean * factor).reshape(shape)
        return (x * factor.reshape(shape) + offset).astype(x.dtype, copy=False)

    return kernel


@operator("InstanceNormalization")
def _instance_normalization(node: Node) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(x: Array, scale: Array, bias: Array) -> Any:
        axes, shape = tuple(range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        y = x - x.mean(axes, keepdims=True)
        y /= np.sqrt(np.square(y).mean(axes, keepdims=True) + epsilon)
        return y * scale.reshape(shape) + bias.reshape(shape)

    return kernel


# --- convolution and pooling ----------------------------------------------------------------------


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node) -> Kernel:
    function: Any = np.mean if node.operator == "GlobalAveragePool" else np.max
    return lambda x: function(x, tuple(range(2, x.ndim)), keepdims=True)


def _padding(node: Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> Any:
    """Return the zeros before and after each axis, for windows that span so many places."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        amounts = []
        for size, span, stride in zip(sizes, spans, strides, strict=True):
            whole = max(0, (-(-size // stride) - 1) * stride + span - size)
            pair = (whole // 2, whole - whole // 2)
            amounts.append(pair if mode == "SAME_UPPER" else pair[::-1])
        return amounts
    pads = node.attribute("pads", [0] * (2 * len(sizes)))
    if mode == "VALID" or not any(pads):
        return [(0, 0)] * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def _padded(x: Array, pads: Sequence[tuple[int, int]], value: Any = 0) -> Array:
    """Return x (N, C, sizes...) with more places before and after each of the sizes."""
    if any(least < 0 for pair in pads for least in pair):
        raise ValueError(f"pads: expected numbers of at least 0, got {pads}")
    whole = [size + sum(pair) for size, pair in zip(x.shape[2:], pads, strict=True)]
    check_elements([*x.shape[:2], *whole], x.dtype)
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


def _windows(
    x: Array, spans: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """Return a view (N, C, places..., window...) of x (N, C, sizes...)."""
    if min([*strides, *dilations], default=1) < 1:  # which would go backwards
        raise ValueError(f"strides, dilations: expected 1 or more, got {strides}, {dilations}")
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(spans), axes)
    steps = [slice(None), slice(None), *[slice(None, None, s) for s in strides]]
    return view[(*steps, *[slice(None, None, d) for d in dilations])]


@operator("Conv")
def _conv(node: Node) -> Kernel:
    groups = node.attribute("group", 1)

    def kernel(x: Array, weight: Array, bias: Array | None = None) -> Any:
        rank = x.ndim - 2
        strides = node.attribute("strides", [1] * rank)
        dilations = node.attribute("dilations", [1] * rank)
        spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
        pads = _padding(node, x.shape[2:], spans, strides)
        windows = _windows(_padded(x, pads), spans, strides, dilations)
        N, outputs = len(x), len(weight) // groups
        places = windows.shape[2 : 2 + rank]
        columns = windows.reshape(N, groups, -1, *windows.shape[2:])
        columns = np.moveaxis(columns, 2, 2 + rank).reshape(N, groups, math.prod(places), -1)
        rows = weight.reshape(groups, outputs, -1)
        y = np.matmul(rows, columns.swapaxes(2, 3)).reshape(N, groups * outputs, *places)
        if bias is not None:
            y += bias.reshape(-1, *[1] * rank)
        return y

    return kernel


@operator("MaxPool", "AveragePool")
def _pool(node: Node) -> Kernel:
    if node.attribute("ceil_mode", 0) or node.num_outputs > 1:
        raise ValueError("ceil_mode: expected 0 and one output")
    kernel_shape = node.attribute("kernel_shape")
    rank = len(kernel_shape)
    strides = node.attribute("strides", [1] * rank)
    dilations = node.attribute("dilations", [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel_shape, dilations, strict=True)]
    largest = node.operator == "MaxPool"
    all_count = bool(node.attribute("count_include_pad", 0))

    def kernel(x: Array) -> Any:
        pads = _padding(node, x.shape[2:], spans, strides)
        axes = tuple(range(-rank, 0))
        if largest:
            fill = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
            return _windows(_padded(x, pads, fill), spans, strides, dilations).max(axes)
        y = _windows(_padded(x, pads), spans, strides, dilations).sum(axes)
        one = _padded(np.ones((1, 1, *x.shape[2:]), x.dtype), pads, int(all_count))
        return y / _windows(one, spans, strides, dilations).sum(axes)

    return kernel
