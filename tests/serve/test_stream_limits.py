"""Streams over WebSockets: what is refused, what is limited, clients that do not behave."""

import asyncio
import socket
import struct

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("websockets")

from fastrnn.serve import protocol, streams
from fastrnn.serve.client import StreamClient
from stream_cases import (
    I,
    alone,
    make_model,
    opened,
    raw,
    save_model,
    serving,
    steps,
    until,
)


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path)


def run(main):
    asyncio.run(asyncio.wait_for(main, 60))


# --- what is refused ------------------------------------------------------------------------------

ONE = struct.pack("<QQ", 0, 0) + bytes(4 * I)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "bad_frame"),
        (b"\0" * 15, "bad_frame"),
        (b"\0" * 16, "bad_frame"),
        (ONE + b"\0", "bad_frame"),
        (struct.pack("<QQ", 5, 0) + bytes(4 * I), "bad_frame"),
        (struct.pack("<QQ", 2**64 - 1, 0) + bytes(4 * I), "bad_frame"),
        (struct.pack("<QQ", 0, 1) + bytes(4 * I), "bad_frame"),
        (struct.pack("<QQ", 0, 2**64 - 1) + bytes(4 * I), "bad_frame"),
        (struct.pack("<QQ", 0, 0) + bytes(4 * I * 21), "limit"),
        ("", "bad_frame"),
        ("{}", "bad_frame"),
        ("[]", "bad_frame"),
        ("null", "bad_frame"),
        ("[" * 4000, "bad_frame"),
        ('{"type": "opem"}', "bad_frame"),
        ('{"type": ["open"]}', "bad_frame"),
        ('{"type": "open"}', "bad_frame"),
        ('{"type": "resume", "session": "a", "token": "b"}', "bad_frame"),
        ('{"type": "resume", "session": "a", "token": "b", "received": 0}', "bad_frame"),
        ('{"type": "reset"' + " " * 5000 + "}", "too_big"),
    ],
)
def test_a_wrong_message_ends_the_stream_but_not_the_session(model, message, code):
    async def main():
        async with serving(model, max_steps=20) as server:
            async with opened(server) as (stream, reply):
                await stream.socket.send(message)
                assert await stream.refused() == code
            async with raw(server) as stream:
                await stream.say(
                    "resume", session=reply["session"], token=reply["token"], received=0
                )
                await stream.hear()
                await stream.frame(0, steps(20))
                _, y = await stream.hear()
                np.testing.assert_array_equal(y, alone(make_model(), steps(20)))

    run(main())


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (ONE, "bad_frame"),
        ('{"type": "reset"}', "bad_frame"),
        ('{"type": "resume"}', "bad_frame"),
        ('{"type": "resume", "session": 1, "token": "b", "received": 0}', "bad_frame"),
        ('{"type": "resume", "session": "a", "token": "b", "received": true}', "bad_frame"),
        ('{"type": "resume", "session": "a", "token": "b", "received": -1}', "bad_frame"),
        ('{"type": "resume", "session": "a", "token": "b", "received": 0}', "unknown_session"),
    ],
)
def test_a_stream_begins_with_open_or_resume(model, first, code):
    async def main():
        async with serving(model) as server, raw(server) as stream:
            await stream.socket.send(first)
            assert await stream.refused() == code
            assert len(server.service.sessions) == 0

    run(main())


def test_who_says_nothing_is_sent_away(model, monkeypatch):
    monkeypatch.setattr(streams, "FIRST_MESSAGE", 0.1)

    async def main():
        async with serving(model) as server, raw(server) as stream:
            assert await stream.refused() == "limit"

    run(main())


def test_what_may_be_under_way_is_limited(model):
    async def main():
        async with serving(model, max_in_flight=4) as server:
            async with opened(server) as (stream, reply):
                for position in range(4):
                    await stream.frame(position, steps(1))
                for _ in range(4):
                    await stream.hear()
                await stream.frame(4, steps(1), received=2)
                await stream.hear()
                await stream.frame(5, steps(1))
                await stream.hear()
                await stream.frame(6, steps(1))  # the fifth that is not acknowledged
                assert await stream.refused() == "limit"
            async with raw(server) as stream:
                await stream.say(
                    "resume", session=reply["session"], token=reply["token"], received=6
                )
                assert (await stream.hear())["position"] == 6
                for _ in range(100):
                    await stream.say("reset")
                found, _ = await stream.end()
                assert found[-1]["code"] == "limit"

    run(main())


