"""Recurrent layers with PyTorch's names, shapes and weights: RNN, LSTM, GRU and their variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .base import RealArray, check_flag, check_size
from .recurrent_arguments import State
from .recurrent_base import Recurrent
from .recurrent_options import (
    PRELU,
    Activation,
    CellOptions,
    as_config,
    check_activation,
    check_limit,
)

__all__ = ["AUGRU", "GRU", "LSTM", "RNN", "IndRNN", "Recurrent"]

Seed = int | np.random.Generator | None
Function = str | Sequence[Any]  # an activation: its name, or (name, alpha, beta)

TANH = ("tanh", 0.0, 0.0)
SIGMOID = ("sigmoid", 0.0, 0.0)


def _activations(value: Sequence[Function], names: tuple[str, ...]) -> list[Activation]:
    """Return the argument `activations`, one for each of `names`."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(names):
        raise ValueError(
            f"activations: expected {len(names)}, of {', '.join(names)}, got {value!r}"
        )
    return [check_activation(f"activations ({n})", v) for n, v in zip(names, value, strict=True)]


class RNN(Recurrent):
    """Vanilla recurrent network: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Elman (1990), "Finding structure in time", in PyTorch's convention.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I of the input and H of the state.
    num_layers : int, default 1
        Layers, each taking the outputs of the one below.
    nonlinearity : str or tuple
        The function f: "tanh" (default), "relu", or any of ONNX's (leaky_relu, thresholded_relu,
        scaled_tanh, hard_sigmoid, sigmoid, elu, softsign, softplus, affine), where wanted with its
        numbers, as ("leaky_relu", 0.1); "identity"; "prelu", with a learned slope per unit (He et
        al. 2015).
    bias : bool, default True
        Whether there are bias_ih and bias_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, .) instead of (T, B, .); states are never.
    dropout : float, default 0.0
        Probability of dropping an output between layers, in `vjp` only (Srivastava et al. 2014).
    bidirectional : bool, default False
        Whether a second direction runs backwards (Schuster & Paliwal 1997).
    layer_norm : bool, default False
        Whether the products with weight_ih and weight_hh are normalised over the units, each with a
        gain (gain_ih, gain_hh) and its bias after that (Ba et al. 2016, eq. 20-25).
    clip : float, optional
        Bound of what the functions take, as ONNX's clip.
    recurrent_dropout : float, default 0.0
        Probability of dropping a unit of h_{t-1} where the product with weight_hh takes it, the
        same ones at all steps of a sequence, in `vjp` only (Gal & Ghahramani 2016).
    weight_dropout : float, default 0.0
        Probability of dropping an element of weight_hh, in `vjp` only (DropConnect: Wan et al.
        2013; Merity et al. 2018).
    zoneout : float, default 0.0
        Probability that a unit keeps its old state in `vjp`; a call mixes old and new with that
        weight (Krueger et al. 2017).
    merge_mode : {"concat", "sum", "mean", "mul"}
        How the outputs of two directions become one.
    go_backwards : bool, default False
        Whether a single direction reads each row from its last step to its first; outputs come in
        that order, as in Keras.
    learned_state : bool, default False
        Whether the state to begin with, where none is given and after a reset, is a parameter: h_0
        (num_layers * D, H), at first zeros.
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, uniform over +-1 / sqrt(H) as in PyTorch, and of dropout.

    See Also
    --------
    LSTM, GRU, IndRNN
    """

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Function = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        layer_norm: bool = False,
        clip: float | None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        learned_state: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self._function = check_activation("nonlinearity", nonlinearity, prelu=True)
        self.nonlinearity = as_config(self._function)
        self._clip = check_limit("clip", clip)
        self.layer_norm = check_flag("layer_norm", layer_norm)
        super().__init__(
            {
                "input_size": input_size,
                "hidden_size": hidden_size,
                "num_layers": num_layers,
                "nonlinearity": self.nonlinearity,
                "bias": bias,
                "batch_first": batch_first,
                "dropout": dropout,
                "bidirectional": bidirectional,
                "layer_norm": self.layer_norm,
                "clip": clip,
                "recurrent_dropout": recurrent_dropout,
                "weight_dropout": weight_dropout,
                "zoneout": zoneout,
                "merge_mode": merge_mode,
                "go_backwards": go_backwards,
                "learned_state": learned_state,
                "dtype": dtype,
            },
            seed,
        )

    @classmethod
    def _cell_shapes(
        cls, config: Mapping[str, Any], size: int, hidden: int, output: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from super()._cell_shapes(config, size, hidden, output)
        function = check_activation("nonlinearity", config.get("nonlinearity", "tanh"), prelu=True)
        if function == PRELU:
            yield "slope", (hidden,)

    def _kind(self) -> str:
        return "rnn" if self._options() else "rnn_" + self._function[0]

    def _options(self) -> CellOptions | None:
        options = CellOptions(self._function, TANH, TANH, self._clip, keep_h=self._zoneout[0])
        plain = self._function[0] in ("tanh", "relu") and not self.layer_norm
        return None if plain and options == CellOptions(self._function, TANH, TANH) else options


class IndRNN(RNN):
    """Independently recurrent network: h_t = f(W_ih x_t + b_ih + u * h_{t-1} + b_hh).

    Each unit sees its own past alone: the parameter weight_hh_l0 is the vector u (H,), at first
    uniform over [0, 1]. Li et al. (2018), "Independently recurrent neural network (IndRNN)", eq. 2;
    their f is relu. The arguments are those of `RNN`; recurrent_dropout is not among the uses of a
    product that there is not.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Function = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        clip: float | None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        learned_state: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        if recurrent_dropout != 0:
            raise ValueError(f"recurrent_dropout: expected 0 for IndRNN, got {recurrent_dropout!r}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            clip=clip,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            merge_mode=merge_mode,
            go_backwards=go_backwards,
            learned_state=learned_state,
            dtype=dtype,
            seed=seed,
        )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {name: value for name, value in super().config().items() if name != "layer_norm"}

    def _initial(self, name: str, shape: tuple[int, ...]) -> RealArray:
        if name.startswith("weight_hh"):
            return self._rng.random(shape)
        return super()._initial(name, shape)

    @classmethod
    def _cell_shapes(
        cls, config: Mapping[str, Any], size: int, hidden: int, output: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, shape in super()._cell_shapes(config, size, hidden, output):
            yield name, (hidden,) if name == "weight_hh" else shape

    def _kind(self) -> str:
        return "indrnn"

    def _options(self) -> CellOptions:
        return CellOptions(self._function, TANH, TANH, self._clip, keep_h=self._zoneout[0])


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
        Whether a second direction runs backwards (Schuster & Paliwal 1997).
    proj_size : int, default 0
        Where above 0, h_t = W_hr (o * tanh(c_t)) of that size P < H, with the parameter weight_hr
        (P, H) (Sak et al. 2014).
    peephole : bool, default False
        Whether gates see the cell, i and f c_{t-1}, o c_t, through the vectors p_i, p_f, p_o, the
        parameter peephole (3 H,) (Gers & Schmidhuber 2000; ONNX's input P, which has i, o, f).
    coupled : bool, default False
        Whether f = 1 - i (Greff et al. 2017; ONNX's input_forget): weights have the three gates
        i, g, o, peepholes i, o.
    activations : three str or tuples
        The functions of the gates, of g and of c_t in h_t, as of `RNN`; ONNX's f, g, h.
    layer_norm : bool, default False
        Whether the products with weight_ih and weight_hh are normalised over the units, each with a
        gain (gain_ih, gain_hh) and its bias after that, and c_t in h_t (gain_c,
        bias_c) (Ba et al. 2016, eq. 20-25).
    clip : float, optional
        Bound of what these functions take, as ONNX's clip.
    cell_clip : float, optional
        Bound of c_t (Sak et al. 2014).
    recurrent_dropout, weight_dropout : float, default 0.0
        As of `RNN`.
    zoneout : float or (float, float), default 0.0
        As of `RNN`; of h and c.
    merge_mode, go_backwards, learned_state
        As of `RNN`; the learned states are h_0 and c_0.
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
        proj_size: int = 0,
        *,
        peephole: bool = False,
        coupled: bool = False,
        activations: Sequence[Function] = ("sigmoid", "tanh", "tanh"),
        layer_norm: bool = False,
        clip: float | None = None,
        cell_clip: float | None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        learned_state: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self.peephole = check_flag("peephole", peephole)
        self.coupled = check_flag("coupled", coupled)
        self.layer_norm = check_flag("layer_norm", layer_norm)
        self._functions = _activations(activations, ("gates", "g", "c"))
        self._clips = check_limit("clip", clip), check_limit("cell_clip", cell_clip)
        self.proj_size = check_size("proj_size", proj_size, 0)
        if self.proj_size >= check_size("hidden_size", hidden_size):
            raise ValueError(f"proj_size: expected less than hidden_size, got {proj_size}")
        super().__init__(
            {
                "input_size": input_size,
                "hidden_size": hidden_size,
                "num_layers": num_layers,
                "bias": bias,
                "batch_first": batch_first,
                "dropout": dropout,
                "bidirectional": bidirectional,
                "proj_size": self.proj_size,
                "peephole": self.peephole,
                "coupled": self.coupled,
                "activations": tuple(as_config(f) for f in self._functions),
                "layer_norm": self.layer_norm,
                "clip": clip,
                "cell_clip": cell_clip,
                "recurrent_dropout": recurrent_dropout,
                "weight_dropout": weight_dropout,
                "zoneout": zoneout,
                "merge_mode": merge_mode,
                "go_backwards": go_backwards,
                "learned_state": learned_state,
                "dtype": dtype,
            },
            seed,
        )
        if self.proj_size and self._zoneout[0]:
            raise ValueError(f"zoneout: expected 0 for h with proj_size, got {self._zoneout[0]}")

    @classmethod
    def _num_gates(cls, config: Mapping[str, Any]) -> int:
        return 3 if check_flag("coupled", config.get("coupled", False)) else 4

    @classmethod
    def _cell_shapes(
        cls, config: Mapping[str, Any], size: int, hidden: int, output: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from super()._cell_shapes(config, size, hidden, output)
        if check_flag("peephole", config.get("peephole", False)):
            yield "peephole", ((cls._num_gates(config) - 1) * hidden,)

    def _kind(self) -> str:
        return "lstm_coupled" if self.coupled else "lstm"

    def _options(self) -> CellOptions | None:
        (f, g, h), (clip, cell_clip) = self._functions, self._clips
        options = CellOptions(f, g, h, clip, cell_clip, *self._zoneout)
        plain = options == CellOptions(SIGMOID, TANH, TANH)
        return None if plain and not (self.peephole or self.coupled or self.layer_norm) else options

    def cell_states(
        self,
        x: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> RealArray:
        """Return c_t of all steps of the last layer (inference), laid out as y: (T, B, D * H).

        Arguments as of a call; masked steps as in y.
        """
        given = self._batched(x, state, lengths, None, mask, resets)
        call, group = self._prepare(given)
        tapes = self._forward(call, 0, False, training=False)[3]
        c = group.put(tapes[-1].core.cached(3 if self.coupled else 4), self._repeat(given))
        return self._give(c, c, None, given.unbatched)[0]


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
        Whether a second direction runs backwards (Schuster & Paliwal 1997).
    reset_after : bool, default True
        Whether the reset gate acts after the product with the state (True) or before it.
    activations : two str or tuples
        The functions of the gates and of n, as of `RNN`; ONNX's f, g.
    layer_norm, clip, recurrent_dropout, weight_dropout, zoneout
        As of `RNN`; the products of n are normalised apart from those of r and z.
    merge_mode, go_backwards, learned_state
        As of `RNN`.
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
        activations: Sequence[Function] = ("sigmoid", "tanh"),
        layer_norm: bool = False,
        clip: float | None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        learned_state: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self.reset_after = check_flag("reset_after", reset_after)
        self.layer_norm = check_flag("layer_norm", layer_norm)
        self._functions = _activations(activations, ("gates", "n"))
        self._clip = check_limit("clip", clip)
        super().__init__(
            {
                "input_size": input_size,
                "hidden_size": hidden_size,
                "num_layers": num_layers,
                "bias": bias,
                "batch_first": batch_first,
                "dropout": dropout,
                "bidirectional": bidirectional,
                "reset_after": self.reset_after,
                "activations": tuple(as_config(f) for f in self._functions),
                "layer_norm": self.layer_norm,
                "clip": clip,
                "recurrent_dropout": recurrent_dropout,
                "weight_dropout": weight_dropout,
                "zoneout": zoneout,
                "merge_mode": merge_mode,
                "go_backwards": go_backwards,
                "learned_state": learned_state,
                "dtype": dtype,
            },
            seed,
        )

    def _kind(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def _options(self) -> CellOptions | None:
        f, g = self._functions
        options = CellOptions(f, g, TANH, self._clip, keep_h=self._zoneout[0])
        plain = options == CellOptions(SIGMOID, TANH, TANH)
        return None if plain and not self.layer_norm else options


class AUGRU(GRU):
    """GRU whose update gate is held back by an attention score of each step, one layer.

    As `GRU`, with (1 - a_t) z in place of z: Zhou et al. (2019), "Deep interest evolution network
    for click-through rate prediction", eq. 8-9, in the form of oneDNN. A call and `vjp` take the
    scores after x, and the pullback returns their gradient after dx.

    Parameters
    ----------
    input_size, hidden_size, bias, batch_first, reset_after, activations, clip, dtype, seed
        As of `GRU`.

    Examples
    --------
    >>> augru = fastrnn.AUGRU(16, 32)
    >>> y, h = augru(x, attention)                       # x (T, B, 16), attention (T, B)
    >>> (y, h), pullback = augru.vjp(x, attention)
    >>> dx, dattention, dh0 = pullback(dy)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        *,
        reset_after: bool = True,
        activations: Sequence[Function] = ("sigmoid", "tanh"),
        clip: float | None = None,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            batch_first=batch_first,
            reset_after=reset_after,
            activations=activations,
            clip=clip,
            dtype=dtype,
            seed=seed,
        )
        self._one_call = False

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        names = ("input_size", "hidden_size", "bias", "batch_first", "reset_after", "activations")
        return {name: self._config[name] for name in (*names, "clip", "dtype")}

    def _options(self) -> CellOptions:
        f, g = self._functions
        return CellOptions(f, g, TANH, self._clip)

    def __call__(  # type: ignore[override]
        self,
        x: ArrayLike,
        attention: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[RealArray, State]:
        """As of `GRU`; attention (T, B), laid out as x, usually from 0 to 1."""
        return self._infer(self._batched(x, state, lengths, attention, mask, resets))

    def vjp(  # type: ignore[override]
        self,
        x: ArrayLike,
        attention: ArrayLike,
        state: State = None,
        lengths: ArrayLike | None = None,
        checkpoint_every: int | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[
        tuple[RealArray, State],
        Callable[..., tuple[RealArray | None, RealArray, State]],
    ]:
        """As of `GRU`, with ``pullback(dy, dstate=None) -> (dx, dattention, dstate0)``."""
        call = self._batched(x, state, lengths, attention, mask, resets)
        return self._vjp(call, checkpoint_every)

    def step(  # type: ignore[override]
        self, x_t: ArrayLike, attention_t: ArrayLike, state: State = None
    ) -> tuple[RealArray, State]:
        """Run one step: x_t (B, I) or (I,), attention_t (B,) or ()."""
        x, state = self._plain_step(x_t, state)
        attention = np.asarray(attention_t)
        axis = 1 if self.batch_first and x.ndim > (x.dtype.kind == "f") else 0
        y, state = self(np.expand_dims(x, axis), np.expand_dims(attention, axis), state)
        y_t: RealArray = np.take(y, 0, axis=axis)
        return y_t, state
