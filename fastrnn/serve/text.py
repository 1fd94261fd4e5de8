"""Generated text over a WebSocket, token by token: the text protocol, for character models.

JSON both ways. The client sends ::

    {"type": "generate", "prompt": "...", "temperature": 0.8, "top_k": null, "top_p": null,
     "max_tokens": 500, "seed": null, "rate": null, "activations": false}
    {"type": "stop"}    {"type": "reset"}

and the server ::

    {"type": "ready", ...}
    {"type": "token", "index": 0, "text": "e", "h": "<base64 of int8>"}
    {"type": "done", "reason": "length" | "stopped" | "draining", "tokens": 500, "seed": 1234}
    {"type": "reset"}    {"type": "draining"}    {"type": "error", "code": "...", "message": "..."}

docs/serving.md describes the conversation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import secrets
import time
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect
from numpy.typing import NDArray
from starlette.responses import JSONResponse

from ..base import check_number, check_size
from ..decoding import Sampler
from . import logs
from .models import ServedModel
from .protocol import CLOSE_CODES, StreamError, error_message, write_message
from .security import SUBPROTOCOL
from .service import Service, service_of

__all__ = ["router"]

VERSION = 1
MAX_PROMPT = 10_000  # characters
MAX_TOKENS = 10_000  # of one generation
MAX_MESSAGE = 6 * MAX_PROMPT + 1000  # characters of a client's message: all of a prompt escaped
MAX_TEMPERATURE = 100.0
MAX_SEED = 2**64 - 1
CHUNK = 256  # steps of a prompt at once, so that others get their turn

router = APIRouter()


# --- what a client asks for -----------------------------------------------------------------------


@dataclass(frozen=True)
class TextRequest:
    """A text that a client wants; ValueError or TypeError, naming the field, for bad ones."""

    prompt: str | None = None  # None: go on
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    max_tokens: int = 500
    seed: int | None = None  # None: a new one, or to go on with the same draws
    rate: float | None = None  # most tokens a second
    activations: bool = False
    ids: NDArray[np.int64] = field(init=False)

    @classmethod
    def read(cls, message: dict[str, Any], model: ServedModel) -> TextRequest:
        """Return what a message asks of a model."""
        known = {each.name for each in fields(cls) if each.init}
        unknown = sorted(message.keys() - known - {"type"})
        if unknown:
            raise ValueError(f"{unknown[0][:50]}: expected only {', '.join(sorted(known))}")
        request = cls(**{name: value for name, value in message.items() if name != "type"})
        assert model.vocabulary is not None
        try:
            ids = model.vocabulary.encode(request.prompt or "")
        except ValueError as error:
            raise ValueError(f"prompt: {error}") from None
        object.__setattr__(request, "ids", ids)
        return request

    def __post_init__(self) -> None:
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise TypeError(f"prompt: expected a str or null, got {type(self.prompt).__name__}")
        if len(self.prompt or "") > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT:,} characters")
        check_number("temperature", self.temperature, 0.0, MAX_TEMPERATURE)
        check_size("max_tokens", self.max_tokens, 0)
        if self.max_tokens > MAX_TOKENS:
            raise ValueError(f"max_tokens: expected at most {MAX_TOKENS:,}, got {self.max_tokens}")
        if self.seed is not None and check_size("seed", self.seed, 0) > MAX_SEED:
            raise ValueError(f"seed: expected at most {MAX_SEED}, got {self.seed}")
        if self.rate is not None:
            check_number("rate", self.rate, 0.1, 1e6)
        if not isinstance(self.activations, bool):
            raise TypeError(f"activations: expected true or false, got {self.activations!r}")
        self.sampler(None)  # which checks top_k and top_p

    def sampler(self, seed: int | np.random.Generator | None) -> Sampler:
        """Return what draws the tokens."""
        return Sampler(self.temperature, self.top_k, self.top_p, seed)


# --- writing --------------------------------------------------------------------------------------


class Writer:
    """Writes text with a session of a pool, bit for bit as `fastrnn.text.sample` does.

    The state lives on from one text to the next. Each token is fed to the model as soon as it is
    drawn, so that what is stopped goes on as if it had not been stopped.
    """

    def __init__(self, model: ServedModel, session: int) -> None:
        self._model, self._session = model, session
        assert model.vocabulary is not None
        self._characters = model.vocabulary.characters
        self._random = np.random.default_rng(0)
        self._logits: NDArray[np.float32] | None = None  # (1, V), after all that was fed
        self._draw = Sampler()

    async def reset(self) -> None:
        """Forget all text."""
        await self._submit(None, reset=True)
        self._logits = None

    async def begin(self, request: TextRequest) -> int | None:
        """Read the prompt; return the seed, None if the draws of the text before go on."""
        ids, seed = request.ids, request.seed
        fresh = self._logits is None
        if not len(ids) and fresh:
            ids = np.array([max(self._characters.find("\n"), 0)])
        for start in range(0, len(ids), CHUNK):
            logits, _ = await self._submit(ids[start : start + CHUNK])
            self._logits = logits[-1:]
        if seed is None and (fresh or request.prompt is not None):
            seed = secrets.randbits(32)
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._draw = request.sampler(self._random)
        return seed

    async def write(self, activations: bool) -> tuple[str, str | None]:
        """Return the next character, and what the last recurrent layer holds after it."""
        assert self._logits is not None
        token = self._draw(self._logits)
        self._logits, state = await self._submit(token, state=activations)
        held = None if state is None else _coded(self._model.pool.hidden(state))
        return self._characters[token[0]], held

    async def _submit(self, ids: NDArray[np.int64] | None, **options: bool) -> Any:
        """Return the logits after each token, and the state if it is asked for."""
        answer = self._model.apool.submit(self._session, ids, **options)
        await asyncio.wait((answer,))  # which tells apart whether it or this task is cancelled
        if answer.cancelled():
            raise StreamError("draining", "the model's sessions have been closed")
        return answer.result()


def _coded(layers: list[NDArray[np.float32]]) -> str:
    """Return the last layer's activations as base64 of round(127 * h), within -127 and 127."""
    if not layers:
        return ""
    whole = np.rint(127.0 * np.clip(np.nan_to_num(layers[-1]), -1.0, 1.0))
    return base64.b64encode(whole.astype(np.int8).tobytes()).decode("ascii")


