"""Streams: the WebSocket route that runs the protocol of protocol.py for one session each.

Two tasks serve a stream. The reader checks what comes and hands steps to the pool at once, so that
many messages may be under way. The writer takes the answers in the order of the messages: all that
are ready are stored with one write of the session, and sent only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect

from . import logs, protocol
from .protocol import FrameFormat, StreamError, Window
from .security import SUBPROTOCOL
from .service import service_of
from .sessions import Sessions
from .state import MOVED

if TYPE_CHECKING:
    from .models import ServedModel
    from .security import Client
    from .service import Service

FIRST_MESSAGE = 10.0  # seconds that a client may take to say what it wants

router = APIRouter()


class GoneError(Exception):
    """The client has gone, or does not take what it is sent."""


CLOSE = object()


class Pending(NamedTuple):
    """What waits for its turn to be answered."""

    answer: Any  # of frames: the pool's future; else what to send, CLOSE or a StreamError
    position: int
    end: int  # position after it
    began: float

    @property
    def steps(self) -> int:
        """Of the message; 0 if it is no frame."""
        return self.end - self.position


@router.websocket("/v2/models/{name}/stream")
async def stream(websocket: WebSocket, name: str) -> None:
    """Run a stream."""
    service = service_of(websocket)
    client = service.client(websocket)
    model = service.model(name)
    if model.pool is None:
        raise HTTPException(400, f"the model does not stream: {model.why_no_streams}")
    offered = websocket.scope.get("subprotocols", ())
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    with contextlib.suppress(GoneError):
        await Stream(websocket, service, model, client).run()


class Stream:
    """One connection: the session it opens or resumes, and what is under way.

    Parameters
    ----------
    websocket : WebSocket
        Accepted.
    service : Service
    model : ServedModel
        In its newest version.
    client : Client
    """

    def __init__(
        self, websocket: WebSocket, service: Service, model: ServedModel, client: Client
    ) -> None:
        self._websocket = websocket
        self._service = service
        self._model = model
        self._client = client
        self._session: Any = None  # the Session, once it is open
        self._pending: deque[Pending] = deque()
        self._more = asyncio.Event()  # something pending may be ready
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the client until it or the server has enough."""
        with self._service.work():
            try:
                await self._begin()
                await self._converse()
            except StreamError as error:
                self._service.metrics.reject(error.code)
                await self._send(protocol.error_message(error.code, error.message))
                await self._close(protocol.CLOSE_CODES[error.code])
            finally:
                if self._session is not None:
                    self._session.detach()

    def stop(self, error: StreamError) -> None:
        """Read no more; when all that was read is answered, end with this error."""
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()
            self._add(error)

    def drain(self) -> None:
        """Tell the client that the server stops, and stop."""
        if self._reader is not None and not self._reader.done():
            opening = bool(self._pending) and isinstance(self._pending[0].answer, str)
            message = protocol.write_message("draining")
            self._pending.insert(1 if opening else 0, Pending(message, 0, 0, 0.0))
            self.stop(StreamError("draining", "the server stops: resume later or elsewhere"))

    # --- the beginning ----------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Open or resume the session that the first message asks for."""
        if self._service.draining.is_set():
            raise StreamError("draining", "the server stops: try later or elsewhere")
        try:
            first = await asyncio.wait_for(self._receive(), FIRST_MESSAGE)
        except asyncio.TimeoutError:
            raise StreamError("limit", f"expected a message within {FIRST_MESSAGE:g} s") from None
        if not isinstance(first, str):
            raise StreamError("bad_frame", 'expected "open" or "resume" before frames')
        request = protocol.read_request(first)
        sessions: Sessions = self._service.sessions
        if request["type"] == "open":
            self._model = self._service.models.get(self._model.name)  # which may be newer by now
            self._session, token = await sessions.open(self._model, self._client)
            self._opened(token, 0)
        elif request["type"] == "resume":
            token = request["token"]
            self._session = await sessions.resume(
                self._model, request["session"], token, self._client
            )
            self._opened(token, request["received"])
        else:
            raise StreamError("bad_frame", f'expected "open" or "resume", got {request["type"]!r}')

    def _opened(self, token: str, received: int) -> None:
        """Prepare the conversation; the writer begins with "opened" and answers of before."""
        session, settings = self._session, self._service.settings
        stored, pool = session.stored, session.pool
        tokens = bool(pool.takes_tokens)
        self._widths = (1 if tokens else pool.input_size, pool.output_size)
        max_steps = protocol.steps_of_frames(settings.max_frame, settings.max_steps, self._widths)
        self._format = FrameFormat(tokens, pool.input_size, max_steps)
        self._window = Window(settings.max_in_flight, settings.max_frame)
        self._position = stored.position  # after all that was read
        self._add(
            protocol.write_message(
                "opened",
                protocol=protocol.VERSION,
                session=stored.id,
                token=token,
                model=session.model.name,
                version=session.model.version,
                input="int32" if tokens else "float32",
                input_size=pool.input_size,
                output_size=pool.output_size,
                position=stored.position,
                max_steps=max_steps,
                max_in_flight=settings.max_in_flight,
                max_frame=settings.max_frame,
            ),
        )
        self._acknowledge(received)
        if received < stored.kept_from():
            raise StreamError(
                "bad_frame", f"received: answers from {received} on were acknowledged and are gone"
            )
        for end, frame in stored.kept:
            self._window.add(end, len(frame))
            self._add(frame)

    async def _converse(self) -> None:
        """Read and write until one of both ends."""
        self._reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        self._session.stream = self
        if self._service.draining.is_set():  # meanwhile
            self.drain()
        try:
            await asyncio.wait((self._reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()  # raises GoneError
            await writer
        finally:
            self._reader.cancel()
            writer.cancel()
            await asyncio.gather(self._reader, writer, return_exceptions=True)

    # --- reading ----------------------------------------------------------------------------------

    async def _receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise GoneError
        frame = message.get("bytes")
        return frame if frame is not None else message["text"]

    async def _read(self) -> None:
        """Take messages until one ends the stream."""
        try:
            while True:
                message = await self._receive()
                if isinstance(message, bytes):
                    self._take_steps(message)
                elif self._take_request(protocol.read_request(message)["type"]):
                    return
        except GoneError:
            raise
        except Exception as error:
            self._add(_as_stream_error(error))

    def _take_steps(self, frame: bytes) -> None:
        """Hand the steps of a frame to the pool."""
        position, received, steps = self._format.read(frame)
        self._acknowledge(received)
        end = position + len(steps)
        if position != self._position:
            self._repeat(position, end)
            return
        size = protocol.message_bytes(len(steps), self._widths)
        self._check_room(size)
        self._check_queue()
        answer = self._submit(steps)
        self._window.add(end, size)
        self._position = end
        self._add(answer, position, end)

    def _submit(self, steps: Any, reset: bool = False) -> asyncio.Future[Any]:
        session = self._session
        try:
            return session.apool.submit(session.handle, steps, state=True, reset=reset)
        except KeyError:  # closed when another stream resumed the session
            raise StreamError("moved", MOVED) from None

    def _check_room(self, size: int) -> None:
        window = self._window
        if not window.fits(size):
            raise StreamError(
                "limit",
                f"at most {window.max_messages} messages and {window.max_bytes} bytes may be "
                "under way: wait for answers, and tell in each frame what was received",
            )

    def _check_queue(self) -> None:
        most = 2 * self._window.max_messages  # with those that were to be sent again
        if len(self._pending) >= most:
            raise StreamError("limit", f"at most {most} messages may wait: wait for answers")

    def _repeat(self, position: int, end: int) -> None:
        """Answer a frame again that was answered before."""
        self._check_queue()
        for kept_end, frame in self._session.stored.kept:
            if kept_end == end and protocol.frame_position(frame) == position:
                self._add(frame)
                return
        raise StreamError(
            "bad_frame", f"expected a frame for position {self._position}, got {position}"
        )

    def _acknowledge(self, received: int) -> None:
        stored = self._session.stored
        if received > stored.position:
            raise StreamError(
                "bad_frame", f"received: expected at most {stored.position}, got {received}"
            )
        stored.acknowledge(received)
        self._window.free(received)

    def _take_request(self, kind: str) -> bool:
        """Do what a message asks for; tell whether it ends the stream."""
        if kind == "reset":
            self._check_queue()
            self._add(self._submit(None, reset=True), self._position, self._position)
        elif kind == "close":
            self._add(CLOSE)
        else:
            raise StreamError("bad_frame", f"{kind}: the stream has its session")
        return kind == "close"

    def _add(self, answer: Any, position: int = 0, end: int = 0) -> None:
        self._pending.append(Pending(answer, position, end, time.perf_counter()))
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(self._wake)
        else:
            self._more.set()

    def _wake(self, _: object) -> None:
        self._more.set()

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Store and send answers in the order of the messages, until one ends the stream."""
        while True:
            await self._more.wait()
            self._more.clear()
            ready, changed = self._take_ready()
            if changed:
                await self._service.sessions.write(self._session)
            for pending, message in ready:
                if isinstance(message, StreamError):
                    raise message
                if message is CLOSE:
                    await self._service.sessions.end(self._session)
                    await self._send(protocol.write_message("closed"))
                    await self._close(1000)
                    return
                await self._send(message)
                if pending.steps:
                    seconds = time.perf_counter() - pending.began
                    self._service.metrics.message(self._model.name, seconds, pending.steps)

    def _take_ready(self) -> tuple[list[tuple[Pending, Any]], bool]:
        """Take what can be answered, move the session on; tell whether it must be stored."""
        stored, ready, changed = self._session.stored, [], False
        while self._pending:
            pending = self._pending[0]
            message: Any = pending.answer
            if isinstance(message, asyncio.Future):
                if not message.done():
                    break
                try:
                    y, state = message.result()
                except (Exception, asyncio.CancelledError) as error:
                    message = _as_stream_error(error)
                else:
                    changed = True
                    stored.state = state
                    if y is None:
                        message = protocol.write_message("reset", position=stored.position)
                    else:
                        message = protocol.pack_frame(pending.position, 0, y)
                        stored.answered(pending.end, message)
            ready.append((self._pending.popleft(), message))
            if message is CLOSE or isinstance(message, StreamError):
                break
        return ready, changed

    async def _send(self, message: bytes | str) -> None:
        try:
            if isinstance(message, bytes):
                await self._websocket.send_bytes(message)
            else:
                await self._websocket.send_text(message)
        except (WebSocketDisconnect, RuntimeError):
            raise GoneError from None

    async def _close(self, code: int) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code)


def _as_stream_error(error: BaseException) -> StreamError:
    """Return what a client is told of an error."""
    if isinstance(error, StreamError):
        return error
    if isinstance(error, asyncio.CancelledError):  # the pool's session was closed
        return StreamError("moved", MOVED)
    if isinstance(error, ValueError | TypeError):
        return StreamError("bad_frame", str(error))
    if isinstance(error, queue.Full):
        return StreamError("limit", str(error))
    logs.event("stream_failed", logging.ERROR, exc_info=error)
    return StreamError("internal", "the server failed; its log says more")
