"""How far gradients reach back in time, and the spectral radius that decides it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import Layer, RealArray, check_number, check_size, real_array
from ..layers import Dropout
from ..recurrent import Recurrent
from ..recurrent_arguments import Call
from .gates import cell_of
from .parts import Part, check_same_output, flip, leaves, part_state, take_apart

__all__ = ["GradientFlow", "gradient_flow", "spectral_radius"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GradientFlow:
    """Norms of a loss's gradients along the time of one or more sequences.

    Attributes
    ----------
    h : dict of str to ndarray of float64, shape (T, B)
        For each layer and direction ("l0", "l0_reverse", "l1", ...; in a `Sequential` after the
        prefix of its parameters, "0.l0"), the norm of dL/dh_t of each row; 0 past its end.
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
        """
        if of not in ("h", "c"):
            raise ValueError(f"of: expected 'h' or 'c', got {of!r}")
        found = {}
        for name, norms in (self.h if of == "h" else self.c).items():
            ordered = norms if name.endswith("_reverse") else flip(norms, self.lengths)
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

    def clip(self, dstate: Any) -> Any:
        """Return the gradient of a state, (1, B, H) or two of them, clipped row by row."""
        parts = dstate if isinstance(dstate, tuple) else (dstate,)
        if self.clip_value < np.inf:
            parts = tuple(np.clip(part, -self.clip_value, self.clip_value) for part in parts)
        if self.clip_norm < np.inf:
            norms = np.sqrt(sum(_norms(part) ** 2 for part in parts))
            scale = self.clip_norm / np.maximum(norms, self.clip_norm)
            parts = tuple(part * scale[..., np.newaxis].astype(part.dtype) for part in parts)
        return parts if isinstance(dstate, tuple) else parts[0]

    def add(self, prefix: str, layer: Layer, names: dict[str, str] | None = None) -> None:
        """Note the norms of a layer's gradients, under the names of the model."""
        for name, parameter in layer.parameters().items():
            if parameter.grad is not None:
                own = prefix + (names[name] if names else name)
                self.parameters[own] = float(_norms(parameter.grad.ravel()))


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
    pass is that of training without dropout, one step at a time; the model's own gradients are
    left alone.

    Parameters
    ----------
    model : RNN, LSTM, GRU or Sequential
    x, state, lengths
        As of a call of the model.
    dy : array_like, or callable, optional
        Gradient of the loss with respect to the model's output y, or what makes it of y, as
        ``lambda y: losses.cross_entropy(y, targets)[1]``. If None, a random vector of length one
        for each row, at its last step (for an output without steps: at all of it).
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
        For a model with another recurrent layer or an unknown option, and as the model for its
        arguments.
    """
    walk = _Walk(_limit("clip_norm", clip_norm), _limit("clip_value", clip_value), {}, {}, {})
    y: Any = x
    pullbacks = []
    found: tuple[Recurrent, Call] | None = None
    for prefix, layer, own in leaves(model, state):
        if isinstance(layer, Recurrent):
            found = layer, layer._batched(*layer._plain(y, own, lengths))
            y, pullback = _stack_vjp(prefix, *found, walk)
        elif isinstance(layer, Dropout):
            continue
        else:
            y, pullback = _plain_vjp(prefix, layer, y, walk)
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


def _plain_vjp(prefix: str, layer: Layer, x: Any, walk: _Walk) -> tuple[RealArray, Pullback]:
    layer = copy.deepcopy(layer)  # its gradients are ours
    for parameter in layer.parameters().values():
        parameter.grad, parameter.requires_grad = None, True
    y, pullback = layer.vjp(x)

    def back(dy: RealArray) -> Any:
        dx = pullback(dy)
        walk.add(prefix, layer)
        return dx

    return y, back


def _stack_vjp(
    prefix: str, stack: Recurrent, call: Call, walk: _Walk
) -> tuple[RealArray, Pullback]:
    """Run the layers of a stack, all their directions step by step; dx is None for token ids."""
    y, pullbacks = call.x, []
    for k, parts in enumerate(take_apart(stack)):
        outputs = []
        for d, part in enumerate(parts):
            first = part_state(call, k * len(parts) + d)
            output, pullback = _part_vjp(prefix, part, y, first, call.lengths, walk)
            outputs.append(output)
            pullbacks.append((k, pullback))
        y = np.concatenate(outputs, axis=-1)

    def back(dy: RealArray) -> Any:
        expected = stack._give(y, y, None, call.unbatched)[0].shape
        gradient: Any = stack._output_gradient(dy, expected, call.unbatched)
        for k in reversed(range(stack.num_layers)):
            own = [pullback for layer, pullback in pullbacks if layer == k]
            halves = np.split(gradient, len(own), axis=-1)
            dxs = [pullback(half) for pullback, half in zip(own, halves, strict=True)]
            gradient = None if dxs[0] is None else sum(dxs)
        if gradient is None:
            return None
        # As `_give` lays out what a call returns.
        return stack._give(gradient, gradient, None, call.unbatched)[0]

    return stack._give(y, y, None, call.unbatched)[0], back


def _part_vjp(
    prefix: str,
    part: Part,
    x: NDArray[Any],
    state: Any,
    lengths: NDArray[np.int64] | None,
    walk: _Walk,
) -> tuple[RealArray, Pullback]:
    """Run one direction in windows of one step: the chain of their pullbacks has each dL/dh_t."""
    x = flip(x, lengths) if part.reverse else x
    outputs: list[RealArray] = []
    pullbacks: list[Callable[..., Any]] = []
    for t in range(len(x)):
        alive = None if lengths is None else np.clip(lengths - t, 0, 1)
        (y_t, state), pullback = part.layer.vjp(x[t : t + 1], state, alive)
        outputs.append(y_t)
        pullbacks.append(pullback)
    hidden = (*x.shape[:2], part.layer.hidden_size)
    y = np.concatenate(outputs) if outputs else np.zeros(hidden, part.layer.dtype)
    h, c = np.zeros(x.shape[:2]), np.zeros(x.shape[:2])
    walk.h[prefix + part.name] = h
    if part.layer._has_cell_state:
        walk.c[prefix + part.name] = c

    def back(dy: RealArray) -> Any:
        dy = flip(dy, lengths) if part.reverse else dy
        dxs = []
        dx: Any
        dstate: Any = None
        for t in reversed(range(len(dy))):
            dh, dc = dstate if isinstance(dstate, tuple) else (dstate, None)
            h[t] = _norms(dy[t] if dh is None else dy[t] + dh[0])
            c[t] = 0.0 if dc is None else _norms(dc[0])
            dx, dstate = pullbacks[t](np.ascontiguousarray(dy[t : t + 1]), dstate)
            dstate = walk.clip(dstate)
            dxs.append(dx)
        if lengths is not None:
            past = np.arange(len(dy))[:, np.newaxis] >= lengths
            h[past] = c[past] = 0.0
        if part.reverse:
            h[...], c[...] = flip(h, lengths), flip(c, lengths)
        walk.add(prefix, part.layer, part.names)
        if x.dtype.kind in "iu":
            return None
        dx = np.concatenate([*dxs[::-1], np.zeros_like(x[:0])])
        return flip(dx, lengths) if part.reverse else dx

    return (flip(y, lengths) if part.reverse else y), back


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

    Parameters
    ----------
    model : RNN, LSTM, GRU or Sequential

    Returns
    -------
    dict of str to dict of str to float
        For each layer and direction, named as by `gradient_flow`, by gate: "h" of an RNN; "i", "f",
        "g", "o"; "r", "z", "n".
    """
    radii = {}
    for prefix, layer, _ in leaves(model):
        if isinstance(layer, Recurrent):
            gates = cell_of(layer).gates
            for part in (part for parts in take_apart(layer) for part in parts):
                weight = part.layer.parameters()["weight_hh_l0"].data.astype(np.float64)
                blocks = np.split(weight, len(gates))
                radii[prefix + part.name] = {
                    gate: float(np.abs(np.linalg.eigvals(block)).max())
                    for gate, block in zip(gates, blocks, strict=True)
                }
    return radii
