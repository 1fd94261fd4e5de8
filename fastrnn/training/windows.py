"""Truncated backpropagation through time, over windows of a sequence or of parallel streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import Layer, RealArray, check_size, integer_array, real_array
from ..regroup import flag_array

__all__ = ["reset_rows", "window_vjp"]


def window_vjp(
    model: Layer,
    x: NDArray[Any],
    window: int,
    state: Any = None,
    lengths: ArrayLike | None = None,
    *,
    horizon: int | None = None,
    resets: ArrayLike | None = None,
    batch_first: bool = False,
    checkpoint_every: int | None = None,
) -> tuple[tuple[RealArray, Any], Callable[..., tuple[RealArray | None, Any]]]:
    """Run a recurrent model over windows of a sequence, for truncated backpropagation through time.

    Outputs are those of one ``model.vjp(x, state, lengths)``. Of the gradients, those of a window's
    outputs go back through `horizon` windows at most, its own included, however many there are:
    Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", BPTT(h; h') with h' = window and h = horizon * window.

    Parameters
    ----------
    model : Layer
        Recurrent, in one direction, with outputs of as many steps as x.
    x : ndarray, shape (T, B, ...)
        As the model takes it: (B, T, ...) with `batch_first`. Must not be changed in between.
    window : int
        Steps of a window; the last one may be shorter.
    state : optional
        As the model takes it.
    lengths : array_like of int, shape (B,), optional
    horizon : int, optional
        1 cuts the gradient of the state at each window's start, as `Trainer` does with a
        `StreamLoader`; None passes it on to the beginning, which is one vjp over the whole, but for
        rounding in the sums of the weights' gradients.
    resets : array_like of bool, shape (T, B), optional
        As the model takes it; laid out as x.
    batch_first : bool, default False
        Whether time is the second axis.
    checkpoint_every : int, optional
        As of the model's vjp, within each window.

    Returns
    -------
    (y, state)
        Of the whole sequence.
    pullback : callable
        ``pullback(dy, dstate=None) -> (dx, dstate0)``; `dstate` counts as the last window's.

    Raises
    ------
    TypeError, ValueError
        If the model is not recurrent, or an argument does not fit.

    Notes
    -----
    The pullback goes through each window `horizon` times (once for None), and all windows are kept
    for it: the memory of one vjp over the whole, which `checkpoint_every` lessens. Where the past
    may be forgotten at each window, as in endless streams, vjp of one window at a time needs the
    memory of one: `Trainer` does that with a
    `StreamLoader`.
    """
    axis = 1 if batch_first else 0
    ends = _check_windows(model, x, window, lengths, horizon, axis)
    T = x.shape[axis]
    cuts = [slice(start, min(start + window, T)) for start in range(0, max(T, 1), window)]
    places = [(slice(None),) * axis + (cut,) for cut in cuts]
    flags = None if resets is None else flag_array("resets", resets, x.shape[:2])
    options: dict[str, Any] = {}
    if checkpoint_every is not None:
        options["checkpoint_every"] = checkpoint_every
    outputs, pullbacks = [], []
    for cut, place in zip(cuts, places, strict=True):
        rest = None if ends is None else np.clip(ends - cut.start, 0, cut.stop - cut.start)
        if flags is not None:
            options["resets"] = flags[place]
        (y, state), pullback = model.vjp(x[place], state, rest, **options)
        outputs.append(y)
        pullbacks.append(pullback)
    whole: RealArray = np.concatenate(outputs, axis=axis)
    shape, dtype = whole.shape, whole.dtype
    del outputs, y

    def back(dy: ArrayLike | None, dstate: Any = None) -> tuple[RealArray | None, Any]:
        array = np.zeros(shape, dtype) if dy is None else real_array("dy", dy, dtype)
        if array.shape != shape:
            raise ValueError(f"dy: expected the output's shape {shape}, got {array.shape}")
        parts = [array[place] for place in places]
        dxs, dstate0 = _pull_windows(pullbacks, parts, dstate, horizon)
        return None if dxs[0] is None else np.concatenate(dxs, axis=axis), dstate0

    return (whole, state), back


def _check_windows(
    model: Layer,
    x: Any,
    window: int,
    lengths: ArrayLike | None,
    horizon: int | None,
    axis: int,
) -> NDArray[np.int64] | None:
    """Return the lengths as an array, or raise what is wrong with the arguments."""
    if not model.recurrent:
        raise TypeError(f"model: expected a recurrent one, got {type(model).__name__}")
    check_size("window", window)
    if horizon is not None:
        check_size("horizon", horizon)
    if not isinstance(x, np.ndarray) or x.ndim <= axis:
        raise TypeError(f"x: expected an array with a time axis {axis}, got {type(x).__name__}")
    if lengths is None:
        return None
    ends, T = integer_array("lengths", lengths), x.shape[axis]
    if ends.size and not 0 <= ends.min() <= ends.max() <= T:
        raise ValueError(f"lengths: expected numbers from 0 to {T}, got {ends}")
    return ends


def _pull_windows(
    pullbacks: list[Callable[..., Any]], dys: list[RealArray], dstate: Any, horizon: int | None
) -> tuple[list[Any], Any]:
    """Return the gradients of each window's input, and of the initial state.

    As a pullback is linear, what comes from the outputs of different windows can go back through
    it one after the other, and so be told apart: the oldest is left out.
    """
    dxs: list[Any] = []
    own, later = dstate, list[Any]()  # gradients of the state after a window; by origin if later
    before: list[Any] = []  # and of the state before it
    for dy, pullback in zip(reversed(dys), reversed(pullbacks), strict=True):
        dx, first = pullback(dy, own)
        before = [first]
        for gradient in later:
            more, first = pullback(np.zeros_like(dy), gradient)
            dx = _sum(dx, more)
            before.append(first)
        dxs.append(dx)
        own, later = (before[0], []) if horizon is None else (None, before[: horizon - 1])
    total = None
    for gradient in before:
        total = _sum(total, gradient)
    return dxs[::-1], total


def reset_rows(state: Any, rows: ArrayLike) -> Any:
    """Return a state in which some rows start anew, from zero: for batches of streams that end.

    Parameters
    ----------
    state
        Of any recurrent layer or model: arrays (num_layers * D, B, H) in tuples; None stays None.
    rows : array_like of bool, shape (B,)
        True for the rows that start anew.

    Returns
    -------
    As `state`, in new arrays.

    See Also
    --------
    fastrnn.LSTM : its argument `resets` does the same at any step inside a sequence.

    Raises
    ------
    ValueError
        If `rows` has another shape than (B,).

    Examples
    --------
    >>> model = fastrnn.GRU(4, 8, seed=0)
    >>> observations, state = np.ones((3, 4), np.float32), np.ones((1, 3, 8), np.float32)
    >>> state = reset_rows(state, [False, True, False])  # the second stream has ended
    >>> state[0].any(axis=1)
    array([ True, False,  True])
    >>> y, state = model.step(observations, state)
    """
    if state is None:
        return None
    if isinstance(state, (tuple, list)):
        return tuple(reset_rows(part, rows) for part in state)
    array: RealArray = np.array(state)
    if array.ndim != 3:
        raise ValueError(f"state: expected arrays (num_layers * D, B, H), got {array.shape}")
    array[:, flag_array("rows", rows, array.shape[1:2])] = 0
    return array


def _sum(a: Any, b: Any) -> Any:
    """Return the sum of arrays, or of nested tuples of them; None counts as zero."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, tuple):
        return tuple(_sum(left, right) for left, right in zip(a, b, strict=True))
    return a + b
