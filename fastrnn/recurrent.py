"""Recurrent layers: `RNN`, `LSTM` and `GRU`, with PyTorch's names, shapes and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core, base
from .base import (
    FLOAT32,
    Layer,
    Parameter,
    RealArray,
    check_dtype,
    check_flag,
    check_number,
    check_size,
    integer_array,
    real_array,
)

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]

State = Any  # h for RNN and GRU, (h, c) for LSTM
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
MAX_LAYERS = 10_000  # a slip of the keyboard should be an error, not an endless constructor


class _Call(NamedTuple):
    """Arguments of the passes of training: always batched, time first (a view where need be)."""

    x: NDArray[Any]
    h0: RealArray | None
    c0: RealArray | None
    lengths: NDArray[np.int64] | None
    unbatched: bool


class Recurrent(Layer):
    """What `RNN`, `LSTM` and `GRU` share: a stack of layers in one or both directions."""

    recurrent = True
    _plain_arguments = ("input_size", "hidden_size")
    _gates: int
    _has_cell_state = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = "float32",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        if self.num_layers > MAX_LAYERS:
            raise ValueError(f"num_layers: expected at most {MAX_LAYERS}, got {num_layers}")
        self.bias = check_flag("bias", bias)
        self.batch_first = check_flag("batch_first", batch_first)
        self.dropout = check_number("dropout", dropout, 0.0, 1.0)
        self.bidirectional = check_flag("bidirectional", bidirectional)
        self.dtype = check_dtype(dtype)
        self._directions = 2 if bidirectional else 1
        self._rng = np.random.default_rng(seed)
        bound = self.hidden_size**-0.5
        for name, shape in self.parameter_shapes(Recurrent.config(self)):
            initial = self._rng.uniform(-bound, bound, shape)
            self._parameters[name] = Parameter(initial.astype(self.dtype))
        self._cells: list[tuple[tuple[int, ...], Any]]
        self._ready: tuple[object, Any]
        self.__dict__.update(self._no_cells())
        self._by_layer = [
            [self._parameters.get(name) for name in self._names(layer)]
            for layer in range(self.num_layers)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed weights, for copy and pickle: they are made anew when needed."""
        return self.__dict__ | self._no_cells()

    def _no_cells(self) -> dict[str, Any]:
        """Return what holds packed weights, empty.

        _cells: for each layer the versions of its parameters and the cells of its directions;
        _ready: the `base.last_change` as of which the stack for inference is right, and the stack.
        """
        return {"_cells": [((), ())] * self.num_layers, "_ready": (None, None)}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype.name,
        }

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        size = check_size("input_size", config.get("input_size"))
        hidden = check_size("hidden_size", config.get("hidden_size"))
        suffixes = ("", "_reverse")[: 1 + check_flag("", config.get("bidirectional", False))]
        biased = check_flag("bias", config.get("bias", True))
        rows = cls._gates * hidden
        for layer in range(check_size("num_layers", config.get("num_layers", 1))):
            for suffix in suffixes:
                yield f"weight_ih_l{layer}{suffix}", (rows, size)
                yield f"weight_hh_l{layer}{suffix}", (rows, hidden)
                if biased:
                    yield f"bias_ih_l{layer}{suffix}", (rows,)
                    yield f"bias_hh_l{layer}{suffix}", (rows,)
            size = hidden * len(suffixes)

    def __call__(
        self, x: ArrayLike, state: State = None, lengths: ArrayLike | None = None
    ) -> tuple[RealArray, State]:
        """Run the layer over whole sequences (inference: no dropout).

        Parameters
        ----------
        x : array_like, shape (T, B, I)
            (B, T, I) with `batch_first`; (T, I) for one sequence. An integer array without the
            last axis holds token ids, taken as one-hot vectors of length I.
        state : array or tuple of arrays, optional
            h, for an LSTM (h, c), each (num_layers * D, B, H), without B for one sequence; zeros
            if None.
        lengths : array_like of int, shape (B,), optional
            Steps of each row, in any order, 0 <= length <= T. Outputs past a row's end are zero,
            its final state is that of its own last step, and the reverse direction starts there.

        Returns
        -------
        y : ndarray, shape (T, B, D * H)
            The last layer's output, laid out as x; D is 2 if bidirectional, else 1.
        state : as the argument
            After the last step.

        Raises
        ------
        ValueError
            For a wrong shape, length or token id.
        TypeError
            For an array of another dtype than the layer's, or a state of the wrong type.
        """
        change, stack = self._ready
        if change is not base.last_change:
            stack = self._stack()
        result: tuple[RealArray, State] | None = stack.call(x, state, lengths, self.batch_first)
        if result is None:
            result = stack.call(*self._plain(x, state, lengths), self.batch_first)
            assert result is not None
        return result

    def vjp(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        checkpoint_every: int | None = None,
    ) -> tuple[tuple[RealArray, State], Callable[..., tuple[RealArray | None, State]]]:
        """Run the layer for training: as a call, with dropout, and the pullback.

        Parameters
        ----------
        x, state, lengths
            As of a call.
        checkpoint_every : int, optional
            Where given, each layer keeps no gates for the pullback, but, beside its output, the
            cell state of every so many steps (an LSTM; the others nothing), and the pullback
            computes the gates anew for that many steps at a time (Chen et al. 2016; Gruslys et al.
            2016). About sqrt(T) gives a state memory of O(sqrt T) instead of O(T), for some more
            time; the bits of all results are the same. The outputs between the layers of a stack
            are kept, as they are inputs.

        Returns
        -------
        (y, state) : as a call returns it
            y is read-only, as the pullback needs it.
        pullback : callable
            ``pullback(dy, dstate=None) -> (dx, dstate0)``: from the gradients of a loss with
            respect to y and the final state (None: zeros) to those with respect to x and the
            initial state. Adds to the ``grad`` of each parameter that requires it. May be called
            more than once; x must not be changed in between. dx is None for token ids.
        """
        call = self._batched(*self._plain(x, state, lengths))
        every = 0
        if checkpoint_every is not None:
            longest = max(1, call.x.shape[0])
            every = min(check_size("checkpoint_every", checkpoint_every), longest)
        y, h, c, tapes, masks = self._forward(call, every)
        result = self._give(y, h, c, call.unbatched)
        result[0].flags.writeable = False
        wanted = [
            [p is not None and p.requires_grad for p in parameters] for parameters in self._by_layer
        ]

        def pullback(dy: ArrayLike | None, dstate: State = None) -> tuple[RealArray | None, State]:
            return self._backward(dy, dstate, y, h.shape, tapes, masks, wanted, call.unbatched)

        return result, pullback

    def step(self, x_t: ArrayLike, state: State = None) -> tuple[RealArray, State]:
        """Run one time step (inference), for streaming.

        Parameters
        ----------
        x_t : array_like, shape (B, I), or (I,) for one stream
            Or token ids, shape (B,) or a single integer.
        state : as of a call
            What the last step returned; None starts anew.

        Returns
        -------
        y_t : ndarray, shape (B, H) or (H,)
        state : as of a call

        Raises
        ------
        ValueError
            Also for a bidirectional layer, which needs the whole sequence.
        """
        change, stack = self._ready
        if change is not base.last_change:
            stack = self._stack()
        result: tuple[RealArray, State] | None = stack.step(x_t, state)
        if result is None:
            result = stack.step(*self._plain_step(x_t, state))
            assert result is not None
        return result

    # --- arguments ----------------------------------------------------------------------------
    # `_core` runs a call or a step whose arguments are plain: arrays just as it takes them. It
    # returns None for any others; they come here, to be made plain or to raise what is wrong.

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
        if self.bidirectional:
            raise ValueError("step: expected one direction, got a bidirectional layer")
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
            return self._state("state (h)", state, B)
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(f"state: expected a tuple (h, c), got {_kind(state)}")
        h, c = state
        return self._state("state[0] (h)", h, B), self._state("state[1] (c)", c, B)

    def _state(self, name: str, value: ArrayLike, B: int | None) -> RealArray:
        if isinstance(value, tuple):
            raise TypeError(f"{name}: expected an array, got a tuple")
        array = real_array(name, value, self.dtype)
        layers = self.num_layers * self._directions
        expected = (layers, self.hidden_size) if B is None else (layers, B, self.hidden_size)
        if array.shape != expected:
            raise ValueError(f"{name}: expected the shape {expected}, got {array.shape}")
        return array

    def _batched(self, x: NDArray[Any], state: State, lengths: NDArray[np.int64] | None) -> _Call:
        """Return the plain arguments for training, with copies of what the pullback must own."""
        ids = x.dtype.kind in "iu"
        unbatched = x.ndim < (2 if ids else 3)
        if unbatched:
            x = x[:, None]
        elif self.batch_first:
            x = x.swapaxes(0, 1)
        h0, c0 = state if self._has_cell_state and state is not None else (state, None)
        # States are small and their buffers often used again; ids were checked, and must stay so.
        return _Call(
            x.copy() if ids else x,
            None if h0 is None else np.array(h0[:, None] if unbatched else h0),
            None if c0 is None else np.array(c0[:, None] if unbatched else c0),
            None if lengths is None else lengths.copy(),
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

    # --- passes -------------------------------------------------------------------------------

    def _names(self, layer: int) -> list[str]:
        suffixes = ("", "_reverse")[: self._directions]
        return [f"{name}_l{layer}{suffix}" for suffix in suffixes for name in WEIGHTS]

    def _kind(self) -> str:
        raise NotImplementedError

    def _stack(self) -> Any:
        """Return the stack for inference; see `base.last_change`."""
        change = base.last_change  # before the versions: a later change is for the next call
        cells = [self._packed(layer, False) for layer in range(self.num_layers)]
        stack = (_core.StackFloat32 if self.dtype == FLOAT32 else _core.StackFloat64)(cells)
        self._ready = (change, stack)
        return stack

    def _packed(self, layer: int, training: bool) -> Any:
        """Return the layer's cells, packed for the kernels; packed anew when a weight changed."""
        parameters = self._by_layer[layer]
        key = tuple([-1 if p is None else p.version for p in parameters])
        packed_key, cells = self._cells[layer]
        if packed_key != key or (training and not cells[0].training):
            arrays: list[Any] = [None if p is None else p._array for p in parameters]
            kind = self._kind()
            cells = tuple(
                _core.pack_cell(kind, w_ih, w_hh, b_ih, b_hh, training)
                for w_ih, w_hh, b_ih, b_hh in (
                    arrays[4 * d : 4 * d + 4] for d in range(self._directions)
                )
            )
            self._cells[layer] = (key, cells)
        return cells

    def _forward(
        self, call: _Call, checkpoint_every: int = 0
    ) -> tuple[RealArray, RealArray, RealArray | None, list[Any], list[RealArray]]:
        """Return y, h_n, c_n, a tape per layer and the dropout masks between, for training."""
        x, D = call.x, self._directions
        shape = (self.num_layers * D, x.shape[1], self.hidden_size)
        h_n = np.empty(shape, self.dtype)
        c_n = np.empty(shape, self.dtype) if self._has_cell_state else None
        tapes, masks = [], []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0:
                masks.append(self._dropout_mask(x.shape))
                x = x * masks[-1]
            part = slice(layer * D, layer * D + D)
            x, tape = _core.layer_forward(
                self._packed(layer, True),
                x,
                None if call.h0 is None else call.h0[part],
                None if call.c0 is None else call.c0[part],
                call.lengths,
                h_n[part],
                None if c_n is None else c_n[part],
                self.batch_first and not call.unbatched,
                checkpoint_every,
            )
            tapes.append(tape)
        return x, h_n, c_n, tapes, masks

    def _dropout_mask(self, shape: tuple[int, ...]) -> RealArray:
        """Return 1 / (1 - p) where a value stays and 0 where it is dropped (Srivastava 2014)."""
        if self.dropout == 1.0:
            return np.zeros(shape, self.dtype)
        kept = self._rng.random(shape, np.float32) >= self.dropout
        mask: RealArray = kept.astype(self.dtype)
        mask *= 1 / (1 - self.dropout)
        return mask

    def _backward(
        self,
        dy: ArrayLike | None,
        dstate: State,
        y: RealArray,
        state_shape: tuple[int, ...],
        tapes: list[Any],
        masks: list[RealArray],
        wanted: list[list[bool]],
        unbatched: bool,
    ) -> tuple[RealArray | None, State]:
        self._check_gradients()
        d_y = self._output_gradient(dy, y, unbatched)
        dh_n, dc_n = self._state_gradients(dstate, y.shape[1], unbatched)
        d_h0 = np.empty(state_shape, self.dtype)
        d_c0 = np.empty(state_shape, self.dtype) if self._has_cell_state else None
        D, gradients = self._directions, []
        for layer in reversed(range(self.num_layers)):
            # Written here first: an interrupted call leaves the parameters' gradients alone.
            new = [
                np.zeros(p.shape, self.dtype) if want and p is not None else None
                for p, want in zip(self._by_layer[layer], wanted[layer], strict=True)
            ]
            gradients.append((layer, new))
            part = slice(layer * D, layer * D + D)
            d_y, d_h0[part], d_c = tapes[layer].backward(
                d_y,
                None if dh_n is None else dh_n[part],
                None if dc_n is None else dc_n[part],
                [tuple(new[4 * d : 4 * d + 4]) for d in range(D)],
                True,
            )
            if d_c0 is not None:
                d_c0[part] = d_c
            if layer > 0 and masks:
                d_y = d_y * masks[layer - 1]
        for layer, new in gradients:
            for parameter, gradient in zip(self._by_layer[layer], new, strict=True):
                if parameter is not None and gradient is not None:
                    if parameter.grad is None:
                        parameter.grad = gradient
                    else:
                        parameter.grad += gradient
        if d_y is not None:
            if unbatched:
                d_y = d_y[:, 0]
            elif self.batch_first:
                d_y = d_y.swapaxes(0, 1)
        if unbatched:
            d_h0, d_c0 = d_h0[:, 0], None if d_c0 is None else d_c0[:, 0]
        return d_y, d_h0 if d_c0 is None else (d_h0, d_c0)

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
        self, dy: ArrayLike | None, y: RealArray, unbatched: bool
    ) -> RealArray | None:
        if dy is None:
            return None
        array = real_array("dy", dy, self.dtype)
        expected = self._give(y, y, None, unbatched)[0].shape
        if array.shape != expected:
            raise ValueError(f"dy: expected the output's shape {expected}, got {array.shape}")
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _state_gradients(
        self, dstate: State, B: int, unbatched: bool
    ) -> tuple[RealArray | None, RealArray | None]:
        def batched(name: str, value: ArrayLike) -> RealArray:
            array = self._state(name, value, None if unbatched else B)
            return array[:, None] if unbatched else array

        if dstate is None:
            return None, None
        if not self._has_cell_state:
            return batched("dstate (dh)", dstate), None
        if not isinstance(dstate, (tuple, list)) or len(dstate) != 2:
            raise TypeError(f"dstate: expected a tuple (dh, dc), got {_kind(dstate)}")
        dh, dc = dstate
        return (
            None if dh is None else batched("dstate[0] (dh)", dh),
            None if dc is None else batched("dstate[1] (dc)", dc),
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


class RNN(Recurrent):
    """Vanilla recurrent network: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Elman (1990), "Finding structure in time", in PyTorch's convention.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I of the input and H of the state.
    num_layers : int, default 1
        Layers, each taking the outputs of the one below.
    nonlinearity : {"tanh", "relu"}
        The function f.
    bias : bool, default True
        Whether there are bias_ih and bias_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, .) instead of (T, B, .); states are never.
    dropout : float, default 0.0
        Probability of dropping an output between layers, in `vjp` only (Srivastava et al. 2014).
    bidirectional : bool, default False
        Whether a second direction runs backwards; outputs are concatenated (Schuster & Paliwal
        1997).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, uniform over +-1 / sqrt(H) as in PyTorch, and of dropout.

    See Also
    --------
    LSTM, GRU
    """

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            seed,
        )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {**super().config(), "nonlinearity": self.nonlinearity}

    def _kind(self) -> str:
        return "rnn_" + self.nonlinearity


