"""Models that change while they are served, and those that cannot be."""

import asyncio
import os

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

import fastrnn
from fastrnn import cli
from fastrnn.serve import ModelSettings, Settings
from fastrnn.serve.metrics import Metrics
from fastrnn.serve.models import Models, UnknownModelError
from serve_cases import Server, until, vectors

SETTINGS = Settings(reload_interval=0.05)


def gru(seed):
    return fastrnn.GRU(3, 4, seed=seed)


def test_a_changed_file_is_served(tmp_path):
    file = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), file)
    x = vectors(2, 6, 3)
    with Server(file, "--reload-interval", "0.05") as server:
        for seed in range(3):
            fastrnn.save(gru(seed), file)
            expected, _ = gru(seed)(np.ascontiguousarray(x.swapaxes(0, 1)))

            def served(expected=expected):
                status, found = server.infer("m", {"input": x})
                assert status == 200
                y = np.array(found["outputs"][0]["data"], np.float32).reshape(2, 6, 4)
                return (y == expected.swapaxes(0, 1)).all()

            assert until(served)
            if seed:
                event = server.event("reloaded", seed - 1)
                assert event["version"] == server.get("/v2/models/m")[1]["versions"][0]
                server.event("retired", seed - 1)
        assert len(server.get("/v2/models/m")[1]["versions"]) == 1


def test_a_broken_file_changes_nothing(tmp_path):
    file = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), file)
    good = file.read_bytes()
    with Server(file, "--reload-interval", "0.05") as server:
        before = server.infer("m", {"input": vectors(1, 4, 3)})
        for number, broken in enumerate((good[:-5], b"", b"\xff" * 1000, None)):
            if broken is None:
                file.unlink()
            else:
                file.write_bytes(broken)
            event = server.event("reload_failed", number)
            assert event["model"] == "m"
            assert str(file) in event["error"]
            assert server.infer("m", {"input": vectors(1, 4, 3)}) == before
        text = server.request("GET", "/metrics")[2].decode()
        assert 'fastrnn_reloads_total{model="m",result="failed"} 4.0' in text
        fastrnn.save(gru(1), file)
        server.event("reloaded")
        assert server.infer("m", {"input": vectors(1, 4, 3)}) != before
        assert [e["event"] for e in server.events].count("reload_failed") == 4


def test_sessions_keep_their_version(tmp_path):
    """The old version lives, and can be asked for, as long as a session of it."""
    file = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), file)

    async def run():
        models = Models(SETTINGS, [str(file)], Metrics())
        models.load()
        old = models.get("m")
        session = old.pool.open()
        first = old.pool.step(session, np.ones((5, 3), "f"))
        polling = asyncio.create_task(models.poll())
        fastrnn.save(gru(1), file)
        while models.get("m") is old:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert models.get("m", old.version) is old
        assert models.versions("m") == [models.get("m").version, old.version]
        second = old.pool.step(session, np.ones((5, 3), "f"))
        expected, _ = gru(0)(np.ones((10, 1, 3), "f"))
        assert (np.concatenate([first, second]) == expected[:, 0]).all()
        steps = dict(models.pool_stats())["m"]["steps"]
        assert steps == 10
        old.pool.close(session)
        while len(models.versions("m")) > 1:
            await asyncio.sleep(0.01)
        with pytest.raises(UnknownModelError):
            models.get("m", old.version)
        assert dict(models.pool_stats())["m"]["steps"] == 10  # totals never fall
        polling.cancel()
        await models.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_sessions_that_no_pool_knows_keep_a_version(tmp_path):
    file = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), file)

    async def run():
        models = Models(SETTINGS, [str(file)], Metrics())
        models.load()
        old = models.get("m")
        old.sessions = 1
        polling = asyncio.create_task(models.poll())
        fastrnn.save(gru(1), file)
        while models.get("m") is old:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert old.version in models.versions("m")
        old.sessions = 0
        while len(models.versions("m")) > 1:
            await asyncio.sleep(0.01)
        polling.cancel()
        await models.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_touching_a_file_is_no_new_version(tmp_path):
    file = tmp_path / "m.safetensors"
    fastrnn.save(gru(0), file)

    async def run():
        models = Models(SETTINGS, [ModelSettings("m", file)], Metrics())
        models.load()
        old = models.get("m")
        polling = asyncio.create_task(models.poll())
        for _ in range(3):
            os.utime(file)
            await asyncio.sleep(0.2)
        assert models.get("m") is old
        polling.cancel()
        await models.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_models_that_cannot_be_served(tmp_path, capsys):
    broken, other = tmp_path / "broken.safetensors", tmp_path / "other.safetensors"
    broken.write_bytes(b"no model")
    cell = fastrnn.GRU(3, 4)
    pair = fastrnn.EncoderDecoder(
        cell, fastrnn.PlainDecoder(fastrnn.GRU(2, 4)), fastrnn.Linear(4, 2)
    )
    fastrnn.save(pair, other)
    for arguments, words in (
        ([tmp_path / "none"], "none: No such file"),
        ([broken], "broken.safetensors: not a whole safetensors file"),
        ([other], "other.safetensors: EncoderDecoder does not run over one sequence"),
        (["a b=x"], "name: expected letters"),
        ([broken, f"broken={other}"], "expected each name once, got 'broken'"),
    ):
        assert cli.main(["serve", *map(str, arguments), "--port", "0"]) == 2
        found = capsys.readouterr().err
        assert words in found
        assert found.count("\n") == 1
