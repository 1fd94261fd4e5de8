"""How far gradients reach back in time, and the spectral radius that decides it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import Layer, RealArray, check_number, check_size, real_array
from ..directions import reverse_rows
from ..layers import Dropout
from ..recurrent import AUGRU, Recurrent
from ..recurrent_arguments import Call
from .gates import GATES
from .parts import Part, check_same_output, leaves, part_state, take_apart

__all__ = ["GradientFlow", "gradient_flow", "spectral_radius"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GradientFlow:
    """Norms of a loss's gradients along the time of one or more sequences.

    Attributes
    ----------
    h : dict of str to ndarray of float64, shape (T, B)
        For each layer and direction ("l0", "l0_reverse", "l1", ...; in a `Sequential` after the
        prefix of its parameters, "0.l0"), the norm of dL/dh_t of each row; 0 past its end. Steps
        are in the order of y, which with `go_backwards` is from last to first.
    c : dict of str to ndarray of float64, shape (T, B)
        Of an LSTM, the norm of dL/dc_t, where c_t is what step t hands to step t + 1 (what the
        loss owes to c_t by way of h_t is in `h`): 0 at the last step.
    parameters : dict of str to float
        Norm of the gradient of each parameter.
    lengths : ndarray of int64, shape (B,)
        Steps of each row.
    """

    h: dict[str, Floats]
    c: dict[str, Floats]
    parameters: dict[str, float]
    lengths: NDArray[np.int64]

    def by_distance(self, of: Literal["h", "c"] = "h") -> dict[str, Floats]:
        """Return for each layer and direction the norms by distance from the last step.

        Parameters
        ----------
        of : {"h", "c"}

        Returns
        -------
        dict of str to ndarray of float64, shape (T,)
            Element k is the mean over the rows that are longer than k, k steps before the last
            step that the direction makes (the reverse one ends at the first element).

        Raises
        ------
        ValueError
            If `of` is another.
        """
        if of not in ("h", "c"):
            raise ValueError(f"of: expected 'h' or 'c', got {of!r}")
        found = {}
        for name, norms in (self.h if of == "h" else self.c).items():
            ordered = norms if name.endswith("_reverse") else reverse_rows(norms, self.lengths)
            rows = [norm[self.lengths > k] for k, norm in enumerate(ordered)]
            found[name] = np.array([row.mean() if row.size else 0.0 for row in rows])
        return found


@dataclass
class _Walk:
    """What is the same for all layers of one call of `gradient_flow`, and what it gathers."""

    clip_norm: float
    clip_value: float
    h: dict[str, Floats]
    c: dict[str, Floats]
    parameters: dict[str, float]

    def clip(self, dstate: list[RealArray]) -> list[RealArray]:
        """Return the gradient of a state, (1, B, H) of h and c, clipped row by row."""
        if self.clip_value < np.inf:
            dstate = [np.clip(part, -self.clip_value, self.clip_value) for part in dstate]
        if self.clip_norm < np.inf:
            norms = np.sqrt(sum(_norms(part) ** 2 for part in dstate))
            scale = self.clip_norm / np.maximum(norms, self.clip_norm)
            dstate = [part * scale[..., np.newaxis].astype(part.dtype) for part in dstate]
        return dstate

    def add(self, prefix: str, layer: Layer, names: dict[str, str] | None = None) -> None:
        """Note the norms of a layer's gradients, under the names of the model."""
        for name, parameter in layer.parameters().items():
            if parameter.grad is not None:
                own = prefix + (names[name] if names else name)
                self.parameters[own] = float(_norms(parameter.grad.ravel()))

    def add_first(self, prefix: str, stack: Recurrent, dstate: list[RealArray]) -> None:
        """Note the norms of a learned state's gradients, of which this is one direction's."""
        for name, part in zip(stack._state_names, dstate, strict=True):
            norm = _norms(part.sum(axis=1).ravel())
            own = prefix + name
            self.parameters[own] = float(np.hypot(self.parameters.get(own, 0.0), norm))


