"""Sessions: who may have how many, which are attached to a stream, when they expire.

What must survive is in a `Store` (state.py, redis_state.py). While a stream is attached to it, a
session also has a session of the model's `StreamPool`, which is opened from the stored state and
closed with the stream: whatever was computed and not stored is computed again, from the same state.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ..streams import PoolFull
from . import logs
from .protocol import StreamError
from .state import MOVED, UNKNOWN, MemoryState, Store, StoredSession

if TYPE_CHECKING:
    from .models import ServedModel
    from .service import Service
    from .settings import Settings


class Attached(Protocol):
    """A stream, as its session knows it."""

    def stop(self, error: StreamError) -> None:
        """End, with this error."""

    def drain(self) -> None:
        """End as the server does."""


class Session:
    """A session that this process knows.

    Attributes
    ----------
    stored : StoredSession
        What the store has, or will have with the next write.
    model : ServedModel
    pool, apool : StreamPool, AsyncPool
        Of the model.
    client : hashable
        Whose quota it counts for.
    handle : int or None
        The session of `model.pool`, while a stream is attached.
    stream : Attached or None
        Whose session it is.
    """

    __slots__ = (
        *("apool", "client", "counted", "handle", "model"),
        *("pool", "stored", "stream", "used", "written"),
    )

    def __init__(self, stored: StoredSession, model: ServedModel, client: Hashable) -> None:
        self.stored = stored
        self.model = model
        self.pool: Any = model.pool
        self.apool: Any = model.apool
        self.client = client
        self.handle: int | None = None
        self.stream: Attached | None = None
        self.used = self.written = time.monotonic()
        self.counted = (client, model.name)

    @property
    def resumable(self) -> bool:
        """Whether a store has it."""
        return bool(self.stored.token_hash)

    def attach(self) -> int:
        """Open the pool's session and return it; StreamError if that cannot be."""
        try:
            self.handle = self.pool.open(self.stored.state or None)
        except PoolFull as error:
            raise StreamError("limit", str(error)) from None
        except ValueError as error:  # whatever the store gave
            raise StreamError("unknown_session", str(error)) from None
        return self.handle

    def detach(self) -> None:
        """Close the pool's session; what it has not answered is cancelled."""
        if self.handle is not None:
            self.pool.close(self.handle)
            self.handle = None
        self.stream = None
        self.used = time.monotonic()


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def hash_of(token: str) -> bytes:
    """Return what is kept of a resume token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name: a Redis URL, or None for this process' memory."""
    if settings.state is None:
        return MemoryState()
    from .redis_state import RedisState

    return RedisState(settings.state, settings.idle_timeout)


