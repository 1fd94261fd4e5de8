"""What the routes of a server share: `Service`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from . import logs
from .metrics import Metrics
from .models import Models, ServedModel, UnknownModelError
from .security import Client, client_of
from .settings import Settings

if TYPE_CHECKING:
    from .sessions import Sessions

__all__ = ["Service", "service_of"]

Result = TypeVar("Result")


class Held:
    """The bytes of one request, and of its answer, as `Service.held` counts them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.size = 0

    def take(self, size: int) -> None:
        """Count a part of the body; HTTPException if there is too much, here or in all."""
        service = self._service
        if self.size + size > service.settings.max_body:
            raise service.refuse(
                413, "too_large", f"body: expected at most {service.settings.max_body:,} bytes"
            )
        if service.bytes_held + size > service.settings.max_held:
            raise service.busy("busy", "too many requests at once")
        self.add(size)

    def add(self, size: int) -> None:
        """Count what is there already."""
        self.size += size
        self._service.bytes_held += size


class Service:
    """The state of a server: settings, models, metrics, sessions, and whether it is draining.

    Attributes
    ----------
    settings : Settings
    models : Models
    metrics : Metrics
    sessions : Sessions
        Of streams; there once the application has started.
    draining : asyncio.Event
        Set once the server ends: nothing new is accepted then.
    """

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings, self.models, self.metrics = settings, models, metrics
        self.sessions: Sessions
        self.draining = asyncio.Event()
        self._at_work = 0
        self._idle = asyncio.Event()
        self.bytes_held = 0  # of requests and answers
        self._turns: dict[str, asyncio.Semaphore] = {}
        metrics.at_work.set_function(lambda: self._at_work)
        metrics.bytes_held.set_function(lambda: self.bytes_held)
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

    def refuse(self, status: int, reason: str, message: str) -> HTTPException:
        """Return the exception that turns a request away, counted by its reason."""
        self.metrics.reject(reason)
        return HTTPException(status, message)

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

    async def close(self) -> None:
        """Let threads and models go."""
        await asyncio.to_thread(self._workers.shutdown)
        await self.models.close()

    # --- limits ---

    @contextlib.contextmanager
    def held(self) -> Iterator[Held]:
        """Account for the bytes of a request and its answer while they are in memory."""
        held = Held(self)
        try:
            yield held
        finally:
            self.bytes_held -= held.size

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
