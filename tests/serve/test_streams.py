"""Streams over WebSockets: the bits, the order, resumption, limits, ends."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("websockets")

from fastrnn.serve import protocol
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
        async with (
            serving(save_model(tmp_path, make_token_model())) as server,
            StreamClient(server.url, "m") as client,
        ):
            assert client.takes_tokens
            y = await client.send(tokens[:39])
            last = await client.send(tokens[39])
            assert last.shape == (O,)
            with pytest.raises(StreamError, match=r"bad_frame.*from 0 to 10, got 11"):
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
        async with (
            serving(model, max_in_flight=7, max_frame=4096) as server,
            opened(server) as (_, reply),
        ):
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
        async with (
            serving(model, max_frame=1024) as server,
            StreamClient(server.url, "m") as client,
        ):
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
            ticket = client.ticket
            assert ticket.received == 8
            await client.send(x[8:12])  # the process ends before it has noted this
            await client.disconnect()
            async with StreamClient(server.url, "m", resume=ticket) as client:
                rest = [await client.send(part) for part in (x[8:12], x[12:])]
        np.testing.assert_array_equal(np.concatenate([first, *rest]), alone(make_model(), x))

    run(main())


def test_idle_sessions_expire_unless_a_stream_has_them(model):
    async def main():
        async with serving(model, idle_timeout=0.3) as server, opened(server) as (stream, _):
            async with opened(server) as (_, left):
                assert len(server.service.sessions) == 2
            await asyncio.sleep(0.7)
            await until(lambda: len(server.service.sessions) == 1)
            async with raw(server) as late:
                await late.say("resume", session=left["session"], token=left["token"], received=0)
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
        with pytest.raises(ConnectionError, match=r"no stream for 0\.1 s"):
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