def test_bytes_under_way_are_limited(model):
    async def main():
        async with serving(model, max_frame=16 + 4 * I * 100) as server:
            async with opened(server) as (stream, _):
                await stream.frame(0, steps(60))
                await stream.hear()
                await stream.frame(60, steps(60))
                assert await stream.refused() == "limit"
            async with opened(server) as (stream, _):
                await stream.socket.send(bytes(16 + 4 * I * 100 + 1))
                _, close_code = await stream.end()
                assert close_code == 1009

    run(main())


def test_sessions_are_limited_for_a_client_and_a_model(tmp_path):
    async def main():
        models = [save_model(tmp_path) + ",max_sessions=2", save_model(tmp_path, name="other")]
        async with serving(*models, max_sessions_per_client=3) as server:
            async with opened(server), opened(server) as (_, kept):
                async with raw(server) as stream:
                    await stream.say("open")
                    assert await stream.refused() == "limit"
                async with opened(server, "other"), raw(server, "other") as stream:
                    await stream.say("open")
                    assert await stream.refused() == "limit"
            # Both wait to be resumed: they count, and can be resumed.
            async with raw(server) as stream:
                await stream.say("open")
                assert await stream.refused() == "limit"
            async with raw(server) as stream:
                await stream.say("resume", session=kept["session"], token=kept["token"], received=0)
                assert (await stream.hear())["type"] == "opened"
                await stream.say("close")
                await stream.hear()
            async with opened(server):
                pass

    run(main())


def test_bidirectional_and_unknown_models_are_refused_before_the_handshake(tmp_path):
    import fastrnn

    both = fastrnn.GRU(I, 4, bidirectional=True, seed=0)

    async def main():
        async with serving(save_model(tmp_path, both)) as server:
            for model, status in (("m", 400), ("x", 404)):
                with pytest.raises(ConnectionError, match=f"status {status}"):
                    await StreamClient(server.url, model).connect()

    run(main())


def test_tokens_of_clients(model):
    token = "0123456789abcdef"

    async def main():
        async with serving(model, tokens=(token,)) as server:
            for wrong in (None, token + "x"):
                with pytest.raises(ConnectionError, match="status 401"):
                    await StreamClient(server.url, "m", token=wrong).connect()
            async with StreamClient(server.url, "m", token=token) as client:
                await client.send(steps(1))

    run(main())


# --- clients that do not behave -------------------------------------------------------------------


async def handshake(server, receive_buffer=4096):
    """A socket after the WebSocket's handshake that then does nothing by itself."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    found.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(found, ("127.0.0.1", server.port))
    request = (
        "GET /v2/models/m/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(found, request.encode())
    assert b"101" in await loop.sock_recv(found, 1000)
    return found


def client_frame(data):
    """A WebSocket frame of a client, its mask zero."""
    opcode = 0x81 if isinstance(data, str) else 0x82
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("!BBQ", opcode, 0x80 | 127, len(data)) + bytes(4) + data


def test_a_client_that_does_not_read_is_cut_off(tmp_path):
    import fastrnn

    wide = fastrnn.Sequential(fastrnn.GRU(I, 4, seed=0), fastrnn.Linear(4, 2000, seed=1))

    async def main():
        options = {"send_timeout": 0.3, "max_frame": 1 << 24}
        async with serving(save_model(tmp_path, wide), **options) as server:
            loop = asyncio.get_running_loop()
            found = await handshake(server)
            with found:
                await loop.sock_sendall(found, client_frame(protocol.write_message("open")))
                await until(lambda: server.attached == 1)
                for number in range(14):  # 1.1 MB of answers each: more than the system holds
                    frame = protocol.pack_frame(140 * number, 0, steps(140))
                    await loop.sock_sendall(found, client_frame(frame))
                await until(lambda: server.service.sessions and server.attached == 0)
                await until(lambda: not server.uvicorn.server_state.connections)

    run(main())


def test_half_open_connections_are_found_by_pings(model):
    async def main():
        pings = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.2}
        async with serving(model, uvicorn_options=pings) as server:
            loop = asyncio.get_running_loop()
            with await handshake(server) as found:
                await loop.sock_sendall(found, client_frame(protocol.write_message("open")))
                await until(lambda: server.attached == 1)
                await until(lambda: server.attached == 0)
                await until(lambda: not server.uvicorn.server_state.connections)

    run(main())
