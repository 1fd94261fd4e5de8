"""One recurrent layer on NumPy arrays, its weights given with each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ...base import FLOAT32, RealArray
from ...recurrent_passes import WEIGHTS

__all__ = ["Arguments", "infer", "vjp"]

CellWeights = tuple[RealArray | None, ...]  # w_ih, w_hh, b_ih, b_hh
Results = tuple[RealArray, RealArray, RealArray | None]  # y, h_n and of an LSTM c_n


class Arguments(NamedTuple):
    """Of one direction: x (B, T, I), h0 and c0 (1, B, H), lengths (B,) or None."""

    kind: str
    x: RealArray
    weights: CellWeights
    h0: RealArray
    c0: RealArray | None
    lengths: NDArray[np.int64] | None


def _pack(call: Arguments, training: bool) -> Any:
    weights = [None if w is None else np.ascontiguousarray(w) for w in call.weights]
    missing = [None] * (len(WEIGHTS) - len(weights))
    return _core.pack_cell(call.kind, (*weights, *missing), None, training)


def infer(call: Arguments) -> Results:
    """Return y (B, T, H), h_n and c_n (1, B, H); c_n is None but of an LSTM."""
    make = _core.StackFloat32 if call.x.dtype == FLOAT32 else _core.StackFloat64
    state = call.h0 if call.c0 is None else (call.h0, call.c0)
    result = make([(_pack(call, False),)]).call(
        np.ascontiguousarray(call.x), state, call.lengths, True
    )
    assert result is not None  # the core takes all that is contiguous and of the right shape
    y, last = result
    return (y, last, None) if call.c0 is None else (y, *last)


def vjp(
    call: Arguments,
) -> tuple[Results, Callable[..., tuple[RealArray, CellWeights, RealArray, RealArray | None]]]:
    """Return the results and the pullback (dy, dh_n, dc_n) -> (dx, dweights, dh0, dc0)."""
    x = np.ascontiguousarray(call.x)
    h_n = np.empty(call.h0.shape, x.dtype)
    c_n = None if call.c0 is None else np.empty_like(h_n)
    y, tape = _core.layer_forward(
        (_pack(call, True),),
        x.swapaxes(0, 1),
        call.h0,
        call.c0,
        call.lengths,
        h_n,
        c_n,
        True,
        0,
        (None, None, None, None),
    )

    def pullback(
        dy: RealArray, dh_n: RealArray, dc_n: RealArray | None
    ) -> tuple[RealArray, CellWeights, RealArray, RealArray | None]:
        new = tuple(None if w is None else np.zeros(w.shape, x.dtype) for w in call.weights)
        gradients = (*new, *[None] * (len(WEIGHTS) - len(new)))
        dx, dh0, dc0, _ = tape.backward(dy.swapaxes(0, 1), dh_n, dc_n, [gradients], True)
        assert dx is not None
        return dx.swapaxes(0, 1), new, dh0, dc0

    return (y.swapaxes(0, 1), h_n, c_n), pullback
