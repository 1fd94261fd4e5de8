"""One recurrent layer for JAX: `layer`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import native, primitives, scan
from .scan import GATES, KINDS

__all__ = ["ENGINES", "layer"]

Array = Any
Weights = tuple[Array, Array, Array | None, Array | None, Array | None]

ENGINES = ("auto", "ffi", "callback", "scan")
NAMES = ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")


def layer(
    kind: str,
    x: Array,
    weights: Sequence[Weights],
    h0: Array | None = None,
    c0: Array | None = None,
    lengths: Array | None = None,
    *,
    batch_first: bool = False,
    engine: str = "auto",
) -> tuple[Array, Array, Array | None]:
    """Run one recurrent layer in one or both directions over a batch of sequences.

    `jax.jit`, `jax.grad` and the other derivatives, `jax.vmap` and `jax.checkpoint` apply to it in
    any order; derivatives are with respect to all but `lengths`. First ones in reverse mode are
    computed by fastrnn, others by the same layer in plain JAX.

    Parameters
    ----------
    kind : {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"}
        The cell, with PyTorch's formulas; "gru_reset_before" is that of `fastrnn.GRU` with
        ``reset_after=False``.
    x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
    weights : sequence of tuples
        For each direction (w_ih, w_hh, b_ih, b_hh, w_hr) with the shapes (G H, I), (G H, P),
        (G H,), (G H,) and (P, H), the rows of the G gates in PyTorch's order: i, f, g, o or
        r, z, n. The biases may be None. w_hr is the projection of an LSTM, or None: P is H.
    h0, c0 : array_like, shape (D, B, P) and (D, B, H), optional
        Initial states of the D directions; c0 of an LSTM only. None: zeros.
    lengths : array_like of int, shape (B,), optional
        Steps of each row; the rest is padding: y is zero there, the reverse direction starts
        before it, and final states are those after a row's own last step. None: T each.
    batch_first : bool, default False
        Whether x and y are (B, T, .).
    engine : {"auto", "ffi", "callback", "scan"}
        What computes. "ffi": fastrnn, called by XLA. "callback": fastrnn, called through Python
        (`jax.pure_callback`). "scan": `jax.lax.scan`. "auto": the first of these that can be had;
        "scan" where the type is neither float32 nor float64 or JAX's default device is no CPU.

    Returns
    -------
    y : jax.Array, shape (T, B, D P), or (B, T, D P) with `batch_first`
    h_n : jax.Array, shape (D, B, P)
    c_n : jax.Array, shape (D, B, H), or None
        None but for an LSTM.

    Raises
    ------
    TypeError, ValueError
        Where a kind, shape or type is wrong. Lengths out of range raise ValueError when they are a
        NumPy array or a list; in an array of JAX's, whose values are known only when it runs, JAX
        raises its own error then (with "scan" they are taken as 0 or T).
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    x = jnp.asarray(x)
    own = [tuple(None if w is None else jnp.asarray(w) for w in tuple_) for tuple_ in weights]
    if len(own) not in (1, 2) or any(len(w) != len(NAMES) for w in own):
        raise ValueError(f"weights: expected one or two tuples of {len(NAMES)}: {', '.join(NAMES)}")
    states = [None if s is None else jnp.asarray(s) for s in (h0, c0)]
    given = [a for a in (x, *states, *(w for t in own for w in t)) if a is not None]
    dtype = jnp.result_type(*given)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"x: expected floating-point numbers, got {dtype}")
    _check_shapes(kind, x, own, states, batch_first)
    T, B = x.shape[1::-1] if batch_first else x.shape[:2]
    steps = jnp.zeros((0,), jnp.int32) if lengths is None else _lengths(lengths, T, B)
    none = jnp.zeros((0,), dtype)
    floats = [none if a is None else a.astype(dtype) for a in (x, *states, *sum(own, ()))]
    operands = [*floats[:3], steps, *floats[3:]]
    y, h_n, c_n = _run(kind, bool(batch_first), _engine(engine, dtype), *operands)
    return y, h_n, (c_n if kind == "lstm" else None)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _run(kind: str, batch_first: bool, engine: str, *operands: Array) -> Any:
    if engine == "scan":
        return scan.run(kind, batch_first, *operands)
    return primitives.run(kind, batch_first, engine, *operands)


