"""Decoders: recurrent stacks that generate a sequence, with or without attention to a memory.

A decoder takes inputs (T, B, I), as embedded tokens, a memory (T_m, B, M), as an encoder's
outputs, and the state of its recurrent stack; it gives (y, state, weights): outputs (T, B, O), the
last state, and the attention's weights (T, B, T_m), or None without attention. Inputs past the end
of a row need no lengths: they come after all that counts, and the loss leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .attention_base import Attention, Memory, elementwise
from .base import Layer, RealArray, check_gradient, check_size, real_array
from .composite import Composite
from .layers import LAYER_CLASSES, Seed
from .recurrent import Recurrent

__all__ = ["Decoder", "InputFeedingDecoder", "LuongDecoder", "PlainDecoder"]

State = Any  # h or (h, c) of the recurrent stack; of an InputFeedingDecoder, (that, fed vector)


def output_size(rnn: Recurrent) -> int:
    """Return the size of the outputs of a recurrent layer."""
    twice = rnn.bidirectional and rnn.merge_mode == "concat"
    return rnn._output_size * (2 if twice else 1)


class DecoderOutput(NamedTuple):
    """What a decoder gives.

    Attributes
    ----------
    y : ndarray, shape (T, B, O)
    state : the last state of the decoder
    weights : ndarray, shape (T, B, T_m), or None without attention
    """

    y: RealArray
    state: State
    weights: RealArray | None


class DecoderGradients(NamedTuple):
    """What a decoder's pullback gives.

    Attributes
    ----------
    dx : ndarray, shape (T, B, I), or None for token ids
    dmemory : ndarray, shape (T_m, B, M), or None without attention
    dstate : as the state
    """

    dx: RealArray | None
    dmemory: RealArray | None
    dstate: State


class Decoder(Composite):
    """Base of the decoders.

    Attributes
    ----------
    rnn : RNN, LSTM or GRU
    attention : Attention, or None
    hidden_size : int
        Size H of h, which is smaller than the stack's if it projects (`proj_size`).
    output_size : int
        Size O of the outputs.
    """

    _given: tuple[str, ...] = ("rnn",)

    def _set_up(self, rnn: Any, **parts: Layer) -> None:
        self._add_given(rnn=rnn, **parts)
        if not isinstance(rnn, Recurrent):
            raise TypeError(f"rnn: expected an RNN, LSTM or GRU, got {type(rnn).__name__}")
        if rnn.bidirectional or rnn.go_backwards or rnn.batch_first:
            raise ValueError(f"rnn: expected one direction, forwards, and time first, got {rnn!r}")
        self.rnn = rnn
        self.dtype = rnn.dtype
        self.attention: Any = parts.get("attention")
        self.output_size = self.hidden_size = output_size(rnn)

    def __call__(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> DecoderOutput:
        """Run whole sequences, each step's input given (inference: no dropout).

        Parameters
        ----------
        x : array_like, shape (T, B, I)
        memory : array_like, shape (T_m, B, M)
        state : optional
            As it is returned; None stands for zeros.
        lengths, mask : optional
            The real steps of the memory, as of `Attention`.

        Returns
        -------
        DecoderOutput
            (y, state, weights).

        Raises
        ------
        ValueError, TypeError
            If a shape or a dtype does not fit.
        """
        raise NotImplementedError

    def vjp(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[DecoderOutput, Callable[..., DecoderGradients]]:
        """Run whole sequences for training; arguments and errors as of a call.

        Parameters
        ----------
        x, memory, state, lengths, mask
            As of a call.

        Returns
        -------
        (y, state, weights) : DecoderOutput
        pullback : callable
            ``pullback(dy, dstate=None) -> (dx, dmemory, dstate0)``.
        """
        raise NotImplementedError

    def step(
        self, x_t: ArrayLike, state: State, memory: Memory | None
    ) -> tuple[RealArray, State, RealArray | None]:
        """Run one step (inference).

        Parameters
        ----------
        x_t : array_like, shape (B, I)
        state
            As `start` or the step before returned it.
        memory : Memory or None
            What `prepare` returned.

        Returns
        -------
        y_t : ndarray, shape (B, O)
        state
        weights : ndarray, shape (B, T_m), or None without attention
        """
        raise NotImplementedError

    def prepare(
        self, memory: ArrayLike, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Memory | None:
        """Return the memory as `step` takes it."""
        return None if self.attention is None else self.attention.prepare(memory, lengths, mask)

    def start(self, rnn_state: State) -> State:
        """Return the decoder's state at the beginning, from `rnn_state` of its recurrent stack."""
        return rnn_state

    def start_gradient(self, dstate: State) -> State:
        """Return the gradient of what `start` takes, from that of what it gives."""
        return dstate

    def select(self, state: State, indices: ArrayLike) -> State:
        """Return the state of the rows `indices` (n,) of the batch, in this order."""
        rows = np.asarray(indices)
        return tuple(s[:, rows] for s in state) if isinstance(state, tuple) else state[:, rows]


