"""Who may call, and as whom: bearer tokens, hosts and origins."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from .settings import Settings

__all__ = ["SUBPROTOCOL", "Client", "client_of"]

SUBPROTOCOL = "fastrnn"  # of WebSockets
_BEARER = "bearer."
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Client(NamedTuple):
    """Who calls: the name that quotas and logs know. It tells no token."""

    name: str


def client_of(connection: HTTPConnection, settings: Settings) -> Client:
    """Return who calls.

    Parameters
    ----------
    connection : Request or WebSocket
        A token stands in its header Authorization or, for pages, whose WebSockets have no headers,
        in the list of subprotocols: ["fastrnn", "bearer." + the token in base64url].
    settings : Settings

    Raises
    ------
    HTTPException
        With status 401 without one of the tokens, 403 for a page or a host name that is not
        allowed, each with what to say to the client.
    """
    _check_host(connection, settings)
    if not settings.tokens:
        address = connection.client.host if connection.client else "unknown"
        return Client(f"address:{address}")
    given = _digest(_token(connection))
    found = False
    for token in settings.tokens:  # all of them, whatever is found
        found |= hmac.compare_digest(given, _digest(token))
    if not found:
        raise HTTPException(
            401, "expected a bearer token that this server knows", {"WWW-Authenticate": "Bearer"}
        )
    return Client(f"token:{given.hex()[:12]}")


def _digest(token: str) -> bytes:
    """Return what is compared: of one length, so that the time tells nothing of a token's."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _token(connection: HTTPConnection) -> str:
    """Return the token that a client sent, "" for none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if connection.scope["type"] != "websocket":
        return ""
    for protocol in connection.scope.get("subprotocols", ()):
        if protocol.startswith(_BEARER):
            encoded = protocol.removeprefix(_BEARER)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
            except (binascii.Error, ValueError):
                return ""
    return ""


def _check_host(connection: HTTPConnection, settings: Settings) -> None:
    """Raise HTTPException for calls from pages of other hosts.

    Any page may have a browser call this machine. It cannot hide where it comes from (Origin), and
    where it hides behind a name that it had point here, the name is none of ours (Host). Who has
    to show a token cannot be called that way.
    """
    host = connection.headers.get("host", "")
    if settings.loopback and not settings.tokens:
        allowed = (*_THIS_MACHINE, settings.host, *settings.allow_hosts)
        if _name(host) not in allowed:
            raise HTTPException(403, "this host name is not allowed (--allow-hosts)")
    origin = connection.headers.get("origin")
    if origin is None or origin in settings.origins:
        return
    if _netloc(origin) != host.lower():
        raise HTTPException(403, "pages of this origin are not allowed (--origins)")


def _name(host: str) -> str:
    """Return the host of "host:port", "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(url: str) -> str:
    """Return "host:port" of a URL, "" if it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
