"""The application: `create_app`, what all its routes have in common, and `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..serialization import library_version
from . import about, logs, page, streams, text, v2
from .metrics import Metrics
from .models import Models
from .openapi import describe
from .routes import protection
from .service import Service
from .sessions import Sessions
from .settings import ModelSettings, Settings

__all__ = ["create_app"]


def create_app(settings: Settings, models: Sequence[ModelSettings | str]) -> FastAPI:
    """Return the application that serves models; it can run under any ASGI server.

    Parameters
    ----------
    settings : Settings
    models : sequence of ModelSettings or str
        Those of ``fastrnn serve``: ``[NAME=]PATH[,max_sessions=N...]``.

    Raises
    ------
    ValueError, OSError
        If a model cannot be loaded.
    """
    metrics = Metrics()
    served = Models(settings, models, metrics)
    served.load()
    metrics.watch(served.pool_stats)
    app = FastAPI(
        title="fastrnn",
        version=library_version(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.openapi = lambda: describe(app, served.names)
    app.state.service = Service(settings, served, metrics)
    app.add_middleware(_Watch, service=app.state.service)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.include_router(v2.health)
    app.include_router(v2.router, **protection(settings))
    app.include_router(about.router, **protection(settings))
    app.include_router(about.open_router)
    for module in (streams, text, page):  # which see to tokens themselves
        app.include_router(module.router)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    try:
        sessions = service.sessions = Sessions(service)
        await sessions.start()
    except Exception as error:
        app.state.failure = error  # for who started the server
        raise
    tasks = [
        asyncio.create_task(service.models.poll()),
        asyncio.create_task(_sample(service.metrics)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not service.draining.is_set():  # another server than ours
            await service.drain()
        await sessions.stop()
        await service.close()


async def _sample(metrics: Metrics) -> None:
    while True:
        metrics.sample()
        await asyncio.sleep(1)


# --- errors ---------------------------------------------------------------------------------------


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer as the protocol wants: {"error": message}."""
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return JSONResponse({"error": "; ".join(found)[:1000]}, 400)


class _Watch:
    """Times and logs requests, and answers with status 500 what nobody expected."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            self._service.metrics.errors.inc()
            logs.event("internal_error", logging.ERROR, exc_info=True, path=scope["path"][:200])
            if not status:
                answer = JSONResponse({"error": "internal error, see the server's log"}, 500)
                await answer(scope, receive, watched)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        model = scope.get("path_params", {}).get("name", "")
        if model not in self._service.models.names:
            model = ""
        steps = scope.get("state", {}).get("steps", 0)
        self._service.metrics.request(route, model, status, seconds, steps)
        if self._service.settings.log_requests or status >= 500:
            logs.event(
                "request",
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                seconds=round(seconds, 6),
                client=scope.get("state", {}).get("client", ""),
            )
