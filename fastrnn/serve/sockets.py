"""WebSockets of uvicorn with a bounded write buffer."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from .settings import Settings

MOST_FRAMES = 4096  # that make no message, between two pings
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def websocket_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return the class for ``uvicorn.Config(ws=...)``.

    uvicorn waits before each message until the one before has left the write buffer, but forever.
    Here a client that does not read is cut off after `send_timeout`; also while uvicorn closes,
    where the buffer of a client that is no more would stay as long as its connection. So is one
    whose request is none, which uvicorn leaves alone, or who sends frames without end that make
    no message: parts of one, pings and pongs.
    """

    class Protocol(WebSocketsSansIOProtocol):
        _cut: asyncio.TimerHandle | None = None
        _frames = 0  # since the last message, or our last ping

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # Writing is paused as soon as something stays in the buffer.
            cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.handshake_initiated:  # all of the request is in the first bytes
                self.transport.write(BAD_REQUEST)
                self.transport.close()

        def handle_cont(self, event: Frame) -> None:
            if self._may_go_on():
                super().handle_cont(event)

        def handle_ping(self) -> None:
            if self._may_go_on():
                super().handle_ping()

        def handle_pong(self, event: Frame) -> None:
            if self._may_go_on():
                super().handle_pong(event)

        def _may_go_on(self) -> bool:
            self._frames += 1
            if self._frames > MOST_FRAMES:
                self.transport.abort()
            return not self.transport.is_closing()

        def send_receive_event_to_app(self) -> None:
            self._frames = 0
            try:
                super().send_receive_event_to_app()
            except InvalidState:  # no UTF-8, and a close came with it
                self.transport.abort()

        def send_keepalive_ping(self) -> None:
            self._frames = 0
            super().send_keepalive_ping()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cut = self.loop.call_later(settings.send_timeout, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stay()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stay()
            super().connection_lost(exc)

        def _stay(self) -> None:
            if self._cut is not None:
                self._cut.cancel()
                self._cut = None

    return Protocol
