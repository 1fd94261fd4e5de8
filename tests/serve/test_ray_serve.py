"""Models served by Ray: sessions go on, with the same bits, when a replica is killed."""

import asyncio
import json
import urllib.request

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("redis")
ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")

from processes import free_port

from fastrnn.interop.ray import build_app
from fastrnn.serve.client import StreamClient
from ray_cases import cluster  # noqa: F401
from stream_cases import alone, make_model, redis_server, save_model

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
STREAMS = 8
I = 5  # noqa: E741


@pytest.fixture
def served(cluster, tmp_path):  # noqa: F811
    """The address of an application of two replicas; its model."""
    port = free_port()
    with redis_server(None) as redis:
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        app = build_app(
            {
                "models": save_model(tmp_path),
                "state": redis.url,
                "replicas": "2",
                "insecure": "true",
                "max_delay": "0.001",
            }
        )
        serve.run(app, name="fastrnn", route_prefix="/")
        yield f"127.0.0.1:{port}", make_model()
        serve.shutdown()


def replicas():
    named = ray.util.list_named_actors(all_namespaces=True)
    return [each for each in named if each["name"].startswith("SERVE_REPLICA::")]


async def answered(counts, more):
    """Wait until each stream has got so many answers more."""
    wanted = [len(y) + more for y in counts]
    while any(len(y) < n for y, n in zip(counts, wanted, strict=True)):
        await asyncio.sleep(0.05)


async def stream(client, seed, stop, x, y):
    rng = np.random.default_rng(seed)
    await client.connect()
    while not stop.is_set():
        x.append(rng.standard_normal((int(rng.integers(1, 9)), I)).astype(np.float32))
        y.append(await client.send(x[-1]))
    await client.close()


def test_sessions_go_on_when_replicas_are_killed(served):
    address, model = served
    given = {"name": "input", "shape": [1, 2, I], "datatype": "FP32", "data": [0.5] * 2 * I}
    request = urllib.request.Request(
        f"http://{address}/v2/models/m/infer", json.dumps({"inputs": [given]}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        data = json.load(answer)["outputs"][0]["data"]
    expected = alone(model, np.full((2, I), 0.5, np.float32))
    np.testing.assert_array_equal(np.array(data, np.float32).reshape(2, -1), expected)

    async def main():
        stop = asyncio.Event()
        xs, ys = ([[] for _ in range(STREAMS)] for _ in range(2))
        clients = [StreamClient(f"ws://{address}", "m", timeout=120) for _ in range(STREAMS)]
        tasks = [
            asyncio.create_task(stream(client, seed, stop, x, y))
            for seed, (client, x, y) in enumerate(zip(clients, xs, ys, strict=True))
        ]
        await answered(ys, 5)
        both = replicas()
        assert len(both) == 2
        for replica in both:  # Ray may have given all streams to one
            ray.kill(ray.get_actor(**replica), no_restart=False)
            await answered(ys, 10)
        stop.set()
        await asyncio.gather(*tasks)
        assert all(client.connections > 1 for client in clients)
        for x, y in zip(xs, ys, strict=True):
            np.testing.assert_array_equal(np.concatenate(y), alone(model, np.concatenate(x)))

    asyncio.run(asyncio.wait_for(main(), 240))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "models: expected"),
        ({"models": []}, "models: expected"),
        ({"models": "m.safetensors"}, "state: expected redis://HOST:PORT/DB"),
        ({"models": "m.safetensors", "port": 3}, "port: expected one of"),
        ({"models": "m.safetensors", "max_steps": "many"}, "max_steps: expected a number"),
        ({"models": "m.safetensors", "insecure": "perhaps"}, "insecure: expected true or false"),
        ({"models": "m.safetensors", "replicas": 0}, "replicas: expected at least 1, got 0"),
        ({"models": "m.safetensors", "state": "redis://x", "max_frame": 0}, "max_frame: expected"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_app(arguments)
