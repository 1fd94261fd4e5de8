"""`check_gradients`: a layer's pullback against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .base import FLOAT64, Layer, RealArray, check_number, check_size
from .cells import Cell

__all__ = ["check_gradients"]

SMALL = 1e-3  # below this norm of a gradient, rounding errors of the differences would count


def check_gradients(
    layer: Layer,
    x: ArrayLike,
    state: Any = None,
    *,
    eps: float = 1e-5,
    directions: int = 3,
    seed: int | np.random.Generator | None = 0,
    **arguments: Any,
) -> dict[str, float]:
    """Compare the gradients that a layer's pullback gives with central differences.

    A sum of all outputs with random weights is taken as the loss. Along random directions v, from
    the standard normal distribution, of each input and parameter a in turn, <gradient, v> should
    be (loss(a + eps v) - loss(a - eps v)) / (2 eps).

    Parameters
    ----------
    layer : Layer
        Of dtype float64, as float32 has not the digits for differences; may be a `Cell`. A call
        must give what `vjp` gives: a layer with dropout fails. Its gradients stay as they are.
    x : array_like
        Integers, as token ids, have no gradient.
    state : optional
        Of a recurrent layer; random numbers if None.
    eps : float, default 1e-5
        Length of the steps.
    directions : int, default 3
        How many are tried of each array.
    seed : int or numpy.random.Generator, optional
        Of the random numbers.
    **arguments
        Further ones for the layer, as `lengths` and `mask`.

    Returns
    -------
    dict of str to float
        The largest difference of each array, relative to the norm of its gradient, or to 0.001 if
        that is less: by the names "x", "state" (or "state[0]", ...) and those of the parameters
        that require a gradient. Below 1e-6 if all is right and the functions are smooth.

    Raises
    ------
    TypeError
        If an array or a parameter is of another dtype than float64.

    Examples
    --------
    >>> layer = fastrnn.GRU(3, 4, dtype="float64", seed=0)
    >>> errors = fastrnn.check_gradients(layer, np.random.default_rng(0).normal(size=(5, 3)))
    >>> max(errors.values()) < 1e-6
    True
    """
    check_number("eps", eps, np.finfo(float).tiny)
    check_size("directions", directions)
    rng = np.random.default_rng(seed)
    inputs: list[Any] = [np.array(x)]
    if layer.recurrent:
        inputs.append(_initial_state(layer, inputs[0], state, arguments, rng))
    result, pullback = layer.vjp(*inputs, **arguments)
    weights = _random_like(result, rng)

    def loss() -> float:
        outputs = _leaves("", layer(*inputs, **arguments))
        return sum(
            float((w * y).sum())
            for (_, w), (_, y) in zip(_leaves("", weights), outputs, strict=True)
        )

    variables = _variables(layer, pullback, weights, inputs)
    return {
        name: max(_error(loss, *variable, eps, rng) for _ in range(directions))
        for name, variable in variables.items()
    }


# An array's value, its gradient, and what sets it.
_Variable = tuple[RealArray, RealArray, Callable[[RealArray], None]]


def _variables(
    layer: Layer, pullback: Callable[..., Any], weights: Any, inputs: list[Any]
) -> dict[str, _Variable]:
    """Return what the loss depends on, by name, with the gradients that the pullback gives."""
    # Once each, by its first name: a parameter may have several.
    named = reversed(layer.parameters().items())
    parameters = [*{id(p): (name, p) for name, p in named}.values()][::-1]
    before = [p.grad for _, p in parameters]
    layer.zero_grad()
    gradients = pullback(*weights) if layer.recurrent else (pullback(weights),)
    found: dict[str, _Variable] = {}
    for prefix, value, gradient in zip(("x", "state"), inputs, gradients, strict=False):
        if gradient is None:  # of token ids
            continue
        for (name, array), (_, slope) in zip(
            _leaves(prefix, value), _leaves("", gradient), strict=True
        ):
            found[name] = array.copy(), slope, partial(np.copyto, array)
    for (name, p), grad in zip(parameters, before, strict=True):
        if p.requires_grad:
            slope = np.zeros(p.shape) if p.grad is None else p.grad
            found[name] = p.data.copy(), slope, partial(setattr, p, "data")
        p.grad = grad
    for name, (array, _, _) in found.items():
        if array.dtype != FLOAT64:
            raise TypeError(f"{name}: expected an array of float64, got {array.dtype}")
    return found


def _error(
    loss: Callable[[], float],
    value: RealArray,
    gradient: RealArray,
    assign: Callable[[RealArray], None],
    eps: float,
    rng: np.random.Generator,
) -> float:
    """Return the relative error of the gradient along a random direction."""
    direction = rng.normal(size=value.shape)
    try:
        assign(value + eps * direction)
        above = loss()
        assign(value - eps * direction)
        below = loss()
    finally:
        assign(value)
    difference = (above - below) / (2 * eps)
    size = max(float(np.linalg.norm(gradient)), abs(difference), SMALL)
    return abs(float((gradient * direction).sum()) - difference) / size


def _initial_state(
    layer: Layer, x: Any, state: Any, arguments: dict[str, Any], rng: np.random.Generator
) -> Any:
    """Return a copy of the state; of random numbers, shaped as the layer's final one, if None."""
    if state is not None:
        return _map(np.array, state)
    if isinstance(layer, Cell):
        return tuple(rng.normal(size=(len(x), size)) for size in layer.state_sizes)
    _, last = layer(x, None, **arguments)
    return _random_like(last, rng)


def _random_like(tree: Any, rng: np.random.Generator) -> Any:
    return _map(lambda array: rng.normal(size=array.shape).astype(array.dtype), tree)


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to the arrays in nested tuples."""
    if isinstance(tree, (tuple, list)):
        return tuple(_map(function, branch) for branch in tree)
    return None if tree is None else function(tree)


def _leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays in nested tuples, with names as "state[0]"."""
    if isinstance(tree, (tuple, list)):
        for index, branch in enumerate(tree):
            yield from _leaves(f"{name}[{index}]", branch)
    elif tree is not None:
        yield name, tree
