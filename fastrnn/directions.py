"""The two directions of a sequence: turning rows around, and merging what both gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import RealArray

__all__ = ["MERGE_MODES", "check_merge_mode", "merge", "merge_gradient", "reverse_rows"]

MERGE_MODES = ("concat", "sum", "mean", "mul")


def check_merge_mode(merge_mode: Any) -> str:
    """Return the argument `merge_mode`; ValueError if there is none of that name."""
    if not isinstance(merge_mode, str) or merge_mode not in MERGE_MODES:
        raise ValueError(
            f"merge_mode: expected one of {', '.join(map(repr, MERGE_MODES))}, got {merge_mode!r}"
        )
    return merge_mode


def reverse_rows(x: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> NDArray[Any]:
    """Return x (T, B, ...) with the first `length` steps of each row turned around.

    What is past a row's end stays. Twice gives x again, and the gradient of what it was given is
    the same function of that of what it returned.
    """
    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]
    return x[np.where(steps < lengths, lengths - 1 - steps, steps), np.arange(x.shape[1])]


def merge(forward: RealArray, backward: RealArray, merge_mode: str) -> RealArray:
    """Return the outputs (..., H) of both directions as one, as `Bidirectional` of Keras does.

    "concat" gives (..., 2 H), "sum", "mean" and "mul" (the product) give (..., H).
    """
    if merge_mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if merge_mode == "mul":
        return forward * backward
    y = forward + backward
    if merge_mode == "mean":
        y *= 0.5
    return y


def merge_gradient(
    dy: RealArray, forward: RealArray, backward: RealArray, merge_mode: str
) -> tuple[RealArray, RealArray]:
    """Return the gradients of both outputs from that of `merge`; only "mul" looks at them."""
    if merge_mode == "concat":
        size = forward.shape[-1]
        return dy[..., :size], dy[..., size:]
    if merge_mode == "mul":
        return dy * backward, dy * forward
    if merge_mode == "mean":
        dy = dy * dy.dtype.type(0.5)
    return dy, dy
