"""Weights in fewer bits: what a quantised layer holds instead of float32 matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .base import FLOAT32, Parameter, RealArray

__all__ = ["PRECISIONS", "FixedParameter", "check_precision", "packable", "small_parameter"]

PRECISIONS = ("bf16", "int8", "bf16_dot")

Small = NDArray[Any]  # of uint16, int8 or float32


def check_precision(precision: Any) -> str:
    """Return the argument `precision`; ValueError if there is none of that name."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(
            f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}"
        )
    return precision


class FixedParameter(Parameter):
    """A parameter of a quantised layer: read as the float32 numbers it stands for, never written.

    Parameters
    ----------
    values : ndarray of uint16, int8 or float32
        bfloat16 numbers by their bits, integers, or, for what keeps all its bits, the numbers.
    scales : ndarray of float32, shape (rows,), optional
        Of integers: what each row of them is multiplied by.
    """

    __slots__ = ("scales", "values")
    fixed = True

    def __init__(self, values: Small, scales: NDArray[np.float32] | None = None) -> None:
        self.values, self.scales = values, scales
        self.grad = None
        self.requires_grad = False
        self.version = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return FixedParameter, (self.values, self.scales)

    def restore(self, name: str, values: Small, scales: NDArray[np.float32] | None) -> None:
        """Take what was saved of such a parameter; ValueError for what quantising cannot give."""
        if scales is not None and (values == -128).any():
            raise ValueError(f"{name}: expected integers from -127 to 127, got -128")
        if scales is not None and not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise ValueError(f"{name}_scale: expected finite scales from 0 on")
        self.values, self.scales = np.array(values), None if scales is None else np.array(scales)
        self.bump()

    @property
    def _array(self) -> RealArray:  # type: ignore[override]
        array: NDArray[Any] = self.values
        if array.dtype == np.uint16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif self.scales is not None:
            array = array * self.scales[:, None]
        else:
            array = array.view()
        array.flags.writeable = False
        return array

    @property
    def data(self) -> RealArray:
        """The weights as float32, read-only; assigning is a ValueError."""
        return self._array

    @data.setter
    def data(self, value: ArrayLike) -> None:
        raise ValueError("data: expected a float32 layer, got a quantized one, which is read-only")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, as what they are read as."""
        return FLOAT32

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.values.size


def small_parameter(name: str, array: RealArray, precision: str) -> FixedParameter:
    """Return a float32 weight array as a parameter of a layer of that precision.

    Matrices that products are made with become small; all else keeps its bits.
    """
    if not name.startswith("weight_") or array.ndim < 2:
        return FixedParameter(array.copy())
    if precision != "int8":
        return FixedParameter(_core.to_bf16(array))
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite weights for int8, got NaN or infinite ones")
    return FixedParameter(*_core.quantize_int8(array))


def packable(parameter: Parameter | None) -> Any:
    """Return the weights as `_core.pack_cell` takes them; integers with their scales."""
    if not isinstance(parameter, FixedParameter):
        return None if parameter is None else parameter._array
    return parameter.values if parameter.scales is None else (parameter.values, parameter.scales)
