"""WebSockets of uvicorn with a bounded write buffer."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .settings import Settings


def websocket_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return the class for ``uvicorn.Config(ws=...)``.

    uvicorn waits before each message until the one before has left the write buffer, but forever.
    Here a client that does not read is cut off after `send_timeout`; also while uvicorn closes,
    where the buffer of a client that is no more would stay as long as its connection.
    """

    class Protocol(WebSocketsSansIOProtocol):
        _cut: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # Writing is paused as soon as something stays in the buffer.
            cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)
            super().connection_made(transport)

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
