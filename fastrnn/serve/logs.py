"""Structured logs: one event a line on standard error, as JSON or as text."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

__all__ = ["event", "logger", "set_up"]

logger = logging.getLogger("fastrnn.serve")


def event(name: str, level: int = logging.INFO, /, exc_info: Any = None, **fields: Any) -> None:
    """Log an event with fields that JSON can hold.

    Never give it what a client keeps secret: tokens, queries of URLs, contents.
    """
    if logger.isEnabledFor(level):
        logger.log(level, name, exc_info=exc_info, extra={"fields": fields})


def set_up(log_format: str) -> None:
    """Send the events of the server, and warnings of what it stands on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    for name, level in (("fastrnn.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        one = logging.getLogger(name)
        one.handlers = [handler]
        one.setLevel(level)
        one.propagate = False


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(self, record), default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(self, record)
        head = " ".join(str(fields.pop(name)) for name in ("time", "level", "event"))
        # As JSON, so that a value with line ends cannot pass for another event.
        return " ".join([head, *(f"{k}={json.dumps(v, default=str)}" for k, v in fields.items())])


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    seconds = time.gmtime(record.created)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{int(record.msecs):03d}Z"
    own = getattr(record, "fields", None)
    fields: dict[str, Any] = {"time": stamp, "level": record.levelname.lower()}
    if own is None:  # of a library, in its own words
        fields |= {"event": "message", "logger": record.name, "message": record.getMessage()}
    else:
        fields |= {"event": record.getMessage(), **own}
    if record.exc_info:
        fields["traceback"] = formatter.formatException(record.exc_info)
    return fields
