"""`RecurrentLoop`: a user's own cells over sequences.

Slow, as every step is Python, but with the whole interface of `LSTM`: stacks, both directions,
lengths, masks, resets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Parameter, RealArray, check_flag, check_gradient, check_size, real_array
from .cells import Cell, CellScan
from .directions import check_merge_mode, merge, merge_gradient, reverse_rows
from .recurrent_arguments import RecurrentArguments
from .regroup import Regrouping, Repeat, flag_array, regroup

__all__ = ["RecurrentLoop"]


class _Call(NamedTuple):
    """The arguments of a pass: always batched, time first."""

    x: NDArray[Any]
    states: list[RealArray | None]
    lengths: NDArray[np.int64] | None
    group: Regrouping


_Pass = tuple[list[CellScan], list[RealArray]]  # of a layer: of each direction, and what it gave


class RecurrentLoop(RecurrentArguments):
    """A stack of a user's own cells over sequences, in one or both directions.

    What `keras.layers.RNN(cell)` and its `Bidirectional` are, with the names and shapes of PyTorch.

    Parameters
    ----------
    cells : Cell or sequence of Cell
        One for each layer. All must have the same `state_sizes` and dtype; each takes the output
        of the layer below.
    reverse_cells : Cell or sequence of Cell, optional
        As many more, which make the layer bidirectional: they run backwards.
    merge_mode : {"concat", "sum", "mean", "mul"}
        How the outputs of both directions become one, in each layer.
    go_backwards : bool, default False
        Whether the only direction runs backwards. As with Keras, outputs then come in the order
        in which they were computed: that of a row's last step is its first.
    batch_first : bool, default False
        Whether x, y, mask and resets are (B, T, .) instead of (T, B, .); states are never.
    learned_state : bool, default False
        Whether there are parameters "state_0", ... of the state's arrays, (num_layers * D, S),
        zeros at first: where no state is given, and after resets, it begins with these.

    Raises
    ------
    ValueError
        If there is no cell, sizes of cells that follow each other differ, or the two directions are
        not of one kind.

    Notes
    -----
    Parameters are named after the cells' own, as in PyTorch: "weight_l0", "weight_l0_reverse",
    "weight_l1", ... `save` does not know a user's classes: `state_dict` and `load_state_dict` do
    for these models.

    Cells see the rows that are alive at a step and never padding or masked steps.

    Examples
    --------
    >>> class Leaky(fastrnn.Cell):  # h' = (h + x_t) / 2
    ...     def vjp(self, x_t, state):
    ...         h = (state[0] + x_t) / 2
    ...         return (h, (h,)), lambda dy, dstate: ((dy + dstate[0]) / 2, ((dy + dstate[0]) / 2,))
    >>> layer = fastrnn.RecurrentLoop([Leaky(8, 8), Leaky(8, 8)])
    >>> x = np.ones((5, 3, 8), np.float32)  # T 5, B 3
    >>> y, state = layer(x)
    >>> y.shape, state.shape
    ((5, 3, 8), (2, 3, 8))
    >>> (y, state), pullback = layer.vjp(x, mask=np.ones((5, 3), bool))
    >>> dx, dstate0 = pullback(np.ones_like(y))
    """

    recurrent = True

    def __init__(
        self,
        cells: Cell | Sequence[Cell],
        reverse_cells: Cell | Sequence[Cell] | None = None,
        *,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        batch_first: bool = False,
        learned_state: bool = False,
    ) -> None:
        super().__init__()
        sides = [_cell_list("cells", cells)]
        if reverse_cells is not None:
            sides.append(_cell_list("reverse_cells", reverse_cells))
        self.merge_mode = check_merge_mode(merge_mode)
        self.go_backwards = check_flag("go_backwards", go_backwards)
        self.batch_first = check_flag("batch_first", batch_first)
        self.bidirectional = len(sides) == 2
        if self.bidirectional and go_backwards:
            raise ValueError("go_backwards: expected False with reverse_cells, got True")
        self._directions = len(sides)
        self._reverse = (False, True) if self.bidirectional else (self.go_backwards,)
        self._cells = _check_cells(sides, self.merge_mode)  # a list of layers, by direction
        self.num_layers = len(self._cells)
        first = self._cells[0][0]
        self.input_size, self.dtype = first.input_size, first.dtype
        self.state_sizes = first.state_sizes
        self._parameters = {
            name + f"_l{layer}" + ("_reverse" if direction else ""): parameter
            for layer, both in enumerate(self._cells)
            for direction, cell in enumerate(both)
            for name, parameter in cell.parameters().items()
        }
        self.learned_state = check_flag("learned_state", learned_state)
        if self.learned_state:
            for i, size in enumerate(self.state_sizes):
                zeros = np.zeros((self.num_layers * self._directions, size), self.dtype)
                self._parameters[f"state_{i}"] = Parameter(zeros)

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[RealArray, Any]:
        """Run the layer over whole sequences (inference).

        Parameters
        ----------
        x : array_like, shape (T, B, I)
            (B, T, I) with `batch_first`; (T, I) for one sequence. An integer array without the
            last axis holds token ids, taken as one-hot vectors of length I.
        state : array, or tuple of arrays if the cells have several, optional
            Each (num_layers * D, B, S), without B for one sequence. None: zeros or the learned one.
        lengths : array_like of int, shape (B,), optional
            Steps of each row; outputs past a row's end are zero.
        mask : array_like of bool, shape (T, B), optional
            False for steps that are passed by: the state is carried on. The output there repeats
            that of the step before (zeros before the first); of both directions it is zero. Keras
            does the same.
        resets : array_like of bool, shape (T, B), optional
            True where the state starts anew, as if none were given, before the step. Nothing
            crosses the border between that step and the one before, in either direction.

        Returns
        -------
        y : ndarray, shape (T, B, O) or (T, B, 2 * O)
            The last layer's output, laid out as x.
        state : as the argument
            After the last step.

        Raises
        ------
        ValueError
            For a wrong shape, length or token id, also of what a cell returned.
        TypeError
            For an array of another dtype than the cells', also of what a cell returned.
        """
        call, unbatched = self._prepare(x, state, lengths, mask, resets)
        y, last, _ = self._forward(call, None)
        return self._results(y, last, unbatched)

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        checkpoint_every: int | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[tuple[RealArray, Any], Callable[..., tuple[RealArray | None, Any]]]:
        """Run the layer for training.

        Parameters
        ----------
        x, state, lengths, mask, resets
            As of a call.
        checkpoint_every : int, optional
            Where given, only the state of every so many steps is kept, and the pullback runs the
            cells again for as many steps at a time.

        Returns
        -------
        (y, state) : as a call returns it
        pullback : callable
            ``pullback(dy, dstate=None) -> (dx, dstate0)``; None stands for zeros. Adds to the
            ``grad`` of each parameter that requires it. dx is None for token ids. x must not be
            changed in between.
        """
        every = 0
        if checkpoint_every is not None:
            every = check_size("checkpoint_every", checkpoint_every)
        call, unbatched = self._prepare(x, state, lengths, mask, resets)
        y, last, passes = self._forward(call, every)

        def pullback(dy: ArrayLike | None, dstate: Any = None) -> tuple[RealArray | None, Any]:
            self._check_gradients()
            shape = self._results(y, last, unbatched)[0].shape
            d_y = (
                np.zeros(shape, self.dtype) if dy is None else check_gradient(dy, shape, self.dtype)
            )
            d_y = self._time_first(d_y, unbatched)
            given = self._states(dstate, None if unbatched else y.shape[1], "dstate")
            d_last = [
                np.zeros_like(array) if gradient is None else gradient
                for array, gradient in zip(
                    last, self._batched_states(given, unbatched), strict=True
                )
            ]
            with _added_when_done(self._parameters.values()):
                d_x, d_first = self._backward(call, passes, d_y, d_last)
            return self._results(d_x, d_first, unbatched)

        return self._results(y, last, unbatched), pullback

    def step(self, x_t: ArrayLike, state: Any = None) -> tuple[RealArray, Any]:
        """Run one time step (inference), for streaming.

        Parameters
        ----------
        x_t : array_like, shape (B, I), or (I,) for one stream
            Or token ids, shape (B,) or a single integer.
        state : as of a call
            What the last step returned; None starts anew.

        Returns
        -------
        y_t : ndarray, shape (B, O) or (O,)
        state : as of a call

        Raises
        ------
        ValueError
            Also for a layer that runs backwards, which needs the whole sequence.
        """
        if self.bidirectional or self.go_backwards:
            kind = "a bidirectional layer" if self.bidirectional else "one that goes backwards"
            raise ValueError(f"step: expected one direction, forward, got {kind}")
        x, states = self._plain_step(x_t, state)
        unbatched = x.ndim == (0 if x.dtype.kind in "iu" else 1)
        x = x[None] if unbatched else x
        call = _Call(x[None], self._batched_states(states, unbatched), None, regroup(1, len(x)))
        y, last, _ = self._forward(call, None)
        if unbatched:
            return y[0, 0], self._one_or_all([s[:, 0] for s in last])
        return y[0], self._one_or_all(last)

    # --- passes -------------------------------------------------------------------------------

    def _forward(
        self, call: _Call, every: int | None
    ) -> tuple[RealArray, list[RealArray], list[_Pass]]:
        """Return y (T, B, O), the final states and what each layer did; `every` as of CellScan."""
        group, D = call.group, self._directions
        x = group.take(call.x)
        first = self._first_states(call)
        last = [np.empty_like(array) for array in first]
        passes = []
        for layer, cells in enumerate(self._cells):
            scans, outputs = [], []
            for direction, cell in enumerate(cells):
                k = layer * D + direction
                scan = CellScan(cell, x, group.lengths, self._reverse[direction], every)
                y, state = scan.forward(tuple(array[k] for array in first))
                for array, value in zip(last, state, strict=True):
                    array[k] = value
                scans.append(scan)
                outputs.append(y)
            passes.append((scans, outputs))
            x = merge(outputs[0], outputs[1], self.merge_mode) if D == 2 else outputs[0]
        y = group.put(x, self._repeat)
        if self.go_backwards:
            y = reverse_rows(y, call.lengths)
        return y, [group.put_state(array, self._reverse) for array in last], passes

    def _backward(
        self, call: _Call, passes: list[_Pass], dy: RealArray, dstates: list[RealArray]
    ) -> tuple[RealArray | None, list[RealArray]]:
        """Return the gradients of x, None for token ids, and of the initial states."""
        group, D = call.group, self._directions
        if self.go_backwards:
            dy = reverse_rows(dy, call.lengths)
        d_x: RealArray | None = group.put_gradient(dy, self._repeat)
        d_last = [group.put_state_gradient(array, self._reverse) for array in dstates]
        d_first = [np.empty_like(array) for array in d_last]
        for layer, (scans, outputs) in reversed(list(enumerate(passes))):
            assert d_x is not None  # only the first layer takes token ids
            parts = self._split(d_x, outputs)
            d_x = None
            for direction, (scan, part) in enumerate(zip(scans, parts, strict=True)):
                k = layer * D + direction
                d_input, d_state = scan.pull(part, tuple(array[k] for array in d_last))
                for array, value in zip(d_first, d_state, strict=True):
                    array[k] = value
                d_x = d_input if d_x is None or d_input is None else d_x + d_input
        if d_x is not None:
            d_x = group.take_gradient(d_x)
        return d_x, [self._to_given(call, i, array) for i, array in enumerate(d_first)]

    def _to_given(self, call: _Call, i: int, dstate: RealArray) -> RealArray:
        """Return the gradient of a given state; that of the learned one is added to it."""
        given, fresh = call.group.take_state_gradient(dstate, self._reverse)
        if self.learned_state:
            if call.states[i] is None:
                fresh = fresh + given.sum(axis=1)
            self._parameters[f"state_{i}"].add_grad(fresh)
        return given

    def _split(self, dy: RealArray, outputs: list[RealArray]) -> tuple[RealArray, ...]:
        """Return the gradient of each direction's output from that of the merged one."""
        if len(outputs) == 1:
            return (dy,)
        return merge_gradient(dy, outputs[0], outputs[1], self.merge_mode)

    @property
    def _repeat(self) -> Repeat | None:
        """The direction in which outputs at masked steps repeat others; None: they are zero."""
        if self.bidirectional:
            return None
        return "reverse" if self.go_backwards else "forward"

    # --- arguments and results ----------------------------------------------------------------

    def _prepare(
        self,
        x: ArrayLike,
        state: Any,
        lengths: ArrayLike | None,
        mask: ArrayLike | None,
        resets: ArrayLike | None,
    ) -> tuple[_Call, bool]:
        """Return the arguments of a pass, and whether they are of one sequence without a batch."""
        plain, states, plain_lengths = self._plain(x, state, lengths)
        ids = plain.dtype.kind in "iu"
        unbatched = plain.ndim == (1 if ids else 2)
        axes = plain.shape[: 1 if unbatched else 2]

        def flags(name: str, value: ArrayLike | None) -> NDArray[np.bool_] | None:
            if value is None:
                return None
            return self._time_first(flag_array(name, value, axes), unbatched)

        plain_mask, plain_resets = flags("mask", mask), flags("resets", resets)
        plain = self._time_first(plain, unbatched)
        group = regroup(plain.shape[0], plain.shape[1], plain_lengths, plain_mask, plain_resets)
        states = self._batched_states(states, unbatched)
        return _Call(plain, states, plain_lengths, group), unbatched

    def _first_states(self, call: _Call) -> list[RealArray]:
        """Return the initial states of the regrouped rows, zeros for those that are not given."""
        group, entries = call.group, self.num_layers * self._directions
        learned = [
            self._parameters[f"state_{i}"].data if self.learned_state else None
            for i in range(len(call.states))
        ]
        taken = [
            group.take_state(array, fresh, self._reverse)
            for array, fresh in zip(call.states, learned, strict=True)
        ]
        return [
            np.zeros((entries, group.rows, size), self.dtype) if array is None else array
            for array, size in zip(taken, self.state_sizes, strict=True)
        ]

    def _time_first(self, array: NDArray[Any], unbatched: bool) -> NDArray[Any]:
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _states(self, state: Any, B: int | None, name: str = "state") -> list[RealArray | None]:
        """Return the arrays of a state of B rows, or of one sequence where B is None."""
        count = len(self.state_sizes)
        if state is None:
            return [None] * count
        if count == 1:
            return [self._one_state(name, state, self.state_sizes[0], B)]
        if not isinstance(state, (tuple, list)) or len(state) != count:
            got = type(state).__name__
            got += f" of length {len(state)}" if isinstance(state, (tuple, list)) else ""
            raise TypeError(f"{name}: expected a tuple of {count} arrays, got {got}")
        return [
            None if array is None else self._one_state(f"{name}[{i}]", array, size, B)
            for i, (array, size) in enumerate(zip(state, self.state_sizes, strict=True))
        ]

    def _one_state(self, name: str, value: ArrayLike, size: int, B: int | None) -> RealArray:
        if isinstance(value, tuple):
            raise TypeError(f"{name}: expected an array, got a tuple")
        array = real_array(name, value, self.dtype)
        entries = self.num_layers * self._directions
        expected = (entries, size) if B is None else (entries, B, size)
        if array.shape != expected:
            raise ValueError(f"{name}: expected the shape {expected}, got {array.shape}")
        return array

    def _batched_states(
        self, states: list[RealArray | None], unbatched: bool
    ) -> list[RealArray | None]:
        """Return copies with a batch axis, as callers use the buffers of states again."""
        return [
            None if array is None else np.array(array[:, None] if unbatched else array)
            for array in states
        ]

    def _results(
        self, y: RealArray | None, states: list[RealArray], unbatched: bool
    ) -> tuple[Any, Any]:
        """Return y and the states as the user has them."""
        if y is not None:
            y = y[:, 0] if unbatched else y.swapaxes(0, 1) if self.batch_first else y
        return y, self._one_or_all([s[:, 0] if unbatched else s for s in states])

    @staticmethod
    def _one_or_all(states: list[RealArray]) -> Any:
        return states[0] if len(states) == 1 else tuple(states)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses: cells, and options in use."""
        sides = [list(side) for side in zip(*self._cells, strict=True)]
        shown = [f"{sides[0]!r}", *(f"reverse_cells={side!r}" for side in sides[1:])]
        if self.bidirectional and self.merge_mode != "concat":
            shown.append(f"merge_mode={self.merge_mode!r}")
        flags = ("go_backwards", "batch_first", "learned_state")
        shown += [f"{name}=True" for name in flags if getattr(self, name)]
        return ", ".join(shown)


@contextlib.contextmanager
def _added_when_done(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Let gradients be made from nothing and add them in the end: an error leaves all as it was."""
    distinct = {id(p): (p, p.grad) for p in parameters}.values()
    for p, _ in distinct:
        p.grad = None
    try:
        yield
    except BaseException:
        for p, before in distinct:
            p.grad = before
        raise
    for p, before in distinct:
        made = p.ensure_grad() if p.requires_grad else None
        if before is not None:
            p.grad = before
            if made is not None:
                before += made