class LSTM(Recurrent):
    """Long short-term memory.

    i, f, o = sigmoid(W x_t + b + U h_{t-1}) each, g = tanh(...) likewise,
    c_t = f * c_{t-1} + i * g,  h_t = o * tanh(c_t):
    Hochreiter & Schmidhuber (1997), with the forget gate of Gers, Schmidhuber & Cummins (2000).
    Rows of the weights in PyTorch's order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I of the input and H of the state.
    num_layers : int, default 1
        Layers, each taking the outputs of the one below.
    bias : bool, default True
        Whether there are bias_ih and bias_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, .) instead of (T, B, .); states are never.
    dropout : float, default 0.0
        Probability of dropping an output between layers, in `vjp` only (Srivastava et al. 2014).
    bidirectional : bool, default False
        Whether a second direction runs backwards; outputs are concatenated (Schuster & Paliwal
        1997).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, uniform over +-1 / sqrt(H) as in PyTorch, and of dropout.

    Examples
    --------
    >>> lstm = fastrnn.LSTM(128, 256, num_layers=2, seed=0)
    >>> y, (h, c) = lstm(x)                                # x (T, B, 128)
    >>> (y, (h, c)), pullback = lstm.vjp(x)
    >>> dx, (dh0, dc0) = pullback(dy)
    """

    _gates = 4
    _has_cell_state = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            seed,
        )

    def _kind(self) -> str:
        return "lstm"


