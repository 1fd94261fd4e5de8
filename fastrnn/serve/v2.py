"""Routes of the Open Inference Protocol: health, metadata, and inference over whole sequences."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from pydantic import Field

from ..serialization import library_version
from .bodies import PartsResponse, accepted_encoding, pack, read_body, unpack
from .models import ServedModel
from .routes import Answer, Newest, Versioned, errors
from .sequences import Feature
from .service import Service, service_of
from .settings import Settings
from .v2_tensors import NAMES, InferResponse, Tensors, decode, encode

__all__ = ["health", "router"]

HEADER_LENGTH = "Inference-Header-Content-Length"
JSON_BYTES = 25  # of a number, at most

health = APIRouter(tags=["Health"])
router = APIRouter(tags=["Open Inference Protocol"])
TheService = Annotated[Service, Depends(service_of)]


# --- health ---------------------------------------------------------------------------------------


class Live(Answer):
    """That the server runs."""

    live: bool


class Ready(Answer):
    """Whether the server takes requests."""

    ready: bool


class ModelReady(Ready):
    """Whether a model takes requests."""

    name: str


@health.get("/v2/health/live")
async def live() -> Live:
    """Say that the server runs."""
    return Live(live=True)


@health.get(
    "/v2/health/ready", responses={503: {"model": Ready, "description": "The server is ending."}}
)
async def ready(service: TheService, response: Response) -> Ready:
    """Say whether the server takes requests: not any more once it is told to end."""
    is_ready = not service.draining.is_set()
    response.status_code = 200 if is_ready else 503
    return Ready(ready=is_ready)


# --- metadata -------------------------------------------------------------------------------------


class ServerMetadata(Answer):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Answer):
    """An input or output; -1 in its shape stands for any size."""

    name: str
    datatype: str
    shape: list[int]
    optional: bool = Field(False, description="Whether a request may leave it out.")


class ModelMetadata(Answer):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@router.get("/v2")
async def server_metadata() -> ServerMetadata:
    """Say what the server is."""
    return ServerMetadata(
        name="fastrnn", version=library_version(), extensions=["binary_tensor_data"]
    )


@router.get("/v2/models/{name}", responses=errors(404))
async def model_metadata(model: Newest, service: TheService) -> ModelMetadata:
    """Say what a model takes and gives."""
    return _metadata(model, service)


@router.get("/v2/models/{name}/versions/{version}", responses=errors(404))
async def version_metadata(model: Versioned, service: TheService) -> ModelMetadata:
    """Say what a version of a model takes and gives."""
    return _metadata(model, service)


@router.get("/v2/models/{name}/ready", responses=errors(404))
async def model_ready(model: Newest, service: TheService) -> ModelReady:
    """Say whether a model takes requests."""
    return _ready(model, service)


@router.get("/v2/models/{name}/versions/{version}/ready", responses=errors(404))
async def version_ready(model: Versioned, service: TheService) -> ModelReady:
    """Say whether a version of a model takes requests."""
    return _ready(model, service)


def _metadata(model: ServedModel, service: Service) -> ModelMetadata:
    return ModelMetadata(
        name=model.name,
        versions=service.models.versions(model.name),
        platform="fastrnn",
        inputs=[_described(each) for each in model.sequence.inputs],
        outputs=[_described(each) for each in model.sequence.outputs],
    )


def _described(feature: Feature) -> TensorMetadata:
    return TensorMetadata(
        name=feature.name,
        datatype=NAMES[feature.dtype],
        shape=list(feature.shape),
        optional=feature.optional,
    )


def _ready(model: ServedModel, service: Service) -> ModelReady:
    return ModelReady(name=model.name, ready=not service.draining.is_set())


# --- inference ------------------------------------------------------------------------------------

HeaderLength = Annotated[
    int | None,
    Header(alias=HEADER_LENGTH, ge=0, description="Bytes of JSON, before those of the tensors."),
]
BYTES = {"type": "string", "format": "binary"}
INFER: dict[str, Any] = {
    "response_class": Response,
    "response_model": None,
    "responses": {
        200: {
            "model": InferResponse,
            "content": {"application/octet-stream": {"schema": BYTES}},
            "headers": {
                HEADER_LENGTH: {
                    "description": "Bytes of JSON, before those of the tensors, if any are.",
                    "schema": {"type": "integer"},
                }
            },
        }
    }
    | errors(400, 404, 408, 413, 415, 503),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
                "application/octet-stream": {"schema": BYTES},
            },
        }
    },
}


@router.post("/v2/models/{name}/infer", **INFER)
async def infer(
    request: Request, model: Newest, service: TheService, header_length: HeaderLength = None
) -> Response:
    """Run a model over whole sequences."""
    return await _infer(request, model, service, header_length)


@router.post("/v2/models/{name}/versions/{version}/infer", **INFER)
async def version_infer(
    request: Request, model: Versioned, service: TheService, header_length: HeaderLength = None
) -> Response:
    """Run a version of a model over whole sequences."""
    return await _infer(request, model, service, header_length)


async def _infer(
    request: Request, model: ServedModel, service: Service, header_length: int | None
) -> Response:
    if service.draining.is_set():
        raise service.busy("draining", "the server is ending")
    with contextlib.ExitStack() as stack:
        stack.enter_context(service.work())
        held = stack.enter_context(service.held())
        body = await read_body(request, service, held)
        encoding = request.headers.get("content-encoding", "")
        accepted = accepted_encoding(request.headers.get("accept-encoding", ""))
        async with service.turn(model):
            if await request.is_disconnected():
                raise service.refuse(400, "gone", "the client went away")
            run = _Run(model, service.settings, header_length, encoding, accepted)
            done = await service.compute(run, body)
        held.add(len(done.body))
        request.state.steps = done.steps
        return PartsResponse(done.body, done.headers, done.media_type, stack.pop_all())


class _Done(NamedTuple):
    """What `_Run` made of a request."""

    body: bytes
    headers: dict[str, str]
    media_type: str
    steps: int


class _Run:
    """From the bytes of a request to those of its answer; runs in a thread."""

    def __init__(
        self,
        model: ServedModel,
        settings: Settings,
        header_length: int | None,
        encoding: str,
        accepted: str,
    ) -> None:
        self._model, self._settings = model, settings
        self._header_length, self._encoding, self._accepted = header_length, encoding, accepted

    def __call__(self, body: bytes) -> _Done:
        """Return the answer; HTTPException for what is wrong."""
        model = self._model
        try:
            plain = unpack(body, self._encoding, self._settings.max_body)
            tensors = decode(plain, self._header_length)
            self._check(tensors)
            outputs = model.sequence.run(tensors.inputs)
            answer, length = encode(outputs, tensors, model.name, model.version)
        except (IndexError, TypeError, ValueError) as error:
            raise HTTPException(400, str(error)[:1000]) from None
        except MemoryError:
            raise HTTPException(413, "not enough memory for this request") from None
        kind = "application/json" if length is None else "application/octet-stream"
        headers = {} if length is None else {HEADER_LENGTH: str(length)}
        packed = pack(answer, self._accepted)
        if packed is not None:
            headers |= {"Content-Encoding": self._accepted, "Vary": "Accept-Encoding"}
        B, T = tensors.inputs["input"].shape[:2]
        return _Done(packed or answer, headers, kind, B * T)

    def _check(self, tensors: Tensors) -> None:
        """Raise ValueError for what the model does not take, HTTPException for too much."""
        sequence, inputs = self._model.sequence, tensors.inputs
        known = [each.name for each in sequence.inputs]
        for name in inputs:
            if name not in known:
                raise ValueError(f"inputs: expected {', '.join(known)}, got {name!r}")
        if "input" not in inputs:
            raise ValueError("inputs: expected one named 'input'")
        x = inputs["input"]
        sequence.check(x, inputs.get("lengths"))
        B, T = x.shape[:2]
        most = self._model.quotas.max_steps or T
        if most < T:
            raise HTTPException(413, f"input: expected at most {most:,} steps, got {T:,}")
        binary = tensors.binary or bool(tensors.outputs and all(tensors.outputs.values()))
        size = B * T * sequence.width * (sequence.dtype.itemsize if binary else JSON_BYTES)
        if size > self._settings.max_response:
            raise HTTPException(
                413,
                f"input: {B:,} sequences of {T:,} steps would give about {size:,} bytes, expected "
                f"at most {self._settings.max_response:,}",
            )
