"""`Recurrent`: what all recurrent layers share, a stack of layers in one or both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import base
from .base import (
    FLOAT32,
    Parameter,
    RealArray,
    check_dtype,
    check_flag,
    check_number,
    check_size,
)
from .directions import check_merge_mode
from .precision import check_precision, small_parameter
from .recurrent_arguments import State
from .recurrent_options import as_json, check_zoneout
from .recurrent_passes import RecurrentPasses

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Recurrent", "Seed"]

Seed = int | np.random.Generator | None

MAX_LAYERS = 10_000  # a slip of the keyboard should be an error, not an endless constructor


class Recurrent(RecurrentPasses):
    """What `RNN`, `LSTM`, `GRU` and their kin share.

    A subclass gives the constructor's arguments as `config`, checks its own before that, and says
    by `_kind` and `_options` what cell the core is to run.

    Parameters
    ----------
    config : dict
        The arguments of the subclass's constructor, by name.
    seed : int, numpy.random.Generator or None
        Of the initial weights and of dropout.

    Raises
    ------
    ValueError, TypeError
        If an option is out of its range or of another type.
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
        checked = {name: getattr(self, name, value) for name, value in config.items()}
        self._config = {name: as_json(v) for name, v in checked.items()}
        self._config["dtype"] = self.dtype.name
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
        self._find_parameters()

    def _find_parameters(self) -> None:
        self.__dict__.update(self._no_cells())
        self._by_layer = [
            [self._parameters.get(name) for name in self._names(layer)]
            for layer in range(self.num_layers)
        ]

    def _quantize(self, precision: str) -> None:
        """Make the matrices small, for good."""
        for name, parameter in self._parameters.items():
            self._parameters[name] = small_parameter(name, parameter._array, precision)
        self._config["precision"] = precision
        self._find_parameters()

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

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed), and a precision if quantised."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from what `config` returned; its weights are drawn anew."""
        arguments = dict(config)
        precision = arguments.pop("precision", None)
        layer = cls(**arguments)
        if "precision" in config:
            if layer.dtype != FLOAT32:
                raise TypeError(f"precision: expected a float32 layer, got {layer.dtype}")
            layer._quantize(check_precision(precision))
        return layer

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
