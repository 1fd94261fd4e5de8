"""Schedules of the learning rate: PyTorch's formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .base import check_number, check_size
from .optimizers import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearWarmup",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
]


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an Optimizer, got {type(optimizer).__name__}")


class Schedule:
    """Base of the schedules: the learning rate as a function of the number of epochs done.

    `step`, called after each epoch (or each update, if the schedule is meant so), sets
    ``optimizer.lr`` to ``lr_at(last_epoch)``. All schedules start from the learning rate the
    optimiser had when they were made, `base_lr`.

    Parameters
    ----------
    optimizer : Optimizer
    """

    def __init__(self, optimizer: Optimizer) -> None:
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.last_epoch = 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Count an epoch and set the learning rate."""
        self.last_epoch += 1
        self.optimizer.lr = self.lr_at(self.last_epoch)

    def state_dict(self) -> dict[str, float]:
        """Return the numbers that change with the steps."""
        return {"base_lr": self.base_lr, "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Restore what `state_dict` returned, and set the learning rate accordingly.

        Raises
        ------
        ValueError
            If entries are missing or unexpected.
        """
        names = self.state_dict().keys()
        if state_dict.keys() != names:
            raise ValueError(
                f"state_dict: expected the entries {', '.join(names)}, "
                f"got {', '.join(map(str, state_dict))}"
            )
        for name, value in state_dict.items():
            setattr(self, name, np.asarray(value).item())
        self.optimizer.lr = self.lr_at(self.last_epoch)


class ConstantLR(Schedule):
    """base_lr * factor for `total_iters` epochs, then base_lr.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float, default 1/3
        From 0 to 1.
    total_iters : int, default 5
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3.0, total_iters: int = 5
    ) -> None:
        self.factor = check_number("factor", factor, 0.0, 1.0)
        self.total_iters = check_size("total_iters", total_iters, minimum=0)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        return self.base_lr * self.factor if epoch < self.total_iters else self.base_lr


class StepLR(Schedule):
    """base_lr * gamma^floor(epoch / step_size).

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        Number of epochs after which the rate falls.
    gamma : float, default 0.1
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check_size("step_size", step_size)
        self.gamma = check_number("gamma", gamma, 0.0)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        return self.base_lr * self.gamma ** (epoch // self.step_size)


class ExponentialLR(Schedule):
    """base_lr up to and including epoch `start`, times gamma for each epoch after it.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float
    start : int, default 0
    """

    def __init__(self, optimizer: Optimizer, gamma: float, start: int = 0) -> None:
        self.gamma = check_number("gamma", gamma, 0.0)
        self.start = check_size("start", start, minimum=0)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        return self.base_lr * self.gamma ** max(0, epoch - self.start)


class CosineAnnealingLR(Schedule):
    """Half a cosine from base_lr to `eta_min` in `T_max` epochs (and back up after them).

    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", without
    the restarts.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        Number of epochs of the way down.
    eta_min : float, default 0.0
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = check_size("T_max", T_max)
        self.eta_min = check_number("eta_min", eta_min, 0.0)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        share = (1.0 + math.cos(math.pi * epoch / self.T_max)) / 2.0
        return self.eta_min + (self.base_lr - self.eta_min) * share


