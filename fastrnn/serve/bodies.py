"""Bodies of requests and answers: read within limits, unpacked, and packed."""

from __future__ import annotations

import gzip
import zlib
from contextlib import ExitStack

import anyio
from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .service import Held, Service

__all__ = ["PartsResponse", "accepted_encoding", "pack", "read_body", "unpack"]

PART = 1 << 18  # bytes
WORTH_PACKING = 1024  # bytes
LEVEL = 1  # floats hardly become smaller with more
WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, service: Service, held: Held) -> bytes:
    """Return a body, counted while it is read; HTTPException if it is too large or too slow.

    Parameters
    ----------
    request : Request
    service : Service
    held : Held
        Counts the bytes.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > service.settings.max_body:
        held.take(service.settings.max_body + 1)
    parts = []
    try:
        with anyio.fail_after(service.settings.request_timeout):
            async for part in request.stream():
                held.take(len(part))
                parts.append(part)
    except TimeoutError:
        raise service.refuse(408, "slow", "the request took too long to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    return b"".join(parts)


class PartsResponse(Response):
    """A body that is sent part by part, as the client takes them.

    Parameters
    ----------
    body, headers, media_type
        As of Starlette's Response.
    until_sent : ExitStack
        Closed when the last part is on its way, or the client gone.
    """

    def __init__(
        self, body: bytes, headers: dict[str, str], media_type: str, until_sent: ExitStack
    ) -> None:
        super().__init__(body, 200, headers, media_type)
        self._until_sent = until_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        with self._until_sent:
            await send({"type": "http.response.start", **start})
            for offset in range(0, len(self.body), PART):  # the next waits for the one before
                part, more = self.body[offset : offset + PART], offset + PART < len(self.body)
                await send({"type": "http.response.body", "body": part, "more_body": more})


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """Return what was packed with an encoding of HTTP, at most `most` bytes.

    Raises
    ------
    HTTPException
        With status 415 for an unknown encoding, 413 for more bytes, 400 for damaged ones.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in WINDOW_BITS:
        raise HTTPException(415, "Content-Encoding: expected gzip, deflate or identity")
    unpacker = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise HTTPException(400, f"body: expected {encoding}, as Content-Encoding says") from None
    if len(plain) > most:
        raise HTTPException(413, f"body: expected at most {most:,} bytes unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise HTTPException(400, f"body: expected whole {encoding} and nothing after it")
    return plain


def accepted_encoding(header: str) -> str:
    """Return "gzip" or "deflate", whichever Accept-Encoding has first, or ""."""
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in WINDOW_BITS and parameters.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip()
    return ""


def pack(body: bytes, encoding: str) -> bytes | None:
    """Return a body in an encoding of `accepted_encoding`; None where that is not worth it."""
    if not encoding or len(body) < WORTH_PACKING:
        return None
    if encoding == "gzip":
        return gzip.compress(body, LEVEL, mtime=0)
    return zlib.compress(body, LEVEL)
