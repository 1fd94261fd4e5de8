"""What happens between two moments of a server: changed files, quotas, values of a store."""

import asyncio
import json
import os

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")
pytest.importorskip("redis", reason="NOT TESTED: needs fastrnn[serve]")

from websockets.asyncio.client import connect

import fastrnn
from fastrnn.serve import Settings, redis_state
from fastrnn.serve.metrics import Metrics
from fastrnn.serve.models import Models
from fastrnn.serve.protocol import StreamError
from fastrnn.serve.security import Client
from fastrnn.serve.state import StoredSession
from stream_cases import alone, make_model, save_model, serving, steps

QUICK = {"reload_interval": 0.05}


def run(main):
    asyncio.run(asyncio.wait_for(main, 60))


async def becomes(condition):
    while not condition():
        await asyncio.sleep(0.01)


# --- files that change ----------------------------------------------------------------------------


def test_a_session_is_opened_of_the_model_as_it_is_then(tmp_path):
    """The client was slow to say what it wants, and the model that it found is gone."""

    async def main():
        async with serving(save_model(tmp_path), **QUICK) as server:
            models = server.service.models
            old = models.get("m").version
            async with connect(server.stream_url()) as socket:
                save_model(tmp_path, make_model(seed=5))
                await becomes(lambda: models.get("m").version != old)
                await becomes(lambda: len(models.versions("m")) == 1)
                await socket.send('{"type":"open"}')
                opened = json.loads(await socket.recv())
                assert opened["type"] == "opened"
                assert opened["version"] == models.get("m").version
                x = steps(3)
                await socket.send(bytes(16) + x.tobytes())
                y = np.frombuffer((await socket.recv())[16:], np.float32)
                np.testing.assert_array_equal(y, alone(make_model(seed=5), x).ravel())

    run(main())


def gru(seed):
    return fastrnn.GRU(3, 4, seed=seed)


def with_models(path, use):
    async def main():
        models = Models(Settings(**QUICK), [str(path)], Metrics())
        models.load()
        polling = asyncio.create_task(models.poll())
        try:
            await use(models)
            assert not polling.done()
        finally:
            polling.cancel()
            await models.close()

    run(main())


def test_a_file_that_is_again_what_it_was(tmp_path):
    """The version that its sessions kept alive is served again; there are not two of it."""
    path = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), path)

    async def use(models):
        first = models.get("m")
        first.sessions += 1
        fastrnn.save(gru(1), path)
        await becomes(lambda: models.get("m") is not first)
        fastrnn.save(gru(0), path)
        await becomes(lambda: models.get("m").version == first.version)
        assert models.get("m") is first
        await becomes(lambda: len(models.versions("m")) == 1)
        assert first.pool.open()

    with_models(path, use)


def as_folder(path):
    path.mkdir()


def as_endless(path):
    path.symlink_to("/dev/zero")


def as_lost_link(path):
    path.symlink_to(path.with_name("nowhere"))


def as_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [os.mkfifo, as_folder, as_endless, as_lost_link, as_loop])
def test_a_file_that_becomes_none_keeps_the_old_version(tmp_path, make):
    path = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), path)

    async def use(models):
        old = models.get("m")
        failed = models._metrics.reloads.labels("m", "failed")._value
        path.unlink()
        make(path)
        await becomes(lambda: failed.get() >= 1)
        await asyncio.sleep(0.3)
        assert models.get("m") is old
        assert failed.get() <= 2  # missing for a moment, then what it is: not again and again
        path.rmdir() if make is as_folder else path.unlink()
        fastrnn.save(gru(1), path)
        await becomes(lambda: models.get("m") is not old)

    with_models(path, use)


def test_files_that_are_replaced_and_written_all_the_time(tmp_path):
    """Whatever is read is one of the models, whole; never a mixture."""
    path, other = tmp_path / "m.safetensors", tmp_path / "other"
    contents = []
    for seed in range(4):
        fastrnn.save(gru(seed), path)
        contents.append(path.read_bytes())

    async def use(models):
        rng = np.random.default_rng(0)
        seen = set()
        for _ in range(40):
            content = contents[rng.integers(4)]
            if rng.random() < 0.5:
                other.write_bytes(content)
                other.replace(path)
            else:
                with path.open("wb") as file:
                    file.write(content[:200])
                    file.flush()
                    await asyncio.sleep(0.002)
                    file.write(content[200:])
            await asyncio.sleep(rng.uniform(0, 0.1))
            served = models.get("m")
            seen.add(served.version)
            session = served.pool.open()
            y = served.pool.step(session, np.ones((2, 3), "f"))
            served.pool.close(session)
            assert any((y == alone(gru(seed), np.ones((2, 3), "f"))).all() for seed in range(4))
        assert len(seen) > 1

    with_models(path, use)


# --- quotas and stores ----------------------------------------------------------------------------


def test_who_resumes_another_clients_session_counts_for_it(tmp_path):
    """A client at its limit is turned away before the session is taken from who has it."""

    async def main():
        async with serving(save_model(tmp_path), max_sessions_per_client=2) as server:
            sessions, model = server.service.sessions, server.service.models.get("m")
            one, two = Client("one"), Client("two")
            session, token = await sessions.open(model, one)
            others = [await sessions.open(model, two) for _ in range(2)]
            with pytest.raises(StreamError, match="limit"):
                await sessions.resume(model, session.stored.id, token, two)
            assert len(sessions) == 3
            assert session.handle is not None
            await sessions.end(others[0][0])
            taken = await sessions.resume(model, session.stored.id, token, two)
            assert session.handle is None
            with pytest.raises(StreamError, match="limit"):
                await sessions.open(model, two)
            again = [await sessions.open(model, one) for _ in range(2)]
            for each in (taken, others[1][0], *(session for session, _ in again)):
                await sessions.end(each)
            assert len(sessions) == len(sessions._store._sessions) == len(model.pool) == 0
            assert model.sessions == 0
            assert not sessions._counts

    run(main())


def test_a_session_at_the_limit_can_be_resumed(tmp_path):
    async def main():
        limits = {"max_sessions_per_client": 1, "max_sessions": 1}
        async with serving(save_model(tmp_path), **limits) as server:
            sessions, model = server.service.sessions, server.service.models.get("m")
            session, token = await sessions.open(model, Client("one"))
            for _ in range(3):
                session = await sessions.resume(model, session.stored.id, token, Client("one"))
            assert len(sessions) == len(model.pool) == model.sessions == 1

    run(main())


def test_states_that_a_store_has_of_nowhere(tmp_path):
    async def main():
        async with serving(save_model(tmp_path)) as server:
            sessions, model = server.service.sessions, server.service.models.get("m")
            session, token = await sessions.open(model, Client("one"))
            session.stored.state = b"not a state"
            with pytest.raises(StreamError, match="unknown_session"):
                await sessions.resume(model, session.stored.id, token, Client("one"))
            assert len(model.pool) == 0

    run(main())


def test_answers_that_redis_has_of_nowhere():
    stored = StoredSession("id", bytes(32), "m", "1", position=4)
    stored.kept.append((4, b"short"))
    with pytest.raises(ValueError, match="shorter"):
        redis_state.decode("id", redis_state.encode(stored))


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", " "])
def test_a_token_that_everybody_has(token):
    with pytest.raises(ValueError, match="tokens: expected some characters"):
        Settings(tokens=("0123456789abcdef", token))
