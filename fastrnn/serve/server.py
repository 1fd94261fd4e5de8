"""The process: uvicorn with limits on connections and heads, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import logs
from .app import create_app
from .settings import ModelSettings, Settings
from .sockets import websocket_protocol

__all__ = ["serve"]

MOST_HEAD = 64 * 1024  # bytes of a request's first line and headers


def serve(settings: Settings, models: Sequence[ModelSettings | str]) -> None:
    """Serve models until SIGTERM or Ctrl-C; then answer what was accepted, and return.

    Parameters
    ----------
    settings : Settings
    models : sequence of ModelSettings or str
        As of `create_app`.

    Raises
    ------
    ValueError, OSError
        If a model cannot be loaded, or the address cannot be listened on.
    KeyboardInterrupt
        After Ctrl-C.
    """
    logs.set_up(settings.log_format)
    app = create_app(settings, models)
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    config = uvicorn.Config(
        app,
        http=_protocol(settings),
        ws=websocket_protocol(settings),
        ws_max_size=settings.max_frame,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        lifespan="on",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=10,
        backlog=2048,
    )
    logs.event(
        "listening",
        url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
        models=app.state.service.models.names,
        tokens=len(settings.tokens),
    )
    _Server(config).run(sockets=[listening])
    logs.event("stopped")


def _listen(settings: Settings) -> socket.socket:
    """Return a listening socket; OSError names the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{settings.host}:{settings.port}") from None
    return listening


class _Server(uvicorn.Server):
    """Drains before it closes: for load balancers it is not ready, but it answers until then."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Any = self.config.app
        await app.state.service.drain()
        await super().shutdown(sockets)
        # Having ended well is no death by a signal.
        captured: list[int] = self._captured_signals
        captured[:] = [number for number in captured if number != signal.SIGTERM]


def _protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with limits on connections, and on size and time of heads."""

    class Limited(HttpToolsProtocol):
        _in_head = False
        _head_bytes = 0
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                logs.event("too_many_connections", logging.WARNING)
                transport.abort()
                return
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._in_head and self.parser is not None:
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD:
                    self._stop_timer()
                    self.send_400_response("The head of the request is too large.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_head()

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._stop_timer()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._stop_timer()
            self._in_head, self._head_bytes = True, 0
            self._timer = self.loop.call_later(settings.request_timeout, self._too_slow)

        def _too_slow(self) -> None:
            if self._in_head and not self.transport.is_closing():
                self.transport.abort()

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Limited
