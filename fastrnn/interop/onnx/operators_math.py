"""ONNX's operators that work number by number, and activations."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import _core
from ...base import FLOAT32, FLOAT64
from .nodes import OPERATORS, Array, Kernel, Node, operator
from .tensors import dtype_of

__all__ = ["erf"]


# --- functions without attributes -----------------------------------------------------------------


def divide(a: Array, b: Array) -> Any:
    """Return a / b, of integers rounded towards zero."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        quotient += (quotient * b != a) & ((a < 0) != (b < 0))
    return quotient


def power(a: Array, b: Array) -> Any:
    """Return a ** b in a's type."""
    if a.dtype.kind == "f":
        b = b.astype(a.dtype, copy=False)
        if b.size == 1 and b.item() == 2.0:  # as exporters write squares
            return np.multiply(a, a) if b.ndim <= a.ndim else np.power(a, b)
    return np.power(a, b).astype(a.dtype, copy=False)


def sigmoid(x: Array) -> Any:
    """Return 1 / (1 + exp(-x))."""
    if x.dtype in (FLOAT32, FLOAT64) and isinstance(x, np.ndarray):
        return _core.sigmoid(x.reshape(-1)).reshape(x.shape)
    return 1 / (1 + np.exp(-x))


def tanh(x: Array) -> Any:
    """Return the hyperbolic tangent."""
    if x.dtype in (FLOAT32, FLOAT64) and isinstance(x, np.ndarray):
        return _core.tanh(x.reshape(-1)).reshape(x.shape)
    return np.tanh(x)


