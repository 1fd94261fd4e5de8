"""What is kept of a session so that it can be resumed, and the store of a single process."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from .protocol import StreamError, frame_position

MOVED = "another connection has resumed the session, or it has ended"
UNKNOWN = "the session has expired, was closed, or never was; or the token is not its own"


@dataclass(slots=True)
class StoredSession:
    """A session as a store keeps it: one value, replaced as a whole.

    Parameters
    ----------
    id : str
        Public name, random.
    token_hash : bytes
        SHA-256 of the resume token; the token itself is nowhere kept.
    model, version : str
        Of the model whose state it is.
    epoch : int
        Grows with each resumption. Whoever holds an older one may not write any more.
    position : int
        Steps answered.
    state : bytes
        The recurrent state after them; empty for the zero state.
    kept : deque of (int, bytes)
        Answers that are not acknowledged: the position after them, and their frames.
    """

    id: str
    token_hash: bytes
    model: str
    version: str
    epoch: int = 1
    position: int = 0
    state: bytes = b""
    kept: deque[tuple[int, bytes]] = field(default_factory=deque)

    def answered(self, end: int, frame: bytes) -> None:
        """Move to the position after an answer, which is kept."""
        self.position = end
        self.kept.append((end, frame))

    def acknowledge(self, received: int) -> None:
        """Free the answers before a position."""
        while self.kept and self.kept[0][0] <= received:
            self.kept.popleft()

    def kept_from(self) -> int:
        """Return the position from which on all answers are kept."""
        return frame_position(self.kept[0][1]) if self.kept else self.position

    def opens_with(self, token_hash: bytes) -> bool:
        """Tell whether the token is this session's, in constant time."""
        return hmac.compare_digest(self.token_hash, token_hash)


Check = Callable[[StoredSession], None]


class Store(Protocol):
    """Where sessions are kept. All methods raise `StreamError`: "busy" if the store is down."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def create(self, stored: StoredSession) -> None:
        """Keep a new session."""

    async def claim(self, session_id: str, check: Check) -> StoredSession:
        """Return a session for its new owner, its epoch one more; else "unknown_session".

        `check` raises for a session that must stay with its owner.
        """

    async def write(self, stored: StoredSession) -> None:
        """Replace what is kept; "moved" if there is a newer owner or the session is gone."""

    async def delete(self, stored: StoredSession) -> None:
        """Forget a session, unless it has a newer owner."""


class MemoryState:
    """Keeps sessions in this process: they end with it."""

    def __init__(self) -> None:
        self._sessions: dict[str, StoredSession] = {}

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Forget all."""
        self._sessions.clear()

    async def create(self, stored: StoredSession) -> None:
        """Keep a new session."""
        self._sessions[stored.id] = stored

    async def claim(self, session_id: str, check: Check) -> StoredSession:
        """Return a copy with the next epoch, which takes the place of the old one."""
        old = self._sessions.get(session_id)
        if old is None:
            raise StreamError("unknown_session", UNKNOWN)
        check(old)
        new = replace(old, epoch=old.epoch + 1, kept=deque(old.kept))
        self._sessions[session_id] = new
        return new

    async def write(self, stored: StoredSession) -> None:
        """Check that `stored`, which is the value itself, has not been replaced."""
        if self._sessions.get(stored.id) is not stored:
            raise StreamError("moved", MOVED)

    async def delete(self, stored: StoredSession) -> None:
        """Forget a session."""
        if self._sessions.get(stored.id) is stored:
            del self._sessions[stored.id]