class LambdaLR(Schedule):
    """base_lr * lr_lambda(epoch).

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable
        Takes the number of epochs done, an int; returns a factor.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        return self.base_lr * self.lr_lambda(epoch)


class LinearWarmup(Schedule):
    """A straight line from base_lr * start_factor to base_lr in `total_iters` steps.

    Parameters
    ----------
    optimizer : Optimizer
    total_iters : int
    start_factor : float, default 1/3
    after : Schedule, optional
        What follows, counted from the end of the warm-up, in place of a constant base_lr. It is
        stepped through the warm-up alone.

    Raises
    ------
    ValueError
        If `after` is a schedule of another optimiser, or a number is out of its range.

    Examples
    --------
    >>> adam = fastrnn.optim.Adam(fastrnn.Linear(3, 2), lr=0.1)
    >>> schedule = LinearWarmup(adam, 4, after=CosineAnnealingLR(adam, 10))
    >>> rates = [adam.lr]
    >>> for _ in range(5):
    ...     schedule.step()
    ...     rates.append(adam.lr)
    >>> np.array(rates)
    array([0.0333, 0.05  , 0.0667, 0.0833, 0.1   , 0.0976])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int,
        start_factor: float = 1.0 / 3.0,
        after: Schedule | None = None,
    ) -> None:
        self.total_iters = check_size("total_iters", total_iters)
        self.start_factor = check_number("start_factor", start_factor, 0.0, 1.0)
        if after is not None and after.optimizer is not optimizer:
            raise ValueError("after: expected a schedule of the same optimizer, got another's")
        self.after = after
        if after is not None:
            optimizer.lr = after.base_lr
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate after `epoch` steps."""
        if epoch >= self.total_iters and self.after is not None:
            return self.after.lr_at(epoch - self.total_iters)
        share = min(epoch / self.total_iters, 1.0)
        end = self.base_lr if self.after is None else self.after.lr_at(0)
        return end * (self.start_factor + (1.0 - self.start_factor) * share)


_PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter")


class ReduceLROnPlateau:
    """Multiply the learning rate by `factor` when a metric has not improved for a while.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        Whether a smaller or a larger metric is better.
    factor : float, default 0.1
        Below 1.
    patience : int, default 10
        Number of epochs in a row without improvement that are let pass.
    threshold : float, default 1e-4
        How much better the metric must be to count as improved.
    threshold_mode : {"rel", "abs"}
        Better than best * (1 -+ threshold), or than best -+ threshold.
    cooldown : int, default 0
        Number of epochs after a reduction that do not count.
    min_lr : float, default 0.0
    eps : float, default 1e-8
        A smaller change of the learning rate is not made.

    Raises
    ------
    ValueError
        If `mode` or `threshold_mode` is unknown, or a number is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        _check_optimizer(optimizer)
        if mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode: expected 'rel' or 'abs', got {threshold_mode!r}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = check_number("factor", factor, 0.0, math.nextafter(1.0, 0.0))
        self.patience = check_size("patience", patience, minimum=0)
        self.threshold = check_number("threshold", threshold, 0.0)
        self.threshold_mode = threshold_mode
        self.cooldown = check_size("cooldown", cooldown, minimum=0)
        self.min_lr = check_number("min_lr", min_lr, 0.0)
        self.eps = check_number("eps", eps, 0.0)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def step(self, metric: float) -> None:
        """Take the epoch's metric (NaN counts as no improvement) and reduce the rate if due."""
        metric = float(metric)
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            lr = max(self.optimizer.lr * self.factor, self.min_lr)
            if self.optimizer.lr - lr > self.eps:
                self.optimizer.lr = lr
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        """Return the numbers that change with the steps."""
        return {name: getattr(self, name) for name in _PLATEAU_STATE}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Restore what `state_dict` returned; the learning rate is the optimiser's own state.

        Raises
        ------
        ValueError
            If entries are missing or unexpected.
        """
        if state_dict.keys() != set(_PLATEAU_STATE):
            raise ValueError(
                f"state_dict: expected the entries {', '.join(_PLATEAU_STATE)}, "
                f"got {', '.join(map(str, state_dict))}"
            )
        found = {name: np.asarray(value).item() for name, value in state_dict.items()}
        best = check_number("best", found["best"], -math.inf)
        bad_epochs = check_size("num_bad_epochs", found["num_bad_epochs"], 0)
        self.cooldown_counter = check_size("cooldown_counter", found["cooldown_counter"], 0)
        self.best, self.num_bad_epochs = best, bad_epochs

    def _is_better(self, metric: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "abs":
            limit = self.best + sign * self.threshold
        else:
            limit = self.best * (1.0 + sign * self.threshold)
        return metric < limit if self.mode == "min" else metric > limit