def _cell_list(name: str, cells: Any) -> list[Cell]:
    """Return the argument `name` as a list of cells, or raise what is wrong."""
    listed = [cells] if isinstance(cells, Cell) else cells
    if not isinstance(listed, (list, tuple)):
        raise TypeError(f"{name}: expected a Cell or a list of them, got {type(cells).__name__}")
    for index, cell in enumerate(listed):
        if not isinstance(cell, Cell):
            raise TypeError(f"{name}: expected a Cell at position {index}, got {cell!r}")
    if not listed:
        raise ValueError(f"{name}: expected at least one cell, got none")
    return list(listed)


def _check_cells(sides: list[list[Cell]], merge_mode: str) -> list[tuple[Cell, ...]]:
    """Return the cells layer by layer, or raise what does not fit."""
    if len({len(side) for side in sides}) > 1:
        raise ValueError(
            f"reverse_cells: expected as many as cells ({len(sides[0])}), got {len(sides[1])}"
        )
    first = sides[0][0]
    wide = len(sides) == 2 and merge_mode == "concat"
    input_size = first.input_size
    layers = list(zip(*sides, strict=True))
    for layer, cells in enumerate(layers):
        for name, cell in zip(("cells", "reverse_cells"), cells, strict=False):
            for what, got, expected in (
                ("input_size", cell.input_size, input_size),
                ("output_size", cell.output_size, cells[0].output_size),
                ("state_sizes", cell.state_sizes, first.state_sizes),
                ("dtype", cell.dtype, first.dtype),
            ):
                if got != expected:
                    raise ValueError(f"{name}[{layer}].{what}: expected {expected}, got {got}")
        input_size = cells[0].output_size * (2 if wide else 1)
    return layers
