"""Recurrent layers: `RNN`, `LSTM` and `GRU`, with PyTorch's names, shapes and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, base
from .base import (
    FLOAT32,
    Parameter,
    RealArray,
    check_dtype,
    check_flag,
    check_number,
    check_size,
)
from .recurrent_arguments import Call, RecurrentArguments, State

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole", "slope")
MAX_LAYERS = 10_000  # a slip of the keyboard should be an error, not an endless constructor


class Recurrent(RecurrentArguments):
    """What `RNN`, `LSTM` and `GRU` share: a stack of layers in one or both directions."""

    recurrent = True
    _plain_arguments = ("input_size", "hidden_size")
    _gates: int

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
                _core.pack_cell(kind, tuple(arrays[7 * d : 7 * d + 7]), None, training)
                for d in range(self._directions)
            )
            self._cells[layer] = (key, cells)
        return cells

    def _forward(
        self, call: Call, checkpoint_every: int = 0
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
                (None, None, None, None),
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
            d_y, d_h0[part], d_c, _ = tapes[layer].backward(
                d_y,
                None if dh_n is None else dh_n[part],
                None if dc_n is None else dc_n[part],
                [tuple(new[7 * d : 7 * d + 7]) for d in range(D)],
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
