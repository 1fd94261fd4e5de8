"""What can be set, for the program, the command line and the documentation: `Settings`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..base import check_number, check_size

__all__ = ["ModelSettings", "Settings", "read_tokens"]

MIB = 1 << 20
TOKENS_VARIABLE = "FASTRNN_TOKENS"
MOST_SESSIONS = 1 << 24  # that a pool holds
LEAST_TOKEN = 16  # characters of a bearer token that is read


def _setting(
    default: Any, help: str, group: str, metavar: str = "N", shown: bool = True, **more: Any
) -> Any:
    """Return a field of `Settings` with what the command line says of it."""
    metadata = {"help": help, "group": group, "metavar": metavar} | more
    return field(default=default, repr=shown, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All that a server can be told, with safe defaults.

    Sizes are in bytes, times in seconds. ``fastrnn serve --help`` says what each does.

    Raises
    ------
    TypeError, ValueError
        If a value is not of its kind; if others than this machine could reach the server without
        a token, and `insecure` does not allow that.
    """

    host: str = _setting("127.0.0.1", "address to listen on", "network", "ADDRESS")
    port: int = _setting(
        8000, "port to listen on; 0: any that is free", "network", least=0, most=65535
    )
    allow_hosts: tuple[str, ...] = _setting(
        (),
        "a name by which clients may call a server without tokens, beside those of this machine; "
        "may come again",
        "network",
        "NAME",
    )
    origins: tuple[str, ...] = _setting(
        (),
        "where web pages that may call come from, if from another host: https://example.com; may "
        "come again",
        "network",
        "ORIGIN",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "address of a proxy whose X-Forwarded-For is believed; may come again",
        "network",
        "ADDRESS",
    )
    tokens: tuple[str, ...] = field(default=(), repr=False)
    insecure: bool = _setting(False, "let other machines in without a token", "network", "")

    max_body: int = _setting(16 * MIB, "bytes of a request's body", "limits", "BYTES")
    max_held: int = _setting(
        256 * MIB, "bytes of all requests and answers in memory", "limits", "BYTES"
    )
    max_response: int = _setting(64 * MIB, "bytes of an answer", "limits", "BYTES")
    max_frame: int = _setting(MIB, "bytes of a message of a stream", "limits", "BYTES")
    max_steps: int = _setting(100_000, "steps of a sequence, or of a stream's message", "limits")
    max_sessions: int = _setting(10_000, "sessions of each model", "limits", most=MOST_SESSIONS)
    max_sessions_per_client: int = _setting(
        1000, "sessions of each client: of a token, or of an address", "limits"
    )
    max_in_flight: int = _setting(16, "messages of a stream that wait for answers", "limits")
    max_running: int = _setting(
        2, "requests for whole sequences computed at once", "limits", most=1024
    )
    max_connections: int = _setting(20_000, "connections", "limits")
    request_timeout: float = _setting(30.0, "for a request to arrive", "limits", "SECONDS")
    send_timeout: float = _setting(10.0, "for a client to take an answer", "limits", "SECONDS")
    idle_timeout: float = _setting(600.0, "until an unused session ends", "limits", "SECONDS")

    max_batch: int = _setting(64, "sessions in one step, at most 64", "streams", most=64)
    max_delay: float = _setting(
        0.0, "that a step waits for more sessions to share it", "streams", "SECONDS", least=0.0
    )
    num_threads: int | None = _setting(
        None, "threads of a computation; default: all", "streams", most=1024
    )
    state: str | None = _setting(
        None,
        "where sessions are kept so that any server can go on with them: redis://HOST:PORT/DB; "
        "a password goes into the variable FASTRNN_REDIS_PASSWORD",
        "streams",
        "URL",
        shown=False,  # it may hold a password
    )

    reload_interval: float = _setting(
        1.0, "between looks at the models' files", "running", "SECONDS"
    )
    drain_timeout: float = _setting(
        30.0, "for accepted work to be answered, after SIGTERM", "running", "SECONDS", least=0.0
    )
    log_format: str = _setting(
        "json", "of the log on standard error", "running", "NAME", choices=("json", "text")
    )
    log_requests: bool = _setting(False, "log every request, not only errors", "running", "")

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each, getattr(self, each.name))
        if not all(token.strip() for token in self.tokens):
            raise ValueError("tokens: expected some characters in each, got one without any")
        if not self.loopback and not self.tokens and not self.insecure:
            raise ValueError(
                f"host: {self.host} can be reached from other machines: expected tokens, which "
                "clients must know (--token-file FILE, or the environment variable "
                f"{TOKENS_VARIABLE}), or --insecure to let everybody in"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def settings_fields() -> list[Field[Any]]:
    """Return the fields that the command line has options for."""
    return [each for each in fields(Settings) if each.metadata]


def _check(each: Field[Any], value: Any) -> None:
    """Raise TypeError or ValueError for a value that a field cannot have."""
    kind = str(each.type)
    choices = each.metadata.get("choices")
    if value is None and kind.endswith("None"):
        return
    if kind.startswith("int"):
        check_size(each.name, value, each.metadata.get("least", 1))
        most = each.metadata.get("most", 2**62)
        if value > most:
            raise ValueError(f"{each.name}: expected at most {most}, got {value}")
    elif kind == "float":
        check_number(each.name, value, each.metadata.get("least", 0.001), 1e9)
    elif kind == "bool" and not isinstance(value, bool):
        raise TypeError(f"{each.name}: expected True or False, got {value!r}")
    elif kind.startswith("tuple"):
        if not isinstance(value, tuple) or not all(isinstance(part, str) for part in value):
            shown = "another value" if each.name == "tokens" else repr(value)
            raise TypeError(f"{each.name}: expected a tuple of str, got {shown}")
    elif kind.startswith("str") and not isinstance(value, str):
        raise TypeError(f"{each.name}: expected a str, got {value!r}")
    elif choices and value not in choices:
        raise ValueError(f"{each.name}: expected {' or '.join(choices)}, got {value!r}")


# --- tokens ---------------------------------------------------------------------------------------


def read_tokens(
    path: str | os.PathLike[str] | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return the bearer tokens of a file and of the environment variable FASTRNN_TOKENS.

    Parameters
    ----------
    path : str or os.PathLike, optional
        One token a line; empty lines and those that begin with # do not count.
    environment : mapping of str to str
        The variable holds tokens with spaces, commas or line ends between them.

    Raises
    ------
    ValueError
        For a token of fewer than 16 characters, or one that HTTP could not carry.
    OSError
        If the file cannot be read.
    """
    found = []
    if path is not None:
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected tokens of ASCII characters") from None
        lines = [line.strip() for line in lines]
        found += [(str(path), line) for line in lines if line and not line.startswith("#")]
        if not found:
            raise ValueError(f"{path}: expected a token in each line, got none")
    for token in re.split(r"[\s,]+", environment.get(TOKENS_VARIABLE, "")):
        if token:
            found.append((TOKENS_VARIABLE, token))
    for number, (source, token) in enumerate(found, 1):
        # Which of them is wrong, never the token itself.
        if len(token) < LEAST_TOKEN or not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):
            raise ValueError(
                f"{source}: token {number}: expected at least {LEAST_TOKEN} characters, "
                "letters, digits and . _ ~ + / -"
            )
    return tuple(dict.fromkeys(token for _, token in found))


# --- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelSettings:
    """One model to serve: its name in URLs, its file, and its quotas (None: as in `Settings`)."""

    name: str
    path: Path
    max_sessions: int | None = None
    max_steps: int | None = None
    max_running: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise ValueError(
                f"name: expected letters, digits and . _ -, at most 100, got {self.name!r}"
            )
        for quota in QUOTAS:
            if getattr(self, quota) is not None:
                check_size(f"{self.name}: {quota}", getattr(self, quota))
        if (self.max_sessions or 0) > MOST_SESSIONS:
            raise ValueError(
                f"{self.name}: max_sessions: expected at most {MOST_SESSIONS}, "
                f"got {self.max_sessions}"
            )

    @classmethod
    def parse(cls, text: str) -> ModelSettings:
        """Return what ``[NAME=]PATH[,QUOTA=N...]`` says.

        Without a name it is that of the file, or of its folder.
        """
        path, *quotas = re.split(rf",(?=(?:{'|'.join(QUOTAS)})=)", text)
        limits = {}
        for each in quotas:
            quota, _, value = each.partition("=")
            if not value.isascii() or not value.isdigit():
                raise ValueError(f"{quota}: expected a number, got {value!r} in {text!r}")
            limits[quota] = int(value)
        name, equals, rest = path.partition("=")
        if not equals or re.search(r"[/\\]", name):
            return cls(_default_name(Path(path)), _model_file(path), **limits)
        return cls(name, _model_file(rest), **limits)

    def with_defaults(self, settings: Settings) -> ModelSettings:
        """Return the same with the server's own limits where there is no quota."""
        missing = [name for name in QUOTAS if getattr(self, name) is None]
        return replace(self, **{name: getattr(settings, name) for name in missing})


QUOTAS = tuple(each.name for each in fields(ModelSettings) if each.name.startswith("max_"))
MODEL_FILE = "model.safetensors"  # in the folder that ``fastrnn train`` writes


def _model_file(path: str) -> Path:
    if not path:
        raise ValueError("model: expected a path, got none")
    return Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)


def _default_name(path: Path) -> str:
    whole = path.resolve()
    named = whole.parent if whole.name == MODEL_FILE else whole
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", named.stem).lstrip("._-")
    return name or "model"


def check_names(models: Sequence[ModelSettings]) -> None:
    """Raise ValueError unless there are models, each with a name of its own."""
    if not models:
        raise ValueError("models: expected at least one")
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"models: expected each name once, got {name!r} again: NAME=PATH")
