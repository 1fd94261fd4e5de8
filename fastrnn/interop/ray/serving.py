"""`fastrnn serve` as a deployment of Ray Serve: `build_app`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ray import serve

from ...base import check_size
from ...serve import ModelSettings, Settings, create_app, read_tokens

__all__ = ["build_app"]

# What Ray decides: where to listen, and when replicas end.
RAYS = frozenset({"host", "port", "tokens", "drain_timeout", "log_format"})
KINDS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}


def build_app(arguments: Mapping[str, Any]) -> Any:
    """Return an application of Ray Serve: replicas that serve models as ``fastrnn serve`` does.

    Whole sequences, streams and generated text, at the same addresses. A stream lives in one
    replica; when that, its machine or a proxy goes, the client resumes in any other, which finds
    the session in Redis, and the answers are those of an undisturbed run, bit by bit.

    From the command line: ``serve run fastrnn.interop.ray:build_app models=speech=gru.safetensors
    state=redis://HOST:6379/0 replicas=8``; in a file of Ray Serve these are the ``args`` of the
    ``import_path``.

    Parameters
    ----------
    arguments : mapping
        models : str or list of str
            As of ``fastrnn serve``, ``[NAME=]PATH[,QUOTA=N...]``, in one string with spaces between
            them. Each machine needs the files, at the same paths.
        state : str
            ``redis://HOST:PORT/DB``. The password is in the environment variable
            FASTRNN_REDIS_PASSWORD of the replicas.
        replicas : int, default 1
        cores : int, default 1
            Cores, and threads, of each replica.
        token_file : str, optional
            Bearer tokens that let clients in, one a line, on each machine. They can also be in the
            environment variable FASTRNN_TOKENS of the replicas.
        insecure : bool, default False
            Let everybody in without a token.
        others
            As of `fastrnn.serve.Settings`, such as max_sessions, of each replica.

    Returns
    -------
    ray.serve.Application

    Raises
    ------
    ValueError, TypeError
        For an argument that is unknown, missing or not what is said here.
    """
    given = dict(arguments)
    models = _models(given.pop("models", None))
    replicas, cores = (check_size(key, int(given.pop(key, 1))) for key in ("replicas", "cores"))
    token_file = given.pop("token_file", None)
    values = {"num_threads": cores, **_values(given)}
    if not values.get("state"):
        raise ValueError("state: expected redis://HOST:PORT/DB: any replica may resume a session")
    checked = Settings(**{**values, "insecure": True})  # the tokens are not here

    def make() -> Any:  # in each replica, where the tokens are
        # Ray's proxies let others in, so there must be tokens, or `insecure`.
        settings = Settings(host="0.0.0.0", tokens=read_tokens(token_file), **values)
        return create_app(settings, models)

    deployment = serve.deployment(
        name="fastrnn",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=checked.max_connections,  # each stream is one
        graceful_shutdown_timeout_s=5,  # streams do not end by themselves, they are resumed
    )
    return deployment(serve.ingress(make)()).bind()


def _models(given: Any) -> list[ModelSettings]:
    texts = given.split() if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise ValueError(f"models: expected [NAME=]PATH, one or more, got {given!r}")
    return [ModelSettings.parse(str(text)) for text in texts]


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the arguments, which are text where they come from a shell."""
    known = {each.name: str(each.type) for each in fields(Settings) if each.name not in RAYS}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(f"{unknown[0]}: expected one of {', '.join(sorted(known))}")
    return {name: _value(name, known[name].split(" ")[0], value) for name, value in given.items()}


def _value(name: str, kind: str, value: Any) -> Any:
    if kind == "bool" and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{name}: expected true or false, got {value!r}")
        return value.lower() == "true"
    if kind.startswith("tuple"):
        return tuple(value.split() if isinstance(value, str) else value)
    if kind in KINDS and isinstance(value, str):
        try:
            return KINDS[kind](value)
        except ValueError:
            raise ValueError(f"{name}: expected a number, got {value!r}") from None
    return value
