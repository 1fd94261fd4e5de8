"""The OpenAPI of the server, and a page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .v2_tensors import InferRequest

__all__ = ["POLICY", "describe", "openapi_page"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SUMMARY = """\
Recurrent models, over whole sequences by the Open Inference Protocol and step by step over
WebSockets."""


def describe(app: FastAPI, models: Sequence[str]) -> dict[str, Any]:
    """Return the OpenAPI of an application that serves models of these names, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=SUMMARY, routes=app.routes
        )
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        # Its body is read and checked by the route itself, in a thread.
        request = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= request.pop("$defs")
        schemas["InferRequest"] = request
        for path in found["paths"].values():
            for operation in path.values():
                _correct(operation, models)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = found
    return app.openapi_schema


def _correct(operation: dict[str, Any], models: Sequence[str]) -> None:
    """Say of an operation what FastAPI does not know."""
    # Bad values of parameters are errors as all others, with status 400.
    operation["responses"].pop("422", None)
    for parameter in operation.get("parameters", ()):  # to leave it out is its only "null"
        options = parameter["schema"].pop("anyOf", [{}])
        parameter["schema"] |= options[0]
        if parameter["name"] == "name":
            parameter["schema"]["enum"] = list(models)


STYLE = """\
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h2 { margin-top: 2rem; border-bottom: 1px solid #999 } h3 { margin-bottom: 0 }
code, pre { font: .9em ui-monospace, monospace } pre { background: #f2f2f2; padding: .5rem;
       overflow-x: auto }
.method { display: inline-block; min-width: 4em; text-transform: uppercase }
dt { font-weight: 600 } dd { margin-left: 1.5rem }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616 }
       pre { background: #2a2a2a } a { color: #8cf } }
"""


def openapi_page(found: dict[str, Any]) -> str:
    """Return a page that lists the routes of an OpenAPI, and what goes in and out."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(found['info']['title'])}: API</title><style>{STYLE}</style>",
        f"<h1>{escape(found['info']['title'])} {escape(found['info']['version'])}</h1>",
        f"<p>{escape(found['info']['description'])}</p>",
        "<p>For programs: <a href=openapi.json>openapi.json</a></p>",
    ]
    by_tag: dict[str, list[str]] = {}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    for tag, listed in by_tag.items():
        parts += [f"<h2>{escape(tag)}</h2>", *listed]
    parts.append("<h2>Schemas</h2>")
    for name, schema in sorted(found["components"]["schemas"].items()):
        parts.append(_schema(name, schema))
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [
        f"<h3><code><span class=method>{escape(method)}</span> {escape(path)}</code></h3>",
        f"<p>{escape(operation.get('description') or operation.get('summary', ''))}",
    ]
    if operation.get("security"):
        lines.append(" Needs a token.")
    lines.append("</p><dl>")
    for parameter in operation.get("parameters", ()):
        text = f"{parameter['name']} ({parameter['in']})"
        lines.append(f"<dt>{escape(text)}<dd>{escape(parameter.get('description', ''))}")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"<dt>body<dd>{escape(kind)}: {_link(content.get('schema', {}))}")
    for status, response in operation["responses"].items():
        kinds = response.get("content", {})
        bodies = [f"{escape(kind)}: {_link(kinds[kind].get('schema', {}))}" for kind in kinds]
        text = ". ".join([escape(response.get("description", "")), *bodies])
        lines.append(f"<dt>{escape(status)}<dd>{text}")
    return "".join([*lines, "</dl>"])


def _link(schema: dict[str, Any]) -> str:
    """Return a schema in a word, with a link where it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if schema.get("type") == "array":
        return f"array of {_link(schema.get('items', {}))}"
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return " or ".join(map(_link, options))
    return escape(str(schema.get("type", "any")))


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [
        f"<h3 id='{escape(name)}'><code>{escape(name)}</code></h3>",
        f"<p>{escape(schema.get('description', ''))}</p><dl>",
    ]
    required = schema.get("required", ())
    for field, inner in schema.get("properties", {}).items():
        note = "" if field in required else ", optional"
        lines.append(f"<dt><code>{escape(field)}</code><dd>{_link(inner)}{note}")
        if inner.get("description"):
            lines.append(f". {escape(inner['description'])}")
    return "".join([*lines, "</dl>"])
