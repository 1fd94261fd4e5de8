"""Long short-term memory: `LSTM`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from .base import RealArray, check_flag, check_size
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

__all__ = ["LSTM"]


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
        Bound of what the functions of the gates and of g take, as ONNX's clip; c_t is bounded by
        cell_clip alone.
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

    Raises
    ------
    ValueError, TypeError
        If an option is out of its range or of another type; proj_size must be below hidden_size,
        and excludes zoneout of h.

    Examples
    --------
    >>> lstm = fastrnn.LSTM(16, 32, num_layers=2, seed=0)
    >>> x = np.ones((10, 4, 16), np.float32)  # T 10, B 4
    >>> y, (h, c) = lstm(x)
    >>> y.shape, h.shape
    ((10, 4, 32), (2, 4, 32))
    >>> (y, (h, c)), pullback = lstm.vjp(x)
    >>> dx, (dh0, dc0) = pullback(np.ones_like(y))
    >>> lstm.parameters()["weight_hh_l1"].grad.shape
    (128, 32)
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
        self._functions = check_activations(activations, ("gates", "g", "c"))
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
        """Return c_t of all steps of the last layer (inference).

        Parameters
        ----------
        x, state, lengths, mask, resets
            As of a call.

        Returns
        -------
        ndarray, shape (T, B, D * H)
            Laid out as y; masked steps as in y.
        """
        given = self._batched(x, state, lengths, None, mask, resets)
        call, group = self._prepare(given)
        tapes = self._forward(call, 0, False, training=False)[3]
        c = self._placed(given, group, tapes[-1].core.cached(3 if self.coupled else 4))
        return self._give(c, c, None, given.unbatched)[0]
