"""Sessions kept in Redis, so that any server that shares it can go on with them: `RedisState`.

A session is one string, whose first 16 bytes are the format's name and the owner's epoch. A script
in Redis replaces it only where these are the same as the new value's: who resumed a session last
has raised the epoch, and what older owners write is refused.

Writes of many sessions share one call of the script: what is asked for while a call is under way
goes with the next one. A server writes thousands of sessions a second with a few hundred calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from . import logs
from .protocol import HEADER, StreamError
from .state import MOVED, UNKNOWN, Check, StoredSession

PASSWORD_VARIABLE: Final = "FASTRNN_REDIS_PASSWORD"
MAX_VALUE: Final = 64 << 20  # bytes of a session that are read
BATCH_SESSIONS, BATCH_BYTES = 256, 4 << 20  # of one call, during which Redis does nothing else
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 2.0, 5.0  # seconds
CONNECTIONS: Final = 8  # writes use one; who opens or resumes waits for another
CLAIMS: Final = 10  # attempts, where others claim the same session

MAGIC: Final = b"fastrnn1"
_PREFIX = struct.Struct("<8sQ")  # magic, epoch
_CHECKSUM = struct.Struct("<I")  # of all that follows
_HEAD = struct.Struct("<32sQHHII")  # token_hash, position; sizes of model, version, state, kept
_KEPT = struct.Struct("<QI")  # position after it, size

# KEYS: sessions. ARGV: milliseconds to live, then their values. Returns "1" for each that was
# written, "0" where the owner is another.
WRITE = """
local written = {}
for i, key in ipairs(KEYS) do
  local value = ARGV[i + 1]
  if redis.call('GETRANGE', key, 0, 15) == string.sub(value, 1, 16) then
    redis.call('SET', key, value, 'PX', ARGV[1])
    written[i] = '1'
  else
    written[i] = '0'
  end
end
return table.concat(written)
"""

# ARGV: milliseconds, the first 16 bytes expected and those that replace them, bytes to read.
CLAIM = """
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[2] then
  return false
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('GETRANGE', KEYS[1], 0, ARGV[4])
"""

DELETE = """
if redis.call('GETRANGE', KEYS[1], 0, 15) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""


