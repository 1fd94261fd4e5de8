"""A client for streams that goes on where a lost connection ended: `StreamClient`."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from . import protocol
from .protocol import FrameFormat, StreamError, Window

__all__ = ["StreamClient", "StreamError", "Ticket"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts to connect, doubled each time
CONNECT_TIMEOUT = 10.0
LAST_WORDS = 5.0  # for what the server said before it closed
RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})


class Ticket(NamedTuple):
    """What it takes to go on with a session in another process: keep it secret."""

    session: str
    token: str
    received: int  # steps whose answers have arrived
    key: str  # of the session for proxies


class _Kind(Enum):
    STEPS, RESET, CLOSE = range(3)


@dataclass(eq=False)
class _Message:
    """What waits to be sent or answered."""

    kind: _Kind
    position: int
    end: int
    payload: NDArray[Any]
    size: int = 0
    answer: asyncio.Future[NDArray[np.float32]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def resolve(self, y: NDArray[np.float32]) -> None:
        """Give the answer to who waits for it, if he still does."""
        if not self.answer.done():
            self.answer.set_result(y)


_NOTHING = np.empty(0, np.float32)


class StreamClient:
    """One session of a model on a server: steps go in, answers come out, each exactly once.

    When the connection is lost, or the server goes, the client connects again, here or to the next
    URL, resumes the session and sends again what has no answer. The answers are those of an
    undisturbed run, bit by bit.

    Parameters
    ----------
    url : str or sequence of str
        Of servers that share their states, as "ws://127.0.0.1:8000"; tried in turn.
    model : str
    token : str, optional
        The bearer token, where the server wants one.
    timeout : float
        Seconds without a connection after which calls raise ConnectionError.
    resume : Ticket, optional
        Goes on with the session of an earlier client instead of opening one. What that client had
        sent after `received` must be sent again, in the same messages.

    Attributes
    ----------
    input_size, output_size : int
    takes_tokens : bool
        Whether steps are integers, and not `input_size` real numbers.
    position : int
        Steps given to `send` since the session began.
    url : str
        Of the server that is or was connected.
    connections : int
        How often the session was opened or resumed.

    Examples
    --------
    A model "speech" on a server of this machine, and chunks of (steps, input_size)::

        async with StreamClient("ws://127.0.0.1:8000", "speech") as stream:
            for x in chunks:
                y = await stream.send(x)        # (steps, output_size)
    """

    input_size: int
    output_size: int
    takes_tokens: bool

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        resume: Ticket | None = None,
    ) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise ValueError("url: expected at least one")
        ticket = resume or Ticket("", "", 0, secrets.token_urlsafe(16))
        self._session, self._token, self._received, self._key = ticket
        self._urls = deque((each, _stream_url(each, model, self._key)) for each in urls)
        self.url, self.connections = urls[0], 0
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout
        self.position = self._received
        self._unsent: deque[_Message] = deque()
        self._sent: deque[_Message] = deque()  # without an answer, the oldest first
        self._more = asyncio.Event()  # there may be something to send
        self._ready: asyncio.Future[None] | None = None  # the first connection
        self._runner: asyncio.Task[None] | None = None
        self._ended: Exception | None = None

    # --- for the user -----------------------------------------------------------------------------

    async def __aenter__(self) -> StreamClient:
        await self.connect()
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is None and self._ended is None:
            await self.close()
        else:
            await self.disconnect()

    async def connect(self) -> None:
        """Open the session, or resume it; what ``async with`` does."""
        if self._runner is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._runner = asyncio.create_task(self._run())
            try:
                await self._ready
            except BaseException:
                await self.disconnect()
                raise

    async def send(self, x: ArrayLike) -> NDArray[np.float32]:
        """Run steps and return their outputs.

        Calls need not wait for each other: their order is that in which they were made.

        Parameters
        ----------
        x : array_like
            (steps, input_size) or (input_size,) real numbers; of models of tokens (steps,) integers
            or one. More steps than one message of the server may have go in several.

        Returns
        -------
        ndarray
            (steps, output_size) or (output_size,) float32.

        Raises
        ------
        ValueError
            If x does not have the model's size, or values that its type cannot hold.
        StreamError
            If the server refuses, with a code and a message.
        ConnectionError
            If it cannot be reached for `timeout` seconds.
        """
        self._check_connected()
        steps, single = self._steps_of(x)
        messages = []
        for start in range(0, len(steps), self._max_steps):
            part = steps[start : start + self._max_steps]
            size = protocol.message_bytes(len(part), self._widths)
            messages.append(self._enqueue(_Kind.STEPS, part, size))
        answers = [await message.answer for message in messages]
        y = answers[0] if len(answers) == 1 else np.concatenate(answers)
        return y[0] if single else y

    async def reset(self) -> None:
        """Set the state to that of the beginning, after the steps sent so far."""
        self._check_connected()
        await self._enqueue(_Kind.RESET).answer

    async def close(self) -> None:
        """End the session for good, after all that was sent is answered."""
        if self._runner is not None and self._ended is None:
            await self._enqueue(_Kind.CLOSE).answer
            self._end(ConnectionError("the session is closed"))
        await self.disconnect()

    async def disconnect(self) -> None:
        """Leave the session on the server, where `ticket` can resume it for a while."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        self._end(ConnectionError("the client is not connected"))

    @property
    def ticket(self) -> Ticket:
        """What a later client needs to go on."""
        return Ticket(self._session, self._token, self._received, self._key)

    # --- messages ---------------------------------------------------------------------------------

    def _check_connected(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self._runner is None:
            raise ConnectionError("the client is not connected: use it in `async with`")

    def _steps_of(self, x: ArrayLike) -> tuple[NDArray[Any], bool]:
        """Return the steps of x, and whether it was one step without an axis of steps."""
        array = np.asarray(x)
        if self.takes_tokens:
            if array.dtype.kind not in "iu" or array.ndim > 1:
                raise ValueError(f"x: expected integers (steps,), got {array.dtype} {array.shape}")
            if array.size and not (-(2**31) <= int(array.min()) <= int(array.max()) < 2**31):
                raise ValueError("x: expected tokens that fit into 32 bits")
            single = array.ndim == 0
        else:
            if array.dtype.kind not in "fiub" or array.shape[-1:] != (self.input_size,):
                raise ValueError(
                    f"x: expected real numbers (steps, {self.input_size}), "
                    f"got {array.dtype} {array.shape}"
                )
            single = array.ndim == 1
        # A copy, as the caller may use x again.
        kind: np.dtype[Any] = protocol.TOKEN if self.takes_tokens else protocol.FLOAT
        steps = np.array(array[None] if single else array, kind, order="C")
        if steps.ndim > 2 or not len(steps):
            raise ValueError(f"x: expected one or more steps, got the shape {array.shape}")
        return steps, single

    def _enqueue(self, kind: _Kind, payload: NDArray[Any] = _NOTHING, size: int = 0) -> _Message:
        position = self.position
        self.position += len(payload)
        message = _Message(kind, position, self.position, payload, size)
        self._unsent.append(message)
        self._more.set()
        return message

    def _end(self, error: Exception) -> None:
        """Accept no more; tell all who wait."""
        if self._ended is None:
            self._ended = error
        for message in (*self._sent, *self._unsent):
            if not message.answer.done():
                message.answer.set_exception(self._ended)
                message.answer.exception()  # who waits is told; nobody need wait
        self._sent.clear()
        self._unsent.clear()

    # --- connections ------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect again and again, until the session ends or cannot be reached."""
        try:
            await self._connect_until_closed()
            self._end(ConnectionError("the session is closed"))
        except Exception as error:
            self._end(error)
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(error)

    async def _connect_until_closed(self) -> None:
        clock = asyncio.get_running_loop().time
        pause, self._progress = FIRST_PAUSE, clock()
        while True:
            began = clock()
            try:
                async with connect(
                    self._urls[0][1],
                    additional_headers=self._headers,
                    compression=None,
                    max_size=None,
                    open_timeout=CONNECT_TIMEOUT,
                ) as socket:
                    await self._begin(socket)
                    if await self._converse(socket):
                        return
            except (OSError, asyncio.TimeoutError, WebSocketException, StreamError) as error:
                _raise_if_final(error)
                if self._progress > began:
                    pause = FIRST_PAUSE
                elif clock() - self._progress > self._timeout:
                    raise ConnectionError(
                        f"no stream for {self._timeout:g} s, at last: {error}"
                    ) from error
            self._urls.rotate(-1)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _begin(self, socket: ClientConnection) -> None:
        """Open or resume the session; find out what is to be sent again."""
        if self._session:
            ticket = {"session": self._session, "token": self._token, "received": self._received}
            await socket.send(protocol.write_message("resume", **ticket))
        else:
            await socket.send(protocol.write_message("open"))
        reply = protocol.read_reply(str(await asyncio.wait_for(socket.recv(), CONNECT_TIMEOUT)))
        if reply.get("type") != "opened" or reply.get("protocol") != protocol.VERSION:
            raise StreamError("internal", f"expected protocol {protocol.VERSION}, got {reply}")
        self._session, self._token = reply["session"], reply["token"]
        self.input_size, self.output_size = reply["input_size"], reply["output_size"]
        self.takes_tokens = reply["input"] == "int32"
        self._widths = (1 if self.takes_tokens else self.input_size, self.output_size)
        self._max_steps = reply["max_steps"]
        self._format = FrameFormat(False, self.output_size, self._max_steps)
        self._window = Window(reply["max_in_flight"], reply["max_frame"])
        if reply["position"] < self._received:
            raise StreamError(
                "unknown_session",
                f"the server has lost answers: it is at {reply['position']}, "
                f"but answered {self._received} steps",
            )
        self.url = self._urls[0][0]
        self.connections += 1
        self._sort(reply["position"])
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        if not self._sent and not self._unsent:
            self._progress = asyncio.get_running_loop().time()

    def _sort(self, position: int) -> None:
        """Part what the server has answered, and will tell again, from what must be sent again."""
        messages = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        for message in messages:
            if message.end > position or message.kind is not _Kind.STEPS:
                # A reset before the server's position was done: later steps have been answered.
                if message.kind is _Kind.RESET and message.position < position:
                    message.resolve(_NOTHING)
                else:
                    self._unsent.append(message)
            else:
                self._sent.append(message)
                self._window.add(message.end, message.size)

    async def _converse(self, socket: ClientConnection) -> bool:
        """Send and receive; tell whether the session was closed."""
        self._sending = True
        sender = asyncio.create_task(self._send_all(socket))
        receiver = asyncio.create_task(self._receive_all(socket))
        try:
            await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_COMPLETED)
            # What the server said last tells more than that sending failed.
            return await asyncio.wait_for(receiver, LAST_WORDS)
        finally:
            sender.cancel()
            receiver.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)

    async def _send_all(self, socket: ClientConnection) -> None:
        while True:
            while self._may_send():
                message = self._unsent.popleft()
                self._sent.append(message)
                if message.kind is _Kind.STEPS:
                    self._window.add(message.end, message.size)
                    await socket.send(
                        protocol.pack_frame(message.position, self._received, message.payload)
                    )
                else:
                    await socket.send(protocol.write_message(message.kind.name.lower()))
            self._more.clear()
            await self._more.wait()

    def _may_send(self) -> bool:
        return (
            self._sending
            and bool(self._unsent)
            and len(self._sent) < self._window.max_messages
            and self._window.fits(self._unsent[0].size)
        )

    async def _receive_all(self, socket: ClientConnection) -> bool:
        async for data in socket:
            if isinstance(data, bytes):
                self._take_answer(data)
            else:
                kind = protocol.read_reply(data).get("type")
                if kind == "draining":
                    self._sending = False  # answers to what was sent still come
                elif kind in ("reset", "closed") and self._sent:
                    self._sent.popleft().resolve(_NOTHING)
                if kind == "closed":
                    return True
            self._more.set()
        raise ConnectionError("the server closed the connection")

    def _take_answer(self, frame: bytes) -> None:
        position, _, y = self._format.read(frame)
        if not self._sent or position != self._sent[0].position:
            return  # to an earlier client with the same ticket, or told again
        message = self._sent.popleft()
        if len(y) != len(message.payload):
            raise StreamError("internal", f"expected {len(message.payload)} steps, got {len(y)}")
        self._received = message.end
        self._window.free(message.end)
        self._progress = asyncio.get_running_loop().time()
        message.resolve(y)


def _stream_url(url: str, model: str, key: str) -> str:
    """Return the address of a model's streams; proxies may use the key."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError(f"url: expected ws://HOST:PORT or wss://HOST:PORT, got {url!r}")
    path = f"{parts.path.rstrip('/')}/v2/models/{quote(model, safe='')}/stream"
    query = "&".join(filter(None, (parts.query, urlencode({"session": key}))))
    return urlunsplit((scheme, parts.netloc, path, query, ""))


def _raise_if_final(error: Exception) -> None:
    """Raise what another attempt will not mend."""
    if isinstance(error, StreamError) and error.code not in protocol.RETRIED:
        raise error
    if isinstance(error, InvalidStatus) and error.response.status_code not in RETRIED_STATUS:
        body = bytes(error.response.body or b"")[:500].decode("utf-8", "replace")
        raise ConnectionError(f"HTTP status {error.response.status_code}: {body}") from error
    if isinstance(error, InvalidURI):
        raise error