class PlainDecoder(Decoder):
    """A recurrent stack alone: all it knows of the source is its initial state.

    Sutskever, Vinyals & Le (2014), "Sequence to sequence learning with neural networks"; Cho et
    al. (2014).

    Parameters
    ----------
    rnn : RNN, LSTM or GRU
        Of one direction, time first.
    """

    def __init__(self, rnn: Recurrent) -> None:
        super().__init__()
        self._set_up(rnn)

    def __call__(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> DecoderOutput:
        """Run whole sequences; the memory is not looked at. See `Decoder`."""
        return DecoderOutput(*self.rnn(x, state), None)

    def vjp(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[DecoderOutput, Callable[..., DecoderGradients]]:
        """Run whole sequences for training. See `Decoder`."""
        (y, last), back = self.rnn.vjp(x, state)

        def pullback(dy: ArrayLike, dstate: State = None) -> DecoderGradients:
            dx, dstate0 = back(dy, dstate)
            return DecoderGradients(dx, None, dstate0)

        return DecoderOutput(y, last, None), pullback

    def step(
        self, x_t: ArrayLike, state: State, memory: Memory | None
    ) -> tuple[RealArray, State, RealArray | None]:
        """Run one step. See `Decoder`."""
        return *self.rnn.step(x_t, state), None


class AttentionDecoder(Decoder):
    """What the decoders with attention share: the attentional vector tanh(W_c [c; h])."""

    _given = ("rnn", "attention")

    def __init__(
        self,
        rnn: Recurrent,
        attention: Attention,
        attentional_size: int | None = None,
        *,
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self._set_up(rnn, attention=attention)
        if not isinstance(attention, Attention):
            raise TypeError(f"attention: expected an Attention, got {type(attention).__name__}")
        if attention.batch_first:
            raise ValueError("attention: expected time first, got " + repr(attention))
        if attention.query_size != self.hidden_size:
            raise ValueError(
                f"attention: expected queries of the hidden size {self.hidden_size}, "
                f"got {attention.query_size}"
            )
        size = self.hidden_size if attentional_size is None else attentional_size
        self.attentional_size = self.output_size = check_size("attentional_size", size)
        self._add_linears(self.dtype, seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed); parts as class and config."""
        return {**super().config(), "attentional_size": self.attentional_size}

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        kind = LAYER_CLASSES[config["attention"]["class"]]
        if not issubclass(kind, Attention):
            raise TypeError(f"attention: expected an Attention, got {kind.__name__}")
        context = kind.sizes(config["attention"]["config"])[2]
        rnn = config["rnn"]["config"]
        hidden = check_size("hidden_size", rnn.get("proj_size") or rnn.get("hidden_size"))
        size = config.get("attentional_size")
        size = hidden if size is None else check_size("attentional_size", size)
        return {"combine": {"in_features": context + hidden, "out_features": size, "bias": False}}

    def _combine_vjp(
        self, context: RealArray, h: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], tuple[RealArray, RealArray]]]:
        """Return tanh(W_c [context; h]), and the pullback to both."""
        z, back = self._parts["combine"].vjp(np.concatenate([context, h], axis=-1))
        y = elementwise(_core.tanh, z)

        def pullback(dy: RealArray) -> tuple[RealArray, RealArray]:
            d = back(dy * (1 - y * y))
            return d[..., : self.attention.context_size], d[..., self.attention.context_size :]

        return y, pullback


class LuongDecoder(AttentionDecoder):
    """Attention after the recurrent stack: y_t = tanh(W_c [c_t; h_t]), c_t read with query h_t.

    Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine
    translation", equation 5, without input feeding: no step waits for the attention of the one
    before, so that in training a whole sequence runs through the recurrent stack at once.

    Parameters
    ----------
    rnn : RNN, LSTM or GRU
        Of one direction, time first.
    attention : Attention
        Its queries have the stack's hidden size.
    attentional_size : int, optional
        Size O of the outputs; the hidden size by default.
    seed : int or numpy.random.Generator, optional
        Of W_c, the parameter "combine.weight" (O, C + H), drawn as `Linear` does.
    """

    def __call__(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> DecoderOutput:
        """Run whole sequences. See `Decoder`."""
        h, last = self.rnn(x, state)
        context, weights = self.attention(h, memory, lengths, mask)
        return DecoderOutput(self._combine_vjp(context, h)[0], last, weights)

    def vjp(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[DecoderOutput, Callable[..., DecoderGradients]]:
        """Run whole sequences for training. See `Decoder`."""
        (h, last), back_to_input = self.rnn.vjp(x, state)
        (context, weights), back_to_query = self.attention.vjp(h, memory, lengths, mask)
        y, back = self._combine_vjp(context, h)

        def pullback(dy: ArrayLike, dstate: State = None) -> DecoderGradients:
            dcontext, dh = back(check_gradient(dy, y.shape, self.dtype))
            dquery, dmemory = back_to_query(dcontext)
            dx, dstate0 = back_to_input(dh + dquery, dstate)
            return DecoderGradients(dx, dmemory, dstate0)

        return DecoderOutput(y, last, weights), pullback

    def step(
        self, x_t: ArrayLike, state: State, memory: Memory | None
    ) -> tuple[RealArray, State, RealArray | None]:
        """Run one step. See `Decoder`."""
        h, state = self.rnn.step(x_t, state)
        context, weights = self.attention.read(h[None], memory)
        return self._combine_vjp(context[0], h)[0], state, weights[0]


class InputFeedingDecoder(AttentionDecoder):
    """As `LuongDecoder`, and each step's input is [x_t; y_{t-1}]: it knows where it looked.

    Luong, Pham & Manning (2015), section 3.3. Steps wait for one another: training loops over
    them. The state is (that of the recurrent stack, the fed vector (B, O)); None stands for zeros.

    Parameters
    ----------
    rnn : RNN, LSTM or GRU
        Of one direction, time first; its input size is I + O.
    attention : Attention
        Its queries have the stack's hidden size.
    attentional_size : int, optional
        Size O of the outputs; the hidden size by default.
    seed : int or numpy.random.Generator, optional
        Of W_c, the parameter "combine.weight" (O, C + H), drawn as `Linear` does.

    Raises
    ------
    ValueError, TypeError
        If parts are of other kinds, or their sizes do not fit.
    """

    def __init__(
        self,
        rnn: Recurrent,
        attention: Attention,
        attentional_size: int | None = None,
        *,
        seed: Seed = None,
    ) -> None:
        super().__init__(rnn, attention, attentional_size, seed=seed)
        self.input_size = rnn.input_size - self.output_size
        if self.input_size < 1:
            raise ValueError(
                f"rnn: expected an input size above the fed vector's {self.output_size}, "
                f"got {rnn.input_size}"
            )

    def __call__(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> DecoderOutput:
        """Run whole sequences. See `Decoder`."""
        inputs = self._inputs("x", x, 3)
        prepared = self.attention.prepare(memory, lengths, mask)
        y: list[RealArray] = []
        weights: list[Any] = []
        for x_t in inputs:
            y_t, state, weights_t = self.step(x_t, state, prepared)
            y.append(y_t)
            weights.append(weights_t)
        return DecoderOutput(np.stack(y), state, np.stack(weights))

    def vjp(
        self,
        x: ArrayLike,
        memory: ArrayLike | None,
        state: State = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[DecoderOutput, Callable[..., DecoderGradients]]:
        """Run whole sequences for training. See `Decoder`."""
        inputs = self._inputs("x", x, 3)
        prepared, back_to_memory = self.attention.prepare_vjp(memory, lengths, mask)
        y, weights, pullbacks = [], [], []
        for x_t in inputs:
            (y_t, state, weights_t), back = self._step_vjp(x_t, state, prepared)
            y.append(y_t)
            weights.append(weights_t)
            pullbacks.append(back)

        def pullback(dy: ArrayLike, dstate: State = None) -> DecoderGradients:
            gradient = check_gradient(dy, (len(y), *y[0].shape), self.dtype)
            d_state, d_fed = dstate or (None, None)
            d_keys, d_values = np.zeros_like(prepared.keys), np.zeros_like(prepared.values)
            dx = np.empty_like(inputs)
            for t in reversed(range(len(pullbacks))):
                d = gradient[t] if d_fed is None else gradient[t] + d_fed
                dx[t], (dk, dv), (d_state, d_fed) = pullbacks[t](d, d_state)
                d_keys += dk
                d_values += dv
            return DecoderGradients(dx, back_to_memory((d_keys, d_values)), (d_state, d_fed))

        return DecoderOutput(np.stack(y), state, np.stack(weights)), pullback

    def _step_vjp(
        self, x_t: RealArray, state: State, memory: Memory
    ) -> tuple[tuple[RealArray, State, RealArray], Callable[[RealArray, State], Any]]:
        rnn_state, joined = self._join(x_t, state)
        (h, rnn_state), back_to_input = self.rnn.vjp(joined[None], rnn_state)
        (context, weights), back_to_query = self.attention.read_vjp(h, memory)
        y, back = self._combine_vjp(context, h)

        def pullback(dy: RealArray, d_state: State) -> Any:
            dcontext, dh = back(dy[None])
            dquery, gradients = back_to_query(dcontext)
            d_joined, d_state0 = back_to_input(dh + dquery, d_state)
            assert d_joined is not None  # it is for token ids alone
            d_x, d_fed = d_joined[0, :, : self.input_size], d_joined[0, :, self.input_size :]
            return d_x, gradients, (d_state0, d_fed)

        return (y[0], (rnn_state, y[0]), weights[0]), pullback

    def step(
        self, x_t: ArrayLike, state: State, memory: Memory | None
    ) -> tuple[RealArray, State, RealArray | None]:
        """Run one step. See `Decoder`."""
        rnn_state, joined = self._join(self._inputs("x_t", x_t, 2), state)
        h, rnn_state = self.rnn.step(joined, rnn_state)
        context, weights = self.attention.read(h[None], memory)
        y = self._combine_vjp(context[0], h)[0]
        return y, (rnn_state, y), weights[0]

    def start(self, rnn_state: State) -> State:
        """Return the decoder's state at the beginning from `rnn_state`: nothing is fed yet."""
        return rnn_state, None

    def start_gradient(self, dstate: State) -> State:
        """Return the gradient of what `start` takes, from that of what it gives."""
        return dstate[0]

    def select(self, state: State, indices: ArrayLike) -> State:
        """Return the state of the rows `indices` (n,) of the batch, in this order."""
        rnn_state, fed = state
        rows = None if fed is None else fed[np.asarray(indices)]
        return super().select(rnn_state, indices), rows

    def _inputs(self, name: str, x: ArrayLike, rank: int) -> RealArray:
        array = real_array(name, x, self.dtype)
        if array.ndim != rank or array.shape[-1] != self.input_size or 0 in array.shape[: rank - 2]:
            axes = "T, B" if rank == 3 else "B"
            raise ValueError(
                f"{name}: expected the shape ({axes}, {self.input_size}), T at least 1, "
                f"got {array.shape}"
            )
        return array

    def _join(self, x_t: RealArray, state: State) -> tuple[State, RealArray]:
        """Return the recurrent stack's state and its input: x_t and the fed vector."""
        rnn_state, fed = state or (None, None)
        shape = (len(x_t), self.output_size)
        fed = np.zeros(shape, self.dtype) if fed is None else real_array("fed", fed, self.dtype)
        return rnn_state, np.concatenate([x_t, fed], axis=-1)


LAYER_CLASSES.update((c.__name__, c) for c in (PlainDecoder, LuongDecoder, InputFeedingDecoder))
