"""Streams over WebSockets: the bits, the order, resumption, limits, ends."""

import asyncio
import json
import socket
import struct

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("websockets")

from fastrnn.serve import protocol, streams
from fastrnn.serve.client import StreamClient, StreamError
from stream_cases import (
    I,
    O,
    alone,
    make_model,
    make_token_model,
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


def parts(x, seed=0, most=9):
    """x in pieces of random lengths."""
    rng = np.random.default_rng(seed)
    while len(x):
        length = int(rng.integers(1, most))
        yield x[:length]
        x = x[length:]


# --- what is answered -----------------------------------------------------------------------------


def test_streams_that_share_a_server_have_the_bits_of_the_model_alone(model):
    async def stream(server, seed):
        x = steps(100 + seed, seed)
        async with StreamClient(server.url, "m") as client:
            if seed % 2:  # many at once, or one after the other
                answers = await asyncio.gather(*map(client.send, parts(x, seed)))
            else:
                answers = [await client.send(part) for part in parts(x, seed)]
            assert client.position == len(x)
        np.testing.assert_array_equal(np.concatenate(answers), alone(make_model(), x))

    async def main():
        async with serving(model) as server:
            await asyncio.gather(*(stream(server, seed) for seed in range(12)))
            assert server.attached == 0
            assert len(server.service.sessions) == 0

    run(main())


def test_tokens_and_single_steps(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 11, 40)

    async def main():
        async with serving(save_model(tmp_path, make_token_model())) as server:
            async with StreamClient(server.url, "m") as client:
                assert client.takes_tokens
                y = await client.send(tokens[:39])
                last = await client.send(tokens[39])
                assert last.shape == (O,)
                with pytest.raises(StreamError, match="bad_frame.*from 0 to 10, got 11"):
                    await client.send([3, 11])
        expected = alone(make_token_model(), tokens)
        np.testing.assert_array_equal(np.concatenate([y, last[None]]), expected)

    run(main())


def test_a_reset_has_its_place_in_the_order(model):
    x = steps(30)

    async def main():
        async with serving(model) as server, StreamClient(server.url, "m") as client:
            first, _, second = await asyncio.gather(
                client.send(x[:20]), client.reset(), client.send(x[20:])
            )
        np.testing.assert_array_equal(first, alone(make_model(), x[:20]))
        np.testing.assert_array_equal(second, alone(make_model(), x[20:]))

    run(main())


def test_what_the_server_says_when_a_session_opens(model):
    async def main():
        async with serving(model, max_in_flight=7, max_frame=4096) as server:
            async with opened(server) as (_, reply):
                served = server.service.models.get("m")
                assert reply.pop("session") != reply.pop("token")
                assert reply == {
                    "type": "opened",
                    "protocol": 1,
                    "model": "m",
                    "version": served.version,
                    "input": "float32",
                    "input_size": I,
                    "output_size": O,
                    "position": 0,
                    "max_steps": (4096 - 16) // (4 * I),
                    "max_in_flight": 7,
                    "max_frame": 4096,
                }

    run(main())


def test_steps_beyond_one_message_go_in_several(model):
    x = steps(1000)

    async def main():
        async with serving(model, max_frame=1024) as server:
            async with StreamClient(server.url, "m") as client:
                y = await client.send(x)
        np.testing.assert_array_equal(y, alone(make_model(), x))

    run(main())


# --- resumption -----------------------------------------------------------------------------------


def test_answers_that_did_not_arrive_come_again_and_are_not_computed_twice(model):
    x, expected = steps(30), alone(make_model(), steps(30))

    async def main():
        async with serving(model) as server:
            async with opened(server) as (stream, reply):
                await stream.frame(0, x[:10])
                await stream.frame(10, x[10:20])
                await stream.hear()
                await stream.hear()
            ticket = {"session": reply["session"], "token": reply["token"]}
            await until(lambda: server.attached == 0)
            async with raw(server) as stream:
                await stream.say("resume", **ticket, received=10)
                assert (await stream.hear())["position"] == 20
                position, y = await stream.hear()
                assert position == 10
                np.testing.assert_array_equal(y, expected[10:20])
                # Sent again, though it was answered: other values show that nothing is computed.
                await stream.frame(10, x[10:20] + 1, received=10)
                position, y = await stream.hear()
                assert position == 10
                np.testing.assert_array_equal(y, expected[10:20])
                await stream.frame(20, x[20:], received=20)
                position, y = await stream.hear()
                assert position == 20
                np.testing.assert_array_equal(y, expected[20:])
            # What was acknowledged is gone.
            async with raw(server) as stream:
                await stream.say("resume", **ticket, received=10)
                assert await stream.refused() == "bad_frame"

    run(main())


def test_connections_cut_at_random_lose_and_double_nothing(model):
    rng = np.random.default_rng(0)
    pieces = np.split(steps(3000), (700, 1500))  # with a reset after each

    async def main():
        async with serving(model) as server, StreamClient(server.url, "m") as client:
            tasks = []
            for piece in pieces:
                tasks += map(client.send, parts(piece, most=30))
                tasks.append(client.reset())
            tasks = list(map(asyncio.ensure_future, tasks))
            while not all(task.done() for task in tasks):
                before = client.ticket.received
                await asyncio.sleep(rng.uniform(0, 0.02))
                if client.ticket.received > before:  # else nothing would ever get done
                    server.cut()
            assert client.connections > 3
            return [task.result() for task in tasks]

    answers = asyncio.run(asyncio.wait_for(main(), 60))
    got = np.concatenate([answer for answer in answers if answer is not None])
    expected = [alone(make_model(), piece) for piece in pieces]
    np.testing.assert_array_equal(got, np.concatenate(expected))


def test_who_resumes_last_has_the_session(model):
    async def main():
        async with serving(model) as server, opened(server) as (first, reply):
            await first.frame(0, steps(4))
            await first.hear()
            async with raw(server) as second:
                await second.say(
                    "resume", session=reply["session"], token=reply["token"], received=4
                )
                assert (await second.hear())["position"] == 4
                assert await first.refused() == "moved"
                await second.frame(4, steps(8)[4:], received=4)
                _, y = await second.hear()
                np.testing.assert_array_equal(y, alone(make_model(), steps(8))[4:])
            assert len(server.service.sessions) == 1

    run(main())


def test_only_the_owner_can_resume_and_others_do_not_disturb_him(tmp_path):
    async def main():
        models = [save_model(tmp_path), save_model(tmp_path, make_model(2), "other")]
        async with serving(*models) as server, opened(server) as (stream, reply):
            session, token = reply["session"], reply["token"]
            for model, wrong in (
                ("m", {"session": session, "token": token + "x"}),
                ("m", {"session": session, "token": ""}),
                ("m", {"session": session[:-1], "token": token}),
                ("m", {"session": "\ud800\x00*", "token": token}),
                ("other", {"session": session, "token": token}),
            ):
                async with raw(server, model) as thief:
                    await thief.say("resume", **wrong, received=0)
                    assert await thief.refused() == "unknown_session"
            await stream.frame(0, steps(3))
            _, y = await stream.hear()
            np.testing.assert_array_equal(y, alone(make_model(), steps(3)))
            await stream.say("close")
            assert (await stream.hear()) == {"type": "closed"}
            async with raw(server) as late:
                await late.say("resume", session=session, token=token, received=3)
                assert await late.refused() == "unknown_session"

    run(main())


def test_a_ticket_resumes_in_another_client(model):
    x = steps(20)

    async def main():
        async with serving(model) as server:
            client = StreamClient(server.url, "m")
            await client.connect()
            first = await client.send(x[:8])
            asyncio.ensure_future(client.send(x[8:12])).add_done_callback(lambda f: f.exception())
            await until(lambda: server.service.metrics.recent()["stream"]["count"] == 2)
            ticket = client.ticket
            await client.disconnect()
            async with StreamClient(server.url, "m", resume=ticket) as client:
                parts = [x[ticket.received : 12], x[12:]]
                rest = [await client.send(part) for part in parts if len(part)]
        np.testing.assert_array_equal(
            np.concatenate([first, *rest])[-12:], alone(make_model(), x)[-12:]
        )

    run(main())


def test_idle_sessions_expire_unless_a_stream_has_them(model):
    async def main():
        async with serving(model, idle_timeout=0.3) as server:
            async with opened(server) as (stream, _):
                async with opened(server) as (_, left):
                    assert len(server.service.sessions) == 2
                await asyncio.sleep(0.7)
                await until(lambda: len(server.service.sessions) == 1)
                async with raw(server) as late:
                    await late.say(
                        "resume", session=left["session"], token=left["token"], received=0
                    )
                    assert await late.refused() == "unknown_session"
                await stream.frame(0, steps(1))
                await stream.hear()

    run(main())


def test_sessions_go_on_with_the_model_they_began_with(tmp_path):
    x = steps(20)

    async def main():
        async with serving(save_model(tmp_path), reload_interval=0.05) as server:
            async with opened(server) as (stream, old):
                await stream.frame(0, x[:10])
                await stream.hear()
            save_model(tmp_path, make_model(seed=5))
            await until(lambda: server.service.models.get("m").version != old["version"])
            await asyncio.sleep(0.5)
            async with raw(server) as stream:
                await stream.say("resume", session=old["session"], token=old["token"], received=10)
                assert (await stream.hear())["version"] == old["version"]
                await stream.frame(10, x[10:], received=10)
                _, y = await stream.hear()
                np.testing.assert_array_equal(y, alone(make_model(), x)[10:])
                await stream.say("close")
                await stream.hear()
            await until(lambda: len(server.service.models.versions("m")) == 1)

    run(main())


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
        async with serving(save_model(tmp_path, wide), send_timeout=0.3) as server:
            loop = asyncio.get_running_loop()
            found = await handshake(server)
            with found:
                await loop.sock_sendall(found, client_frame(protocol.write_message("open")))
                for number in range(14):  # 640 kB of answers each
                    frame = protocol.pack_frame(80 * number, 80 * max(0, number - 1), steps(80))
                    await loop.sock_sendall(found, client_frame(frame))
                    await asyncio.sleep(0.01)
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


# --- the end --------------------------------------------------------------------------------------


def test_a_server_that_drains_answers_what_it_accepted(model):
    async def main():
        async with serving(model) as server, opened(server) as (stream, _):
            for number in range(8):
                await stream.frame(50 * number, steps(400)[50 * number :][:50])
            await stream.hear()  # so that the server has read something
            assert await server.service.drain()
            found, close_code = await stream.end()
            assert close_code == 1012
            assert {"type": "draining"} in found
            assert found[-1]["code"] == "draining"
            answers = [each[1] for each in found if isinstance(each, tuple)]
            expected = alone(make_model(), steps(400))
            count = 50 * (1 + len(answers))
            np.testing.assert_array_equal(np.concatenate(answers), expected[50:count])
            async with raw(server) as late:
                assert await late.refused() == "draining"

    run(main())


def test_errors_of_clients_name_what_is_wrong(model):
    async def main():
        async with serving(model) as server:
            async with StreamClient(server.url, "m") as client:
                for wrong in (np.zeros((2, I + 1)), np.zeros((1, 2, I)), ["a"] * I, []):
                    with pytest.raises(ValueError, match="x: expected"):
                        await client.send(wrong)
                await client.send(np.zeros(I))
            with pytest.raises(ConnectionError, match="closed"):
                await client.send(np.zeros(I))
        with pytest.raises(ConnectionError, match="no stream for 0.1 s"):
            await StreamClient(server.url, "m", timeout=0.1).connect()
        for url in ("", "127.0.0.1:80", "ftp://127.0.0.1"):
            with pytest.raises(ValueError, match="url: expected ws://"):
                StreamClient(url, "m")

    run(main())


def test_messages_are_json(model):
    assert json.loads(protocol.error_message("busy", 'a "b"')) == {
        "type": "error",
        "code": "busy",
        "message": 'a "b"',
    }
