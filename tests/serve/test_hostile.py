"""Single tricks of hostile clients; test_fuzz_frames.py draws them at random."""

import socket
import struct
import time

import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from serve_attacks import LIMITS, frame, resident, troubles
from serve_cases import Server, models

UPGRADE = (
    b"GET /v2/models/%s HTTP/1.1\r\nHost: localhost\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: Y4pCWXSEDpAXqAr/8yGsfA==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
ENDLESS = 50_000_000  # bytes; a server that takes so many would take all
SLOW = 20  # seconds: twenty times the timeouts that the server is given


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(*models(tmp_path_factory.mktemp("models")).values(), *LIMITS) as running:
        yield running
        assert running.get("/v2/health/live") == (200, {"live": True})
        assert not troubles(running)


def connected(server, data):
    connection = socket.create_connection((server.host, server.port), timeout=SLOW)
    connection.sendall(data)
    return connection


def until_closed(connection):
    """Return all that comes until the server closes; TimeoutError if it does not."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def accepted(connection, data):
    """Send data again and again; return how many bytes were taken before the server closed."""
    sent = 0
    try:
        while sent < ENDLESS:
            sent += connection.send(data)
    except ConnectionError:
        pass
    return sent


def websocket(server, path=b"two/stream"):
    connection = connected(server, UPGRADE % (path, b""))
    assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
    return connection


@pytest.mark.parametrize(
    "header",
    [
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 10\r\n",
        b"X: a\r\n" * 300,
        b"X: %s\r\n" % (b"a" * 20_000),
    ],
)
def test_a_handshake_that_cannot_be_read_is_answered(server, header):
    with connected(server, UPGRADE % (b"two/stream", header)) as connection:
        assert until_closed(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("trailer", [b"X-A: %s\r\n" % (b"b" * 1000), b"b" * 1000])
def test_trailers_without_end_are_cut_off(server, method, trailer):
    head = b" /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
    with connected(server, method + head) as connection:
        assert accepted(connection, trailer * 60) < ENDLESS


def test_chunks_with_little_in_them_are_cut_off(server):
    head = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(server, head) as connection:
        assert accepted(connection, b"1;%s\r\na\r\n" % (b"b" * 1000) * 60) < ENDLESS


def test_a_body_in_small_chunks_is_read(server):
    head = (
        b"POST /v2/models/two/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    )
    with connected(server, head + b"Connection: close\r\n\r\n") as connection:
        connection.sendall(b"8\r\n        \r\n" * 20_000 + b"0\r\n\r\n")
        found = until_closed(connection)
        assert found.startswith(b"HTTP/1.1 400 ")
        assert b"body: expected JSON" in found


def test_many_small_requests_at_once_are_answered(server):
    """The heads of all are more than one may have."""
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"a" * 1000)
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connected(server, get * 99 + last) as connection:
        assert until_closed(connection).count(b"HTTP/1.1 200 ") == 100


def test_a_body_that_nobody_reads_may_not_trickle_for_ever(server):
    head = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"

    def trickle(connection):
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            connection.sendall(b"a")
            time.sleep(0.1)

    with connected(server, head) as connection, pytest.raises(ConnectionError):
        trickle(connection)


@pytest.mark.parametrize("path", [b"two/stream", b"text/generate"])
@pytest.mark.parametrize(
    "endless",
    [frame(b"", 0, fin=False), frame(b"", 9), frame(b"a" * 125, 9), frame(b"", 10)],
    ids=["fragments", "empty pings", "pings", "pongs"],
)
def test_frames_without_end_that_make_no_message_are_cut_off(server, path, endless):
    before = resident(server.process)
    with websocket(server, path) as connection:
        connection.sendall(frame(b"a", 1, fin=False))
        assert accepted(connection, endless * 5000) < ENDLESS
    assert resident(server.process) < before + 50


def test_messages_in_many_parts_and_pings_between_them_are_fine(server):
    with websocket(server) as connection:
        parts = [frame(b'{"type":', 1, fin=False), frame(b'"open"}', 0)]
        parts[1:1] = [frame(b" ", 0, fin=False), frame(b"a", 9)] * 1000
        connection.sendall(b"".join(parts))
        found = b""
        while b'"opened"' not in found:
            found += connection.recv(65536)
        connection.sendall(frame(b'{"type":"close"}', 1))
        while b'{"type":"closed"}' not in found:
            found += connection.recv(65536)


@pytest.mark.parametrize("path", [b"two/stream", b"text/generate"])
def test_what_is_no_websocket_any_more_is_closed_in_silence(server, path):
    """Errors of the WebSocket itself, while the server has something to say."""
    text = b'{"type":"generate","max_tokens":10000}' if b"text" in path else b'{"type":"open"}'
    for wrong in (
        frame(b"\xff", 1) + frame(b"", 8),
        frame(b"\xff", 1),
        frame(b"a", 3),
        frame(b"a" * 20_000),
        frame(b"", 1, reserved=7),
    ):
        with websocket(server, path) as connection:
            connection.sendall(frame(text, 1) + wrong)
            until_closed(connection)


def test_who_goes_while_many_requests_are_answered_is_no_error(server):
    get = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for _ in range(20):
        connection = connected(server, get * 200)
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
