"""A user's own recurrent cell, `Cell`, and `CellScan`, which runs one over a ragged batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .base import Layer, Parameter, RealArray, check_dtype, check_size
from .directions import reverse_rows

__all__ = ["Cell", "CellScan"]

States = tuple[RealArray, ...]
Rows = slice | NDArray[np.intp]
Pullback = Callable[[RealArray, States], tuple[RealArray, States]]


class Cell(Layer):
    """Base of a user's own cell: one step of a recurrent network.

    A cell is a layer whose sequence is one step long. A subclass makes its parameters in its
    constructor and defines `vjp`; calls are then `vjp` without its pullback, unless the subclass
    defines `__call__` as well, which spares inference what only the pullback needs.

    Parameters
    ----------
    input_size : int
        Size I of the input.
    output_size : int
        Size O of the output.
    state_sizes : sequence of int, optional
        Sizes of the arrays of the state; (output_size,) if None.
    dtype : {"float32", "float64"}

    See Also
    --------
    RecurrentLoop : runs cells over sequences.
    check_gradients : compares a pullback with finite differences.

    Raises
    ------
    ValueError
        If a size is less than 1, or there is no state.

    Examples
    --------
    h_t = tanh(W x_t + u * h_{t-1}), the independently recurrent network of Li et al. (2018):

    >>> class IndRNN(fastrnn.Cell):
    ...     def __init__(self, input_size, hidden_size, dtype="float32", seed=None):
    ...         super().__init__(input_size, hidden_size, dtype=dtype)
    ...         rng = np.random.default_rng(seed)
    ...         initial = rng.normal(0, input_size**-0.5, (hidden_size, input_size))
    ...         self.w = self.register_parameter("weight_ih", initial)
    ...         self.u = self.register_parameter("weight_hh", np.ones(hidden_size))
    ...     def vjp(self, x_t, state):
    ...         (h,) = state
    ...         y = np.tanh(x_t @ self.w.data.T + self.u.data * h)
    ...         def pullback(dy, dstate):
    ...             da = (dy + dstate[0]) * (1 - y * y)
    ...             self.w.add_grad(da.T @ x_t)
    ...             self.u.add_grad((da * h).sum(axis=0))
    ...             return da @ self.w.data, (da * self.u.data,)
    ...         return (y, (y,)), pullback
    """

    recurrent = True

    def __init__(
        self,
        input_size: int,
        output_size: int,
        state_sizes: Sequence[int] | None = None,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.output_size = check_size("output_size", output_size)
        sizes = (output_size,) if state_sizes is None else tuple(state_sizes)
        self.state_sizes = tuple(check_size("state_sizes", size) for size in sizes)
        if not self.state_sizes:
            raise ValueError("state_sizes: expected at least one, got none")
        self.dtype = check_dtype(dtype)

    def register_parameter(self, name: str, data: ArrayLike) -> Parameter:
        """Make `data` a parameter of this name, in the cell's dtype, and return it."""
        if name in self._parameters:
            raise ValueError(f"name: expected a new one, got {name!r} again")
        parameter = Parameter(np.asarray(data, self.dtype))
        self._parameters[name] = parameter
        return parameter

    def __call__(self, x_t: RealArray, state: States) -> tuple[RealArray, States]:
        """Return (y_t, state) after one step.

        Parameters
        ----------
        x_t : ndarray, shape (B, I)
        state : tuple of ndarray, shapes (B, S) for each of `state_sizes`
            None of these may be written to. B differs from step to step where lengths do.

        Returns
        -------
        y_t : ndarray, shape (B, O)
        state : tuple of ndarray, as the argument
        """
        result: tuple[RealArray, States] = self.vjp(x_t, state)[0]
        return result

    def vjp(self, x_t: RealArray, state: States) -> tuple[tuple[RealArray, States], Pullback]:
        """Return (y_t, state) after one step, and the step's pullback.

        ``pullback(dy_t, dstate) -> (dx_t, dstate)`` takes the gradients with respect to what the
        step returned, all of them arrays, to those with respect to what it was given, and adds to
        those of the parameters (`Parameter.add_grad`).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define vjp")

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"{self.input_size}, {self.output_size}"


class CellScan:
    """One pass of one cell over a ragged batch in one direction, and its pullback.

    A cell is given the rows that are alive at a step, read-only, and what it returns is checked:
    with an array of a wrong shape NumPy would go on broadcasting.

    Parameters
    ----------
    cell : Cell
    x : ndarray, shape (T, B, I), or (T, B) of token ids
    lengths : ndarray of int64, shape (B,), or None
    reverse : bool
        Whether each row is run from its last step to its first.
    every : int or None
        None: inference; 0: `pull` keeps each step's pullback; else it keeps the state of every so
        many steps.
    """

    def __init__(
        self,
        cell: Cell,
        x: NDArray[Any],
        lengths: NDArray[np.int64] | None,
        reverse: bool,
        every: int | None,
    ) -> None:
        self._cell, self._lengths, self._reverse = cell, lengths, reverse
        self._x = reverse_rows(x, lengths) if reverse else x
        self._steps = len(x) if lengths is None else int(lengths.max(initial=0))
        self._window = every or max(1, self._steps)
        self._training = every is not None
        self._kept: list[Pullback] | None = None  # of the only window, where there is one
        self._starts: list[tuple[int, States]] = []  # of each window, and the state before it

    def forward(self, state: States) -> tuple[RealArray, States]:
        """Return y (T, B, O), zero past the end of a row, and the state after each row's end."""
        y = np.zeros((*self._x.shape[:2], self._cell.output_size), self._cell.dtype)
        for start in range(0, self._steps, self._window):
            self._starts.append((start, state))
            state, pullbacks = self._run(start, state, y)
            if self._window >= self._steps:
                self._kept = pullbacks
        return (reverse_rows(y, self._lengths) if self._reverse else y), state

    def pull(self, dy: RealArray, dstate: States) -> tuple[RealArray | None, States]:
        """Return the gradients of x, None for token ids, and of the first state."""
        dy = reverse_rows(dy, self._lengths) if self._reverse else dy
        dx = None if self._x.ndim == 2 else np.zeros(self._x.shape, self._x.dtype)
        for start, state in reversed(self._starts):
            pullbacks = self._kept or self._run(start, state)[1]
            for t in reversed(range(start, start + len(pullbacks))):
                rows = self._alive(t)
                result = pullbacks[t - start](
                    _frozen(dy[t, rows]), tuple(_frozen(d[rows]) for d in dstate)
                )
                dx_t, d_rows = self._checked(result, rows, "dx_t", self._cell.input_size)
                dstate = _replaced(dstate, rows, d_rows)
                if dx is not None:
                    dx[t, rows] = dx_t
        if dx is not None and self._reverse:
            dx = reverse_rows(dx, self._lengths)
        return dx, dstate

    def _run(
        self, start: int, state: States, y: RealArray | None = None
    ) -> tuple[States, list[Pullback]]:
        """Run a window, writing to y; return the state after it and the pullback of each step."""
        pullbacks = []
        for t in range(start, min(start + self._window, self._steps)):
            rows = self._alive(t)
            x_t, before = self._input(t, rows), tuple(_frozen(s[rows]) for s in state)
            if self._training:
                result, pullback = self._cell.vjp(x_t, before)
                pullbacks.append(pullback)
            else:
                result = self._cell(x_t, before)
            y_t, after = self._checked(result, rows, "y_t", self._cell.output_size)
            state = _replaced(state, rows, after)
            if y is not None:
                y[t, rows] = y_t
        return state, pullbacks

    def _alive(self, t: int) -> Rows:
        """Return the rows that are not at their end yet."""
        if self._lengths is None or t < self._lengths.min():
            return slice(None)
        return np.flatnonzero(self._lengths > t)

    def _input(self, t: int, rows: Rows) -> RealArray:
        x_t = self._x[t, rows]
        if x_t.ndim == 1:  # token ids
            one_hot = np.zeros((len(x_t), self._cell.input_size), self._cell.dtype)
            one_hot[np.arange(len(x_t)), x_t] = 1
            x_t = one_hot
        return _frozen(x_t)

    def _checked(
        self, result: Any, rows: Rows, name: str, size: int
    ) -> tuple[RealArray, Sequence[RealArray]]:
        """Return (array, states) as the cell gave them, or raise what is wrong with them."""
        kind = type(self._cell).__name__
        sizes = self._cell.state_sizes
        try:
            first, states = result
            states = tuple(states)
        except (TypeError, ValueError):
            raise TypeError(
                f"{kind}: expected ({name}, a tuple of states), got {result!r}"
            ) from None
        if len(states) != len(sizes):
            raise ValueError(f"{kind}: expected {len(sizes)} states, got {len(states)}")
        B = self._x.shape[1] if isinstance(rows, slice) else len(rows)
        states_name = "the state" if name == "y_t" else "dstate"
        for what, array, width in zip(
            (name, *(f"{states_name}[{i}]" for i in range(len(sizes)))),
            (first, *states),
            (size, *sizes),
            strict=True,
        ):
            if not isinstance(array, np.ndarray) or array.dtype != self._cell.dtype:
                got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"{kind}: expected {what} of {self._cell.dtype}, got {got}")
            if array.shape != (B, width):
                raise ValueError(
                    f"{kind}: expected {what} of the shape {(B, width)}, got {array.shape}"
                )
        return first, states


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def _replaced(state: States, rows: Rows, new: Sequence[RealArray]) -> States:
    """Return the state with some rows replaced, in new arrays: pullbacks refer to the old ones."""
    if isinstance(rows, slice):
        return tuple(new)
    out = tuple(s.copy() for s in state)
    for array, part in zip(out, new, strict=True):
        array[rows] = part
    return out
