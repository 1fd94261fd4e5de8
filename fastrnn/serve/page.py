"""The page that people use: its files, as they are, with the headers that keep it safe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

__all__ = ["router"]

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Only files of this server, no inline scripts or styles, no other page may frame it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # kept, but asked for by its tag: a new server has new files
}


class Asset(NamedTuple):
    """A file of the page and its headers."""

    content: bytes
    headers: dict[str, str]


def load_assets() -> dict[str, Asset]:
    """Return the page's files by name."""
    assets = {}
    for path in Path(__file__).with_name("page").iterdir():
        if path.suffix in TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            headers = {"Content-Type": TYPES[path.suffix], "ETag": tag, **HEADERS}
            assets[path.name] = Asset(content, headers)
    return assets


ASSETS = load_assets()
router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """Return the page."""
    return _answer(request, "index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def asset(request: Request, name: str) -> Response:
    """Return one of its files."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    if name not in ASSETS:
        raise HTTPException(404, "the page has no such file")
    content, headers = ASSETS[name]
    known = request.headers.get("if-none-match", "")
    if headers["ETag"] in [each.strip().removeprefix("W/") for each in known.split(",")]:
        return Response(None, 304, headers)
    return Response(content, 200, headers)