def _engine(asked: str, dtype: Any) -> str:
    compiled = dtype in (np.float32, np.float64)
    if asked == "scan" or (asked == "auto" and not (compiled and jax.default_backend() == "cpu")):
        return "scan"
    if not compiled:
        raise TypeError(f"engine: expected 'auto' or 'scan' for {dtype}, got {asked!r}")
    if asked == "callback":
        return asked
    if native.HAS_FFI:
        return "ffi"
    if asked == "ffi":
        raise RuntimeError("engine: this version of JAX does not take fastrnn's FFI handlers")
    return "callback"


def _lengths(lengths: Any, T: int, B: int) -> Array:
    if not isinstance(lengths, jax.Array):
        values = np.asarray(lengths)
        if values.size and np.issubdtype(values.dtype, np.integer):
            outside = values[(values < 0) | (values > T)]
            if outside.size:
                raise ValueError(f"lengths: expected from 0 to {T}, got {outside[0]}")
    steps = jnp.asarray(lengths)
    if not jnp.issubdtype(steps.dtype, jnp.integer) and steps.size:
        raise TypeError(f"lengths: expected integers, got {steps.dtype}")
    if steps.shape != (B,):
        raise ValueError(f"lengths: expected the shape {(B,)}, got {steps.shape}")
    wide = steps.dtype in (np.int64, np.uint32, np.uint64) and jax.config.jax_enable_x64
    return steps.astype(np.int64 if wide else np.int32)


def _check_shapes(
    kind: str,
    x: Array,
    weights: Sequence[tuple[Array | None, ...]],
    states: Sequence[Array | None],
    batch_first: bool,
) -> None:
    if x.ndim != 3:
        raise ValueError(f"x: expected three axes, got the shape {x.shape}")
    w_ih, w_hh, *_, w_hr = weights[0]
    if w_ih is None or w_hh is None or w_ih.ndim != 2 or w_hh.ndim != 2:
        raise ValueError("weights: expected matrices w_ih and w_hh")
    rows, columns = w_ih.shape
    H = rows // GATES[kind]
    if H < 1 or H * GATES[kind] != rows or columns < 1:
        raise ValueError(f"w_ih: expected {GATES[kind]} H rows and some columns, got {w_ih.shape}")
    if w_hr is not None and kind != "lstm":
        raise ValueError(f"w_hr: expected None but for 'lstm', got {w_hr.shape}")
    P = H if w_hr is None else w_hr.shape[0]
    shapes = ((rows, columns), (rows, P), (rows,), (rows,), (P, H))
    for own in weights:
        for name, w, shape in zip(NAMES, own, shapes, strict=True):
            needed = name in NAMES[:2] or (name == "w_hr" and w_hr is not None)
            if (w is None and needed) or (w is not None and w.shape != shape):
                got = None if w is None else w.shape
                raise ValueError(f"{name}: expected the shape {shape}, got {got}")
    if x.shape[2] != columns:
        raise ValueError(f"x: expected {columns} features, as w_ih has columns, got {x.shape[2]}")
    B = x.shape[0 if batch_first else 1]
    if states[1] is not None and kind != "lstm":
        raise ValueError(f"c0: expected None but for 'lstm', got {states[1].shape}")
    for name, state, width in zip(("h0", "c0"), states, (P, H), strict=True):
        shape = (len(weights), B, width)
        if state is not None and state.shape != shape:
            raise ValueError(f"{name}: expected the shape {shape}, got {state.shape}")
