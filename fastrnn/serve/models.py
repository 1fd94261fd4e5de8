"""The models that are served: loaded, changed while serving, and let go: `Models`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..base import Layer
from ..layers import Sequential
from ..serialization import load, load_metadata
from ..streams import AsyncPool, StreamPool
from ..text import Vocabulary
from . import logs
from .metrics import Metrics
from .sequences import SequenceModel
from .settings import ModelSettings, Settings, check_names

__all__ = ["Models", "ServedModel", "UnknownModelError"]


class UnknownModelError(KeyError):
    """A model or version that is not served; the message says so to a client."""

    def __str__(self) -> str:
        return str(self.args[0])


class ServedModel:
    """One version of one model.

    Attributes
    ----------
    name, version : str
        The version is the beginning of the file's SHA-256.
    quotas : ModelSettings
        With a number for each quota.
    metadata : dict
        As `fastrnn.load_metadata` reads them.
    layer : Layer
    sequence : SequenceModel
        The layer over whole sequences.
    pool : StreamPool or None
        None if the model does not stream.
    apool : AsyncPool or None
    sessions : int
        With a stream or without one, in this process; `Sessions` counts them.
    vocabulary : Vocabulary or None
        Of a character model.
    why_no_streams : str
        Empty, or why there is no pool.
    """

    def __init__(self, settings: Settings, quotas: ModelSettings, content: bytes) -> None:
        self.name, self.path, self.quotas = quotas.name, quotas.path, quotas
        self.version = _version(content)
        self.layer, self.metadata = _load(quotas.path, content)
        try:
            self.sequence = SequenceModel(self.layer, "characters" in self.metadata)
            self.vocabulary = self._find_vocabulary()
        except ValueError as error:
            raise ValueError(f"{quotas.path}: {error}") from None
        self.sessions = 0
        self.pool: Any = None
        self.why_no_streams = ""
        values = max(self.sequence.input_size, self.sequence.outputs[0].shape[-1])
        try:
            self.pool = make_pool(content, quotas.max_sessions or 1, values, settings)
        except ValueError as error:
            self.why_no_streams = str(error)

    @cached_property
    def apool(self) -> Any:
        """The pool for coroutines, in the loop that asks for it first."""
        return None if self.pool is None else AsyncPool(self.pool)

    @property
    def in_use(self) -> bool:
        """Return whether it has a session, here or with those who open them."""
        return self.sessions > 0 or (self.pool is not None and len(self.pool) > 0)

    @property
    def kind(self) -> str:
        """Return "text" for a character model, "tokens" or "float32"."""
        if self.vocabulary is not None:
            return "text"
        return "float32" if self.sequence.takes_vectors else "tokens"

    def _find_vocabulary(self) -> Vocabulary | None:
        characters = self.metadata.get("characters")
        if not isinstance(characters, str) or not self.sequence.takes_tokens:
            return None
        vocabulary = Vocabulary(characters)
        size = self.sequence.outputs[0].shape[-1]
        fits = len(vocabulary) == self.sequence.input_size == size
        return vocabulary if fits else None

    def describe(self) -> dict[str, Any]:
        """Return what a page says of the model."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "layers": _in_words(self.layer),
            "characters": None if self.vocabulary is None else len(self.vocabulary),
            "input_size": self.sequence.input_size,
            "output_size": self.sequence.outputs[0].shape[-1],
            "parameters": self.layer.num_parameters(),
            "streams": self.pool is not None,
            "sessions": self.sessions,
            "max_sessions": self.quotas.max_sessions,
        }

    async def close(self) -> None:
        """Let the pool go, which nobody uses any more."""
        if "apool" in vars(self) and self.apool is not None:
            self.apool.close()
        if self.pool is not None:
            await asyncio.to_thread(self.pool.shutdown)


def _in_words(layer: Layer) -> str:
    """Return what a model is made of in short: "LSTM 2 x 128, Linear 65"."""
    if isinstance(layer, Sequential):
        return ", ".join(map(_in_words, layer))
    name, size = type(layer).__name__, getattr(layer, "hidden_size", None)
    if size is None:
        size = getattr(layer, "out_features", getattr(layer, "embedding_dim", None))
        return name if size is None else f"{name} {size}"
    layers = getattr(layer, "num_layers", 1)
    return f"{name} {size}" if layers == 1 else f"{name} {layers} x {size}"


def make_pool(content: bytes, capacity: int, values: int, settings: Settings) -> StreamPool:
    """Return the pool of a model file, with `values` in a step's input or output.

    Raises
    ------
    ValueError
        If the model does not stream.
    """
    return StreamPool(
        content,
        capacity,
        max_batch=settings.max_batch,
        max_delay=settings.max_delay,
        max_pending=max(1024, settings.max_frame // 4 // values),  # streams have less under way
        num_threads=settings.num_threads,
    )


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _load(path: Path, content: bytes) -> tuple[Layer, dict[str, Any]]:
    """Return layer and metadata of a file's content, whatever happens to the file meanwhile."""
    with tempfile.TemporaryDirectory(prefix="fastrnn-") as folder:
        copy = Path(folder) / "model"
        copy.write_bytes(content)
        try:
            return load(copy), load_metadata(copy)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), str(path))) from None


