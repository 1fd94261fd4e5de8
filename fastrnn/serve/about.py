"""Routes about the server itself: for Prometheus, for the page, and its OpenAPI for readers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

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
    kind: str
    input_size: int
    output_size: int
    parameters: int
    streams: bool
    sessions: int
    max_sessions: int


class Latencies(Answer):
    """Answers of the last minute; percentiles in milliseconds, none without an answer."""

    answers: int
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None


class Batches(Answer):
    """How many steps were shared by up to 1, 2, 4, ... sessions, in the last minute."""

    sizes: list[int]
    counts: list[int]


class ModelStats(Answer):
    """How a model is used."""

    sessions: int
    pending_steps: int
    latency: Latencies
    batches: Batches


@router.get("/v2/fastrnn/models")
async def models(service: TheService) -> list[ModelFacts]:
    """List the models."""
    return [ModelFacts(**model.describe()) for model in service.models]


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: TheService) -> Response:
    """Return what is counted and timed, for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v2/fastrnn/stats")
async def stats(service: TheService) -> dict[str, ModelStats]:
    """Return how models were used in the last minute, by their names."""
    pools = dict(service.models.pool_stats())
    found = {}
    for name in service.models.names:
        pool = pools.get(name, {})
        counts = service.metrics.recent_batches(name)
        found[name] = ModelStats(
            sessions=pool.get("sessions", 0),
            pending_steps=pool.get("pending_steps", 0),
            latency=Latencies(**service.metrics.recent(name)),
            batches=Batches(sizes=[2**power for power in range(len(counts))], counts=counts),
        )
    return found


@open_router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI of this server to a reader, without a request to anywhere else."""
    page = openapi_page(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
