"""Training: the loop and what belongs around it; truncated backpropagation through time."""

from .callbacks import Callback, EarlyStopping
from .checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from .evaluation import Evaluator
from .history import History
from .logs import Log
from .progress import Progress
from .trainer import Trainer
from .windows import reset_rows, window_vjp

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Evaluator",
    "History",
    "Log",
    "Progress",
    "Trainer",
    "read_checkpoint",
    "reset_rows",
    "window_vjp",
    "write_checkpoint",
]