class Models:
    """The models of a server by name, each in its newest version and in those still in use.

    `load` reads all files, `poll` looks for changed ones until it is cancelled. A new version
    stands beside the old one, which stays until its last session ended. A file that cannot be read
    is logged and counted, and changes nothing.
    """

    def __init__(
        self, settings: Settings, models: Sequence[ModelSettings | str], metrics: Metrics
    ) -> None:
        parsed = [ModelSettings.parse(each) if isinstance(each, str) else each for each in models]
        check_names(parsed)
        self._settings, self._metrics = settings, metrics
        self._files = {each.name: _File(each.with_defaults(settings)) for each in parsed}
        self._versions: dict[str, list[ServedModel]] = {}  # the newest last

    def load(self) -> None:
        """Load all models; ValueError or OSError for one that cannot be."""
        for name, file in self._files.items():
            content = file.read()
            self._versions[name] = [ServedModel(self._settings, file.quotas, content)]

    @property
    def names(self) -> list[str]:
        """Return the names, in the order given."""
        return list(self._versions)

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model in its newest or a given version; UnknownModelError if there is none."""
        versions = self._versions.get(name)
        if not versions:
            raise UnknownModelError(f"unknown model {name[:100]!r}")
        if version is None:
            return versions[-1]
        for served in versions:
            if served.version == version:
                return served
        raise UnknownModelError(f"unknown version {version[:100]!r} of {name}")

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the newest first; UnknownModelError if there is none."""
        self.get(name)
        return [served.version for served in reversed(self._versions[name])]

    def __iter__(self) -> Iterator[ServedModel]:
        """Iterate over the newest versions."""
        return iter([versions[-1] for versions in self._versions.values()])

    def pool_stats(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each model's name and the statistics of its pools together."""
        for name, versions in self._versions.items():
            stats = [served.pool.stats() for served in versions if served.pool is not None]
            gone = self._files[name].gone
            if stats or gone:
                yield name, _sum([*stats, *([gone] if gone else [])])

    async def poll(self) -> None:
        """Look at the files again and again."""
        while True:
            await asyncio.sleep(self._settings.reload_interval)
            for name in self._files:
                await self._refresh(name)
                await self._retire(name)

    async def _refresh(self, name: str) -> None:
        """Load the new version of a model, if its file changed and no longer changes."""
        file = self._files[name]
        try:
            content = await asyncio.to_thread(file.read_if_changed)
            if content is None:
                return
            version = _version(content)
            if version == self.get(name).version:
                return
            served = next((each for each in self._versions[name] if each.version == version), None)
            if served is not None:  # it is what it was before
                self._versions[name].remove(served)
                file.idle.discard(version)
            else:
                served = await asyncio.to_thread(ServedModel, self._settings, file.quotas, content)
        except Exception as error:  # whatever it is, the old version goes on
            if file.is_news(error):
                self._metrics.reloads.labels(name, "failed").inc()
                logs.event("reload_failed", logging.ERROR, model=name, error=str(error))
            return
        old = self.get(name).version
        self._versions[name].append(served)
        self._metrics.reloads.labels(name, "ok").inc()
        logs.event("reloaded", model=name, version=served.version, old=old)

    async def _retire(self, name: str) -> None:
        """Let old versions go that nobody used at the last look and at this one."""
        idle = self._files[name].idle
        for served in self._versions[name][:-1]:
            if served.in_use:
                idle.discard(served.version)
            elif served.version not in idle:
                idle.add(served.version)
            else:
                idle.discard(served.version)
                self._versions[name].remove(served)
                self._files[name].keep_counts(served)
                await served.close()
                logs.event("retired", model=name, version=served.version)

    async def close(self) -> None:
        """Let all pools go."""
        for versions in self._versions.values():
            for served in versions:
                await served.close()


class _File:
    """What is known of a model's file."""

    def __init__(self, quotas: ModelSettings) -> None:
        self.quotas = quotas
        self.idle: set[str] = set()  # old versions without a session at the last look
        self.gone: dict[str, Any] = {}  # counts of pools that are no more
        self._problem: tuple[str, tuple[int, ...]] | None = None
        self._read: tuple[int, ...] = ()
        self._seen: tuple[int, ...] = ()

    def read(self) -> bytes:
        """Return the content."""
        self._read = self._seen = self._stamp()
        return self.quotas.path.read_bytes()

    def read_if_changed(self) -> bytes | None:
        """Return the content if it changed, and is as it was at the last look: whole."""
        before, self._seen = self._seen, self._stamp()
        return self.read() if self._seen == before != self._read else None

    def _stamp(self) -> tuple[int, ...]:
        found = os.stat(self.quotas.path)
        if not stat.S_ISREG(found.st_mode):  # others have no end, or nothing to read for ever
            raise ValueError(f"{self.quotas.path}: expected a file")
        return found.st_mtime_ns, found.st_size, found.st_ino

    def is_news(self, error: Exception) -> bool:
        """Return whether an error is another than the last, or of another state of the file."""
        before, self._problem = self._problem, (str(error), self._seen)
        return self._problem != before

    def keep_counts(self, served: ServedModel) -> None:
        """Add the counts of a pool that goes, so that totals never fall."""
        if served.pool is not None:
            stats = served.pool.stats() | {"sessions": 0, "pending_steps": 0}
            self.gone = _sum([stats, *([self.gone] if self.gone else [])])


def _sum(stats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of pools' statistics."""
    sizes = [each["batch_sizes"] for each in stats]
    longest = max(map(len, sizes))
    padded = [[*each, *[0] * (longest - len(each))] for each in sizes]
    total: dict[str, Any] = {
        name: sum(each[name] for each in stats) for name in ("sessions", "pending_steps", "steps")
    }
    return total | {"batch_sizes": [sum(column) for column in zip(*padded, strict=True)]}
