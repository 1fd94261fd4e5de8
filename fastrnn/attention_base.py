"""What the layers of attention.py share: `Attention`, `Memory`, and the masked softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core
from .base import (
    RealArray,
    check_dtype,
    check_flag,
    check_gradient,
    check_size,
    integer_array,
    real_array,
)
from .composite import Composite

__all__ = ["Attention", "Memory", "attend", "elementwise", "real_steps"]

Mask = NDArray[np.bool_]
Gradients = tuple[RealArray, RealArray]


class Memory(NamedTuple):
    """A memory as `Attention.prepare` leaves it; the batch is the first axis of each array.

    Attributes
    ----------
    keys, values : ndarray, shape (B, T_m, K) and (B, T_m, V); with N heads (B, N, T_m, .)
    mask : ndarray of bool, shape (B, T_m), or None
        True at the real steps; None if all are real.
    """

    keys: RealArray
    values: RealArray
    mask: Mask | None

    def select(self, indices: ArrayLike) -> Memory:
        """Return the memory of the rows `indices` (n,) of the batch, in this order."""
        rows = np.asarray(indices)
        keys = self.keys[rows]
        values = keys if self.values is self.keys else self.values[rows]
        return Memory(keys, values, None if self.mask is None else self.mask[rows])


class Attention(Composite):
    """Base of the attention layers.

    Attributes
    ----------
    query_size, memory_size, context_size : int
        The sizes Q, M and C of the last axes.
    batch_first : bool
    dtype : dtype
    """

    dropout = 0.0
    _scale = 1.0
    _rng: np.random.Generator

    def _set_up(self, batch_first: bool, dtype: DTypeLike) -> None:
        self.batch_first = check_flag("batch_first", batch_first)
        self.dtype = check_dtype(dtype)
        self.query_size, self.memory_size, self.context_size = self.sizes(self.config())

    @classmethod
    def sizes(cls, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the sizes of query, memory and context of a layer with this `config`."""
        query_size = check_size("query_size", config.get("query_size"))
        memory_size = check_size("memory_size", config.get("memory_size"))
        return query_size, memory_size, memory_size

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {"batch_first": self.batch_first, "dtype": self.dtype.name}

    def __call__(
        self,
        query: ArrayLike,
        memory: ArrayLike,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[RealArray, RealArray]:
        """Read the memory (inference: no dropout).

        Parameters
        ----------
        query : array_like, shape (T_q, B, Q)
            (B, T_q, Q) with `batch_first`.
        memory : array_like, shape (T_m, B, M)
            (B, T_m, M) with `batch_first`.
        lengths : array_like of int, shape (B,), optional
            Steps of each row of the memory, 0 <= length <= T_m.
        mask : array_like of bool, shape (T_m, B), optional
            True at the real steps; (B, T_m) with `batch_first`. With `lengths`, a step is real if
            both say so.

        Returns
        -------
        context : ndarray, shape (T_q, B, C)
            Zeros (and an output bias, if there is one) where a row of the memory has no real step.
            Steps that are not real have no influence, whatever they hold.
        weights : ndarray, shape (T_q, B, T_m)
            They sum to 1, or are all 0 for a row without a real step. With `batch_first`, both
            have B first.

        Raises
        ------
        ValueError
            For a wrong shape or length.
        TypeError
            For an array of another dtype than the layer's, lengths that are not integers, or a
            mask that is not bool.
        """
        return self.read(query, self.prepare(memory, lengths, mask))

    def vjp(
        self,
        query: ArrayLike,
        memory: ArrayLike,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[tuple[RealArray, RealArray], Callable[..., Gradients]]:
        """Read the memory for training; arguments and errors as of a call.

        Returns
        -------
        (context, weights) : as of a call
        pullback : callable
            ``pullback(dcontext, dweights=None) -> (dquery, dmemory)``. Query and memory must not
            be changed in between; changed weights are a RuntimeError.
        """
        prepared, back_to_memory = self.prepare_vjp(memory, lengths, mask)
        result, back = self.read_vjp(query, prepared)

        def pullback(dcontext: ArrayLike, dweights: ArrayLike | None = None) -> Gradients:
            dquery, gradients = back(dcontext, dweights)
            return dquery, back_to_memory(gradients)

        return result, pullback

    def prepare(
        self, memory: ArrayLike, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Memory:
        """Return what `read` takes: the memory with all that does not depend on the query.

        Arguments as of a call.
        """
        return self.prepare_vjp(memory, lengths, mask)[0]

    def prepare_vjp(
        self, memory: ArrayLike, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> tuple[Memory, Callable[[Gradients], RealArray]]:
        """Return the prepared memory, and the pullback ``(dkeys, dvalues) -> dmemory``.

        Arguments as of a call. The gradients are those that pullbacks of `read_vjp` give, summed
        over the reads.
        """
        array = real_array("memory", memory, self.dtype)
        self._check_shape("memory", array, "T_m", self.memory_size)
        real = real_steps(self._turn(array).shape[:2], lengths, mask, self.batch_first)
        if real is not None:  # what padding holds, as NaN, must not come through a product with 0
            array = np.where(self._turn(real)[..., None], array, self.dtype.type(0))
        (keys, values), back = self._project_memory(array)
        return Memory(keys, values, real), back

    def read(self, query: ArrayLike, memory: Memory) -> tuple[RealArray, RealArray]:
        """Read a prepared memory: (context, weights) of a query, as of a call."""
        return self._read(query, memory, 0.0)[0]

    def read_vjp(
        self, query: ArrayLike, memory: Memory
    ) -> tuple[tuple[RealArray, RealArray], Callable[..., tuple[RealArray, Gradients]]]:
        """Read a prepared memory for training; the query as of a call.

        Returns (context, weights) and
        ``pullback(dcontext, dweights=None) -> (dquery, (dkeys, dvalues))``.
        """
        return self._read(query, memory, self.dropout)

    def _read(
        self, query: ArrayLike, memory: Memory, dropout: float
    ) -> tuple[tuple[RealArray, RealArray], Callable[..., tuple[RealArray, Gradients]]]:
        array = real_array("query", query, self.dtype)
        self._check_shape("query", array, "T_q", self.query_size, memory.keys.shape[0])
        q, back_to_query = self._project_query(array)
        scores, back_to_scores = self._scores(q, memory.keys)
        factors = self._dropout_factors(scores.shape, dropout) if dropout else None
        (read, weights), back = attend(scores, memory.values, memory.mask, factors)
        context, back_to_context = self._project_context(read)
        shown = self._show(weights)

        def pullback(
            dcontext: ArrayLike, dweights: ArrayLike | None = None
        ) -> tuple[RealArray, Gradients]:
            d_context = check_gradient(dcontext, context.shape, self.dtype, "dcontext")
            d_weights = None
            if dweights is not None:
                d_weights = self._unshow(
                    check_gradient(dweights, shown.shape, self.dtype, "dweights")
                )
            d_scores, d_values = back(back_to_context(d_context), d_weights)
            d_q, d_keys = back_to_scores(d_scores)
            return back_to_query(d_q), (d_keys, d_values)

        return (context, shown), pullback

    # --- what the kinds of attention differ in ------------------------------------------------

    def _project_memory(
        self, memory: RealArray
    ) -> tuple[tuple[RealArray, RealArray], Callable[[Gradients], RealArray]]:
        """Return keys and values (B, T_m, .) of the memory in the caller's layout."""
        values = self._turn(memory)

        def pullback(gradients: Gradients) -> RealArray:
            return self._turn(gradients[0] + gradients[1])

        return (values, values), pullback

    def _project_query(
        self, query: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        """Return (B, T_q, K) of the query in the caller's layout."""
        return self._turn(query), self._turn

    def _scores(
        self, q: RealArray, keys: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], Gradients]]:
        """Return the scores (B, T_q, T_m): products, times the scale."""
        q = q if self._scale == 1.0 else q * self.dtype.type(self._scale)

        def pullback(dscores: RealArray) -> Gradients:
            dq = dscores @ keys
            if self._scale != 1.0:
                dq *= self.dtype.type(self._scale)
            return dq, dscores.swapaxes(-1, -2) @ q

        return q @ keys.swapaxes(-1, -2), pullback

    def _project_context(
        self, context: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        """Return the context, from (B, T_q, V) to the caller's layout."""
        return self._turn(context), self._turn

    def _show(self, weights: RealArray) -> RealArray:
        """Return the weights in the caller's layout; `_unshow` is its transpose."""
        return self._turn(weights)

    def _unshow(self, dweights: RealArray) -> RealArray:
        return self._turn(dweights)

    # --- helpers ------------------------------------------------------------------------------

    def _turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Change between the caller's layout and batch first, which is what products take."""
        return array if self.batch_first else array.swapaxes(0, 1)

    def _dropout_factors(self, shape: tuple[int, ...], dropout: float) -> RealArray:
        kept = self._rng.random(shape, np.float32) >= dropout
        scale = 0.0 if dropout == 1.0 else 1.0 / (1.0 - dropout)
        factors: RealArray = np.multiply(kept, scale, dtype=self.dtype)
        return factors

    def _check_shape(
        self, name: str, array: RealArray, steps: str, size: int, batch: int | None = None
    ) -> None:
        wrong = array.ndim != 3 or array.shape[-1] != size
        if wrong or batch not in (None, array.shape[0 if self.batch_first else 1]):
            B = "B" if batch is None else str(batch)
            axes = f"{B}, {steps}" if self.batch_first else f"{steps}, {B}"
            raise ValueError(f"{name}: expected the shape ({axes}, {size}), got {array.shape}")


def real_steps(
    shape: tuple[int, ...], lengths: ArrayLike | None, mask: ArrayLike | None, batch_first: bool
) -> Mask | None:
    """Return the mask (B, T) of real steps that lengths and mask tell, None if all are real."""
    B, T = shape
    real = np.ones((B, T), np.bool_)
    if lengths is not None:
        sizes = integer_array("lengths", lengths)
        if sizes.shape != (B,):
            raise ValueError(f"lengths: expected the shape ({B},), got {sizes.shape}")
        wrong = sizes[(sizes < 0) | (sizes > T)]
        if wrong.size:
            raise ValueError(f"lengths: expected numbers from 0 to {T}, got {wrong[0]}")
        real &= np.arange(T) < sizes[:, None]
    if mask is not None:
        array = np.asarray(mask)
        expected = (B, T) if batch_first else (T, B)
        if array.dtype != np.bool_:
            raise TypeError(f"mask: expected an array of bool, got {array.dtype}")
        if array.shape != expected:
            raise ValueError(f"mask: expected the shape {expected}, got {array.shape}")
        real &= array if batch_first else array.T
    return None if real.all() else real


def attend(
    scores: RealArray, values: RealArray, mask: Mask | None, factors: RealArray | None
) -> tuple[Gradients, Callable[[RealArray, RealArray | None], Gradients]]:
    """Return context and weights of scores (B, ..., T_q, T_m) and values (B, ..., T_m, V).

    The pullback takes the gradients of both (that of the weights may be None) to those of the
    scores and the values. `factors` are those of dropout.
    """
    weights = _softmax(scores, mask)
    used = weights if factors is None else weights * factors

    def pullback(dcontext: RealArray, dweights: RealArray | None) -> Gradients:
        d = dcontext @ values.swapaxes(-1, -2)
        if dweights is not None:
            d += dweights
        if factors is not None:
            d *= factors
        d -= (d * weights).sum(axis=-1, keepdims=True)
        d *= weights
        return d, used.swapaxes(-1, -2) @ dcontext

    return (used @ values, used), pullback


def _softmax(scores: RealArray, mask: Mask | None) -> RealArray:
    """Return the softmax of (B, ..., T) over the steps that the mask (B, T) leaves."""
    if mask is not None:
        B, T = mask.shape
        real = mask.reshape(B, *(1,) * (scores.ndim - 2), T)
        scores = np.where(real, scores, scores.dtype.type(-np.inf))
    # Finite even where no step is left: exp(-inf - top) is 0 then, too.
    top = scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    weights = elementwise(_core.exp, scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    weights /= total
    return weights


def elementwise(function: Callable[[RealArray], RealArray], x: RealArray) -> RealArray:
    """Apply one of the core's functions, whose bits do not depend on the machine."""
    return function(np.ascontiguousarray(x).reshape(-1)).reshape(x.shape)
