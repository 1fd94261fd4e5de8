"""The server's OpenAPI against the server: what it takes, what it answers, and who may ask."""

import os

import hypothesis
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="NOT TESTED: needs schemathesis")
pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from schemathesis.core.control import SkipTest
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi

from serve_attacks import troubles
from serve_cases import Server, models

TOKEN = "a-token-of-the-tests"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
    openapi.ignored_auth,
]
SETTINGS = hypothesis.settings(
    max_examples=40,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=list(hypothesis.HealthCheck),
    database=None,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    files = models(tmp_path_factory.mktemp("models"))
    environment = {"FASTRNN_TOKENS": TOKEN}
    with Server(*files.values(), "--max-body", 100_000, environment=environment) as running:
        yield running
        assert not troubles(running)
        assert running.stop() == 0


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_all_operations(server, mode):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.generation.update(modes=[mode])
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) >= 12
    version = server.get("/v2/models/two", Authorization=f"Bearer {TOKEN}")[1]["versions"][0]
    checked = 0
    for operation in operations:
        strategy = operation.as_strategy(generation_mode=mode)

        @SETTINGS
        @hypothesis.given(case=strategy)
        def check(case):
            for name in {"name", "version"} & set(case.path_parameters or {}):
                # Most names that are drawn are of no model.
                if case.path_parameters[name] and len(str(case.path_parameters[name])) % 2:
                    case.path_parameters[name] = {"name": "two", "version": version}[name]
            case.call_and_validate(
                headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=60
            )

        try:
            check()
            checked += 1
        except SkipTest:  # an operation that takes nothing cannot be given what is wrong
            continue
    assert checked >= 6
