"""The stream protocol, version 1: its frames, messages and errors, for server and client alike.

A session is a recurrent state and a position, the number of steps it has answered. Steps and
answers travel in binary frames, little endian::

    8 bytes   position: steps of the session before this frame
    8 bytes   received: all answers before this position have arrived (client; 0 from the server)
    payload   float32 (steps, I) or int32 (steps,) to the server, float32 (steps, O) from it

Everything else is JSON in text messages; docs/serving.md describes the conversation.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

VERSION: Final = 1
HEADER: Final = struct.Struct("<QQ")  # position, received
MAX_TEXT: Final = 4096  # characters of a JSON message
FLOAT: Final = np.dtype("<f4")
TOKEN: Final = np.dtype("<i4")

# Why a server ends a stream, and the close code of the WebSocket that goes with it.
CLOSE_CODES: Final = {
    "bad_frame": 1008,  # a frame or message that is against the protocol
    "unknown_session": 1008,  # it never was, has expired or was closed; or the token is another's
    "limit": 1008,  # of sessions, of steps in a frame, of answers not acknowledged
    "too_big": 1009,
    "busy": 1013,  # the store of states does not answer: try later
    "draining": 1012,  # the server stops: resume, here when it is back or on another one
    "moved": 1012,  # another connection has resumed the session
    "internal": 1011,
}
RETRIED: Final = frozenset({"busy", "draining", "moved"})  # a client resumes after these by itself


class StreamError(Exception):
    """A stream ended for a reason that has a name.

    Parameters
    ----------
    code : str
        One of `CLOSE_CODES`.
    message : str
        What was expected and what came, for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def pack_frame(position: int, received: int, payload: NDArray[Any]) -> bytes:
    """Write a frame; the payload must be C-contiguous and of the frame's type."""
    return HEADER.pack(position, received) + payload.tobytes()


def frame_position(frame: bytes) -> int:
    """Return the position of a frame that `pack_frame` wrote."""
    return int(HEADER.unpack_from(frame)[0])


class FrameFormat:
    """How the frames of one direction of one model are read.

    Parameters
    ----------
    tokens : bool
        Whether a step is an int32 token, and not `width` float32 values.
    width : int
        Values of a step.
    max_steps : int
        Of a frame.
    """

    __slots__ = ("dtype", "max_steps", "step_bytes", "width")

    def __init__(self, tokens: bool, width: int, max_steps: int) -> None:
        self.dtype = TOKEN if tokens else FLOAT
        self.width = 0 if tokens else width  # 0: a payload has one dimension
        self.step_bytes = 4 if tokens else 4 * width
        self.max_steps = max_steps

    def read(self, frame: bytes) -> tuple[int, int, NDArray[Any]]:
        """Return position, received and the steps, a view of the frame; or raise StreamError."""
        payload_bytes = len(frame) - HEADER.size
        if payload_bytes <= 0 or payload_bytes % self.step_bytes:
            raise StreamError(
                "bad_frame",
                f"expected a header of {HEADER.size} bytes and one or more steps of "
                f"{self.step_bytes} bytes, got {len(frame)} bytes",
            )
        steps = payload_bytes // self.step_bytes
        if steps > self.max_steps:
            raise StreamError("limit", f"at most {self.max_steps} steps in a frame, got {steps}")
        position, received = HEADER.unpack_from(frame)
        payload = np.frombuffer(frame, self.dtype, offset=HEADER.size)
        return position, received, payload.reshape(steps, self.width) if self.width else payload


class Window:
    """What may be under way in one stream: messages, and bytes of them or of their answers.

    The client counts what it sent and has no answer to, the server what it has not been told to
    have arrived; as each frame tells what arrived, a client that keeps to its window never
    exceeds the server's.
    """

    __slots__ = ("_bytes", "_messages", "max_bytes", "max_messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self._messages: deque[tuple[int, int]] = deque()  # (position after it, bytes)
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def fits(self, size: int) -> bool:
        """Tell whether a message of so many bytes may be added; one alone always may."""
        return not self._messages or (
            len(self._messages) < self.max_messages and self._bytes + size <= self.max_bytes
        )

    def add(self, end: int, size: int) -> None:
        """Add the message that ends at a position."""
        self._messages.append((end, size))
        self._bytes += size

    def free(self, received: int) -> None:
        """Take out all messages that end at `received` or before."""
        messages = self._messages
        while messages and messages[0][0] <= received:
            self._bytes -= messages.popleft()[1]


def message_bytes(steps: int, widths: tuple[int, ...]) -> int:
    """Return the bytes of a frame of so many steps or of its answer, whichever is more."""
    return HEADER.size + 4 * steps * max(1, *widths)


def steps_of_frames(max_frame: int, max_steps: int, widths: tuple[int, ...]) -> int:
    """Return how many steps a frame may have so that neither it nor its answer is too big."""
    fitting = (max_frame - HEADER.size) // (4 * max(1, *widths))
    return max(1, min(max_steps, fitting))


def write_message(kind: str, **fields: Any) -> str:
    """Write a JSON message."""
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))


def error_message(code: str, message: str) -> str:
    """Write the message that goes before a close."""
    return write_message("error", code=code, message=message)


# The fields of what a client may send, and their types.
_REQUESTS: Final[dict[str, dict[str, type]]] = {
    "open": {},
    "resume": {"session": str, "token": str, "received": int},
    "reset": {},
    "close": {},
}


def read_request(text: str) -> dict[str, Any]:
    """Return a client's message with all its fields; or raise StreamError."""
    fields = _read_object(text)
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _REQUESTS:
        raise StreamError("bad_frame", f'expected "type": one of {", ".join(_REQUESTS)}')
    for name, expected in _REQUESTS[kind].items():
        value = fields.get(name)
        if type(value) is not expected:
            raise StreamError(
                "bad_frame", f"{kind}: expected {name!r}, {expected.__name__}, in the message"
            )
        if type(value) is int and not 0 <= value < 2**63:
            raise StreamError("bad_frame", f"{kind}: expected {name!r} from 0, got {value}")
    return fields


def read_reply(text: str) -> dict[str, Any]:
    """Return a server's message; the StreamError that it tells is raised."""
    fields = _read_object(text)
    if fields.get("type") == "error":
        code = str(fields.get("code"))
        raise StreamError(code if code in CLOSE_CODES else "internal", str(fields.get("message")))
    return fields


def _read_object(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT:
        raise StreamError("too_big", f"a message of at most {MAX_TEXT} characters, got {len(text)}")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise StreamError("bad_frame", "expected a JSON object in a text message") from None
    if not isinstance(fields, dict):
        raise StreamError("bad_frame", "expected a JSON object in a text message")
    return fields
