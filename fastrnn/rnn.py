"""Vanilla recurrent layers: `RNN` and `IndRNN`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import DTypeLike

from .base import RealArray, check_flag
from .recurrent_base import Recurrent, Seed
from .recurrent_options import (
    PRELU,
    TANH,
    CellOptions,
    Function,
    as_config,
    check_activation,
    check_limit,
)

__all__ = ["RNN", "IndRNN"]


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
    their f is relu. There is no product with the state, so that layer_norm and recurrent_dropout
    of `RNN` have no meaning here.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As of `RNN`.
    nonlinearity : str or tuple, default "relu"
        f, as of `RNN`.
    clip, weight_dropout, zoneout, merge_mode, go_backwards, learned_state, dtype, seed
        As of `RNN`.
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
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        merge_mode: str = "concat",
        go_backwards: bool = False,
        learned_state: bool = False,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
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
        config = super().config()
        for name in ("layer_norm", "recurrent_dropout"):
            del config[name]
        return config

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
