"""Training: truncated backpropagation through time."""

from .windows import evaluate, reset_rows, train_epoch, train_windows, window_vjp

__all__ = ["evaluate", "reset_rows", "train_epoch", "train_windows", "window_vjp"]
