"""Stacks of recurrent layers with PyTorch's parameters: `rnn`, `lstm`, `gru`, and `init`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .layer import Weights, layer
from .scan import GATES

__all__ = ["gru", "init", "lstm", "rnn"]

Array = Any
Params = Mapping[str, Array]

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
DIRECTIONS = ("", "_reverse")


def init(
    key: Array,
    kind: str,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    dtype: Any = "float32",
) -> dict[str, Array]:
    """Return new parameters, uniform over +-1 / sqrt(H) as PyTorch's.

    Parameters
    ----------
    key : jax.Array
        Of `jax.random.key`.
    kind : {"rnn", "lstm", "gru"}
    input_size, hidden_size : int
        Sizes I of the input and H of the state.
    num_layers : int, default 1
    bias, bidirectional : bool
        Whether there are biases, and a second direction.
    proj_size : int, default 0
        Size P of an LSTM's output, where it is projected.
    dtype : dtype, default "float32"

    Returns
    -------
    dict
        Arrays by PyTorch's names, "weight_ih_l0" and so on: the state_dict of the same network as
        a `torch.nn.LSTM` or a `fastrnn.LSTM`.

    Raises
    ------
    ValueError
        Where the kind is unknown, a size is not positive or a cell has no projection.
    """
    kinds = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}
    if kind not in kinds:
        raise ValueError(f"kind: expected 'rnn', 'lstm' or 'gru', got {kind!r}")
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    if proj_size and (kind != "lstm" or not 0 < proj_size < hidden_size):
        raise ValueError(f"proj_size: expected less than H, of an LSTM only, got {proj_size}")
    rows, width = GATES[kinds[kind]] * hidden_size, proj_size or hidden_size
    directions = DIRECTIONS[: 1 + bidirectional]
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(num_layers):
        columns = width * len(directions) if i else input_size
        of_direction = [(rows, columns), (rows, width), (rows,), (rows,), (proj_size, hidden_size)]
        for direction in directions:
            for name, shape in zip(NAMES, of_direction, strict=True):
                if (bias or len(shape) == 2) and (proj_size or name != "weight_hr"):
                    shapes[f"{name}_l{i}{direction}"] = shape
    bound = hidden_size**-0.5
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.uniform(own, shape, dtype, -bound, bound)
        for own, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def rnn(
    params: Params,
    x: Array,
    state: Array | None = None,
    lengths: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    batch_first: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    engine: str = "auto",
) -> tuple[Array, Array]:
    """Run an Elman network: h_t = tanh(W x_t + b + U h_{t-1} + b'), or relu of it.

    Parameters
    ----------
    params : mapping
        Arrays by PyTorch's names, as `init` makes them. How many layers and directions there are is
        what they say.
    x : array_like, shape (T, B, I), (B, T, I) with `batch_first`, or (T, I)
    state : array_like, shape (L D, B, H), or (L D, H) for an x without a batch, optional
        Initial state of the L layers and D directions; of `lstm` a pair of h (with P, the size of
        the output, in place of H) and c. None: zeros.
    lengths, batch_first, engine
        As of `layer`.
    nonlinearity : {"tanh", "relu"}
    dropout : float, default 0.0
        Probability of dropping an output between layers, in training: where there is a key.
    key : jax.Array, optional
        Of `jax.random.key`, for dropout. None: inference, nothing is dropped.

    Returns
    -------
    y : jax.Array
        As x, with D P features.
    state : jax.Array, or a pair of `lstm`
        After each row's last step.

    Raises
    ------
    TypeError, ValueError
        As `layer`, and where a parameter is missing or has a name that is none of PyTorch's.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    kind = f"rnn_{nonlinearity}"
    y, h, _ = _stack(kind, params, x, state, None, lengths, batch_first, dropout, key, engine)
    return y, h


def lstm(
    params: Params,
    x: Array,
    state: tuple[Array, Array] | None = None,
    lengths: Array | None = None,
    *,
    batch_first: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    engine: str = "auto",
) -> tuple[Array, tuple[Array, Array]]:
    """Run a long short-term memory network, with the formulas of `fastrnn.LSTM`; see `rnn`."""
    if state is not None and (not isinstance(state, (tuple, list)) or len(state) != 2):
        raise TypeError(f"state: expected a pair (h, c), got {type(state).__name__}")
    h, c = (None, None) if state is None else state
    y, h, c = _stack("lstm", params, x, h, c, lengths, batch_first, dropout, key, engine)
    return y, (h, c)


def gru(
    params: Params,
    x: Array,
    state: Array | None = None,
    lengths: Array | None = None,
    *,
    reset_after: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    engine: str = "auto",
) -> tuple[Array, Array]:
    """Run gated recurrent units, with the formulas of `fastrnn.GRU`; see `rnn`."""
    kind = "gru" if reset_after else "gru_reset_before"
    y, h, _ = _stack(kind, params, x, state, None, lengths, batch_first, dropout, key, engine)
    return y, h


def _stack(
    kind: str,
    params: Params,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    batch_first: bool,
    dropout: float,
    key: Array | None,
    engine: str,
) -> tuple[Array, Array, Array | None]:
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout: expected from 0 to 1, got {dropout}")
    layers = _by_layer(params)
    D = len(layers[0])
    y = jnp.asarray(x)
    unbatched = y.ndim == 2
    if unbatched and lengths is not None:
        raise ValueError("lengths: expected None for an x without a batch")
    states = [_whole_state(n, s, len(layers) * D, unbatched) for n, s in (("h", h0), ("c", c0))]
    if unbatched:
        y, batch_first = y[None], True
    ends = []
    for i, weights in enumerate(layers):
        if i and dropout and key is not None:
            key, own = jax.random.split(key)
            kept = jax.random.bernoulli(own, 1 - dropout, y.shape)
            y = jnp.where(kept, y / (1 - dropout), 0) if dropout < 1 else jnp.zeros_like(y)
        h, c = (None if s is None else s[i * D : (i + 1) * D] for s in states)
        y, *end = layer(kind, y, weights, h, c, lengths, batch_first=batch_first, engine=engine)
        ends.append(end)
    found = [None if s[0] is None else jnp.concatenate(s) for s in zip(*ends, strict=True)]
    if unbatched:
        y, found = y[0], [None if s is None else s[:, 0] for s in found]
    return y, found[0], found[1]


def _whole_state(name: str, state: Array | None, count: int, unbatched: bool) -> Array | None:
    """Check the state of all layers as far as those of each do not, and give it a batch."""
    if state is None:
        return None
    state = jnp.asarray(state)
    axes = 2 if unbatched else 3
    if state.ndim != axes or state.shape[0] != count:
        raise ValueError(
            f"state: expected {axes} axes, of {name} the first of {count}, got {state.shape}"
        )
    return state[:, None] if unbatched else state


def _by_layer(params: Params) -> list[list[Weights]]:
    """Return the weights of each direction of each layer."""
    places = set()
    for name in params:
        found = re.fullmatch(rf"(?:{'|'.join(NAMES)})_l(0|[1-9]\d*)(_reverse)?", name)
        if not found:
            raise ValueError(f"params: unknown name {name!r}")
        places.add((int(found[1]), found[2] or ""))
    directions = DIRECTIONS[: 1 + ((0, "_reverse") in places)]
    count = 1 + max((i for i, _ in places), default=0)
    needed = [(i, direction) for i in range(count) for direction in directions]
    for i, direction in needed:
        for name in NAMES[:2]:
            if f"{name}_l{i}{direction}" not in params:
                raise ValueError(f"params: expected {name}_l{i}{direction}")
    if len(places) != len(needed):
        raise ValueError("params: expected the same directions in each layer")
    return [
        [tuple(params.get(f"{name}_l{i}{end}") for name in NAMES) for end in directions]  # type: ignore[misc]
        for i in range(count)
    ]
