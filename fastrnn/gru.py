"""Gated recurrent units: `GRU` and `AUGRU`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .base import RealArray, check_flag, real_array
from .recurrent_arguments import State
from .recurrent_base import Recurrent, Seed
from .recurrent_options import (
    SIGMOID,
    TANH,
    CellOptions,
    Function,
    as_config,
    check_activations,
    check_limit,
)

__all__ = ["AUGRU", "GRU"]


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
        self._functions = check_activations(activations, ("gates", "n"))
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


def _given(attention: ArrayLike | None) -> ArrayLike:
    if attention is None:
        raise TypeError("attention: expected an array, got None")
    return attention


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
    >>> augru = fastrnn.AUGRU(16, 32, seed=0)
    >>> x, attention = np.ones((10, 4, 16), np.float32), np.full((10, 4), 0.5, np.float32)
    >>> y, h = augru(x, attention)
    >>> y.shape, h.shape
    ((10, 4, 32), (1, 4, 32))
    >>> (y, h), pullback = augru.vjp(x, attention)
    >>> dx, dattention, dh0 = pullback(np.ones_like(y))
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
        own = (*names, "clip", "dtype", "precision")
        return {name: self._config[name] for name in own if name in self._config}

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
        """Run whole sequences (inference).

        Parameters
        ----------
        x, state, lengths, mask, resets
            As of `GRU`.
        attention : array_like, shape (T, B)
            Laid out as x; usually from 0 to 1.

        Returns
        -------
        y : ndarray, shape (T, B, H)
        h_n : ndarray, shape (num_layers, B, H)
        """
        return self._infer(self._batched(x, state, lengths, _given(attention), mask, resets))

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
        """Run whole sequences for training; arguments as of a call.

        Parameters
        ----------
        x, attention, state, lengths, mask, resets
            As of a call.
        checkpoint_every : int, optional
            As of `GRU`.

        Returns
        -------
        (y, h_n) : as of a call
        pullback : callable
            ``pullback(dy, dstate=None) -> (dx, dattention, dstate0)``.
        """
        call = self._batched(x, state, lengths, _given(attention), mask, resets)
        return self._vjp(call, checkpoint_every)

    def step(  # type: ignore[override]
        self, x_t: ArrayLike, attention_t: ArrayLike, state: State = None
    ) -> tuple[RealArray, State]:
        """Run one step.

        Parameters
        ----------
        x_t : array_like, shape (B, I) or (I,)
        attention_t : array_like, shape (B,) or ()
        state : optional
            As a call returns it; None stands for zeros.

        Returns
        -------
        y_t : ndarray, shape (B, H) or (H,)
        state

        Raises
        ------
        ValueError, TypeError
            If a shape or a dtype does not fit.
        """
        x, state = self._plain_step(x_t, state)
        attention = real_array("attention_t", _given(attention_t), self.dtype)
        expected = x.shape[: x.ndim - (x.dtype == self.dtype)]
        if attention.shape != expected:
            raise ValueError(f"attention_t: expected the shape {expected}, got {attention.shape}")
        axis = 1 if self.batch_first and x.ndim > (x.dtype.kind == "f") else 0
        y, state = self(np.expand_dims(x, axis), np.expand_dims(attention, axis), state)
        y_t: RealArray = np.take(y, 0, axis=axis)
        return y_t, state
