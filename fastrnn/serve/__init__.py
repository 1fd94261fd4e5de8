"""A server of recurrent models, over HTTP and WebSockets (``pip install 'fastrnn[serve]'``).

``fastrnn serve`` is its command line; `create_app` returns the application for other ASGI servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .settings import ModelSettings, Settings, read_tokens

if TYPE_CHECKING:
    from .app import create_app
    from .server import serve

__all__ = ["ModelSettings", "Settings", "create_app", "read_tokens", "serve"]


def __getattr__(name: str) -> Any:  # FastAPI is an extra
    if name == "create_app":
        from .app import create_app

        return create_app
    if name == "serve":
        from .server import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