def gradient_flow(
    model: Layer,
    x: ArrayLike,
    dy: ArrayLike | Callable[[RealArray], ArrayLike] | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    seed: int = 0,
) -> GradientFlow:
    """Measure the norm of dL/dh_t at every step t of every recurrent layer.

    Where it falls or grows exponentially with the distance from the loss, gradients vanish or
    explode (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013). The
    pass is that of training without any dropout and with the mean of zoneout, one step at a time;
    the model's own gradients are left alone.

    Parameters
    ----------
    model : RNN, IndRNN, LSTM, GRU or Sequential
    x, state, lengths
        As of a call of the model.
    dy : array_like, or callable, optional
        Gradient of the loss with respect to the model's output y, of y's shape, or what makes it of
        y, as ``lambda y: losses.cross_entropy(y, targets)[1]``. If None, a random vector of length
        one for each row, at its last step (for an output without steps: at all of it).
    clip_norm, clip_value : float, optional
        Limits of the gradient that a layer carries from one step to the one before, (dh, dc) of
        each row: of its norm, and of each of its elements (as Graves 2013, section 2.1). Not those
        of `fastrnn.optim`, which scale the gradient of the weights when all is summed up.
    seed : int, default 0
        Of the random vectors.

    Returns
    -------
    GradientFlow

    Raises
    ------
    ValueError
        For a model with another recurrent layer (as AUGRU, which takes attention), and as the
        model for its arguments.
    """
    walk = _Walk(_limit("clip_norm", clip_norm), _limit("clip_value", clip_value), {}, {}, {})
    y: Any = x
    rest = lengths  # as a layer takes them: none behind one that pools the steps
    pullbacks = []
    found: tuple[Recurrent, Call] | None = None
    for prefix, layer, own in leaves(model, state):
        if isinstance(layer, AUGRU):
            raise ValueError("model: expected layers that take no attention, got AUGRU")
        if isinstance(layer, Recurrent):
            found = layer, layer._batched(y, own, rest)
            y, pullback = _stack_vjp(prefix, *found, walk)
        elif isinstance(layer, Dropout):
            continue
        else:
            y, pullback = _plain_vjp(prefix, layer, y, rest, walk)
            rest = None if layer.pools_time else rest
        pullbacks.append(pullback)
    if found is None:
        raise ValueError("model: expected a recurrent layer in it, got none")
    check_same_output(y, model(x, state, lengths)[0])
    gradient: Any = _loss_gradient(dy, y, *found, check_size("seed", seed, 0))
    for pullback in reversed(pullbacks):
        gradient = pullback(gradient)
    T, B = found[1].x.shape[:2]
    rows = np.full(B, T) if found[1].lengths is None else found[1].lengths
    return GradientFlow(
        walk.h,
        walk.c,
        {name: walk.parameters[name] for name in model.parameters() if name in walk.parameters},
        rows,
    )


def _limit(name: str, value: float | None) -> float:
    if value is not None and not check_number(name, value, 0.0) > 0.0:
        raise ValueError(f"{name}: expected a number above 0, got {value}")
    return np.inf if value is None else float(value)


def _norms(a: RealArray) -> Floats:
    """Return the norms over the last axis: in float64, whose squares do not overflow."""
    return np.asarray(np.linalg.norm(a.astype(np.float64), axis=-1))


Pullback = Callable[[Any], Any]


def _plain_vjp(
    prefix: str, layer: Layer, x: Any, lengths: ArrayLike | None, walk: _Walk
) -> tuple[RealArray, Pullback]:
    layer = copy.deepcopy(layer)  # its gradients are ours
    for parameter in layer.parameters().values():
        parameter.grad, parameter.requires_grad = None, True
    y, pullback = layer.vjp(x, lengths=lengths) if layer.uses_lengths else layer.vjp(x)

    def back(dy: RealArray) -> Any:
        dx = pullback(dy)
        walk.add(prefix, layer)
        return dx

    return y, back


