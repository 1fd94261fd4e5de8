"""The arguments of recurrent layers in use: checked, and made what the core takes.

`_core` runs a call or a step whose arguments are plain: arrays just as it takes them. It returns
None for any others; they come here, to be made plain or to raise what is wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Layer, RealArray, integer_array, real_array
from .regroup import Regrouping, flag_array, regroup

__all__ = ["Call", "RecurrentArguments", "State"]

State = Any  # h for RNN and GRU, (h, c) for LSTM


class Call(NamedTuple):
    """Arguments of the passes layer by layer: always batched, time first (a view where need be)."""

    x: NDArray[Any]
    h0: RealArray | None
    c0: RealArray | None
    lengths: NDArray[np.int64] | None
    attention: RealArray | None
    mask: NDArray[np.bool_] | None
    resets: NDArray[np.bool_] | None
    unbatched: bool

    def regrouping(self) -> Regrouping:
        """Return what makes it a plain ragged batch."""
        T, B = self.x.shape[:2]
        return regroup(T, B, self.lengths, self.mask, self.resets)


class RecurrentArguments(Layer):
    """The sizes and options of a recurrent layer, and the checks that they decide."""

    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    bidirectional: bool
    go_backwards: bool
    dtype: np.dtype[Any]
    _directions: int
    _output_size: int  # of one direction: units, or their projection
    _has_cell_state = False

    def _input(self, name: str, x: ArrayLike) -> NDArray[Any]:
        if not isinstance(x, np.ndarray):
            x = np.asarray(x) if hasattr(x, "__array__") else _from_list(name, x, self.dtype)
        if x.dtype.kind in "iu":
            return x if x.dtype == np.int64 else integer_array(name, x)
        if x.dtype != self.dtype:
            raise TypeError(f"{name}: expected {self.dtype} or integer token ids, got {x.dtype}")
        return x

    def _plain(
        self, x: ArrayLike, state: State, lengths: ArrayLike | None
    ) -> tuple[NDArray[Any], State, NDArray[np.int64] | None]:
        """Return the arguments of a call as plain arrays, or raise what is wrong with them."""
        x = self._input("x", x)
        rank = 2 if x.dtype.kind in "iu" else 3
        if x.ndim not in (rank - 1, rank) or (rank == 3 and x.shape[-1] != self.input_size):
            axes = "B, T" if self.batch_first else "T, B"
            last = f", {self.input_size}" if rank == 3 else ""
            raise ValueError(
                f"x: expected the shape ({axes}{last}), or (T{last or ','}) for one sequence, "
                f"got {x.shape}"
            )
        T, B = x.shape[0], None
        if x.ndim == rank:
            T, B = x.shape[1::-1] if self.batch_first else x.shape[:2]
        x, state = self._values("x", x), self._states(state, B)
        return x, state, None if lengths is None else self._lengths(lengths, T, B)

    def _plain_step(self, x_t: ArrayLike, state: State) -> tuple[NDArray[Any], State]:
        """Return the arguments of a step as plain arrays, or raise what is wrong with them."""
        if self.bidirectional or self.go_backwards:
            kind = "a bidirectional layer" if self.bidirectional else "one that goes backwards"
            raise ValueError(f"step: expected one direction, forward, got {kind}")
        x = self._input("x_t", x_t)
        rank = 1 if x.dtype.kind in "iu" else 2
        if x.ndim not in (rank - 1, rank) or (rank == 2 and x.shape[-1] != self.input_size):
            last = f", {self.input_size}" if rank == 2 else ","
            one = f"({self.input_size},)" if rank == 2 else "()"
            raise ValueError(
                f"x_t: expected the shape (B{last}), or {one} for one stream, got {x.shape}"
            )
        return self._values("x_t", x), self._states(state, x.shape[0] if x.ndim == rank else None)

    def _values(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Return x, copied if its memory layout is none that the core takes; ids are checked."""
        ids = x.dtype.kind in "iu"
        if ids and x.size and not (x.min() >= 0 and x.max() < self.input_size):
            wrong = x.min() if x.min() < 0 else x.max()
            raise ValueError(
                f"{name}: expected token ids from 0 to {self.input_size - 1}, got {wrong}"
            )
        whole = all(stride % x.itemsize == 0 for stride in x.strides)
        rows = x.flags.c_contiguous or (whole and (ids or x.strides[-1] == x.itemsize))
        return x if rows and x.flags.aligned else np.array(x, order="C")

    def _lengths(self, lengths: ArrayLike, T: int, B: int | None) -> NDArray[np.int64]:
        if B is None:
            raise ValueError("lengths: expected None for one sequence, got an array")
        array = integer_array("lengths", lengths)
        if array.shape != (B,):
            raise ValueError(f"lengths: expected the shape ({B},), got {array.shape}")
        if B and (array.min() < 0 or array.max() > T):
            wrong = array.min() if array.min() < 0 else array.max()
            raise ValueError(f"lengths: expected numbers from 0 to {T}, got {wrong}")
        return array

    def _states(self, state: State, B: int | None) -> State:
        """Return the state of B rows, or of one sequence where B is None."""
        if state is None:
            return None
        if not self._has_cell_state:
            return self._state("state (h)", state, B, self._output_size)
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(f"state: expected a tuple (h, c), got {_kind(state)}")
        h, c = state
        return (
            self._state("state[0] (h)", h, B, self._output_size),
            self._state("state[1] (c)", c, B, self.hidden_size),
        )

    def _state(self, name: str, value: ArrayLike, B: int | None, width: int) -> RealArray:
        if isinstance(value, tuple):
            raise TypeError(f"{name}: expected an array, got a tuple")
        array = real_array(name, value, self.dtype)
        layers = self.num_layers * self._directions
        expected = (layers, width) if B is None else (layers, B, width)
        if array.shape != expected:
            raise ValueError(f"{name}: expected the shape {expected}, got {array.shape}")
        return array

    def _batched(
        self,
        x: ArrayLike,
        state: State,
        lengths: ArrayLike | None,
        attention: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> Call:
        """Return the arguments checked, with copies of what a pullback must own."""
        x, state, lengths = self._plain(x, state, lengths)
        ids = x.dtype.kind in "iu"
        unbatched = x.ndim < (2 if ids else 3)
        shape = x.shape if ids else x.shape[:-1]

        def time_first(array: NDArray[Any]) -> NDArray[Any]:
            if unbatched:
                return array[:, None]
            return array.swapaxes(0, 1) if self.batch_first else array

        def flags(name: str, value: ArrayLike | None) -> NDArray[np.bool_] | None:
            return None if value is None else time_first(flag_array(name, value, shape)).copy()

        if attention is not None:
            attention = real_array("attention", attention, self.dtype)
            if attention.shape != shape:
                raise ValueError(f"attention: expected the shape {shape}, got {attention.shape}")
            attention = time_first(attention).copy()
        x = time_first(x)
        h0, c0 = state if self._has_cell_state and state is not None else (state, None)
        # States are small and their buffers often used again; ids were checked, and must stay so.
        return Call(
            x.copy() if ids else x,
            None if h0 is None else np.array(h0[:, None] if unbatched else h0),
            None if c0 is None else np.array(c0[:, None] if unbatched else c0),
            None if lengths is None else lengths.copy(),
            attention,
            flags("mask", mask),
            flags("resets", resets),
            unbatched,
        )

    def _give(
        self, y: RealArray, h: RealArray, c: RealArray | None, unbatched: bool
    ) -> tuple[RealArray, State]:
        if unbatched:
            y, h, c = y[:, 0], h[:, 0], None if c is None else c[:, 0]
        elif self.batch_first:
            y = y.swapaxes(0, 1)
        return y, h if c is None else (h, c)

    def _check_gradients(self) -> None:
        for name, p in self._parameters.items():
            grad = p.grad
            if grad is not None and p.requires_grad:
                if not isinstance(grad, np.ndarray) or grad.dtype != p.dtype:
                    got = grad.dtype if isinstance(grad, np.ndarray) else _kind(grad)
                    raise TypeError(f"{name}.grad: expected an array of {p.dtype}, got {got}")
                if grad.shape != p.shape:
                    raise ValueError(f"{name}.grad: expected the shape {p.shape}, got {grad.shape}")

    def _output_gradient(
        self, dy: ArrayLike | None, expected: tuple[int, ...], unbatched: bool
    ) -> RealArray | None:
        if dy is None:
            return None
        array = real_array("dy", dy, self.dtype)
        if array.shape != expected:
            raise ValueError(f"dy: expected the output's shape {expected}, got {array.shape}")
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _state_gradients(
        self, dstate: State, B: int, unbatched: bool
    ) -> tuple[RealArray | None, RealArray | None]:
        def batched(name: str, value: ArrayLike, width: int) -> RealArray:
            array = self._state(name, value, None if unbatched else B, width)
            return array[:, None] if unbatched else array

        if dstate is None:
            return None, None
        if not self._has_cell_state:
            return batched("dstate (dh)", dstate, self._output_size), None
        if not isinstance(dstate, (tuple, list)) or len(dstate) != 2:
            raise TypeError(f"dstate: expected a tuple (dh, dc), got {_kind(dstate)}")
        dh, dc = dstate
        return (
            None if dh is None else batched("dstate[0] (dh)", dh, self._output_size),
            None if dc is None else batched("dstate[1] (dc)", dc, self.hidden_size),
        )


def _from_list(name: str, x: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in (nested) lists as an array: integers stay, others get the dtype."""
    try:
        array = np.array(x)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array ({error})") from None
    if array.size == 0 or array.dtype.kind == "f":
        return array.astype(dtype)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an array of {dtype}, got {array.dtype}")
    return array


def _kind(value: Any) -> str:
    length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
    return type(value).__name__ + length
