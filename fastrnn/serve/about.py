"""Routes about the server itself: for Prometheus, for the page, and its OpenAPI for readers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from ..serialization import library_version
from .metrics import WINDOW
from .openapi import POLICY, openapi_page
from .routes import Answer
from .service import Service, service_of

__all__ = ["open_router", "router"]

router = APIRouter(tags=["Server"])
open_router = APIRouter(tags=["Server"])
TheService = Annotated[Service, Depends(service_of)]


class ModelFacts(Answer):
    """A model, as the page shows it."""

    name: str
    version: str
    kind: Literal["float32", "tokens", "text"]
    layers: str
    parameters: int
    input_size: int
    output_size: int
    characters: int | None = Field(description="How many a character model knows.")
    streams: bool
    sessions: int
    max_sessions: int


class ModelList(Answer):
    """What is served."""

    server: str
    version: str
    models: list[ModelFacts]


class Latency(Answer):
    """How long answers of one kind took; no percentiles where there was none."""

    what: str = Field(description="infer, stream or generate")
    count: int
    steps: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None


class Stats(Answer):
    """The last minute, and what is open now."""

    window_s: int
    latency: list[Latency]
    batch_sizes: list[int] = Field(description="Passes that 1, 2, 3-4, 5-8, ... sessions shared.")
    sessions: int
    pending_steps: int
    steps_per_s: float


@router.get("/v2/fastrnn/models")
async def models(service: TheService) -> ModelList:
    """List the models."""
    facts = [ModelFacts(**model.describe()) for model in service.models]
    return ModelList(server="fastrnn", version=library_version(), models=facts)


@router.get("/v2/fastrnn/stats")
async def stats(service: TheService) -> Stats:
    """Return how the server was used in the last minute."""
    recent = service.metrics.recent()
    pools = [stats for _, stats in service.models.pool_stats()]
    return Stats(
        window_s=WINDOW,
        latency=[Latency(what=what, **summary) for what, summary in recent.items()],
        batch_sizes=service.metrics.recent_batches(),
        sessions=sum(each["sessions"] for each in pools),
        pending_steps=sum(each["pending_steps"] for each in pools),
        steps_per_s=sum(each["steps"] for each in recent.values()) / WINDOW,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: TheService) -> Response:
    """Return what is counted and timed, for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@open_router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI of this server to a reader, without a request to anywhere else."""
    page = openapi_page(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
