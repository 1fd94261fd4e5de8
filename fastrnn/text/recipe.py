"""Settings of a training: `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from .. import optim
from ..base import check_number, check_size
from ..optim import ReduceLROnPlateau as Plateau
from ..recurrent import GRU, LSTM, RNN

__all__ = ["CELLS", "OPTIMIZERS", "SCHEDULES", "TO_THE_END", "Recipe"]

CELLS: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "rmsprop": partial(optim.RMSprop, alpha=0.95),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": partial(optim.SGD, momentum=0.9),
}


class _LateDecay(optim.Schedule):
    """base_lr, multiplied by 0.97 after each epoch from the 10th on."""

    def lr_at(self, epoch: int) -> float:
        rate = self.base_lr
        for _ in range(epoch - 9):  # not a power: the bits of the loop that multiplies
            rate *= 0.97
        return rate


# From the optimiser, the number of epochs, and that of steps; all but "warmup" count in epochs.
SCHEDULES: dict[str, Callable[[optim.Optimizer, int, int], optim.Schedule | Plateau | None]] = {
    "late": lambda optimizer, epochs, steps: _LateDecay(optimizer),
    "constant": lambda optimizer, epochs, steps: None,
    "exponential": lambda optimizer, epochs, steps: optim.ExponentialLR(optimizer, 0.97),
    "cosine": lambda optimizer, epochs, steps: optim.CosineAnnealingLR(optimizer, epochs),
    "plateau": lambda optimizer, epochs, steps: Plateau(optimizer, factor=0.5, patience=1),
    "warmup": lambda optimizer, epochs, steps: optim.LinearWarmup(
        optimizer,
        max(steps // 20, 1),
        after=optim.CosineAnnealingLR(optimizer, max(steps - steps // 20, 1)),
    ),
}
TO_THE_END = ("cosine", "warmup")  # they are made for a number of epochs


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults are char-rnn's.

    RMSprop with alpha 0.95, gradients clipped by value to `clip` (0: not at all), the learning rate
    multiplied by 0.97 after each epoch from the 10th on. The first 95 % of the characters train,
    the rest validates; each part is read as `batch` parallel streams in windows of `seq_len`.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    hidden, layers : int
        Units of a layer, and number of recurrent layers.
    dropout : float
        Between the layers.
    seq_len, batch, epochs : int
    optimizer : {"rmsprop", "adam", "adamw", "sgd"}
        With a momentum of 0.9 where it is "sgd".
    lr : float
        The learning rate at first.
    schedule : {"late", "constant", "exponential", "cosine", "plateau", "warmup"}
        What becomes of it: "late" as above, "exponential" * 0.97 after each epoch, "cosine" down to
        0 at the last epoch, "plateau" * 0.5 after two epochs without a better validation loss,
        "warmup" a rise over the first twentieth of the steps, then as "cosine".
    clip, clip_norm : float
        Limits of each element of the gradient, and of the norm of the whole; 0: none.
    patience : int
        Epochs without a better validation loss after which training ends, with the best weights;
        0: it goes on to the last epoch, and ends with the weights of that.
    seed : int
        Of the weights and the dropout.

    Raises
    ------
    TypeError, ValueError
        For a value of another kind; the message names the setting.
    """

    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.0
    seq_len: int = 50
    batch: int = 50
    epochs: int = 10
    optimizer: str = "rmsprop"
    lr: float = 2e-3
    schedule: str = "late"
    clip: float = 5.0
    clip_norm: float = 0.0
    patience: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        known: dict[str, Iterable[str]] = {
            "cell": CELLS,
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
        }
        for name, names in known.items():
            value = getattr(self, name)
            if value not in names:
                raise ValueError(f"{name}: expected one of {', '.join(names)}, got {value!r}")
        for name in ("hidden", "layers", "seq_len", "batch", "epochs"):
            check_size(name, getattr(self, name))
        for name in ("patience", "seed"):
            check_size(name, getattr(self, name), 0)
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_number("clip", self.clip, 0.0)
        check_number("clip_norm", self.clip_norm, 0.0)
        if not 0.0 < check_number("lr", self.lr, 0.0) < math.inf:
            raise ValueError(f"lr: expected a number above 0, got {self.lr}")
