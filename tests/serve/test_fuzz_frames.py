"""Hostile and broken clients, over HTTP and both WebSocket protocols, against a real server.

tests/fuzz/fuzz_serve.py runs the same for as long as one likes.
"""

import asyncio
import os
import random

import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from serve_attacks import LIMITS, at_rest, attack, resident, troubles
from serve_cases import Server, models, until, vectors

SEED = 0 if os.environ.get("CI") else random.randrange(10**9)


def test_a_server_stands_what_clients_may_send(tmp_path):
    x = vectors(1, 4, 5)
    with Server(*models(tmp_path).values(), *LIMITS) as server:
        before = server.infer("two", {"input": x})
        assert before[0] == 200
        memory = []
        for number in range(4):
            statuses = asyncio.run(attack(server, SEED + number, count=120, at_once=12))
            assert {101, 400} <= set(statuses)  # some get in, some do not
            until(lambda: at_rest(server))
            assert server.infer("two", {"input": x}) == before
            memory.append(resident(server.process))
        assert not troubles(server)
        assert memory[-1] < memory[0] + 50, memory
        assert server.stop() == 0
