"""Who may call a server: tokens, names of hosts, origins of pages."""

import base64
import contextlib
import json
import os
import signal
import subprocess

import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from fastapi import HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocket

from fastrnn.serve import Settings
from fastrnn.serve.security import client_of
from serve_cases import COMMAND, Server, models, vectors

ONE, TWO = "correct-horse-battery-staple", "0123456789abcdef"
OPEN = ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
CLOSED = (
    *("/v2", "/v2/models/two", "/v2/models/two/ready", "/metrics"),
    *("/v2/fastrnn/models", "/v2/fastrnn/stats", "/v2/models/none"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(ONE + "\n")
    arguments = (files["two"], "--token-file", tokens, "--host", "0.0.0.0", "--log-requests")
    with Server(*arguments, environment={"FASTRNN_TOKENS": TWO}) as running:
        running.host = "127.0.0.1"
        yield running
    log = json.dumps(running.events)
    assert ONE not in log
    assert TWO not in log


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", CLOSED)
def test_what_needs_a_token(server, path):
    wrong = (None, "", "x", ONE[:-1], ONE + "x", ONE.upper(), "é", "x" * 10_000)
    for headers in [{}, *(bearer(token) for token in wrong), {"Authorization": ONE}]:
        headers = {name: value.encode("utf-8", "ignore") for name, value in headers.items()}
        status, found, body = server.request("GET", path, headers=headers)
        assert status == 401
        assert found["WWW-Authenticate"] == "Bearer"
        assert set(json.loads(body)) == {"error"}
    for token in (ONE, TWO):
        status, _, _ = server.request("GET", path, headers=bearer(token))
        assert status == (404 if path.endswith("none") else 200)


@pytest.mark.parametrize("path", OPEN)
def test_what_needs_none(server, path):
    assert server.request("GET", path)[0] == 200


def test_inference_needs_a_token_before_the_body(server):
    x = {"input": vectors(1, 2, 5)}
    assert server.infer("two", x)[0] == 401
    assert server.infer("two", x, bearer("x" * 20))[0] == 401
    assert server.infer("two", x, bearer(TWO))[0] == 200
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/v2/models/two/infer")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()  # and no body
        assert connection.getresponse().status == 401


def test_tokens_in_the_url_count_for_nothing(server):
    for query in (f"token={ONE}", f"access_token={ONE}"):
        assert server.request("GET", f"/v2?{query}")[0] == 401


def test_the_openapi_says_what_needs_a_token(server):
    _, found = server.get("/openapi.json")
    assert found["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) == (path not in OPEN), path
            assert ("401" in operation["responses"]) == (path not in OPEN), path


def test_others_are_refused_without_tokens(files):
    environment = {key: value for key, value in os.environ.items() if key != "FASTRNN_TOKENS"}
    command = [*COMMAND, str(files["two"]), "--host", "0.0.0.0", "--port", "0"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert found.returncode == 2
    assert found.stderr.startswith("fastrnn serve: --host: 0.0.0.0 can be reached from other")
    assert found.stderr.count("\n") == 1
    with Server(files["two"], "--host", "0.0.0.0", "--insecure") as server:
        server.host = "127.0.0.1"
        assert server.get("/v2", Host="anything.example")[0] == 200
        assert server.stop() in (0, -signal.SIGTERM)


def test_pages_of_others_are_refused(files):
    arguments = ("--allow-hosts", "models.example", "--origins", "https://page.example")
    with Server(files["two"], *arguments) as server:
        ours = f"127.0.0.1:{server.port}"
        for host in (ours, "localhost", "LOCALHOST:80", "[::1]:9", "models.example"):
            assert server.get("/v2", Host=host)[0] == 200, host
        for host in (
            "evil.example",
            f"evil.example:{server.port}",
            "127.0.0.1.evil.example",
            "",
            "[",
        ):
            assert server.get("/v2", Host=host)[0] == 403, host
        for origin in (f"http://{ours}", "https://page.example"):
            assert server.get("/v2", Host=ours, Origin=origin)[0] == 200, origin
        for origin in (
            "http://evil.example",
            "null",
            "",
            f"http://{ours}.evil.example",
            "http://[",
        ):
            assert server.get("/v2", Host=ours, Origin=origin)[0] == 403, origin
        inputs = {"input": vectors(1, 2, 5)}
        assert server.infer("two", inputs, {"Origin": "http://evil.example"})[0] == 403


# --- of WebSockets, whose pages cannot send headers -----------------------------------------------


def connection(kind="websocket", headers=(), subprotocols=(), client=("192.0.2.1", 5)):
    headers = [(b"host", b"localhost:80"), *((n.encode(), v.encode()) for n, v in headers)]
    scope = {"type": kind, "headers": headers, "client": client, "path": "/", "method": "GET"}
    if kind == "http":
        return Request(scope)
    return WebSocket(scope | {"subprotocols": list(subprotocols)}, None, None)


def encoded(token):
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def test_a_websocket_may_send_its_token_as_a_subprotocol():
    settings = Settings(tokens=(ONE, TWO))
    for token in (ONE, TWO):
        by_header = client_of(connection(headers=[("authorization", f"Bearer {token}")]), settings)
        listed = ["fastrnn", encoded(token)]
        assert client_of(connection(subprotocols=listed), settings) == by_header
        assert client_of(connection("http", [("authorization", f"bearer {token}")]), settings)
        assert token not in by_header.name
    wrong = ("bearer.", "bearer.é", "bearer.A", "bearer.@@@@", "fastrnn", encoded(ONE + "x"), ONE)
    for protocol in wrong:
        with pytest.raises(HTTPException) as caught:
            client_of(connection(subprotocols=[protocol]), settings)
        assert caught.value.status_code == 401
    with pytest.raises(HTTPException):  # only of WebSockets
        client_of(connection("http", [("sec-websocket-protocol", encoded(ONE))]), settings)


def test_clients_are_told_apart():
    settings = Settings(tokens=(ONE, TWO))
    names = {
        client_of(connection(headers=[("authorization", f"Bearer {token}")]), settings).name
        for token in (ONE, TWO)
    }
    assert len(names) == 2
    addresses = [
        client_of(connection(client=(host, 5)), Settings()) for host in ("::1", "10.0.0.1")
    ]
    assert [each.name for each in addresses] == ["address:::1", "address:10.0.0.1"]
    assert client_of(connection(client=None), Settings()).name == "address:unknown"


def test_addresses_behind_a_proxy(files):
    forwarded = {"X-Forwarded-For": "192.0.2.33"}
    for arguments, expected in (
        ((), "address:127.0.0.1"),
        (("--trusted-proxies", "127.0.0.1"), "address:192.0.2.33"),
    ):
        with Server(files["two"], "--log-requests", *arguments) as server:
            assert server.get("/v2", **forwarded)[0] == 200
            assert server.event("request")["client"] == expected
