"""Truncated backpropagation through time over parallel streams, and the loss of a model on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from . import losses, optim
from .base import Layer
from .data import Streams

__all__ = ["evaluate", "train_epoch", "train_windows"]


def train_windows(
    model: Layer,
    streams: Streams,
    optimizer: optim.Optimizer,
    *,
    seq_len: int,
    clip_value: float | None = None,
    clip_norm: float | None = None,
) -> Iterator[float]:
    """Train one epoch and yield the loss of each window, once the optimiser has made its step.

    The state starts at zero and is carried from window to window; gradients end at the window's
    start. Between two windows the model is complete: the caller may stop there, save, or change the
    learning rate. Nothing happens until the iterator is read.

    Parameters
    ----------
    model : Layer
        Recurrent, from token ids (T, B) to logits (T, B, C), as `fastrnn.text.build_model` makes.
    streams : Streams
        The training part. A shorter window at its end is left out.
    optimizer : Optimizer
        Over the model's parameters.
    seq_len : int
        Length of a window.
    clip_value, clip_norm : float, optional
        Limit of each element of the gradient, and of the norm of the whole.

    Yields
    ------
    float
        Mean cross-entropy of the window, in nats per token, before its step.
    """
    parameters = model.parameters()
    state = None
    for inputs, targets in streams.windows(seq_len):
        (logits, state), pullback = model.vjp(inputs, state)
        loss, d_logits = losses.cross_entropy(logits, targets)
        optimizer.zero_grad()
        pullback(d_logits)
        if clip_value is not None:
            optim.clip_grad_value(parameters, clip_value)
        if clip_norm is not None:
            optim.clip_grad_norm(parameters, clip_norm)
        optimizer.step()
        yield loss


def train_epoch(
    model: Layer, streams: Streams, optimizer: optim.Optimizer, **options: Any
) -> float:
    """Train one epoch and return the mean loss of its windows; options as `train_windows`."""
    window_losses = list(train_windows(model, streams, optimizer, **options))
    return sum(window_losses) / len(window_losses) if window_losses else math.nan


def evaluate(model: Layer, streams: Streams, *, seq_len: int) -> float:
    """Return the mean cross-entropy over whole streams, in nats per token.

    The state starts at zero and is carried to the end. `seq_len` only says how much is computed at
    once: the result does not depend on it beyond rounding.
    """
    state, total = None, 0.0
    for inputs, targets in streams.windows(seq_len, partial=True):
        logits, state = model(inputs, state)
        total += losses.cross_entropy(logits, targets, reduction="sum")[0]
    return total / streams.targets.size