class RedisState:
    """A store in Redis; the methods are those of `Store`.

    Parameters
    ----------
    url : str
        "redis://host:port/number". A password may be in the environment variable
        FASTRNN_REDIS_PASSWORD instead.
    idle_timeout : float
        Seconds without a write after which Redis forgets a session.

    Raises
    ------
    ValueError
        If the URL is none of Redis.
    """

    def __init__(self, url: str, idle_timeout: float) -> None:
        more: dict[str, Any] = {}
        if password := os.environ.get(PASSWORD_VARIABLE):
            more["password"] = password
        try:
            connections = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=ANSWER_TIMEOUT,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_timeout=ANSWER_TIMEOUT,
                # All that is sent may be sent twice: a claim that was done is seen to be so.
                retry=redis.asyncio.retry.Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
                **more,
            )
        except ValueError as error:
            raise ValueError(f"state: expected redis://HOST:PORT/NUMBER ({error})") from None
        self._redis = redis.asyncio.Redis.from_pool(connections)
        self._milliseconds = int(1000 * idle_timeout)
        self._write = self._redis.register_script(WRITE)
        self._claim = self._redis.register_script(CLAIM)
        self._delete = self._redis.register_script(DELETE)
        self._pending: deque[tuple[StoredSession, asyncio.Future[None]]] = deque()
        self._more = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._down = False

    async def start(self) -> None:
        """Begin to write; Redis need not be there yet."""
        self._writer = asyncio.create_task(self._write_forever())
        with contextlib.suppress(StreamError), self._named_errors():
            await self._redis.ping()

    async def stop(self) -> None:
        """End the connections."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        self._finish(self._pending, StreamError("draining", "the server has stopped"))
        await self._redis.aclose()

    async def create(self, stored: StoredSession) -> None:
        """Keep a new session."""
        with self._named_errors():
            await self._redis.set(_key(stored.id), encode(stored), px=self._milliseconds, nx=True)

    async def claim(self, session_id: str, check: Check) -> StoredSession:
        """Return a session for its new owner, its epoch one more."""
        key = _key(session_id)
        for _ in range(CLAIMS):
            with self._named_errors():
                value = await self._redis.getrange(key, 0, MAX_VALUE)
            if not value:
                raise StreamError("unknown_session", UNKNOWN)
            stored = _decoded(session_id, value)
            check(stored)
            prefix = _PREFIX.pack(MAGIC, stored.epoch + 1)
            arguments = [self._milliseconds, value[: _PREFIX.size], prefix, MAX_VALUE]
            with self._named_errors():
                claimed = await self._claim([key], arguments)
            if claimed:  # maybe with steps that were answered meanwhile
                return _decoded(session_id, claimed)
        raise StreamError("busy", "others claim the session all the time")

    async def write(self, stored: StoredSession) -> None:
        """Replace what is kept, unless there is a newer owner."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((stored, done))
        self._more.set()
        await done

    async def delete(self, stored: StoredSession) -> None:
        """Forget a session, unless there is a newer owner."""
        with self._named_errors():
            await self._delete([_key(stored.id)], [_PREFIX.pack(MAGIC, stored.epoch)])

    # --- many writes in one call ------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            self._more.clear()
            while self._pending:
                await self._write_some()
            await self._more.wait()

    async def _write_some(self) -> None:
        """Write the sessions that have waited longest, as many as one call may take."""
        batch: list[tuple[StoredSession, asyncio.Future[None]]] = []
        keys, values, size = [], [], 0
        while self._pending and len(batch) < BATCH_SESSIONS and size < BATCH_BYTES:
            batch.append(self._pending.popleft())
            stored = batch[-1][0]
            keys.append(_key(stored.id))
            values.append(encode(stored))
            size += len(values[-1])
        try:
            with self._named_errors():
                written = await self._write(keys, [self._milliseconds, *values])
        except StreamError as error:
            self._finish(batch, error)
            return
        except BaseException:
            self._finish(batch, StreamError("internal", "the session could not be written"))
            raise
        for (_, done), ok in zip(batch, written, strict=True):
            if not done.done():
                if ok == ord("1"):
                    done.set_result(None)
                else:
                    done.set_exception(StreamError("moved", MOVED))

    @staticmethod
    def _finish(batch: Any, error: StreamError) -> None:
        for _, done in batch:
            if not done.done():
                done.set_exception(error)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turn errors of Redis into "busy"; log when it goes and when it is back."""
        try:
            yield
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            if not self._down:
                logs.event("store_down", logging.ERROR, error=f"{type(error).__name__}: {error}")
            self._down = True
            raise StreamError("busy", "the store of sessions does not answer: try later") from None
        if self._down:
            self._down = False
            logs.event("store_up")


def _key(session_id: str) -> str:
    return f"fastrnn:session:{session_id}"


def encode(stored: StoredSession) -> bytes:
    """Return the value of a session."""
    model, version = stored.model.encode(), stored.version.encode()
    sizes = len(model), len(version), len(stored.state), len(stored.kept)
    parts = [_HEAD.pack(stored.token_hash, stored.position, *sizes), model, version, stored.state]
    for end, frame in stored.kept:
        parts += (_KEPT.pack(end, len(frame)), frame)
    body = b"".join(parts)
    return b"".join((_PREFIX.pack(MAGIC, stored.epoch), _CHECKSUM.pack(zlib.crc32(body)), body))


def decode(session_id: str, value: bytes) -> StoredSession:
    """Return the session of a value; ValueError if it is damaged, too long or of another format."""
    if len(value) > MAX_VALUE or len(value) < _PREFIX.size + _CHECKSUM.size + _HEAD.size:
        raise ValueError(f"expected a session of at most {MAX_VALUE} bytes, got {len(value)}")
    magic, epoch = _PREFIX.unpack_from(value)
    if magic != MAGIC:
        raise ValueError(f"expected the format {MAGIC!r}, got {magic!r}")
    body = memoryview(value)[_PREFIX.size + _CHECKSUM.size :]
    if _CHECKSUM.unpack_from(value, _PREFIX.size)[0] != zlib.crc32(body):
        raise ValueError("the checksum is wrong")
    try:
        token_hash, position, *sizes = _HEAD.unpack_from(body)
        at = _HEAD.size

        def take(size: int) -> bytes:
            nonlocal at
            at += size
            if at > len(body):
                raise ValueError("it ends too early")
            return bytes(body[at - size : at])

        model, version, state = take(sizes[0]).decode(), take(sizes[1]).decode(), take(sizes[2])
        kept: deque[tuple[int, bytes]] = deque()
        for _ in range(sizes[3]):
            end, size = _KEPT.unpack(take(_KEPT.size))
            if size < HEADER.size:
                raise ValueError("an answer is shorter than its header")
            kept.append((end, take(size)))
    except struct.error as error:
        raise ValueError(str(error)) from None
    if at != len(body):
        raise ValueError("it does not end where it should")
    return StoredSession(session_id, token_hash, model, version, epoch, position, state, kept)


def _decoded(session_id: str, value: bytes) -> StoredSession:
    try:
        return decode(session_id, value)
    except ValueError as error:
        logs.event("session_unreadable", logging.ERROR, error=str(error))
        raise StreamError(
            "unknown_session", f"the stored session cannot be read: {error}"
        ) from None
