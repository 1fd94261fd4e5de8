"""The kernels for XLA: by its FFI, or by calls back into Python where that is not to be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import ffi
from numpy.typing import NDArray

from ... import _core
from .scan import KINDS, WEIGHTS, is_absent

__all__ = [
    "BACKWARD",
    "FORWARD",
    "HAS_FFI",
    "backward_on_host",
    "cache_blocks",
    "forward_on_host",
]

FORWARD, BACKWARD = "fastrnn_layer_forward", "fastrnn_layer_backward"

NumPyArray = NDArray[Any]
Operands = tuple[NumPyArray, ...]


def _register() -> bool:
    """Register the compiled handlers, and return whether this JAX takes them."""
    try:
        for name, handler in _core.xla_handlers().items():
            ffi.register_ffi_target(name, handler, platform="cpu")
    except Exception:  # another version of the interface: XLA says so in errors of several types
        return False
    return True


HAS_FFI = _register()


def cache_blocks(kind: str, projects: bool) -> int:
    """Return what the cache of the handlers has of a row's step, in blocks of H values."""
    return _core.layer_cache_blocks(KINDS.index(kind), projects)


# ------------------------------------------------------------------------------- calls back
# The same as the handlers do, through NumPy. They keep no cache: backward computes it again.


def forward_on_host(kind: str, batch_first: bool, *operands: Any) -> Operands:
    """Return y, h_n, c_n."""
    arrays = _arrays(operands)
    y, h_n, c_n, _ = _run(kind, batch_first, arrays)
    return y, h_n, c_n


def backward_on_host(
    kind: str, batch_first: bool, wanted: Sequence[bool], count: int, *operands: Any
) -> Operands:
    """Return the gradients of the first `count` operands but lengths, absent where not wanted.

    After those `count` come y, the cache (not used) and the gradients of y, h_n and c_n.
    """
    arrays = _arrays(operands)
    given, cotangents = arrays[:count], arrays[count + 2 :]
    dtype = given[0].dtype
    *_, tape = _run(kind, batch_first, given)
    d_y, d_h, d_c = (_optional(array) for array in cotangents)
    if d_y is not None and batch_first:
        d_y = d_y.swapaxes(0, 1)
    x, h0, c0, _, *weights = given
    none = np.zeros((0,), dtype)
    d_weights = [
        np.zeros_like(w) if wish and not is_absent(w) else none
        for w, wish in zip(weights, wanted[3:], strict=True)
    ]
    d_x, d_h0, d_c0, _ = tape.backward(
        d_y, d_h, d_c, [_padded(own) for own in _directions(d_weights)], wanted[0]
    )
    if d_x is not None and batch_first:
        d_x = np.ascontiguousarray(d_x.swapaxes(0, 1))
    results = [d_x, d_h0, d_c0]
    return tuple(
        array if wish and array is not None and not is_absent(operand) else none
        for array, wish, operand in zip(results, wanted, (x, h0, c0), strict=False)
    ) + tuple(d_weights)


def _arrays(operands: Sequence[Any]) -> list[NumPyArray]:
    return [np.ascontiguousarray(operand) for operand in operands]


def _optional(array: NumPyArray) -> NumPyArray | None:
    return None if is_absent(array) else array


def _directions(weights: Sequence[NumPyArray]) -> list[Sequence[NumPyArray]]:
    return [weights[i : i + WEIGHTS] for i in range(0, len(weights), WEIGHTS)]


def _padded(weights: Sequence[NumPyArray]) -> tuple[NumPyArray | None, ...]:
    """All the weights that a cell of the core can have."""
    return (*map(_optional, weights), *[None] * 6)


def _run(
    kind: str, batch_first: bool, operands: Sequence[NumPyArray]
) -> tuple[NumPyArray, NumPyArray, NumPyArray, Any]:
    x, h0, c0, lengths, *weights = operands
    if batch_first:
        x = x.swapaxes(0, 1)
    own = _directions(weights)
    shape = (len(own), x.shape[1])
    h_n = np.empty((*shape, own[0][1].shape[1]), x.dtype)
    c_n = np.empty((*shape, own[0][0].shape[0] // 4), x.dtype) if kind == "lstm" else None
    bounds = None if is_absent(lengths) else lengths.astype(np.intp)
    if bounds is not None and bounds.size and not (0 <= bounds.min() <= bounds.max() <= len(x)):
        raise ValueError(f"lengths: expected from 0 to {len(x)}, got {lengths.tolist()}")
    cells = tuple(_core.pack_cell(kind, _padded(w), None, True) for w in own)
    y, tape = _core.layer_forward(
        cells,
        x,
        _optional(h0),
        _optional(c0),
        bounds,
        h_n,
        c_n,
        batch_first,
        0,
        (None, None, None, None),
    )
    if batch_first:
        y = y.swapaxes(0, 1)
    return y, h_n, np.empty(0, x.dtype) if c_n is None else c_n, tape
