"""Sessions in Redis: other servers go on with them; nothing is lost when servers or Redis go."""

import asyncio
import dataclasses
import subprocess
import sys
from collections import deque
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

redis = pytest.importorskip("redis")
pytest.importorskip("fastapi")

from fastrnn.serve import redis_state
from fastrnn.serve.client import StreamClient, StreamError
from fastrnn.serve.redis_state import RedisState, decode, encode
from fastrnn.serve.state import StoredSession
from stream_cases import (
    alone,
    make_model,
    opened,
    raw,
    redis_server,
    save_model,
    serving,
    steps,
)

KILLS = Path(__file__).parents[2] / "benchmarks" / "serving" / "kills.py"


@pytest.fixture
def server_of_redis(tmp_path):
    with redis_server(tmp_path) as found:
        yield found


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path)


def run(main):
    asyncio.run(asyncio.wait_for(main, 60))


def make_stored(**changes):
    kept = deque([(7, bytes(16) + b"answer"), (9, bytes(16))])
    stored = StoredSession("id-1", b"h" * 32, "m", "v1", 3, 9, b"state" * 9, kept)
    return dataclasses.replace(stored, **changes)


# --- values ---------------------------------------------------------------------------------------

blobs = st.binary(max_size=50)
answers = st.binary(min_size=16, max_size=60)  # with their headers
small = st.integers(0, 2**63)


@hypothesis.given(
    st.builds(
        StoredSession,
        id=st.just("a"),
        token_hash=st.binary(min_size=32, max_size=32),
        model=st.text(max_size=9),
        version=st.text(max_size=9),
        epoch=small,
        position=small,
        state=blobs,
        kept=st.lists(st.tuples(small, answers), max_size=3).map(deque),
    )
)
def test_a_session_is_read_as_it_was_written(stored):
    assert decode("a", encode(stored)) == stored


def test_damaged_values_are_refused():
    value = encode(make_stored())
    for at in range(len(value)):
        if not 8 <= at < 16:  # the epoch, which a claim replaces, is not in the checksum
            with pytest.raises(ValueError):
                decode("a", value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :])
        with pytest.raises(ValueError):
            decode("a", value[:at])
    with pytest.raises(ValueError):
        decode("a", value + b"\0")


# --- the store ------------------------------------------------------------------------------------


def with_store(server, use, idle_timeout=60.0):
    async def main():
        store = RedisState(server.url, idle_timeout)
        await store.start()
        try:
            await use(store)
        finally:
            await store.stop()

    run(main())


def accept(stored):
    pass


def test_older_owners_can_neither_write_nor_delete(server_of_redis):
    async def use(store):
        old = make_stored()
        await store.create(old)
        new = await store.claim("id-1", accept)
        assert new == dataclasses.replace(old, epoch=4)
        with pytest.raises(StreamError, match="moved"):
            await store.write(dataclasses.replace(old, position=100))
        await store.delete(old)
        new.position = 11
        await store.write(new)
        newest = await store.claim("id-1", accept)
        assert newest == dataclasses.replace(new, epoch=5)
        await store.delete(newest)
        with pytest.raises(StreamError, match="unknown_session"):
            await store.claim("id-1", accept)
        with pytest.raises(StreamError, match="moved"):  # nobody writes what is gone
            await store.write(newest)

    with_store(server_of_redis, use)


def test_claims_at_once_have_different_epochs(server_of_redis):
    async def use(store):
        await store.create(make_stored())
        claims = await asyncio.gather(*(store.claim("id-1", accept) for _ in range(5)))
        assert sorted(each.epoch for each in claims) == [4, 5, 6, 7, 8]

    with_store(server_of_redis, use)


def test_a_refused_claim_changes_nothing(server_of_redis):
    def refuse(stored):
        raise StreamError("unknown_session", "no")

    async def use(store):
        stored = make_stored()
        await store.create(stored)
        with pytest.raises(StreamError, match="unknown_session: no"):
            await store.claim("id-1", refuse)
        await store.write(stored)

    with_store(server_of_redis, use)


def test_writes_of_many_sessions_share_few_calls(server_of_redis):
    async def use(store):
        sessions = [make_stored(id=f"s{number}") for number in range(100)]
        await asyncio.gather(*map(store.create, sessions))
        client = redis.Redis(port=server_of_redis.port)
        await store.write(sessions[0])
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        for each in sessions:
            each.position = 10
        await asyncio.gather(*map(store.write, sessions))
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2
        client.close()
        assert all([(await store.claim(each.id, accept)).position == 10 for each in sessions])

    with_store(server_of_redis, use)