def softplus(x: Array) -> Any:
    """Return log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


ERF_STEP, ERF_END, ERF_TERMS = 1 / 32, 6.0, 9  # erf(6) is 1 but for 2e-17


@functools.cache
def _erf_table() -> Array:
    """Return the coefficients of erf's Taylor series around multiples of the step, (terms, N).

    The n-th derivative is 2 / sqrt(pi) (-1)^(n-1) H_(n-1)(x) exp(-x^2) with the polynomials of
    Hermite: https://dlmf.nist.gov/7.10.
    """
    points = np.arange(int(ERF_END / ERF_STEP) + 1) * ERF_STEP
    table = [np.array([math.erf(x) for x in points])]
    for n in range(1, ERF_TERMS):
        hermite = np.polynomial.hermite.Hermite.basis(n - 1)(points)
        derivative = 2 / math.sqrt(math.pi) * (-1) ** (n - 1) * hermite * np.exp(-points * points)
        table.append(derivative / math.factorial(n))
    return np.stack(table)


def erf(x: Array) -> Array:
    """Return the error function, to the last bits of its type."""
    size = np.minimum(np.abs(x.astype(np.float64)), ERF_END)
    size = np.where(np.isnan(size), 0.0, size)
    nearest = np.rint(size / ERF_STEP).astype(np.intp)
    offset = size - nearest * ERF_STEP
    table = _erf_table()
    y = table[-1][nearest]
    for row in table[-2::-1]:
        y = y * offset + row[nearest]
    return np.where(np.isnan(x), x, np.copysign(y, x)).astype(x.dtype)


def relu(x: Array) -> Any:
    """Return max(x, 0)."""
    return np.maximum(x, x.dtype.type(0))


def prelu(x: Array, slope: Array) -> Any:
    """Return x above 0, slope x below."""
    return np.where(x < 0, slope * x, x)


def hard_swish(x: Array) -> Any:
    """Return x max(0, min(1, x / 6 + 1/2))."""
    return x * np.clip(x / 6 + 0.5, 0, 1).astype(x.dtype)


def mish(x: Array) -> Any:
    """Return x tanh(softplus(x))."""
    return x * np.tanh(softplus(x))


PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Add": np.add,
    "And": np.logical_and,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseNot": np.invert,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Div": divide,
    "Equal": np.equal,
    "Erf": erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "HardSwish": hard_swish,
    "IsNaN": np.isnan,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "Mish": mish,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": np.reciprocal,
    "Relu": relu,
    "Round": np.rint,
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tan": np.tan,
    "Tanh": tanh,
    "Where": np.where,
    "Xor": np.logical_xor,
}


@operator(*PLAIN)
def _plain(node: Node) -> Kernel:
    return PLAIN[node.operator]


# --- any number of inputs -------------------------------------------------------------------------


def _joined(pair: Callable[[Any, Any], Any]) -> Callable[[Node], Kernel]:
    return lambda node: lambda *arrays: functools.reduce(pair, arrays)


OPERATORS.update(
    {
        "Max": _joined(np.maximum),
        "Min": _joined(np.minimum),
        "Sum": _joined(np.add),
    }
)


@operator("Mean")
def _mean(node: Node) -> Kernel:
    return lambda *arrays: functools.reduce(np.add, arrays) / arrays[0].dtype.type(len(arrays))


# --- functions with attributes --------------------------------------------------------------------
#
# Numbers are Python's, which leave the type of the array alone.


@operator("LeakyRelu")
def _leaky_relu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 0.01)
    return lambda x: np.where(x < 0, alpha * x, x)


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: np.where(x > alpha, x, x.dtype.type(0))


@operator("Elu")
def _elu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@operator("Celu")
def _celu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


@operator("Selu")
def _selu(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.05070102214813232421875)
    return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node) -> Kernel:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return lambda x: np.maximum(0, np.minimum(1, alpha * x + beta))


@operator("Swish")
def _swish(node: Node) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: x * sigmoid(np.asarray(alpha * x))


@operator("Gelu")
def _gelu(node: Node) -> Kernel:
    """Hendrycks & Gimpel (2016), "Gaussian error linear units"."""
    if node.attribute("approximate", "none") == "tanh":
        factor = math.sqrt(2 / math.pi)
        return lambda x: 0.5 * x * (1 + np.tanh(factor * (x + 0.044715 * x * x * x)))
    return lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))


@operator("Shrink")
def _shrink(node: Node) -> Kernel:
    bias, limit = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)

    def kernel(x: Array) -> Any:
        wide = x.astype(np.float64)
        y = np.where(wide < -limit, wide + bias, np.where(wide > limit, wide - bias, 0))
        return y.astype(x.dtype)

    return kernel


@operator("Clip")
def _clip(node: Node) -> Kernel:
    low, high = node.attribute("min"), node.attribute("max")  # inputs from version 11

    def kernel(x: Array, least: Any = low, most: Any = high) -> Any:
        if least is not None:
            x = np.maximum(x, least)
        return x if most is None else np.minimum(x, most)

    return kernel


@operator("Mod")
def _mod(node: Node) -> Kernel:
    return np.fmod if node.attribute("fmod", 0) else np.mod


@operator("IsInf")
def _is_inf(node: Node) -> Kernel:
    positive = bool(node.attribute("detect_positive", 1))
    negative = bool(node.attribute("detect_negative", 1))
    return lambda x: np.isinf(x) & ((x > 0) & positive | (x < 0) & negative)


@operator("Cast")
def _cast(node: Node) -> Kernel:
    dtype = dtype_of(node.attribute("to"))
    return lambda x: x.astype(dtype, copy=False)


@operator("CastLike")
def _cast_like(node: Node) -> Kernel:
    return lambda x, like: x.astype(like.dtype, copy=False)


@operator("Identity")
def _identity(node: Node) -> Kernel:
    return lambda x: x


@operator("Dropout")
def _dropout(node: Node) -> Kernel:
    """Inference: what comes in, and that nothing was dropped."""
    training = node.constant(2)
    if node.has(2) and (training is None or training.any()):
        raise ValueError("training_mode: expected the constant False")
    if node.num_outputs == 1:
        return lambda x, *_: x
    return lambda x, *_: (x, np.ones(x.shape, bool))


@operator("CumSum")
def _cumulative_sum(node: Node) -> Kernel:
    exclusive, reverse = node.attribute("exclusive", 0), node.attribute("reverse", 0)

    def kernel(x: Array, axis: Array) -> Any:
        k = int(axis)
        x = np.flip(x, k) if reverse else x
        y = np.cumsum(x, k, dtype=x.dtype)
        y = y - x if exclusive and x.dtype.kind != "f" else y
        if exclusive and x.dtype.kind == "f":
            y = np.roll(y, 1, k)
            y[(slice(None),) * (k % x.ndim) + (slice(0, 1),)] = 0
        return np.flip(y, k) if reverse else y

    return kernel