class Sessions:
    """The sessions of a server.

    Parameters
    ----------
    service : Service
    store : Store, optional
        By default the one that the settings name.
    """

    def __init__(self, service: Service, store: Store | None = None) -> None:
        self._service = service
        self._settings = service.settings
        self._store = store if store is not None else open_store(service.settings)
        self._sessions: dict[str, Session] = {}
        self._counts: Counter[Hashable] = Counter()  # by client and by model
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Connect to the store; begin to look for idle sessions."""
        await self._store.start()
        self._tasks = [
            asyncio.create_task(self._sweep_forever()),
            asyncio.create_task(self._drain()),
        ]

    async def stop(self) -> None:
        """Let go of all sessions; the store keeps what it keeps."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in list(self._sessions.values()):
            self._forget(session)
        await self._store.stop()

    async def open(self, model: ServedModel, client: Hashable) -> tuple[Session, str]:
        """Return a new session, attached, and its resume token."""
        token = secrets.token_urlsafe(32)
        self._check_quotas(model, client)
        session = self._add(_new_session(model, hash_of(token)), model, client)
        try:
            session.attach()
            await self._store.create(session.stored)
        except BaseException:
            self._forget(session)
            raise
        return session, token

    async def resume(
        self, model: ServedModel, session_id: str, token: str, client: Hashable
    ) -> Session:
        """Return a session, attached to a new stream; an older stream of it is stopped."""
        token_hash = hash_of(token)
        if not _ID.fullmatch(session_id):
            raise StreamError("unknown_session", UNKNOWN)

        def check(stored: StoredSession) -> None:
            if not stored.opens_with(token_hash):
                raise StreamError("unknown_session", UNKNOWN)
            self._version_of(stored, model)
            known = self._sessions.get(session_id)
            if known is None or known.client != client:
                self._check_quotas(model, client)

        stored = await self._store.claim(session_id, check)
        # From here on it is known only to this server: it must not be turned away any more.
        self._replace(stored)
        session = self._add(stored, self._version_of(stored, model), client)
        session.attach()
        return session

    async def write(self, session: Session) -> None:
        """Store a session as it is; StreamError "moved" or "busy" if that cannot be."""
        session.written = time.monotonic()
        await self._store.write(session.stored)

    async def end(self, session: Session) -> None:
        """End a session for good."""
        self._forget(session)
        await self._store.delete(session.stored)

    @contextlib.contextmanager
    def borrow(self, model: ServedModel, client: Hashable) -> Iterator[int]:
        """Lend a session of the model's pool that counts for the quotas but cannot be resumed."""
        self._check_quotas(model, client)
        session = self._add(_new_session(model, b""), model, client)
        try:
            yield session.attach()
        finally:
            self._forget(session)

    # --- what this process knows ------------------------------------------------------------------

    def _add(self, stored: StoredSession, model: ServedModel, client: Hashable) -> Session:
        """Return a session that is known and counted from now on."""
        session = Session(stored, model, client)
        self._sessions[stored.id] = session
        self._counts.update(session.counted)
        model.sessions += 1
        return session

    def _forget(self, session: Session) -> None:
        """Take a session out of the counts and of the pool, unless that was done before."""
        session.detach()
        if self._sessions.get(session.stored.id) is session:
            del self._sessions[session.stored.id]
            session.model.sessions -= 1
            for each in session.counted:
                self._counts[each] -= 1
                if not self._counts[each]:
                    del self._counts[each]

    def _replace(self, stored: StoredSession) -> None:
        """Make place for a session that has been claimed anew."""
        old = self._sessions.get(stored.id)
        if old is None:
            return
        if old.stored.epoch >= stored.epoch:  # claims overtook each other
            raise StreamError("moved", MOVED)
        if old.stream is not None:
            old.stream.stop(StreamError("moved", MOVED))
        self._forget(old)

    def _check_quotas(self, model: ServedModel, client: Hashable) -> None:
        most = self._settings.max_sessions_per_client
        if self._counts[client] >= most:
            raise StreamError("limit", f"a client may have {most} sessions")
        most = model.quotas.max_sessions or self._settings.max_sessions
        if self._counts[model.name] >= most:
            raise StreamError("limit", f"the model {model.name} may have {most} sessions")

    def _version_of(self, stored: StoredSession, model: ServedModel) -> ServedModel:
        """Return the version of the model whose state it is."""
        if stored.model == model.name:
            with contextlib.suppress(KeyError):
                return self._service.models.get(stored.model, stored.version)
        raise StreamError(
            "unknown_session",
            f"the session is of the model {stored.model}, version {stored.version}, "
            "which is not served here",
        )

    async def _drain(self) -> None:
        await self._service.draining.wait()
        for session in list(self._sessions.values()):
            if session.stream is not None:
                session.stream.drain()

    # --- expiry -----------------------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        pause = min(10.0, self._settings.idle_timeout / 6)
        while True:
            await asyncio.sleep(pause)
            for session in list(self._sessions.values()):
                try:
                    await self._sweep(session, time.monotonic())
                except StreamError:  # the session has moved, or the store is down: the next time
                    pass
                except Exception:
                    logs.event("sweep_failed", logging.ERROR, exc_info=True)

    async def _sweep(self, session: Session, now: float) -> None:
        """End a session without a stream for too long; tell the store of one that is only quiet."""
        timeout = self._settings.idle_timeout
        if session.handle is None:
            if now - session.used > timeout:
                await self.end(session)
        elif session.resumable and now - session.written > timeout / 3:
            await self.write(session)


def _new_session(model: ServedModel, token_hash: bytes) -> StoredSession:
    return StoredSession(secrets.token_urlsafe(16), token_hash, model.name, model.version)