def _stack_vjp(
    prefix: str, stack: Recurrent, given: Call, walk: _Walk
) -> tuple[RealArray, Pullback]:
    """Run the layers of a stack, all their directions step by step; dx is None for token ids."""
    call = stack._prepare(given)[0]  # without a mask or resets, as given but for its first state
    D, y, layers = stack._directions, call.x, []
    for k, parts in enumerate(take_apart(stack)):
        first = [part_state(call, k * D + d) for d in range(D)]
        found = [
            _part_vjp(prefix, part, y, state, call.lengths, walk)
            for part, state in zip(parts, first, strict=True)
        ]
        both = np.concatenate([output for output, _ in found], axis=-1)
        layers.append((both, [pullback for _, pullback in found]))
        y = stack._merged(both)
    y = stack._give(y, y, None, given.unbatched)[0]

    def back(dy: RealArray) -> Any:
        gradient: Any = stack._output_gradient(dy, y.shape, given.unbatched)
        for both, pullbacks in reversed(layers):
            gradient = stack._merged_gradient(gradient, both)
            halves = np.split(gradient, D, axis=-1)
            dxs = []
            for pullback, half in zip(pullbacks, halves, strict=True):
                dx, dstate = pullback(half)
                dxs.append(dx)
                if stack.learned_state and given.h0 is None:
                    walk.add_first(prefix, stack, dstate)
            gradient = None if dxs[0] is None else sum(dxs)
        if gradient is None:
            return None
        # As `_give` lays out what a call returns.
        gradient = stack._turned(gradient, call.lengths)
        return stack._give(gradient, gradient, None, given.unbatched)[0]

    return y, back


def _part_vjp(
    prefix: str,
    part: Part,
    x: NDArray[Any],
    state: Any,
    lengths: NDArray[np.int64] | None,
    walk: _Walk,
) -> tuple[RealArray, Pullback]:
    """Run one direction in windows of one step: the chain of their pullbacks has each dL/dh_t.

    The pullback, from dy to (dx, [dh0, dc0]), notes the norms.
    """
    layer, (T, B) = part.layer, x.shape[:2]
    x = reverse_rows(x, lengths) if part.reverse else x
    y = np.zeros((T, B, layer._output_size), layer.dtype)
    pullbacks = []
    for t in range(T):
        alive = None if lengths is None else np.clip(lengths - t, 0, 1)
        y[t : t + 1], state, pullback = _step_vjp(layer, x[t : t + 1], state, alive)
        pullbacks.append(pullback)
    norms = [np.zeros((T, B)) for _ in layer._state_names]
    for found, own in zip((walk.h, walk.c), norms, strict=False):
        found[prefix + part.name] = own

    def back(dy: RealArray) -> tuple[Any, list[RealArray]]:
        dy = reverse_rows(dy, lengths) if part.reverse else dy
        sizes = (layer._output_size, layer.hidden_size)[: len(norms)]
        dstate = [np.zeros((1, B, size), layer.dtype) for size in sizes]
        dx: Any = None if x.dtype.kind in "iu" else np.zeros_like(x)
        for t in reversed(range(T)):
            for own, d, direct in zip(norms, dstate, (dy[t], 0.0), strict=False):
                own[t] = _norms(d[0] + direct)
            dx_t, dstate = pullbacks[t](np.ascontiguousarray(dy[t : t + 1]), dstate)
            dstate = walk.clip(dstate)
            if dx is not None:
                dx[t : t + 1] = dx_t
        for own in norms:
            if lengths is not None:
                own[np.arange(T)[:, np.newaxis] >= lengths] = 0.0
            if part.reverse:
                own[...] = reverse_rows(own, lengths)
        walk.add(prefix, layer, part.names)
        return (reverse_rows(dx, lengths) if part.reverse and dx is not None else dx), dstate

    return (reverse_rows(y, lengths) if part.reverse else y), back


