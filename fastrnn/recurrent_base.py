"""`Recurrent`: what all recurrent layers share, a stack of layers in one or both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from .directions import check_merge_mode, merge, merge_gradient, reverse_rows
from .recurrent_arguments import Call, RecurrentArguments, State
from .recurrent_options import CellOptions, check_zoneout
from .regroup import Regrouping

__all__ = ["Recurrent"]

# As the core numbers them: Weight in src/types.h.
WEIGHTS = (
    *("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole", "slope"),
    *("gain_ih", "gain_hh", "gain_c", "bias_c"),
)
MAX_LAYERS = 10_000  # a slip of the keyboard should be an error, not an endless constructor


class LayerTape(NamedTuple):
    """What the pullback needs of one layer's forward pass."""

    core: Any
    y: RealArray  # both directions side by side
    dropout: RealArray | None  # factors of its input
    weights: list[RealArray] | None  # factors of each direction's weight_hh


class Recurrent(RecurrentArguments):
    """What `RNN`, `LSTM`, `GRU` and their kin share.

    A subclass gives the constructor's arguments as `config`, checks its own before that, and says
    by `_kind` and `_options` what cell the core is to run.
    """

    recurrent = True
    _plain_arguments = ("input_size", "hidden_size")
    _gates: int

    def __init__(self, config: dict[str, Any], seed: int | np.random.Generator | None) -> None:
        super().__init__()
        self.input_size = check_size("input_size", config["input_size"])
        self.hidden_size = check_size("hidden_size", config["hidden_size"])
        self.num_layers = check_size("num_layers", config["num_layers"])
        if self.num_layers > MAX_LAYERS:
            raise ValueError(f"num_layers: expected at most {MAX_LAYERS}, got {self.num_layers}")
        self.bias = check_flag("bias", config["bias"])
        self.batch_first = check_flag("batch_first", config["batch_first"])
        self.dropout = check_number("dropout", config["dropout"], 0.0, 1.0)
        self.bidirectional = check_flag("bidirectional", config["bidirectional"])
        self.recurrent_dropout = check_number(
            "recurrent_dropout", config["recurrent_dropout"], 0.0, 1.0
        )
        self.weight_dropout = check_number("weight_dropout", config["weight_dropout"], 0.0, 1.0)
        self._zoneout = check_zoneout(config["zoneout"], self._has_cell_state)
        self.merge_mode = check_merge_mode(config["merge_mode"])
        self.go_backwards = check_flag("go_backwards", config["go_backwards"])
        if self.go_backwards and self.bidirectional:
            raise ValueError("go_backwards: expected False for a bidirectional layer, got True")
        self.learned_state = check_flag("learned_state", config["learned_state"])
        self.dtype = check_dtype(config["dtype"])
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
        self._config = {**plain, "dtype": self.dtype.name}
        self._directions = 2 if self.bidirectional else 1
        self._output_size = config.get("proj_size") or self.hidden_size
        # Whether a call is one of the core: nothing to be done between or around the layers.
        self._one_call = not (
            self.go_backwards
            or self.learned_state
            or (self.bidirectional and self.merge_mode != "concat")
        )
        self._rng = np.random.default_rng(seed)
        for name, shape in self.parameter_shapes(self._config):
            self._parameters[name] = Parameter(self._initial(name, shape).astype(self.dtype))
        self._cells: list[tuple[tuple[int, ...], Any]]
        self._ready: tuple[object, Any]
        self.__dict__.update(self._no_cells())
        self._by_layer = [
            [self._parameters.get(name) for name in self._names(layer)]
            for layer in range(self.num_layers)
        ]

    def _initial(self, name: str, shape: tuple[int, ...]) -> RealArray:
        """Return a parameter's first values: as PyTorch, uniform over +-1 / sqrt(H)."""
        if name in ("h_0", "c_0") or name.startswith("bias_c"):
            return np.zeros(shape)
        if name.startswith("gain"):
            return np.ones(shape)
        if name.startswith("slope"):
            return np.full(shape, 0.25)
        bound = self.hidden_size**-0.5
        return self._rng.uniform(-bound, bound, shape)

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
        return dict(self._config)

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        size = check_size("input_size", config.get("input_size"))
        hidden = check_size("hidden_size", config.get("hidden_size"))
        output = check_size("proj_size", config.get("proj_size", 0), 0) or hidden
        suffixes = ("", "_reverse")[: 1 + check_flag("", config.get("bidirectional", False))]
        layers = check_size("num_layers", config.get("num_layers", 1))
        concat = check_merge_mode(config.get("merge_mode", "concat")) == "concat"
        for layer in range(layers):
            for suffix in suffixes:
                for name, shape in cls._cell_shapes(config, size, hidden, output):
                    yield f"{name}_l{layer}{suffix}", shape
            size = output * (len(suffixes) if concat else 1)
        if check_flag("learned_state", config.get("learned_state", False)):
            yield "h_0", (layers * len(suffixes), output)
            if cls._has_cell_state:
                yield "c_0", (layers * len(suffixes), hidden)

    @classmethod
    def _cell_shapes(
        cls, config: Mapping[str, Any], size: int, hidden: int, output: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of the weights of one layer in one direction."""
        rows = cls._num_gates(config) * hidden
        yield "weight_ih", (rows, size)
        yield "weight_hh", (rows, output)
        if check_flag("bias", config.get("bias", True)):
            yield "bias_ih", (rows,)
            yield "bias_hh", (rows,)
        if output != hidden or config.get("proj_size"):
            yield "weight_hr", (output, hidden)
        if check_flag("layer_norm", config.get("layer_norm", False)):
            yield "gain_ih", (rows,)
            yield "gain_hh", (rows,)
            if cls._has_cell_state:
                yield "gain_c", (hidden,)
                yield "bias_c", (hidden,)

    @classmethod
    def _num_gates(cls, config: Mapping[str, Any]) -> int:
        return cls._gates

    # --- the three ways of use ----------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[RealArray, State]:
        """Run the layer over whole sequences (inference: no dropout).

        Parameters
        ----------
        x : array_like, shape (T, B, I)
            (B, T, I) with `batch_first`; (T, I) for one sequence. An integer array without the
            last axis holds token ids, taken as one-hot vectors of length I.
        state : array or tuple of arrays, optional
            h (num_layers * D, B, H), for an LSTM (h, c); with a projection h has its size. Without
            B for one sequence. If None, zeros or, with `learned_state`, the learned one.
        lengths : array_like of int, shape (B,), optional
            Steps of each row, in any order, 0 <= length <= T. Outputs past a row's end are zero,
            its final state is that of its own last step, and the reverse direction starts there.
        mask : array_like of bool, shape (T, B), optional
            (B, T) with `batch_first`, (T,) for one sequence. False: the step is left out and the
            state carried on, as in Keras; the output there repeats the one before, zeros before the
            first, and is zero if bidirectional.
        resets : array_like of bool, as `mask`, optional
            True: the state starts anew before this step, as it does where no state is given.

        Returns
        -------
        y : ndarray, shape (T, B, D * H)
            The last layer's output, laid out as x; D is 2 if bidirectional and `merge_mode` is
            "concat", else 1.
        state : as the argument
            After the last step.

        Raises
        ------
        ValueError
            For a wrong shape, length or token id.
        TypeError
            For an array of another dtype than the layer's, or a state of the wrong type.
        """
        if not (self._one_call and mask is None and resets is None):
            return self._infer(self._batched(x, state, lengths, None, mask, resets))
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
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[tuple[RealArray, State], Callable[..., tuple[RealArray | None, State]]]:
        """Run the layer for training: as a call, with dropout, and the pullback.

        Parameters
        ----------
        x, state, lengths, mask, resets
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
        result, pullback = self._vjp(
            self._batched(x, state, lengths, None, mask, resets), checkpoint_every
        )
        return result, lambda dy, dstate=None: pullback(dy, dstate)[::2]

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
            Also for a layer that is bidirectional or goes backwards: it needs the whole sequence.
        """
        if not self._one_call or self.bidirectional:
            x_t, state = self._plain_step(x_t, state)
            if state is None and self.learned_state:
                state = self._learned(None if x_t.ndim == (x_t.dtype == self.dtype) else len(x_t))
        change, stack = self._ready
        if change is not base.last_change:
            stack = self._stack()
        result: tuple[RealArray, State] | None = stack.step(x_t, state)
        if result is None:
            result = stack.step(*self._plain_step(x_t, state))
            assert result is not None
        return result

    # --- what is in the core ------------------------------------------------------------------

    def _names(self, layer: int) -> list[str]:
        suffixes = ("", "_reverse")[: self._directions]
        return [f"{name}_l{layer}{suffix}" for suffix in suffixes for name in WEIGHTS]

    def _kind(self) -> str:
        """Return the cell's name in the core."""
        raise NotImplementedError

    def _options(self) -> CellOptions | None:
        """Return the cell's options, None for the plain cell."""
        raise NotImplementedError

    def _stack(self) -> Any:
        """Return the stack for inference; see `base.last_change`."""
        change = base.last_change  # before the versions: a later change is for the next call
        stack = self._stack_of(range(self.num_layers))
        self._ready = (change, stack)
        return stack

    def _stack_of(self, layers: range) -> Any:
        stack = _core.StackFloat32 if self.dtype == FLOAT32 else _core.StackFloat64
        return stack([self._packed(layer, False) for layer in layers])

    def _packed(self, layer: int, training: bool) -> Any:
        """Return the layer's cells, packed for the kernels; packed anew when a weight changed."""
        key = tuple([-1 if p is None else p.version for p in self._by_layer[layer]])
        packed_key, cells = self._cells[layer]
        if packed_key != key or (training and not cells[0].training):
            cells = self._pack(layer, training, None)
            self._cells[layer] = (key, cells)
        return cells

    def _pack(self, layer: int, training: bool, factors: list[RealArray] | None) -> Any:
        """Return the layer's cells; `factors` of each direction's weight_hh."""
        arrays: list[Any] = [None if p is None else p._array for p in self._by_layer[layer]]
        count, kind, options = len(WEIGHTS), self._kind(), self._options()
        cells = []
        for d in range(self._directions):
            weights = arrays[count * d : count * (d + 1)]
            if factors is not None:
                weights[1] = weights[1] * factors[d]
            cells.append(_core.pack_cell(kind, tuple(weights), options, training))
        return tuple(cells)

    # --- layer by layer -----------------------------------------------------------------------

    @property
    def _reverse(self) -> tuple[bool, ...]:
        return (False, True) if self.bidirectional else (self.go_backwards,)

    def _learned(self, B: int | None) -> State:
        """Return the learned initial state of B rows, or of one sequence."""
        states = [self._parameters[name]._array for name in self._state_names]
        if B is not None:
            states = [np.repeat(s[:, None], B, axis=1) for s in states]
        return tuple(states) if self._has_cell_state else states[0]

    @property
    def _state_names(self) -> tuple[str, ...]:
        return ("h_0", "c_0") if self._has_cell_state else ("h_0",)

    def _prepare(self, call: Call) -> tuple[Call, Regrouping]:
        """Return the call as a plain ragged batch, each row in the order of processing."""
        group = call.regrouping()
        fresh: list[RealArray | None] = [None, None]
        if self.learned_state:
            for i, name in enumerate(self._state_names):
                fresh[i] = self._parameters[name]._array
        call = call._replace(
            x=self._turned(group.take(call.x), group.lengths),
            h0=group.take_state(call.h0, fresh[0], self._reverse),
            c0=group.take_state(call.c0, fresh[1], self._reverse),
            lengths=group.lengths,
            attention=None if call.attention is None else group.take(call.attention),
        )
        return call, group

    def _repeat(self, call: Call) -> Any:
        """Return the direction in which masked outputs repeat, None for zeros there."""
        if call.mask is None or self.bidirectional:
            return None
        return "reverse" if self.go_backwards else "forward"

    def _turned(self, rows: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[Any]:
        """Return rows turned around if the layer goes backwards: from time to processing order."""
        return reverse_rows(rows, lengths) if self.go_backwards else rows

    def _result(
        self,
        call: Call,
        group: Regrouping,
        y: RealArray,
        h: RealArray,
        c: RealArray | None,
    ) -> tuple[RealArray, State]:
        y = group.put(self._turned(y, group.lengths), self._repeat(call))
        y = self._turned(y, call.lengths)
        h = group.put_state(h, self._reverse)
        c = None if c is None else group.put_state(c, self._reverse)
        return self._give(y, h, c, call.unbatched)

    def _merged(self, y: RealArray) -> RealArray:
        if not self.bidirectional or self.merge_mode == "concat":
            return y
        return merge(y[..., : self._output_size], y[..., self._output_size :], self.merge_mode)

    def _infer(self, given: Call) -> tuple[RealArray, State]:
        """Return what a call returns: all layers in one call of the core, or one by one."""
        call, group = self._prepare(given)
        D, L = self._directions, self.num_layers
        x, states = call.x, []
        together = D == 1 or self.merge_mode == "concat"
        for layers in [range(L)] if together else [range(i, i + 1) for i in range(L)]:
            state: State = None
            if call.h0 is not None:
                state = call.h0[layers.start * D : layers.stop * D]
                if call.c0 is not None:
                    state = (state, call.c0[layers.start * D : layers.stop * D])
            stack = self._stack_of(layers)
            y, state = stack.call(self._values("x", x), state, call.lengths, False, call.attention)
            x = self._merged(y)
            states.append(state if self._has_cell_state else (state,))
        h, *c = (np.concatenate(part) for part in zip(*states, strict=True))
        return self._result(given, group, x, h, c[0] if c else None)

    def _vjp(
        self, given: Call, checkpoint_every: int | None
    ) -> tuple[tuple[RealArray, State], Callable[..., tuple[Any, Any, State]]]:
        """Return what `vjp` returns, but a pullback to (dx, dattention, dstate0)."""
        every = 0
        if checkpoint_every is not None:
            longest = max(1, given.x.shape[0])
            every = min(check_size("checkpoint_every", checkpoint_every), longest)
        call, group = self._prepare(given)
        y, h, c, tapes = self._forward(call, every, call.x is given.x)
        result = self._result(given, group, y, h, c)
        result[0].flags.writeable = False
        wanted = [
            [p is not None and p.requires_grad for p in parameters] for parameters in self._by_layer
        ]

        def pullback(dy: ArrayLike | None, dstate: State = None) -> tuple[Any, Any, State]:
            self._check_gradients()
            d_y = self._output_gradient(dy, result[0].shape, given.unbatched)
            d_h, d_c = self._state_gradients(dstate, given.x.shape[1], given.unbatched)
            if d_y is not None:
                d_y = group.put_gradient(self._turned(d_y, given.lengths), self._repeat(given))
                d_y = self._turned(d_y, group.lengths)
            dx, d_attention, d_first, gradients = self._backward(
                d_y,
                None if d_h is None else group.put_state_gradient(d_h, self._reverse),
                None if d_c is None else group.put_state_gradient(d_c, self._reverse),
                h.shape,
                tapes,
                wanted,
            )
            gradients += self._learned_gradients(d_first, group, given.h0 is None)
            self._accumulate(gradients)
            return self._input_gradients(dx, d_attention, d_first, given, group)

        return result, pullback

    def _forward(
        self, call: Call, checkpoint_every: int, as_given: bool, training: bool = True
    ) -> tuple[RealArray, RealArray, RealArray | None, list[LayerTape]]:
        """Return y, h_n, c_n and a tape per layer; `as_given`: y is laid out as the user's x."""
        x, D = call.x, self._directions
        shape = (self.num_layers * D, x.shape[1])
        h_n = np.empty((*shape, self._output_size), self.dtype)
        c_n = np.empty((*shape, self.hidden_size), self.dtype) if self._has_cell_state else None
        tapes = []
        for layer in range(self.num_layers):
            dropout = None
            if training and layer > 0 and self.dropout > 0:
                dropout = self._dropout_mask(x.shape, self.dropout)
                x = x * dropout
            weights = self._weight_factors(layer) if training else None
            masks = self._step_masks(*x.shape[:2]) if training else (None, None, None)
            part = slice(layer * D, layer * D + D)
            y, core = _core.layer_forward(
                self._pack(layer, True, weights) if weights else self._packed(layer, True),
                x,
                None if call.h0 is None else call.h0[part],
                None if call.c0 is None else call.c0[part],
                call.lengths,
                h_n[part],
                None if c_n is None else c_n[part],
                as_given and self.batch_first and not call.unbatched,
                checkpoint_every,
                (call.attention, *masks),
            )
            tapes.append(LayerTape(core, y, dropout, weights))
            x = self._merged(y)
        return x, h_n, c_n, tapes

    def _dropout_mask(self, shape: tuple[int, ...], p: float) -> RealArray:
        """Return 1 / (1 - p) where a value stays and 0 where it is dropped (Srivastava 2014)."""
        if p == 1.0:
            return np.zeros(shape, self.dtype)
        mask: RealArray = (self._rng.random(shape, np.float32) >= p).astype(self.dtype)
        mask *= 1 / (1 - p)
        return mask

    def _weight_factors(self, layer: int) -> list[RealArray] | None:
        """Return DropConnect's factors of each direction's weight_hh (Merity et al. 2018)."""
        if self.weight_dropout == 0.0:
            return None
        weights = self._by_layer[layer][1 :: len(WEIGHTS)]
        return [self._dropout_mask(w.shape, self.weight_dropout) for w in weights if w is not None]

    def _step_masks(
        self, T: int, B: int
    ) -> tuple[RealArray | None, RealArray | None, RealArray | None]:
        """Return the masks of training: of the state in the product, and zoneout's of h and c."""
        D = self._directions
        recurrent = None
        if self.recurrent_dropout > 0:
            recurrent = self._dropout_mask((D, B, self._output_size), self.recurrent_dropout)

        def kept(p: float) -> RealArray:
            return (self._rng.random((T, B, D * self.hidden_size)) < p).astype(self.dtype)

        zones = [kept(p) if any(self._zoneout) else None for p in self._zoneout]
        return recurrent, zones[0], zones[1] if self._has_cell_state else None

    def _backward(
        self,
        d_y: RealArray | None,
        dh_n: RealArray | None,
        dc_n: RealArray | None,
        state_shape: tuple[int, ...],
        tapes: list[LayerTape],
        wanted: list[list[bool]],
    ) -> tuple[Any, Any, list[RealArray], list[tuple[Parameter, RealArray]]]:
        """Return dx, dattention, those of the first states and of parameters, not added to them.

        So an interrupted call leaves the parameters' gradients alone.
        """
        d_h0 = np.empty(state_shape, self.dtype)
        d_c0 = np.empty((*state_shape[:2], self.hidden_size), self.dtype)
        D, count, gradients = self._directions, len(WEIGHTS), []
        d_attention = None
        for layer in reversed(range(self.num_layers)):
            tape, parameters = tapes[layer], self._by_layer[layer]
            new = [
                np.zeros(p.shape, self.dtype) if want and p is not None else None
                for p, want in zip(parameters, wanted[layer], strict=True)
            ]
            part = slice(layer * D, layer * D + D)
            d_y, d_h0[part], d_c, d_attention = tape.core.backward(
                self._merged_gradient(d_y, tape.y),
                None if dh_n is None else dh_n[part],
                None if dc_n is None else dc_n[part],
                [tuple(new[count * d : count * (d + 1)]) for d in range(D)],
                True,
            )
            if d_c is not None:
                d_c0[part] = d_c
            if tape.dropout is not None:
                assert d_y is not None  # only token ids have no gradient, and they are no outputs
                d_y = d_y * tape.dropout
            for factors, gradient in zip(tape.weights or (), new[1::count], strict=False):
                if gradient is not None:
                    gradient *= factors
            gradients += [
                (p, gradient)
                for p, gradient in zip(parameters, new, strict=True)
                if p is not None and gradient is not None
            ]
        return d_y, d_attention, [d_h0, d_c0][: len(self._state_names)], gradients

    def _merged_gradient(self, d_y: RealArray | None, y: RealArray) -> RealArray | None:
        if d_y is None or not self.bidirectional or self.merge_mode == "concat":
            return d_y
        P = self._output_size
        both = merge_gradient(d_y, y[..., :P], y[..., P:], self.merge_mode)
        return np.concatenate(both, axis=-1)

    def _learned_gradients(
        self, d_first: list[RealArray], group: Regrouping, all_fresh: bool
    ) -> list[tuple[Parameter, RealArray]]:
        """Return the gradients of the learned states; `d_first` becomes that of the given ones."""
        gradients = []
        for i, d_state in enumerate(d_first):
            d_first[i], d_fresh = group.take_state_gradient(d_state, self._reverse)
            parameter = self._parameters.get(("h_0", "c_0")[i])
            if parameter is not None and parameter.requires_grad:
                if all_fresh:
                    d_fresh = d_fresh + d_first[i].sum(axis=1)
                gradients.append((parameter, d_fresh))
        return gradients

    @staticmethod
    def _accumulate(gradients: list[tuple[Parameter, RealArray]]) -> None:
        for parameter, gradient in gradients:
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient

    def _input_gradients(
        self,
        dx: RealArray | None,
        d_attention: RealArray | None,
        d_first: list[RealArray],
        given: Call,
        group: Regrouping,
    ) -> tuple[RealArray | None, RealArray | None, State]:
        """Return the gradients of x, attention and the given state, laid out as these."""

        def as_given(d: RealArray | None) -> RealArray | None:
            if d is None:
                return None
            d = group.take_gradient(self._turned(d, group.lengths))
            if given.unbatched:
                return d[:, 0]
            return d.swapaxes(0, 1) if self.batch_first else d

        states = [d[:, 0] if given.unbatched else d for d in d_first]
        dstate = tuple(states) if self._has_cell_state else states[0]
        return as_given(dx), as_given(d_attention), dstate
