"""The passes of recurrent layers, all in one call of the core or layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, base
from .base import FLOAT32, Parameter, RealArray, check_size
from .directions import merge, merge_gradient, reverse_rows
from .precision import packable
from .recurrent_arguments import Call, RecurrentArguments, State
from .recurrent_options import CellOptions
from .regroup import Regrouping

__all__ = ["WEIGHTS", "RecurrentPasses"]

# As the core numbers them: Weight in src/types.h.
WEIGHTS = (
    *("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole", "slope"),
    *("gain_ih", "gain_hh", "gain_c", "bias_c"),
)


class LayerTape(NamedTuple):
    """What the pullback needs of one layer's forward pass."""

    core: Any
    y: RealArray  # both directions side by side
    dropout: RealArray | None  # factors of its input
    weights: list[RealArray] | None  # factors of each direction's weight_hh


class RecurrentPasses(RecurrentArguments):
    """The passes of a recurrent layer: packed weights, tapes, masks of training, gradients.

    What kind of cell it is, a subclass says by `_kind` and `_options`.
    """

    dropout: float
    recurrent_dropout: float
    weight_dropout: float
    merge_mode: str
    learned_state: bool
    _zoneout: tuple[float, float]
    _rng: np.random.Generator
    _config: dict[str, Any]
    _by_layer: list[list[Parameter | None]]
    _cells: list[tuple[tuple[int, ...], Any]]  # see _no_cells
    _ready: tuple[object, Any]

    def _no_cells(self) -> dict[str, Any]:
        """Return what holds packed weights, empty.

        _cells: for each layer the versions of its parameters and the cells of its directions;
        _ready: the `base.last_change` as of which the stack for inference is right, and the stack.
        """
        return {"_cells": [((), ())] * self.num_layers, "_ready": (None, None)}

    def _names(self, layer: int) -> list[str]:
        suffixes = ("", "_reverse")[: self._directions]
        return [f"{name}_l{layer}{suffix}" for suffix in suffixes for name in WEIGHTS]

    @property
    def precision(self) -> str:
        """Of the matrices: "float32" or, as `fastrnn.quantize` says, "bf16", "int8", "bf16_dot"."""
        precision: str = self._config.get("precision", "float32")
        return precision

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
        if training and self.precision != "float32":
            raise ValueError(
                f"{type(self).__name__}: expected float32 weights for training or inspection, "
                f"got {self.precision}, which is for inference"
            )
        arrays = [packable(parameter) for parameter in self._by_layer[layer]]
        count, kind, options = len(WEIGHTS), self._kind(), self._options()
        cells = []
        for d in range(self._directions):
            weights = arrays[count * d : count * (d + 1)]
            if factors is not None:
                weights[1] = weights[1] * factors[d]
            cells.append(_core.pack_cell(kind, tuple(weights), options, training, self.precision))
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
        h = group.put_state(h, self._reverse)
        c = None if c is None else group.put_state(c, self._reverse)
        return self._give(self._placed(call, group, y), h, c, call.unbatched)

    def _placed(self, call: Call, group: Regrouping, y: RealArray) -> RealArray:
        """Return outputs of the ragged batch at their places in the user's, time first."""
        y = group.put(self._turned(y, group.lengths), self._repeat(call))
        return self._turned(y, call.lengths)

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
            shape = (T, B, D * self.hidden_size)
            return (self._rng.random(shape, np.float32) < p).astype(self.dtype)

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
