"""Masks with holes and resets, turned into a plain ragged batch and back.

A reset cuts a row into segments, a masked step is left out. `Regrouping` makes each segment a row
of a new batch, its real steps moved together to the front: a batch that needs nothing but lengths.
So layers and kernels never hear of masks and resets. A layer does this::

    group = regroup(T, B, lengths, mask, resets)
    y, state = layer(group.take(x), group.take_state(state), group.lengths)
    y, state = group.put(y, repeat="forward"), group.put_state(state)

What it means:

- Steps past a row's length are padding: outputs there are zero, masks and resets there mean
  nothing.
- A masked step carries the state on. The output there is zero or repeats the one before it, zeros
  before the first: `zero_output_for_mask` of Keras. (Its backends differ before the first: these
  are TensorFlow's and PyTorch's zeros, where JAX gives the initial h.)
- A reset at step t is a border between t - 1 and t, in both directions: nothing crosses it, neither
  a state nor a repeated output. At a masked step it is one all the same, and after the last real
  step it makes the final state of the forward direction a fresh one, as a sequence in windows must
  give what it gives in one piece.
- The reverse direction goes through each segment from its last step to its first. The given state
  is where it begins, in the last segment; its final state is that of the first segment with a real
  step.
- A row without a real step (and, forward, without a reset) returns its initial state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import RealArray

__all__ = ["Regrouping", "flag_array", "regroup"]

Repeat = Literal["forward", "reverse"]
Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]


def flag_array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Flags:
    """Return the argument `name` as an array of bools of that shape, or raise what is wrong."""
    array = np.asarray(value)
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: expected an array of bools, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected the shape {shape}, got {array.shape}")
    return array


def regroup(
    T: int,
    B: int,
    lengths: NDArray[np.int64] | None = None,
    mask: Flags | None = None,
    resets: Flags | None = None,
) -> Regrouping:
    """Return the regrouping of a batch of T steps and B rows; arguments are checked before.

    Parameters
    ----------
    T, B : int
    lengths : ndarray of int64, shape (B,), optional
        Steps of each row, 0 <= length <= T.
    mask : ndarray of bool, shape (T, B), optional
        True for a real step.
    resets : ndarray of bool, shape (T, B), optional
        True where the state starts anew before the step.
    """
    if lengths is not None and (mask is not None or resets is not None):
        inside = np.arange(T)[:, None] < lengths
        mask = None if mask is None else mask & inside
        resets = None if resets is None else resets & inside
    if resets is not None and not resets.any():
        resets = None
    return Regrouping(T, B, lengths, mask, resets)


class Regrouping:
    """Where each real step of a batch (T, B) goes in a ragged batch (steps, rows); see `regroup`.

    If the real steps of each row are one prefix of it, `take` and `put` return the array they are
    given, and only lengths are left. The methods with `_gradient` are the adjoints of the others.

    Attributes
    ----------
    steps, rows : int
        Sizes of the new batch; its rows are those of the old one in order, each in its segments.
    lengths : ndarray of int64, shape (rows,), or None
        Of its rows; None if all have all steps.
    """

    def __init__(
        self,
        T: int,
        B: int,
        lengths: NDArray[np.int64] | None,
        mask: Flags | None,
        resets: Flags | None,
    ) -> None:
        self._shape = (T, B)
        self._lengths, self._mask, self._resets = lengths, mask, resets
        self.steps, self.rows, self.lengths = T, B, lengths
        self._first = self._last = np.arange(B)  # rows of a row's segments, in time
        self._starts = np.full(B, True)  # whether the forward direction begins with the given state
        self._index: tuple[tuple[Indices, Indices], tuple[Indices, Indices]] | None = None
        self._repeats: dict[Repeat, tuple[Indices, Indices, Indices]] = {}
        if mask is not None or resets is not None:
            self._cut()

    def _cut(self) -> None:
        """Divide the rows into segments; those without a real step are left out but a row's last.

        That one holds the final state of the forward direction, and gets the state that is given
        to the reverse direction.
        """
        T, B = self._shape
        real, segments = self._real, self._segments
        borders = np.zeros(B, np.intp) if self._resets is None else self._resets.sum(axis=0)
        last = np.cumsum(borders + 1) - 1  # the number of each row's last segment, of all
        batch, time = np.nonzero(real.T)
        segment = segments[time, batch] + (last - borders)[batch]
        counts = np.bincount(segment, minlength=int(last[-1]) + 1 if B else 0)
        kept = counts > 0
        kept[last] = True
        row = np.cumsum(kept) - 1
        self.lengths = counts[kept].astype(np.int64)
        self.rows = len(self.lengths)
        self._last = row[last]
        self._starts = kept[last - borders]
        self._first = np.concatenate([[0], self._last[:-1] + 1])[:B]
        if self.rows == B and bool((real[1:] <= real[:-1]).all()):
            if bool((self.lengths == T).all()):
                self.lengths = None
            return
        self.steps = int(self.lengths.max(initial=0))
        begins = np.cumsum(self.lengths) - self.lengths
        row = row[segment]
        self._index = ((time, batch), (np.arange(len(time)) - begins[row], row))

    @property
    def _real(self) -> Flags:
        if self._mask is not None:
            return self._mask
        T, B = self._shape
        if self._lengths is None:
            return np.full((T, B), True)
        return np.arange(T)[:, None] < self._lengths

    @property
    def _segments(self) -> NDArray[np.intp]:
        """Number of the segment of its row that a step belongs to (T, B)."""
        if self._resets is None:
            return np.zeros(self._shape, np.intp)
        return np.cumsum(self._resets, axis=0)

    # --- sequences ----------------------------------------------------------------------------

    def take(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return x (T, B, ...) as (steps, rows, ...); past the end of a row is zero or what was."""
        if self._index is None:
            return x
        old, new = self._index
        out = np.zeros((self.steps, self.rows, *x.shape[2:]), x.dtype)
        out[new] = x[old]
        return out

    def take_gradient(self, dx: RealArray) -> RealArray:
        """Return the gradient of what `take` was given, from that of what it returned.

        `dx` must be zero past the end of a row, as layers return it.
        """
        return self.put(dx)

    def put(self, y: RealArray, repeat: Repeat | None = None) -> RealArray:
        """Return y (steps, rows, ...) at its places in time, (T, B, ...).

        Parameters
        ----------
        y : ndarray
            Zero past the end of each row.
        repeat : {"forward", "reverse"}, optional
            The direction in which masked steps repeat the output of the step before; None for
            zeros there.
        """
        if self._index is not None:
            old, new = self._index
            out = np.zeros((*self._shape, *y.shape[2:]), y.dtype)
            out[old] = y[new]
            y = out
        if repeat is None or self._mask is None:
            return y
        time, source, batch = self._repeated(repeat)
        if len(time):
            y = y if self._index is not None else y.copy()
            y[time, batch] = y[source, batch]
        return y

    def put_gradient(self, dy: RealArray, repeat: Repeat | None = None) -> RealArray:
        """Return the gradient of what `put` was given, from that of what it returned.

        What reached a repeated output is added to that of the step it repeats. Past the end of a
        row anything may stand, which layers do not look at.
        """
        if repeat is not None and self._mask is not None:
            time, source, batch = self._repeated(repeat)
            if len(time):
                dy = dy.copy()
                # Repeats of one step follow one another.
                new = (source[1:] != source[:-1]) | (batch[1:] != batch[:-1])
                begins = np.concatenate([[0], np.flatnonzero(new) + 1])
                sums = np.add.reduceat(dy[time, batch], begins, axis=0)
                dy[source[begins], batch[begins]] += sums
        return self.take(dy)

    def _repeated(self, repeat: Repeat) -> tuple[Indices, Indices, Indices]:
        """Return time, time of what is repeated there, and row, for each repeated output."""
        if repeat not in self._repeats:
            self._repeats[repeat] = self._find_repeats(repeat == "reverse")
        return self._repeats[repeat]

    def _find_repeats(self, reverse: bool) -> tuple[Indices, Indices, Indices]:
        T = self._shape[0]
        real, steps = self._real, np.arange(T)[:, None]
        if reverse:
            nearest = np.minimum.accumulate(np.where(real, steps, T)[::-1], axis=0)[::-1]
        else:
            nearest = np.maximum.accumulate(np.where(real, steps, -1), axis=0)
        found = ~real & (nearest >= 0) & (nearest < T)
        if self._lengths is not None:
            found &= steps < self._lengths
        batch, time = np.nonzero(found.T)
        source = nearest[time, batch]
        segments = self._segments
        same = segments[time, batch] == segments[source, batch]
        return time[same], source[same], batch[same]

    # --- states -------------------------------------------------------------------------------

    def take_state(
        self,
        state: RealArray | None,
        fresh: RealArray | None = None,
        reverse: Sequence[bool] = (False,),
    ) -> RealArray | None:
        """Return the initial states of the new rows, (L*D, rows, H).

        Parameters
        ----------
        state : ndarray, shape (L*D, B, H), optional
            Initial states of the old rows; None for fresh ones.
        fresh : ndarray, shape (L*D, H), optional
            The state after a reset; zeros if None.
        reverse : sequence of D bools
            The directions: entry k of a state is of direction k % D.

        Returns
        -------
        ndarray, or None if all is zero
        """
        if state is None and fresh is None:
            return None
        if state is not None and self._resets is None:
            return state
        like = fresh if state is None else state
        assert like is not None
        out = np.zeros((len(like), self.rows, like.shape[-1]), like.dtype)
        if fresh is not None:
            out += fresh[:, None]
        if state is not None:
            for part, backward in self._directions(reverse):
                row, used = self._begin(backward)
                out[part, row[used]] = state[part, used]
        return out

    def take_state_gradient(
        self, dstate: RealArray, reverse: Sequence[bool] = (False,)
    ) -> tuple[RealArray, RealArray]:
        """Return the gradients of `state` (L*D, B, H) and of `fresh` (L*D, H) of `take_state`.

        If `state` was None, all rows are fresh: then the sum of the first over B belongs to the
        second.
        """
        if self._resets is None:
            return dstate, np.zeros(dstate.shape[::2], dstate.dtype)
        given = np.zeros((len(dstate), self._shape[1], dstate.shape[-1]), dstate.dtype)
        rest = dstate.copy()
        for part, backward in self._directions(reverse):
            row, used = self._begin(backward)
            given[part, used] = dstate[part, row[used]]
            rest[part, row[used]] = 0
        return given, rest.sum(axis=1)

    def put_state(self, state: RealArray, reverse: Sequence[bool] = (False,)) -> RealArray:
        """Return the final states of the old rows (L*D, B, H), from those of the new ones."""
        if self._resets is None:
            return state
        out = np.empty((len(state), self._shape[1], state.shape[-1]), state.dtype)
        for part, backward in self._directions(reverse):
            out[part] = state[part, self._first if backward else self._last]
        return out

    def put_state_gradient(
        self, dstate: RealArray, reverse: Sequence[bool] = (False,)
    ) -> RealArray:
        """Return the gradient of what `put_state` was given, from that of what it returned."""
        if self._resets is None:
            return dstate
        out = np.zeros((len(dstate), self.rows, dstate.shape[-1]), dstate.dtype)
        for part, backward in self._directions(reverse):
            out[part, self._first if backward else self._last] = dstate[part]
        return out

    def _begin(self, backward: bool) -> tuple[Indices, Flags]:
        """Return the new row each old one begins with, and whether with the given state."""
        return (
            (self._last, np.full_like(self._starts, True))
            if backward
            else (self._first, self._starts)
        )

    @staticmethod
    def _directions(reverse: Sequence[bool]) -> list[tuple[slice, bool]]:
        return [(slice(d, None, len(reverse)), backward) for d, backward in enumerate(reverse)]
