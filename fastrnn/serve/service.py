"""What the routes of a server share: `Service`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from . import logs
from .metrics import Metrics
from .models import Models, ServedModel, UnknownModelError
from .security import Client, client_of
from .settings import Settings

__all__ = ["Service", "service_of"]

Result = TypeVar("Result")


class Service:
    """The state of a server: settings, models, metrics, sessions, and whether it is draining.

    Attributes
    ----------
    settings : Settings
    models : Models
    metrics : Metrics
    sessions : Sessions or None
        Of streams; None where they are not there.
    draining : asyncio.Event
        Set once the server ends: nothing new is accepted then.
    """

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings, self.models, self.metrics = settings, models, metrics
        self.sessions: Any = None
        self.draining = asyncio.Event()
        self._at_work = 0
        self._idle = asyncio.Event()
        self._bodies = 0
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._workers = ThreadPoolExecutor(settings.max_running, "fastrnn-serve")

    # --- who asks for what ---

    def client(self, connection: HTTPConnection) -> Client:
        """Return who calls; HTTPException for who may not."""
        try:
            return client_of(connection, self.settings)
        except HTTPException as error:
            self.metrics.reject("unauthorized" if error.status_code == 401 else "forbidden")
            raise

    def model(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model; HTTPException with status 404 if there is none."""
        try:
            return self.models.get(name, version)
        except UnknownModelError as error:
            raise HTTPException(404, str(error)) from None

    def busy(self, reason: str, message: str) -> HTTPException:
        """Return the exception that turns a request away for now, counted by its reason."""
        self.metrics.reject(reason)
        return HTTPException(503, message, {"Retry-After": "1"})

    # --- work, and its end ---

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Hold the end of the server up: for what was accepted and has to be answered."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    async def drain(self) -> bool:
        """Accept nothing more, wait until all work is done; False if it took too long."""
        self.draining.set()
        logs.event("draining", at_work=self._at_work)
        self._idle.clear()
        if self._at_work:
            try:
                await asyncio.wait_for(self._idle.wait(), self.settings.drain_timeout)
            except asyncio.TimeoutError:
                logs.event("drain_timeout", logging.ERROR, at_work=self._at_work)
                return False
        logs.event("drained")
        return True

    def close(self) -> None:
        """Let threads and models go."""
        self._workers.shutdown()
        self.models.close()

    # --- limits ---

    @contextlib.contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Account for a body that is being read; yields what is called with each part's size."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if held + size > self.settings.max_body:
                self.metrics.reject("too_large")
                raise HTTPException(413, f"body: expected at most {self.settings.max_body:,} bytes")
            if self._bodies + size > self.settings.max_bodies:
                raise self.busy("busy", "too many requests at once")
            held += size
            self._bodies += size

        try:
            yield take
        finally:
            self._bodies -= held

    @contextlib.asynccontextmanager
    async def turn(self, model: ServedModel) -> AsyncIterator[None]:
        """Wait until the model's quota of requests at once lets this one in."""
        quota = model.quotas.max_running or self.settings.max_running
        async with self._turns.setdefault(model.name, asyncio.Semaphore(quota)):
            yield

    async def compute(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns that runs in a thread, `max_running` at once."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, function, *arguments)


def service_of(connection: HTTPConnection) -> Service:
    """Return the service of a request or WebSocket: a dependency of routes."""
    service: Service = connection.app.state.service
    return service
