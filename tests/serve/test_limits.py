"""What a server does not take: too large, too slow, too much at once, endless."""

import asyncio
import gzip
import json
import socket
import time
import zlib

import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from serve_cases import Server, models, until, vectors

BODY, SLOW = 20_000, 1.0
PATH = "/v2/models/two/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    files = models(tmp_path_factory.mktemp("models"))
    with Server(
        *(files["two"], f"{files['embedded']},max_steps=50"),
        *("--max-body", BODY, "--max-held", 10 * BODY, "--max-response", 100_000),
        *("--request-timeout", SLOW, "--send-timeout", SLOW),
    ) as running:
        yield running
        # Whatever was sent, the server lives and owes nothing.
        x = vectors(1, 2, 5)
        assert until(lambda: running.infer("two", {"input": x})[0] == 200)
        for gauge in (b"at_work", b"held_bytes"):
            line = b"\nfastrnn_%s 0.0\n" % gauge
            assert until(lambda: line in running.request("GET", "/metrics")[2])  # noqa: B023


def rejected(server, reason):
    text = server.request("GET", "/metrics")[2].decode()
    name = f'fastrnn_rejected_total{{reason="{reason}"}}'
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return float(lines[0].split()[-1]) if lines else 0.0


def raw(server):
    return socket.create_connection((server.host, server.port), timeout=30)


def head(length=None, path=PATH):
    body = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}\r\n\r\n".encode()


def answer(connection):
    """Return the status and the JSON of an answer with Connection: close or a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail(f"closed after {data!r}")
    top, _, body = data.partition(b"\r\n\r\n")
    lines = top.decode().lower().split("\r\n")
    length = next(int(each.split(":")[1]) for each in lines if each.startswith("content-length"))
    while len(body) < length:
        body += connection.recv(65536) or pytest.fail("closed")
    return int(lines[0].split()[1]), json.loads(body)


def test_a_body_whose_length_is_too_much_is_not_read(server):
    before = rejected(server, "too_large")
    with raw(server) as connection:
        connection.sendall(head(BODY + 1))  # and not a byte of it
        status, found = answer(connection)
    assert (status, found["error"]) == (413, f"body: expected at most {BODY:,} bytes")
    assert rejected(server, "too_large") == before + 1


def test_a_body_in_chunks_is_counted_while_it_is_read(server):
    chunk = b"%x\r\n%s\r\n" % (1000, b" " * 1000)
    with raw(server) as connection:
        connection.sendall(head())
        for _ in range(BODY // 1000 + 1):  # never the end of it
            connection.sendall(chunk)
        assert answer(connection)[0] == 413


def test_the_client_can_go_on_after_it(server):
    with raw(server) as connection:
        connection.sendall(head(BODY + 1) + b" " * (BODY + 1))
        assert answer(connection)[0] == 413
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(connection) == (200, {"live": True})


def test_a_body_that_does_not_come(server):
    before = rejected(server, "slow")
    with raw(server) as connection:
        connection.sendall(head(100) + b"{")
        status, found = answer(connection)
    assert (status, found) == (408, {"error": "the request took too long to arrive"})
    assert rejected(server, "slow") == before + 1


@pytest.mark.parametrize("sent", [b"", b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\nHost: localh"])
def test_a_head_that_does_not_come(server, sent):
    with raw(server) as connection:
        connection.sendall(sent)
        assert connection.recv(1000) == b""  # closed


def test_a_second_head_that_does_not_come(server):
    with raw(server) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(connection)[0] == 200
        connection.sendall(b"GET /v2 ")
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("end", [b"", b"\r\nX: "])
def test_a_head_without_end(server, end):
    with raw(server) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-A: a" + end)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += connection.send(b"a" * 10_000)
        except OSError:
            pass  # closed
        assert sent < 10_000_000


def test_many_bodies_at_once(server):
    """Ten bodies fill the server's memory; the next is turned away and may try again."""
    waiting = []
    try:
        for _ in range(11):
            connection = raw(server)
            waiting.append(connection)
            connection.sendall(head(BODY) + b" " * (BODY - 1))
        status, found = until(lambda: next(map(_status, filter(_answered, waiting)), None))
        assert (status, found) == (503, {"error": "too many requests at once"})
    finally:
        for connection in waiting:
            connection.close()
    assert rejected(server, "busy") >= 1


def _answered(connection):
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


def _status(connection):
    return answer(connection)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_small_body_that_unpacks_to_a_large_one(server, encoding):
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    body = pack(b" " * 1000 * BODY)
    assert len(body) <= 2 * BODY
    headers = {"Content-Encoding": encoding}
    # Of 20 MB of spaces deflate makes 20 kB: take less, to be sure that its size is let through.
    body = pack(b" " * 100 * BODY)
    status, _, found = server.request("POST", PATH, body, headers)
    assert status == 413, found
    assert "unpacked" in json.loads(found)["error"]


@pytest.mark.parametrize(
    "encoding, body, status",
    [
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-3], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400),
        ("deflate", b"{}", 400),
        ("br", b"{}", 415),
        ("gzip, gzip", b"{}", 415),
    ],
)
def test_damaged_encodings(server, encoding, body, status):
    found, _, text = server.request("POST", PATH, body, {"Content-Encoding": encoding})
    assert found == status
    assert "error" in json.loads(text)


def test_sequences_and_answers_are_limited(server):
    x = vectors(1, 51, 1).astype("int32")[..., 0] * 0
    assert server.infer("embedded", {"input": x})[0] == 413
    assert server.infer("embedded", {"input": x[:, :50]})[0] == 200
    tokens = x[:, :50].repeat(40, 0)
    status, found = server.infer("embedded", {"input": tokens})
    assert status == 413
    assert "40 sequences of 50 steps" in found["error"]


def test_a_client_that_takes_no_answer_is_cut_off(server):
    """It is let go, and meanwhile others are answered."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((server.host, server.port))
    with connection:
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.setblocking(False)
        end = time.monotonic() + 30
        cut = False
        while not cut and time.monotonic() < end:
            try:
                connection.send(ask * 20)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                cut = True
            assert server.get("/v2/health/live")[0] == 200
        assert cut


def test_a_model_has_its_own_number_of_requests_at_once(tmp_path):
    from fastrnn.serve.metrics import Metrics
    from fastrnn.serve.models import Models
    from fastrnn.serve.service import Service
    from fastrnn.serve.settings import Settings

    files = models(tmp_path)
    settings = Settings(max_running=3)
    named = [f"{files['two']},max_running=1", str(files["text"])]

    async def most_at_once(service, name):
        running = most = 0

        async def one():
            nonlocal running, most
            async with service.turn(service.model(name)):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(one() for _ in range(10)))
        return most

    async def run():
        served = Models(settings, named, Metrics())
        served.load()
        service = Service(settings, served, Metrics())
        found = [await most_at_once(service, name) for name in ("two", "text")]
        await service.close()
        return found

    assert asyncio.run(run()) == [1, 3]
