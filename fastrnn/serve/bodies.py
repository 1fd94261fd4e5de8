"""Bodies of requests and answers: read within limits, unpacked, and packed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import anyio
from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from .service import Service

__all__ = ["accepted_encoding", "pack", "read_body", "unpack"]

WORTH_PACKING = 1024  # bytes
LEVEL = 1  # floats hardly become smaller with more
WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, service: Service, take: Callable[[int], None]) -> bytes:
    """Return a body, counted while it is read; HTTPException if it is too large or too slow.

    Parameters
    ----------
    request : Request
    service : Service
    take : callable
        What `Service.body` yields.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > service.settings.max_body:
        take(int(declared))
    parts = []
    try:
        with anyio.fail_after(service.settings.request_timeout):
            async for part in request.stream():
                take(len(part))
                parts.append(part)
    except TimeoutError:
        service.metrics.reject("slow")
        raise HTTPException(408, "the request took too long to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    return b"".join(parts)


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
