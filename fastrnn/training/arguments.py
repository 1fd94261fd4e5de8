"""What the arguments of a trainer stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import losses, optim
from ..base import Layer
from ..data import Loader, RaggedArray, as_loader

__all__ = [
    "OPTIMIZERS",
    "AnySchedule",
    "Loss",
    "choice",
    "find_loader",
    "find_loss",
    "find_optimizer",
    "find_schedule",
    "find_validation",
]

Loss = Callable[..., tuple[float, Any]]
AnySchedule = optim.Schedule | optim.ReduceLROnPlateau

LOSSES: dict[str, Loss] = {"cross_entropy": losses.cross_entropy, "mse": losses.mse}
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}


def find_loss(loss: str | Loss) -> Loss:
    """Return the loss that the argument `loss` names, or is."""
    if isinstance(loss, str):
        return LOSSES[choice("loss", loss, tuple(LOSSES))]
    if not callable(loss):
        raise TypeError(f"loss: expected a name or a function, got {loss!r}")
    return loss


def find_optimizer(optimizer: str | optim.Optimizer, model: Layer) -> optim.Optimizer:
    """Return the optimiser that the argument `optimizer` names, or is."""
    if isinstance(optimizer, str):
        optimizer_class: Any = OPTIMIZERS[choice("optimizer", optimizer, tuple(OPTIMIZERS))]
        made: optim.Optimizer = optimizer_class(model)
        return made
    if not isinstance(optimizer, optim.Optimizer):
        raise TypeError(f"optimizer: expected a name or an Optimizer, got {optimizer!r}")
    own = {id(parameter) for parameter in model.parameters().values()}
    if own.isdisjoint(map(id, optimizer._parameters.values())):
        raise ValueError("optimizer: expected one of the model's parameters, got another's")
    return optimizer


def find_schedule(schedule: Any, optimizer: optim.Optimizer) -> AnySchedule | None:
    """Return the schedule that the argument `schedule` makes, or is."""
    if schedule is not None and not isinstance(schedule, (optim.Schedule, optim.ReduceLROnPlateau)):
        if not callable(schedule):
            raise TypeError(f"schedule: expected a schedule or a function, got {schedule!r}")
        schedule = schedule(optimizer)
    if schedule is None:
        return None
    if not isinstance(schedule, (optim.Schedule, optim.ReduceLROnPlateau)):
        raise TypeError(f"schedule: expected it to make a schedule, got {schedule!r}")
    if schedule.optimizer is not optimizer:
        raise ValueError("schedule: expected one of the trainer's optimizer, got another's")
    return schedule


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    """Return the argument `name`; ValueError if it is none of those known."""
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    return str(value)


def find_loader(data: Any, model: Layer, shuffle: bool = False, **options: int | None) -> Loader:
    """Return the loader that the argument `data` makes, or is; options that are None have defaults.

    Batch or time comes first as in the model's layers. Options beside a loader, which has its own,
    are a TypeError, and another layout than the model's is a ValueError. Of arrays, numbers that
    are no integers get the model's dtype.
    """
    given = {name: value for name, value in options.items() if value is not None}
    layouts = _layouts(model)
    if not isinstance(data, Loader):
        pair = (data, None) if isinstance(data, list) else data
        dtype = _dtype(model) if _holds_floats(pair) else None
        layout = {"batch_first": True in layouts, "dtype": dtype}
        return as_loader(pair, shuffle=shuffle, **layout, **given)
    loader = as_loader(data, **given)
    if layouts == {not loader.batch_first}:
        raise ValueError(
            f"data: expected a loader with batch_first={not loader.batch_first}, "
            f"as the model's layers have it, got {loader.batch_first}"
        )
    return loader


def find_validation(validation: Any, model: Layer, batch_size: int | None) -> Loader:
    """Return the loader that the argument `validation` makes, or is; its errors begin with that."""
    size = None if isinstance(validation, Loader) else batch_size
    try:
        return find_loader(validation, model, batch_size=size)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None


def paired(data: Any, targets: Any) -> Any:
    """Return (inputs, targets) where the targets are given beside the inputs, else the data."""
    if targets is None:
        return data
    if isinstance(data, (Loader, tuple)):
        raise TypeError(f"targets: expected None beside a {type(data).__name__} of both")
    return data, targets


def _holds_floats(data: Any) -> bool:
    """Return whether the inputs are floating-point numbers."""
    inputs = data[0] if isinstance(data, tuple) and data else data
    inputs = inputs.flat if isinstance(inputs, RaggedArray) else inputs
    first = inputs[0] if isinstance(inputs, (list, tuple)) and inputs else inputs
    dtype = getattr(first, "dtype", None)
    return bool((np.asarray(first).dtype if dtype is None else dtype).kind == "f")


def _dtype(model: Layer) -> np.dtype[Any] | None:
    return next((parameter.dtype for parameter in model.parameters().values()), None)


def _layouts(model: Layer) -> set[bool]:
    """Return the values of `batch_first` among a model's layers."""
    own = {bool(model.batch_first)} if hasattr(model, "batch_first") else set()
    return own.union(*(_layouts(child) for child in model.children().values()))
