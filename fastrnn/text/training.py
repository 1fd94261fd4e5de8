"""The training of a character model by a recipe: `Training`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

from ..data import StreamLoader, Streams, split
from ..training import Callback, History, Trainer
from .models import build_model, save_model
from .recipe import OPTIMIZERS, SCHEDULES, TO_THE_END, Recipe
from .vocabulary import Vocabulary

__all__ = ["Training"]


class Training:
    """The training of a character model on a text, by a recipe.

    Parameters
    ----------
    text : str
    recipe : Recipe

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the whole text.
    train, validation : StreamLoader
    model : Sequential
    trainer : Trainer
        With the recipe's optimiser, schedule and clipping.

    Raises
    ------
    ValueError
        If the text is too short for one window of each stream, or to validate on.
    """

    def __init__(self, text: str, recipe: Recipe) -> None:
        needed, batch = recipe.batch * recipe.seq_len, recipe.batch
        train, validation = split(text)
        if len(train) <= needed or len(validation) <= batch:
            raise ValueError(
                f"text: expected more than {needed:,} characters to train on ({batch} streams, "
                f"windows of {recipe.seq_len}) and more than {batch} to validate on, "
                f"got {len(train):,} and {len(validation):,}"
            )
        self.recipe = recipe
        self.vocabulary = Vocabulary.from_text(text)
        self.train = self._loader(train)
        self.validation = self._loader(validation, partial=True)
        self.model = build_model(
            recipe.cell, self.vocabulary, recipe.hidden, recipe.layers, recipe.dropout, recipe.seed
        )
        optimizer = OPTIMIZERS[recipe.optimizer](self.model, lr=recipe.lr)
        steps = recipe.epochs * len(self.train)
        self.trainer = Trainer(
            self.model,
            "cross_entropy",
            optimizer,
            schedule=SCHEDULES[recipe.schedule](optimizer, recipe.epochs, steps),
            schedule_per="step" if recipe.schedule == "warmup" else "epoch",
            clip_value=recipe.clip or None,
            clip_norm=recipe.clip_norm or None,
        )
        self._same = _SameTraining(recipe, hashlib.sha256(text.encode(errors="surrogatepass")))

    def _loader(self, part: str, partial: bool = False) -> StreamLoader:
        streams = Streams(self.vocabulary.encode(part), self.recipe.batch)
        return StreamLoader(streams, self.recipe.seq_len, partial)

    def fit(self, *, callbacks: Sequence[Callback] = (), **options: Any) -> History:
        """Train as the recipe says.

        Parameters
        ----------
        callbacks : sequence of Callback, optional
        **options
            More arguments of `Trainer.fit`: checkpoint, resume, log, time_limit, ...

        Returns
        -------
        History

        Raises
        ------
        FloatingPointError, OSError, ValueError
            As `Trainer.fit`; ValueError also for the checkpoint of another recipe or text.
        """
        return self.trainer.fit(
            self.train,
            validation=self.validation,
            epochs=self.recipe.epochs,
            patience=self.recipe.patience or None,
            callbacks=[self._same, *callbacks],
            **options,
        )

    def validate(self) -> float:
        """Return the loss over the whole validation part, in nats per character."""
        return self.trainer.evaluate(self.validation)["loss"]

    def save(self, path: str | PathLike[str], **metadata: Any) -> None:
        """Save model, recipe and more `metadata` to the file `path`, as `save_model`."""
        save_model(path, self.model, self.vocabulary, recipe=asdict(self.recipe), **metadata)


class _SameTraining(Callback):
    """Keeps a checkpoint from going on under another recipe, or with another text."""

    def __init__(self, recipe: Recipe, text: Any) -> None:
        self._settings = {"text": text.hexdigest(), **asdict(recipe)}

    def state_dict(self) -> dict[str, Any]:
        return self._settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        free = ("patience",) if self._settings["schedule"] in TO_THE_END else ("patience", "epochs")
        for name, value in self._settings.items():
            given = state_dict.get(name)
            if given != value and name not in free:
                if name == "text":
                    raise ValueError("text: expected the one that this checkpoint was trained on")
                raise ValueError(f"{name}: expected {given} as in this checkpoint, got {value}")
