"""The training loop: `Trainer`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import _core, nesting, optim
from .. import metrics as metrics_module
from ..base import Layer, check_flag, check_number, check_size
from ..data import Batch, Loader
from ..optimizers import named_parameters
from .arguments import (
    AnySchedule,
    Loss,
    choice,
    find_loader,
    find_validation,
    paired,
)
from .callbacks import Callback, CallbackList, EarlyStopping
from .checkpoints import Checkpoint, read_checkpoint
from .diagnosis import first_nonfinite_layer, gradient_squares
from .evaluation import added
from .history import FIXED, History, Record
from .resumable import Resumable
from .run import EpochState, Run, Status, groups, number_of_items
from .untrained import Untrained

__all__ = ["ADVICE", "Trainer"]

ADVICE = (  # the end of what is said of a number that is not finite
    " The weights are those before the step. A lower learning rate or clip_norm may help; "
    "on_nonfinite='skip' leaves such steps out."
)


class Trainer(Resumable):
    """Trains a model on batches: the loop, and all that belongs around it.

    Each step: forward pass, loss, backpropagation, clipping, and the optimiser's step. Models,
    losses and optimisers are the library's own; this class adds no others, so that a loop of one's
    own gives the same bits.

    Parameters
    ----------
    model : Layer
    loss : {"cross_entropy", "mse"} or callable, default "cross_entropy"
        ``loss(outputs, targets, mask=mask) -> (value, d_outputs)``: the mean over what counts, and
        its gradient, as those of `fastrnn.losses`. The mask is passed on only where there is one.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"} or Optimizer, default "adam"
        Over the model's parameters. A name stands for its defaults, PyTorch's; weight decay and
        momentum are arguments of the optimiser.
    metrics : sequence of str or fastrnn.metrics.Metric, optional
        Beside the loss: "accuracy", "perplexity", "f1", "mae", "mse", "rmse".
    schedule : Schedule, ReduceLROnPlateau or callable, optional
        Of the learning rate: of this optimizer, or ``schedule(optimizer)`` makes it.
    schedule_per : {"epoch", "step"}, default "epoch"
        After what the schedule is stepped. `ReduceLROnPlateau` takes the monitored number of each
        epoch.
    clip_norm, clip_value : float, optional
        Limits of the norm of all gradients together, and of each of their elements.
    accumulate : int, default 1
        Number of batches that make one step. Its gradient is that of one batch of all of them:
        each counts by the number of its targets.
    ema : float, optional
        Decay d of an exponential moving average of the weights, w_avg = d w_avg + (1 - d) w after
        each step (Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging";
        in this form Kingma & Ba 2015, section 7.2). Validation uses the average, and the model ends
        with it.
    on_nonfinite : {"raise", "skip"}, default "raise"
        What to do where the loss or a gradient is NaN or infinite: FloatingPointError, or to leave
        the step out and count it. The weights are those before the step in either case.

    Attributes
    ----------
    step : int
        Number of steps of the optimiser that were made, those that were skipped included.
    epoch : int
        Number of epochs that were completed, over all calls of `fit`.
    history : History
        Of all epochs.
    last : dict
        "loss", "gradient_norm", "learning_rate" of the last step.
    stop : bool
        Set it, as a callback, to end training after the step.

    Raises
    ------
    TypeError, ValueError
        For an argument of another kind or value.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 10, 1)).astype("float32")  # (N, T, features)
    >>> model = fastrnn.Sequential(
    ...     fastrnn.GRU(1, 16, seed=0), fastrnn.LastStep(), fastrnn.Linear(16, 2, seed=1)
    ... )
    >>> adam = fastrnn.optim.Adam(model, lr=0.01)
    >>> trainer = fastrnn.Trainer(model, optimizer=adam, metrics=["accuracy"], clip_norm=1.0)
    >>> targets = (x.sum(axis=(1, 2)) > 0).astype(int)
    >>> history = trainer.fit((x, targets), epochs=10, progress=False)
    >>> history[-1]["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss = "cross_entropy",
        optimizer: str | optim.Optimizer = "adam",
        *,
        metrics: Iterable[str | metrics_module.Metric] = (),
        schedule: AnySchedule | Callable[[optim.Optimizer], AnySchedule] | None = None,
        schedule_per: str = "epoch",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        on_nonfinite: str = "raise",
    ) -> None:
        super().__init__(model, loss, metrics, optimizer, schedule, accumulate, ema)
        self.schedule_per = choice("schedule_per", schedule_per, ("epoch", "step"))
        if schedule_per == "step" and isinstance(self.schedule, optim.ReduceLROnPlateau):
            raise ValueError("schedule_per: expected 'epoch' for ReduceLROnPlateau, got 'step'")
        self.clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, 0.0)
        self.clip_value = (
            None if clip_value is None else check_number("clip_value", clip_value, 0.0)
        )
        self.on_nonfinite = choice("on_nonfinite", on_nonfinite, ("raise", "skip"))
        self.stop = False
        self._untrained = Untrained()
        # The arrays of the last window, until the next has its own: given back before, the heap
        # would shrink and grow in each step, at the cost of page faults (up to a fifth of a step).
        self._kept: list[Any] = []

    def vjp(self, batch: Batch, state: Any = None) -> tuple[tuple[Any, Any], Callable[[Any], Any]]:
        """Return ((outputs, state), pullback) of a batch; ``pullback(d_outputs)`` adds to grads.

        Parameters
        ----------
        batch : Batch
        state : optional
            As of `forward`.
        """
        result, pullback = nesting.vjp(self.model, batch.inputs, state, batch.lengths, {})
        return result, lambda d_outputs: pullback(d_outputs, None)

    def fit(
        self,
        data: Any,
        targets: Any = None,
        *,
        validation: Any = None,
        epochs: int = 1,
        batch_size: int | None = None,
        seed: int | None = None,
        callbacks: Sequence[Callback] = (),
        patience: int | None = None,
        monitor: str | None = None,
        min_delta: float = 0.0,
        restore_best: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        resume: bool = False,
        log: str | os.PathLike[str] | None = None,
        log_every: int | None = None,
        progress: bool = True,
        time_limit: float | None = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        data : Loader, inputs or (inputs, targets)
            Of `fastrnn.data`. Of inputs and targets, arrays (N, ...) or lists of N sequences, it
            makes a `SequenceLoader`, shuffled anew in each epoch; numbers are converted to the
            dtype of the model. Batches of a loader are taken as they are.
        targets : optional
            Where `data` are the inputs alone.
        validation : Loader or (inputs, targets), optional
            Measured after each epoch.
        epochs : int, default 1
            How many more are trained.
        batch_size : int, optional
            Of (inputs, targets); 32 by default.
        seed : int, optional
            Of the order of (inputs, targets); 0 by default.
        callbacks : sequence of Callback, optional
        patience : int, optional
            Stop after so many epochs in a row without improvement.
        monitor : str, optional
            What must improve: a name of the history's records; by default "validation_loss", or
            "loss" without validation.
        min_delta : float, default 0.0
            How much better counts as improved.
        restore_best : bool, optional
            Whether the model ends with the weights of its best epoch; by default if there is a
            `patience`.
        checkpoint : str or os.PathLike, optional
            Folder for "checkpoint.safetensors", written after each epoch.
        checkpoint_every : int, optional
            Number of steps after which it is written within an epoch, too.
        resume : bool, default False
            Whether to go on from the checkpoint, if there is one: up to the number of epochs this
            call would have reached, with the same bits. The arguments must be the same, but for
            `epochs`, `progress` and such. Otherwise a checkpoint that is there is replaced.
        log : str or os.PathLike, optional
            Folder for log.csv (epochs), log.jsonl (epochs and steps) and, where the package
            tensorboard is installed, its events; by default that of `checkpoint`.
        log_every : int, optional
            Number of steps between two that are logged; none by default.
        progress : bool, default True
            A bar on standard error; where that is no terminal, a line for each epoch and half
            minute.
        time_limit : float, optional
            Seconds of training after which it ends, within an epoch if need be.

        Returns
        -------
        History
            `history`, of this and of earlier calls.

        Raises
        ------
        FloatingPointError
            If a loss or a gradient is not finite: the message names step, layer and largest norm.
            The weights are those before the step, and so is the last checkpoint.
        OSError
            If a checkpoint or a log cannot be written; an older checkpoint stays as it was.
        TypeError, ValueError
            If an argument does not fit, or the checkpoint is that of another training.
        """
        data = paired(data, targets)
        loader = find_loader(data, self.model, shuffle=True, batch_size=batch_size, seed=seed)
        held_out = None
        if validation is not None:
            held_out = find_validation(validation, self.model, batch_size)
        check_size("epochs", epochs, 0)
        limit = math.inf if time_limit is None else check_number("time_limit", time_limit, 0.0)
        if not isinstance(callbacks, Sequence):
            raise TypeError(f"callbacks: expected a list of Callback objects, got {callbacks!r}")
        monitor = monitor or ("loss" if held_out is None else "validation_loss")
        keeper = Checkpoint(checkpoint, checkpoint_every) if checkpoint is not None else None
        if keeper is None and (check_flag("resume", resume) or checkpoint_every is not None):
            raise ValueError("checkpoint: expected a folder with resume or checkpoint_every")
        own: list[Callback] = []
        best = patience is not None
        if restore_best is not None:
            best = check_flag("restore_best", restore_best)
        if patience is not None or best:
            self._check_monitor(monitor, held_out is not None, callbacks)
            own.append(EarlyStopping(monitor, self._mode(monitor), patience, min_delta, best))
        own += _reports(progress, log if log is not None else checkpoint, log_every)
        # A checkpoint follows what the others did, and precedes the best weights' coming back.
        watchers = CallbackList([*callbacks, *own])
        run = Run(loader, held_out, watchers, self.epoch, self.epoch + epochs, limit, monitor)
        self._run, self.stop = run, False
        self._now = EpochState()  # a stopped epoch begins anew unless a checkpoint says else
        try:
            if keeper is not None:
                keeper.prepare()
                if resume and keeper.path.exists():
                    self._restore(keeper.path, run, epochs)
                    run.resumed_at = self.epoch - run.first_epoch + self._within(run)
            if self._average is not None:
                self._average.start()
            watchers.each(lambda callback: callback.on_fit_start(self))
            while self.epoch < run.last_epoch and not self.stop:
                self._train_epoch(run, keeper)
            if keeper is not None:
                keeper.on_fit_end(self)
            if self._average is not None:
                self._average.finish()
            watchers.each(lambda callback: callback.on_fit_end(self))
        finally:
            self._run, self._kept = None, []
            watchers.close()
        return self.history

    def _train_epoch(self, run: Run, keeper: Checkpoint | None) -> None:
        """Train what is left of an epoch, or until `stop`; then validate and note it down."""
        for batches in groups(run.loader.batches(self.epoch, self._now.batch), self.accumulate):
            start = time.perf_counter()
            self._train_step(batches, run.loader)
            self._now.seconds += time.perf_counter() - start
            run.seconds += time.perf_counter() - start
            if run.seconds >= run.time_limit:
                self.stop = True
            ended = self._now.batch >= len(run.loader)
            run.callbacks.each(lambda callback: callback.on_step(self))
            if keeper is not None and not ended:
                keeper.on_step(self)
            if self.stop and not ended:
                return
        self._end_epoch(run)
        run.callbacks.each(lambda callback: callback.on_epoch(self))
        if keeper is not None:
            keeper.on_epoch(self)

    def _train_step(self, batches: list[Batch], loader: Loader) -> None:
        """Make one step of the optimiser from the batches, or skip it if it is not finite."""
        now, before = self._now, self._now.carried
        self._untrained.keep(self.model)
        self._zero_grad()
        problem, total, counts = "", 0.0, 0
        measured = []
        for batch in batches:
            at = batch, now.carried
            (outputs, state), pullback = self.vjp(*at)
            value, d_outputs, count = self.compute_loss(batch, outputs)
            if loader.stateful:
                self._kept = [outputs, pullback, d_outputs]
            if count and not math.isfinite(value):
                problem = f"the loss is {value}"
                break
            if count:  # a batch in which nothing counts has no mean
                whole = self.accumulate == 1
                pullback(d_outputs if whole else d_outputs * d_outputs.dtype.type(count))
                total, counts = total + float(value) * count, counts + count
            measured.append((batch, outputs))
            now.carried = state if loader.stateful else None
        norm = math.nan if problem else self._clip(counts)
        if not problem and not math.isfinite(norm):
            problem = f"the norm of the gradients is {norm}"
        self.step += 1
        if problem:
            now.carried = before
            self._nonfinite(problem, at)
        else:
            self._update(norm)
            self._note(measured, total, counts, norm, loader)
        now.batch += len(batches)

    def _zero_grad(self) -> None:
        self.model.zero_grad()  # the optimiser may be over some of its parameters only
        self.optimizer.zero_grad()

    def _clip(self, count: int) -> float:
        """Make the gradients those of a mean, clip them; return their norm before clipping."""
        parameters = named_parameters(self.model)  # tied ones once
        if self.accumulate > 1 and count:
            for parameter in parameters.values():
                if parameter.grad is not None:
                    _core.scale(parameter.grad, 1.0 / count)
        squares = gradient_squares(parameters)
        norm = math.sqrt(sum(squares.values()))
        largest = max(squares, key=squares.__getitem__, default="")
        if math.isfinite(norm) and largest and math.sqrt(squares[largest]) >= self._largest[0]:
            self._largest = math.sqrt(squares[largest]), largest
        if self.clip_value is not None:
            optim.clip_grad_value(parameters, self.clip_value)
        if self.clip_norm is not None:
            optim.clip_grad_norm(parameters, self.clip_norm)
        return norm

    def _update(self, norm: float) -> None:
        self.optimizer.step()
        if self._average is not None:
            self._average.update()
        rate = self.optimizer.lr
        if self.schedule_per == "step" and isinstance(self.schedule, optim.Schedule):
            self.schedule.step()
        self.last = {"learning_rate": rate, "gradient_norm": norm}

    def _note(
        self,
        measured: list[tuple[Batch, Any]],
        total: float,
        count: int,
        norm: float,
        loader: Loader,
    ) -> None:
        """Add a step to the sums of the epoch."""
        now = self._now
        self.last["loss"] = total / count if count else math.nan
        now.loss, now.count, now.steps = now.loss + total, now.count + count, now.steps + 1
        now.norm, now.norm_max = now.norm + norm, max(now.norm_max, norm)
        for batch, outputs in measured:
            now.items += number_of_items(batch, loader)
            now.sums = added(now.sums, self._measure(batch, outputs))

    def _nonfinite(self, problem: str, at: tuple[Batch, Any]) -> None:
        """Skip a step, or raise FloatingPointError that says where it went wrong."""
        self.last = {
            "loss": math.nan,
            "gradient_norm": math.nan,
            "learning_rate": self.optimizer.lr,
        }
        self._untrained.put_back(self.model)
        if self.on_nonfinite == "skip":
            self._now.skipped += 1
            return
        place = first_nonfinite_layer(self.model, *at)
        norm, name = self._largest
        self._zero_grad()
        raise FloatingPointError(
            f"step {self.step} (epoch {self.epoch + 1}, batch {self._now.batch + 1}): "
            f"{problem}; {place}; the largest norm of a gradient so far was {norm:.4g}"
            f"{f', of {name}' if name else ''}.{ADVICE}"
        )

    def _end_epoch(self, run: Run) -> None:
        """Validate, note the epoch down, and begin the next."""
        now, self._now = self._now, EpochState()
        self.epoch += 1
        record: Record = {"epoch": self.epoch, "step": self.step}
        record |= self._results(now.loss, now.count, now.sums)
        if run.validation is not None:
            measured = self.evaluate(run.validation)
            record |= {f"validation_{name}": value for name, value in measured.items()}
        record |= {
            "learning_rate": self.last.get("learning_rate", self.optimizer.lr),
            "gradient_norm": now.norm / now.steps if now.steps else math.nan,
            "gradient_norm_max": now.norm_max,
            "skipped": now.skipped,
            "seconds": now.seconds,
            "items_per_second": now.items / now.seconds if now.seconds else math.nan,
        }
        self.history.records.append(record)
        if isinstance(self.schedule, optim.ReduceLROnPlateau):
            if run.monitor not in record:
                raise ValueError(
                    f"monitor: expected one of {', '.join(record)}, got {run.monitor!r}"
                )
            self.schedule.step(record[run.monitor])
        elif self.schedule is not None and self.schedule_per == "epoch":
            self.schedule.step()

    def _check_monitor(self, monitor: str, validated: bool, callbacks: Sequence[Callback]) -> None:
        """Raise ValueError for a number that no record will hold, unless a callback may add it."""
        own = ["loss", *(metric.name for metric in self.metrics)]
        known = own + [f"validation_{name}" for name in own] * validated
        if not callbacks and monitor not in (*known, *FIXED):
            raise ValueError(f"monitor: expected one of {', '.join(known)}, got {monitor!r}")

    def _mode(self, monitor: str) -> str:
        """Return whether a smaller or a larger number of a record is better."""
        name = monitor.removeprefix("validation_")
        return next((metric.mode for metric in self.metrics if metric.name == name), "min")

    def status(self) -> Status:
        """Return how far the training is.

        Raises
        ------
        RuntimeError
            If `fit` is not running.
        """
        run, now = self._run, self._now
        if run is None:
            raise RuntimeError("status: expected it to be asked while fit runs")
        epochs = run.last_epoch - run.first_epoch
        done = self.epoch - run.first_epoch + self._within(run)
        spent = run.seconds / run.time_limit if run.time_limit else 1.0
        part = max(done / epochs if epochs else 1.0, spent)
        this_call = done - run.resumed_at  # what `seconds` are of
        left = run.seconds * (epochs - done) / this_call if this_call > 0 else 0.0
        return Status(
            epoch=min(self.epoch - run.first_epoch + 1, epochs),
            epochs=epochs,
            first_epoch=run.first_epoch,
            part=min(part, 1.0),
            loss=now.loss / now.count if now.count else math.nan,
            items_per_second=now.items / now.seconds if now.seconds else 0.0,
            unit="steps" if run.loader.stateful else "sequences",
            seconds_left=max(0.0, min(left, run.time_limit - run.seconds)),
        )

    def _within(self, run: Run) -> float:
        """Return the share of the epoch that is done."""
        return self._now.batch / max(len(run.loader), 1)

    def _restore(self, path: os.PathLike[str], run: Run, epochs: int) -> None:
        """Go on from a checkpoint; ValueError names the file if it is that of another training."""
        state = read_checkpoint(path)
        try:
            with self._all_or_nothing():
                run.load_state_dict(state, epochs)  # first: a callback may know what is wrong
                self._load(state)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _reports(
    progress: bool, log: str | os.PathLike[str] | None, log_every: int | None
) -> list[Callback]:
    """Return the callbacks that tell people how it goes."""
    from .logs import Log
    from .progress import Progress

    if log is None and log_every is not None:
        raise ValueError("log: expected a folder with log_every, got None")
    found: list[Callback] = [] if log is None else [Log(log, log_every)]
    return [*found, Progress()] if check_flag("progress", progress) else found