# --- the conversation -----------------------------------------------------------------------------


class Conversation:
    """One WebSocket: one task listens, one writes, one waits for the end of the server."""

    def __init__(
        self, websocket: WebSocket, service: Service, model: ServedModel, session: int
    ) -> None:
        self._websocket, self._service, self._model = websocket, service, model
        self._writer = Writer(model, session)
        self._requests: asyncio.Queue[TextRequest] = asyncio.Queue()  # of one at most
        self._idle, self._stop = asyncio.Event(), asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Talk until the client goes or the server ends; StreamError for who breaks the rules."""
        # Answers follow each other at once: three tasks that never end by themselves.
        tasks = [asyncio.create_task(each()) for each in (self._listen, self._speak, self._drain)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, kind: str, **content: Any) -> None:
        # The server's sockets bound what waits to be sent, and cut off who does not read.
        await _send(self._websocket, write_message(kind, **content))

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            kind = message.get("type")
            if kind == "generate":
                await self._accept(message)
            elif kind == "stop":
                self._stop.set()
            elif kind == "reset":
                self._stop.set()
                await self._idle.wait()
                await self._writer.reset()
                await self._send("reset")
            else:
                raise StreamError("bad_frame", 'expected "type": one of generate, stop, reset')

    async def _receive(self) -> dict[str, Any]:
        timeout = self._service.settings.idle_timeout
        while True:
            try:
                message = await asyncio.wait_for(self._websocket.receive(), timeout)
                break
            except asyncio.TimeoutError:
                if self._idle.is_set():
                    raise StreamError("limit", f"nothing came for {timeout:g} seconds") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return _read(message.get("text"))

    async def _accept(self, message: dict[str, Any]) -> None:
        """Have a text written, if no other one is and the message asks for one that can be."""
        if not self._idle.is_set():
            await self._send("error", code="busy", message="one text at a time: stop the other one")
            return
        try:
            request = TextRequest.read(message, self._model)
        except (TypeError, ValueError) as error:
            await self._send("error", code="bad_argument", message=str(error)[:1000])
            return
        self._idle.clear()
        self._stop.clear()
        self._requests.put_nowait(request)

    async def _speak(self) -> None:
        while True:
            request = await self._requests.get()
            await self._answer(request)
            self._idle.set()

    async def _answer(self, request: TextRequest) -> None:
        seed = await self._writer.begin(request)
        index, due = 0, time.monotonic()
        while index < request.max_tokens and not self._stop.is_set():
            began = time.perf_counter()
            text, held = await self._writer.write(request.activations)
            self._service.metrics.message(
                self._model.name, time.perf_counter() - began, 1, "generate"
            )
            content = {} if held is None else {"h": held}
            await self._send("token", index=index, text=text, **content)
            index += 1
            if request.rate is not None:
                due = max(due + 1.0 / request.rate, time.monotonic() - 1.0)
                await self._pause(due - time.monotonic())
        reason = "length" if index == request.max_tokens else "stopped"
        if reason == "stopped" and self._service.draining.is_set():
            reason = "draining"
        await self._send("done", reason=reason, tokens=index, seed=seed)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the client wants no more."""
        if seconds > 0.0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)

    async def _drain(self) -> None:
        await self._service.draining.wait()
        self._stop.set()
        await self._idle.wait()
        await self._send("draining")


