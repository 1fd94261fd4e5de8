"""HTTP connections of uvicorn with limits that it does not have itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from . import logs
from .settings import Settings

__all__ = ["http_protocol"]

MOST_HEAD = 64 * 1024  # bytes of a request's first line and headers
LEAST_READ = 16 * 1024  # bytes that a client takes in `send_timeout`, where as many wait


def http_protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Return the class for ``uvicorn.Config(http=...)``.

    It limits connections, the size of heads and the time until they are whole, and cuts off who
    does not take an answer.
    """

    class Limited(HttpToolsProtocol):
        _overhead = 0  # bytes of this request that are no body, less what its body excuses
        _in_message = False
        _wait: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None
        _running: RequestResponseCycle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                logs.event("too_many_connections", logging.WARNING)
                transport.abort()
                return
            self._await_rest()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self._stop_writing_timer()
            if self._running is not None:
                self._running.disconnected = True  # uvicorn tells the request that came last
            super().connection_lost(exc)

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

        # --- requests: neither endless nor for ever, nor mostly something else than a body

        def data_received(self, data: bytes) -> None:
            self._overhead += len(data)
            super().data_received(data)
            if self._overhead > MOST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._overhead, self._in_message = 0, True
            self._await_rest()

        def on_headers_complete(self) -> None:
            self._stop_waiting()  # for the body the route waits as long as it wants to
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            # Chunks of a few bytes have more around them, and so have trailers behind them all.
            self._overhead = max(self._overhead - 2 * len(body), 0)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._in_message = False
            self._stop_waiting()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._in_message:  # with a body that nobody reads
                self._await_rest()

        def _await_rest(self) -> None:
            self._stop_waiting()
            self._wait = self.loop.call_later(settings.request_timeout, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._wait is not None:
                self._wait.cancel()
                self._wait = None

        # --- answers: a client has to take some of them in `send_timeout`

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_writing()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_writing_timer()

        def _watch_writing(self) -> None:
            before = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(
                settings.send_timeout, self._check_writing, before
            )

        def _check_writing(self, before: int) -> None:
            if before - self.transport.get_write_buffer_size() < LEAST_READ:
                self.transport.abort()
            else:
                self._watch_writing()

        def _stop_writing_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

    return Limited