def _step_vjp(
    layer: Recurrent, x: NDArray[Any], state: Any, lengths: NDArray[np.int64] | None
) -> tuple[RealArray, Any, Callable[[RealArray, list[RealArray]], tuple[Any, list[RealArray]]]]:
    """Return y, the state and the pullback of a call: as `vjp`, but what a call computes."""
    call = layer._batched(x, state, lengths)
    y, h, c, tapes = layer._forward(call, 0, False, training=False)
    wanted = [[p is not None for p in parameters] for parameters in layer._by_layer]

    def pullback(dy: RealArray, dstate: list[RealArray]) -> tuple[Any, list[RealArray]]:
        dh, dc = (*dstate, None)[:2]
        dx, _, dfirst, gradients = layer._backward(dy, dh, dc, h.shape, tapes, wanted)
        layer._accumulate(gradients)
        return dx, dfirst

    return y, h if c is None else (h, c), pullback


def _loss_gradient(dy: Any, y: RealArray, stack: Recurrent, call: Call, seed: int) -> RealArray:
    """Return the argument `dy` of `gradient_flow` as an array of the shape of y."""
    if dy is not None:
        array = real_array("dy", dy(y) if callable(dy) else dy, y.dtype)
        if array.shape != y.shape:
            raise ValueError(f"dy: expected the output's shape {y.shape}, got {array.shape}")
        return array
    T, B = call.x.shape[:2]
    gradient = np.random.default_rng(seed).standard_normal(y.shape)
    time_first = gradient[:, np.newaxis] if call.unbatched else gradient
    if stack.batch_first and not call.unbatched and gradient.ndim > 1:
        time_first = gradient.swapaxes(0, 1)
    if time_first.ndim > 2 and time_first.shape[:2] == (T, B):
        last = (np.full(B, T) if call.lengths is None else call.lengths) - 1
        time_first[np.arange(T)[:, np.newaxis] != last] = 0.0
    norms = np.linalg.norm(gradient, axis=-1, keepdims=True)
    gradient /= np.where(norms == 0.0, 1.0, norms)
    return gradient.astype(y.dtype)


def spectral_radius(model: Layer) -> dict[str, dict[str, float]]:
    """Return the largest absolute eigenvalue of each block of each recurrent matrix.

    For a vanilla RNN with tanh, gradients can explode only if it is above 1, and where the state
    is near zero they vanish below 1 (Pascanu, Mikolov & Bengio 2013). Those of gates say less, as
    what is carried goes past the matrices.

    With a projection, of a block times weight_hr, the matrix (H, H) from o * tanh(c) of one step to
    the gates of the next; of an IndRNN, whose matrix is diagonal, the largest absolute value; with
    layer_norm, of the weights as they are.

    Parameters
    ----------
    model : RNN, IndRNN, LSTM, GRU, AUGRU or Sequential

    Returns
    -------
    dict of str to dict of str to float
        For each layer and direction, named as by `gradient_flow`, by gate: "h" of an RNN; "i", "f",
        "g", "o" ("i", "g", "o" of a coupled LSTM); "r", "z", "n".
    """
    radii = {}
    for prefix, layer, _ in leaves(model):
        if isinstance(layer, Recurrent):
            gates = GATES.get(layer._kind(), "h")
            weights = {n: p.data.astype(np.float64) for n, p in layer.parameters().items()}
            for name in (name for name in weights if name.startswith("weight_hh_")):
                own = name.removeprefix("weight_hh_")
                projection = weights.get(f"weight_hr_{own}")
                radii[prefix + own] = {
                    gate: _radius(block, projection)
                    for gate, block in zip(gates, np.split(weights[name], len(gates)), strict=True)
                }
    return radii


def _radius(block: Floats, projection: Floats | None) -> float:
    if block.ndim == 1:  # a diagonal
        return float(np.abs(block).max())
    if projection is not None:
        block = projection @ block  # (P, P), with the eigenvalues of block @ projection but zeros
    return float(np.abs(np.linalg.eigvals(block)).max())