def _read(text: str | None) -> dict[str, Any]:
    """Return a client's message; StreamError if it is none."""
    if text is not None and len(text) > MAX_MESSAGE:
        raise StreamError("too_big", f"expected a message of at most {MAX_MESSAGE:,} characters")
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise StreamError("bad_frame", "expected a JSON object in a text message")
    return message


# --- the route ------------------------------------------------------------------------------------


@router.websocket("/v2/models/{name}/generate")
async def generate(websocket: WebSocket, name: str) -> None:
    """Let a character model write, as the text protocol says."""
    service = service_of(websocket)
    try:
        client, model = service.client(websocket), _model(service, name)
    except HTTPException as error:
        answer = JSONResponse({"error": error.detail}, error.status_code, error.headers)
        await websocket.send_denial_response(answer)
        return
    offered = websocket.scope.get("subprotocols", ())
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    try:
        code = await _talk(websocket, service, model, client)
    except WebSocketDisconnect:
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the client was faster
        await websocket.close(code)


def _model(service: Service, name: str) -> ServedModel:
    """Return a model that can write text; HTTPException for any other."""
    if service.draining.is_set():
        raise HTTPException(503, "the server is being stopped", {"Retry-After": "1"})
    model = service.model(name)
    if model.vocabulary is None:
        raise HTTPException(400, f"{name} is not a character model")
    if model.pool is None:
        raise HTTPException(400, f"{name} does not stream: {model.why_no_streams}")
    return model


async def _talk(websocket: WebSocket, service: Service, model: ServedModel, client: Any) -> int:
    """Hold a conversation; return the close code of its end."""
    try:
        with service.work(), service.sessions.borrow(model, client) as session:
            await _send(websocket, await _ready(model, session))
            await Conversation(websocket, service, model, session).run()
        return CLOSE_CODES["draining"]
    except StreamError as error:
        failure = error
    except WebSocketDisconnect:
        raise
    except Exception:
        service.metrics.errors.inc()
        logs.event("internal_error", logging.ERROR, exc_info=True, model=model.name)
        failure = StreamError("internal", "internal error, see the server's log")
    service.metrics.reject(failure.code)
    await _send(websocket, error_message(failure.code, failure.message))
    return CLOSE_CODES[failure.code]


async def _send(websocket: WebSocket, message: str) -> None:
    """Send a message; WebSocketDisconnect if the socket is closed, by whomever."""
    try:
        await websocket.send_text(message)
    except RuntimeError:
        raise WebSocketDisconnect(1006) from None


async def _ready(model: ServedModel, session: int) -> str:
    _, state = await model.apool.submit(session, None, state=True)
    layers = model.pool.hidden(state)
    assert model.vocabulary is not None
    return write_message(
        "ready",
        protocol=VERSION,
        model=model.name,
        version=model.version,
        characters=len(model.vocabulary),
        units=len(layers[-1]) if layers else 0,
        max_prompt=MAX_PROMPT,
        max_tokens=MAX_TOKENS,
    )