class GRU(Recurrent):
    """Gated recurrent unit.

    r, z = sigmoid(W x_t + b + U h_{t-1}) each, h_t = (1 - z) * n + z * h_{t-1} with
    n = tanh(W_n x_t + b_in + r * (U_n h_{t-1} + b_hn)) (`reset_after`, as PyTorch and cuDNN) or
    n = tanh(W_n x_t + b_in + U_n (r * h_{t-1}) + b_hn) (Cho et al. 2014, eq. 5-8).
    Rows of the weights in PyTorch's order r, z, n.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I of the input and H of the state.
    num_layers : int, default 1
        Layers, each taking the outputs of the one below.
    bias : bool, default True
        Whether there are bias_ih and bias_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, .) instead of (T, B, .); states are never.
    dropout : float, default 0.0
        Probability of dropping an output between layers, in `vjp` only (Srivastava et al. 2014).
    bidirectional : bool, default False
        Whether a second direction runs backwards; outputs are concatenated (Schuster & Paliwal
        1997).
    reset_after : bool, default True
        Whether the reset gate acts after the product with the state (True) or before it.
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, uniform over +-1 / sqrt(H) as in PyTorch, and of dropout.
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: DTypeLike = "float32",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.reset_after = check_flag("reset_after", reset_after)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            seed,
        )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {**super().config(), "reset_after": self.reset_after}

    def _kind(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"
