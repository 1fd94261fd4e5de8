"""The process: uvicorn with limits on connections and heads, and an end that loses nothing."""

from __future__ import annotations

import gc
import math
import signal
import socket
from collections.abc import Sequence

import uvicorn

from . import logs
from .app import create_app
from .connections import http_protocol
from .service import Service
from .settings import ModelSettings, Settings
from .sockets import websocket_protocol

__all__ = ["serve"]

BACKLOG = 2048  # connections that wait to be accepted
KEEP_ALIVE = 75  # seconds: longer than clients and proxies keep a connection


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
    config = uvicorn.Config(
        app,
        http=http_protocol(settings),
        ws=websocket_protocol(settings),
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_max_size=settings.max_frame,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        lifespan="on",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.send_timeout),
        backlog=BACKLOG,
    )
    # What is loaded by now stays; looking through it for garbage would hold up answers each time.
    gc.collect()
    gc.freeze()
    try:
        _Server(config).run(sockets=[listening])
    except SystemExit:
        failure = getattr(app.state, "failure", None)
        if failure is None:
            raise
        raise ValueError(f"state: {failure}") from failure
    logs.event("stopped")


def _listen(settings: Settings) -> socket.socket:
    """Return a listening socket; OSError names the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{settings.host}:{settings.port}") from None


class _Server(uvicorn.Server):
    """Drains before it closes: for load balancers it is not ready, but it answers until then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        service: Service = self.config.app.state.service
        host, port = (sockets or [])[0].getsockname()[:2]
        logs.event(
            "listening",
            url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
            models=service.models.names,
            tokens=len(service.settings.tokens),
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        service: Service = self.config.app.state.service
        await service.drain()
        await super().shutdown(sockets)
        # Having ended well is no death by a signal.
        captured: list[int] = self._captured_signals
        captured[:] = [number for number in captured if number != signal.SIGTERM]