def test_sessions_expire_and_writes_prolong_them(server_of_redis):
    async def use(store):
        kept, left = make_stored(id="kept"), make_stored(id="left")
        await store.create(kept)
        await store.create(left)
        for _ in range(8):
            await asyncio.sleep(0.1)
            await store.write(kept)
        await store.claim("kept", accept)
        with pytest.raises(StreamError, match="unknown_session"):
            await store.claim("left", accept)

    with_store(server_of_redis, use, idle_timeout=0.5)


def test_values_that_cannot_be_read_are_unknown_sessions(server_of_redis, monkeypatch):
    async def use(store):
        client = redis.Redis(port=server_of_redis.port)
        for name, value in (
            ("text", b"hello"),
            ("other", b"fastrnn9" + encode(make_stored())[8:]),
            ("long", encode(make_stored(state=bytes(2000)))),
        ):
            client.set(f"fastrnn:session:{name}", value)
            with pytest.raises(StreamError, match=r"unknown_session.*cannot be read"):
                await store.claim(name, accept)
        client.close()

    monkeypatch.setattr(redis_state, "MAX_VALUE", 1000)
    with_store(server_of_redis, use)


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis://h:port", ""])
def test_urls_that_are_none_of_redis(url):
    with pytest.raises(ValueError, match="state: expected redis://"):
        RedisState(url, 1.0)


# --- servers that share it ------------------------------------------------------------------------


def test_another_server_goes_on(model, server_of_redis):
    x = steps(60)
    expected = alone(make_model(), x)

    async def main():
        state = {"state": server_of_redis.url}
        async with serving(model, **state) as one, serving(model, **state) as other:
            async with opened(one) as (stream, reply):
                ticket = {"session": reply["session"], "token": reply["token"]}
                await stream.frame(0, x[:20])
                await stream.hear()
                await stream.frame(20, x[20:30])  # its answer is not acknowledged
                await stream.hear()
                async with raw(other) as second:
                    await second.say("resume", **ticket, received=20)
                    assert (await second.hear())["position"] == 30
                    position, y = await second.hear()
                    assert position == 20
                    np.testing.assert_array_equal(y, expected[20:30])
                    # The first server does not know yet; it is told by Redis.
                    await stream.frame(30, x[30:40] + 1)
                    assert await stream.refused() == "moved"
                    await second.frame(30, x[30:60], received=30)
                    _, y = await second.hear()
                    np.testing.assert_array_equal(y, expected[30:])
                    async with raw(one) as third:  # and back, after steps it has not seen
                        await third.say("resume", **ticket, received=60)
                        assert (await third.hear())["position"] == 60
                        await third.say("close")
                        await third.hear()
                    await second.frame(60, x[:1])
                    assert await second.refused() == "moved"
            assert len(one.service.sessions) == 0

    run(main())


def test_no_token_is_stored(model, server_of_redis):
    async def main():
        async with (
            serving(model, state=server_of_redis.url) as server,
            opened(server) as (stream, reply),
        ):
            await stream.frame(0, steps(3))
            await stream.hear()
        client = redis.Redis(port=server_of_redis.port)
        (key,) = client.keys("*")
        assert key.decode() == f"fastrnn:session:{reply['session']}"
        value = client.get(key)
        assert reply["token"].encode() not in value
        assert 0 < client.pttl(key) <= 600_000
        client.close()

    run(main())


def test_a_server_without_the_version_says_so(tmp_path, server_of_redis):
    async def main():
        state = {"state": server_of_redis.url}
        async with serving(save_model(tmp_path), **state) as server, opened(server) as (_, reply):
            pass
        async with (
            serving(save_model(tmp_path, make_model(seed=9)), **state) as server,
            raw(server) as stream,
        ):
            await stream.say("resume", session=reply["session"], token=reply["token"], received=0)
            answer = await stream.hear()
            assert answer["code"] == "unknown_session"
            assert f"version {reply['version']}" in answer["message"]

    run(main())


def test_streams_wait_for_redis_and_lose_nothing(model, server_of_redis):
    x = steps(300)

    async def main():
        async with serving(model, state=server_of_redis.url) as server:
            async with StreamClient(server.url, "m", timeout=50) as client:
                answers = []
                for at in range(0, 300, 10):
                    if at in (100, 200):
                        server_of_redis.kill()
                        asyncio.get_running_loop().call_later(1.0, server_of_redis.start)
                    answers.append(await client.send(x[at : at + 10]))
            np.testing.assert_array_equal(np.concatenate(answers), alone(make_model(), x))
            server_of_redis.kill()
            async with raw(server) as stream:
                await stream.say("open")
                assert await stream.refused() == "busy"

    run(main())


def test_servers_killed_at_random_lose_and_double_nothing():
    command = [sys.executable, str(KILLS), "--kills", "5", "--clients", "4"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 kills" in result.stdout
