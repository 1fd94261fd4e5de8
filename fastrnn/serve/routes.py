"""What routes have in common: who may call, which model is meant, what errors look like."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict

from .models import ServedModel
from .service import Service, service_of
from .settings import Settings

__all__ = ["Answer", "Error", "Newest", "Versioned", "errors", "protection"]

Named = Annotated[str, Path(description="Name of a model.")]
OfVersion = Annotated[str, Path(description="Version of a model.")]


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(protected_namespaces=())


class Error(Answer):
    """Why a request was not answered."""

    error: str


WHEN = {
    400: "The request is wrong.",
    401: "No token that the server knows.",
    403: "A host or an origin that is not allowed.",
    404: "No such model or version.",
    408: "The request took too long to arrive.",
    413: "The request, or its answer, is too large.",
    415: "The encoding of the body is unknown.",
    503: "Too many requests at once, or the server is ending.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of errors with these statuses."""
    return {status: {"model": Error, "description": WHEN[status]} for status in statuses}


def protection(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `include_router` for routes that need a token, if there is one."""
    if not settings.tokens:
        return {"dependencies": [Depends(_authorized)], "responses": errors(403)}
    scheme = HTTPBearer(auto_error=False, description="One of the tokens of the server.")
    return {
        "dependencies": [Depends(_authorized), Depends(scheme)],
        "responses": errors(401, 403),
    }


async def _authorized(request: Request) -> None:
    request.state.client = service_of(request).client(request).name


async def _newest(name: Named, service: Annotated[Service, Depends(service_of)]) -> ServedModel:
    return service.model(name)


async def _versioned(
    name: Named, version: OfVersion, service: Annotated[Service, Depends(service_of)]
) -> ServedModel:
    return service.model(name, version)


Newest = Annotated[ServedModel, Depends(_newest)]
Versioned = Annotated[ServedModel, Depends(_versioned)]
