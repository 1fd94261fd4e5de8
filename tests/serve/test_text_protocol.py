"""The text protocol: the very texts of `fastrnn.text.sample`, and nobody can break it."""

import base64
import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fastrnn.text import load_model, sample
from page_cases import CHARACTERS, running, write_sensor, write_text_model

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "lstm": write_text_model(folder / "lstm.safetensors"),
        "gru": write_text_model(folder / "gru.safetensors", "gru", 33, 1),
        "rnn": write_text_model(folder / "rnn.safetensors", "rnn", 40, 3),
        "sensor": write_sensor(folder / "sensor.safetensors"),
    }


@pytest.fixture(scope="module")
def server(models):
    with running(models) as running_server:
        yield running_server


class Conversation:
    """A client of the text protocol."""

    def __init__(self, server, model="lstm", **options):
        url = f"{server.ws}/v2/models/{model}/generate"
        self._stack = contextlib.ExitStack()
        opened = connect(url, close_timeout=60, max_queue=16, **options)
        self.socket = self._stack.enter_context(opened)
        self.ready = self.receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def send(self, kind, **fields):
        self.socket.send(json.dumps({"type": kind, **fields}))

    def receive(self):
        return json.loads(self.socket.recv(timeout=60))

    def until(self, kind):
        """Return all messages up to one of a kind, that is the last."""
        messages = [self.receive()]
        while messages[-1]["type"] != kind:
            messages.append(self.receive())
        return messages

    def generate(self, **fields):
        """Return a whole text, and the message after it."""
        self.send("generate", **fields)
        *tokens, done = self.until("done")
        assert [token["index"] for token in tokens] == list(range(len(tokens)))
        assert done["tokens"] == len(tokens)
        return "".join(token["text"] for token in tokens), done

    def closed(self):
        """Return the code of the close that comes next."""
        with pytest.raises(ConnectionClosed) as caught:
            self.receive()
        return caught.value.rcvd.code


def sampled(path, length, prompt="", **options):
    model = load_model(path)
    return "".join(sample(model.model, model.vocabulary, length, prime=prompt, **options))


def wait_until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- the text -------------------------------------------------------------------------------------

DRAWS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.3, "seed": 2**64 - 1},
    {"temperature": 2.5, "top_k": 5},
    {"temperature": 0.9, "top_p": 0.6},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.9},
    {"temperature": 100.0, "top_k": 1},
    {"temperature": 1e-300},
]


@pytest.mark.parametrize("options", DRAWS, ids=str)
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_the_text_is_that_of_sample(server, models, name, options):
    options = {"seed": 7, **options}
    for prompt in ("", "abc €", "\n"):
        with Conversation(server, name) as talk:
            text, done = talk.generate(prompt=prompt, max_tokens=120, **options)
        assert text == sampled(models[name], 120, prompt, **options)
        assert done["reason"] == "length"
        assert done["seed"] == options["seed"]


def test_long_prompts_are_read_whole(server, models):
    prompt = "".join(np.random.default_rng(3).choice(list(CHARACTERS), 10_000))
    with Conversation(server) as talk:
        assert talk.ready["max_prompt"] == len(prompt)
        text, _ = talk.generate(prompt=prompt, max_tokens=20, seed=1)
    assert text == sampled(models["lstm"], 20, prompt, seed=1)


def test_texts_at_the_same_time_do_not_change_each_other(server, models):
    texts = {}

    def write(seed):
        with Conversation(server) as talk:
            texts[seed], _ = talk.generate(prompt="a", max_tokens=200, seed=seed, activations=True)

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {n: sampled(models["lstm"], 200, "a", seed=n) for n in range(8)}
    assert len(set(texts.values())) == 8


def test_pieces_make_the_text_of_one_piece(server, models):
    whole = sampled(models["gru"], 150, "be", seed=5, temperature=0.8)
    with Conversation(server, "gru") as talk:
        first, _ = talk.generate(prompt="be", max_tokens=30, seed=5, temperature=0.8)
        second, done = talk.generate(prompt=None, max_tokens=1, temperature=0.8)
        third, _ = talk.generate(max_tokens=119, temperature=0.8)
    assert first + second + third == whole
    assert done["seed"] is None


def test_what_is_stopped_goes_on_as_if_it_had_not_been(server, models):
    with Conversation(server) as talk:
        talk.send("generate", seed=9, max_tokens=10_000, rate=300)
        tokens = [talk.receive() for _ in range(5)]
        talk.send("stop")
        *more, done = talk.until("done")
        first = "".join(token["text"] for token in tokens + more)
        assert done["reason"] == "stopped"
        assert 5 <= done["tokens"] == len(first) < 10_000
        rest, done = talk.generate(max_tokens=50)
    assert first + rest == sampled(models["lstm"], len(first) + 50, seed=9)


def test_a_prompt_goes_on_from_the_text_before(server, models):
    with Conversation(server, "gru") as talk:
        text, _ = talk.generate(prompt="x", max_tokens=40, seed=1)
        more, _ = talk.generate(prompt="yz", max_tokens=40, seed=2)
    assert more == sampled(models["gru"], 40, "x" + text + "yz", seed=2)


def test_reset_forgets_also_while_it_writes(server, models):
    expected = sampled(models["lstm"], 40, "a", seed=1)
    with Conversation(server) as talk:
        for busy in (False, True, False):
            assert talk.generate(prompt="a", max_tokens=40, seed=1)[0] == expected
            if busy:
                talk.send("generate", max_tokens=10_000, rate=100)
                talk.receive()
            talk.send("reset")
            assert talk.until("reset")[-1] == {"type": "reset"}


def test_without_a_seed_texts_differ_and_tell_their_seed(server, models):
    with Conversation(server) as talk:
        texts = []
        for _ in range(3):
            text, done = talk.generate(prompt="a", max_tokens=60)
            texts.append(text)
            talk.send("reset")
            talk.until("reset")
            assert talk.generate(prompt="a", max_tokens=60, seed=done["seed"])[0] == text
            talk.send("reset")
            talk.until("reset")
    assert len(set(texts)) == 3


def test_no_characters_are_a_text_too(server):
    with Conversation(server) as talk:
        assert talk.generate(prompt="abc", max_tokens=0)[1]["reason"] == "length"


@pytest.mark.parametrize("name, units", [("lstm", 24), ("gru", 33), ("rnn", 40)])
def test_activations_are_those_of_the_last_layer(server, models, name, units):
    loaded = load_model(models[name])
    with Conversation(server, name) as talk:
        assert talk.ready["units"] == units
        assert talk.ready["characters"] == len(CHARACTERS)
        talk.send("generate", prompt="ab", max_tokens=30, seed=3, activations=True)
        *tokens, _ = talk.until("done")
    text = "ab" + "".join(token["text"] for token in tokens)
    state = None
    for position, token in enumerate(loaded.vocabulary.encode(text)):
        _, state = loaded.model.step(np.array([token]), state)
        if position >= 2:
            h = (state[0][0] if name == "lstm" else state[0])[-1, 0]
            held = np.frombuffer(base64.b64decode(tokens[position - 2]["h"]), np.int8)
            np.testing.assert_array_equal(held, np.rint(127 * h))


# --- bad requests ---------------------------------------------------------------------------------

BAD = {
    "prompt": [1, ["a"], "Ω", "a\ud800", "a" * 10_001],
    "temperature": ["hot", -0.1, 100.5, float("nan"), float("inf"), None, True],
    "top_k": [0, -1, 1.5, "3"],
    "top_p": [0, 0.0, 1.01, "x"],
    "max_tokens": [-1, 10_001, 1.5, None, "5"],
    "seed": [-1, 2**64, 0.5, "x"],
    "rate": [0, -1, "fast", float("inf")],
    "activations": [1, None, "yes"],
    "colour": ["red"],
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_request_is_named_and_harms_nothing(server, models, field):
    with Conversation(server) as talk:
        for value in BAD[field]:
            talk.send("generate", **{field: value})
            error = talk.receive()
            assert (error["type"], error["code"]) == ("error", "bad_argument")
            assert error["message"].startswith(field)
        assert talk.generate(max_tokens=30, seed=4)[0] == sampled(models["lstm"], 30, seed=4)


def test_one_text_at_a_time(server, models):
    with Conversation(server) as talk:
        talk.send("generate", seed=1, max_tokens=100, rate=200)
        talk.receive()
        talk.send("generate", seed=2)
        *messages, done = talk.until("done")
    errors = [message for message in messages if message["type"] == "error"]
    assert [error["code"] for error in errors] == ["busy"]
    assert done["tokens"] == 100


@pytest.mark.parametrize(
    "message, code",
    [
        (b"{}", 1008),
        ("", 1008),
        ("{", 1008),
        ("[]", 1008),
        ("3", 1008),
        ("[" * 60_000, 1008),
        ('{"a":' * 10_000, 1008),
        ('{"type": ["generate"]}', 1008),
        ('{"type": "open"}', 1008),
        ('{"type": "generate", "seed": ' + "9" * 10_000 + "}", 1008),
        ('{"type": "generate", "prompt": "' + "a" * 62_000 + '"}', 1009),
        ("a" * (1 << 20) + "a", 1009),  # the socket's own limit
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_message_ends_the_connection(server, message, code):
    with Conversation(server) as talk:
        talk.socket.send(message)
        if len(message) <= 1 << 20:
            assert talk.receive()["type"] == "error"
        assert talk.closed() == code
    wait_until(lambda: not len(server.service.sessions))


# --- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, status", [("nobody", 404), ("sensor", 400), ("a%00b", 404)])
def test_only_character_models_write(server, name, status):
    with pytest.raises(InvalidStatus) as caught:
        Conversation(server, name)
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"]


def test_other_sites_may_not(server):
    with pytest.raises(InvalidStatus) as caught:
        Conversation(server, origin="http://elsewhere.example")
    assert caught.value.response.status_code == 403


def test_tokens_come_in_a_header_or_as_a_subprotocol(models):
    encoded = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
    with running(models, tokens=(TOKEN,)) as server:
        header = {"Authorization": f"Bearer {TOKEN}"}
        with Conversation(server, additional_headers=header) as talk:
            assert talk.ready["type"] == "ready"
        with Conversation(server, subprotocols=["fastrnn", f"bearer.{encoded}"]) as talk:
            assert talk.socket.subprotocol == "fastrnn"
        for wrong in ({}, {"subprotocols": ["fastrnn", "bearer.YQ"]}):
            with pytest.raises(InvalidStatus) as caught:
                Conversation(server, **wrong)
            assert caught.value.response.status_code == 401
            assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"


def test_sessions_count_for_the_quota_of_the_client(models):
    with running(models, max_sessions_per_client=1) as server:
        with Conversation(server):
            with Conversation(server) as other:
                assert other.ready["code"] == "limit"
                assert other.closed() == 1008
            assert len(server.service.sessions) == 1
        wait_until(lambda: not len(server.service.sessions))
        with Conversation(server) as talk:
            assert talk.ready["type"] == "ready"


# --- who goes, or waits too long ------------------------------------------------------------------


def steps(server, name="lstm"):
    return server.service.models.get(name).pool.stats()["steps"]


def test_who_goes_ends_the_text(server):
    before = steps(server)
    talk = Conversation(server)
    talk.send("generate", max_tokens=10_000, rate=100)
    talk.receive()
    talk.socket.socket.shutdown(socket.SHUT_RDWR)  # without a word
    wait_until(lambda: not len(server.service.sessions))
    assert steps(server) - before < 10_000


def test_who_does_not_read_is_cut_off(tmp_path):
    path = write_text_model(tmp_path / "wide.safetensors", "rnn", 1024, 1)
    with running({"wide": path}, send_timeout=0.3) as server:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        talk = Conversation(server, "wide", sock=raw)
        talk.send("generate", max_tokens=10_000, activations=True)
        wait_until(lambda: not len(server.service.sessions))
        assert 0 < steps(server, "wide") < 10_000  # what the buffers of the system hold
        talk.socket.socket.close()


def test_who_says_nothing_is_sent_away(models):
    with running(models, idle_timeout=0.2) as server:
        with Conversation(server) as talk:
            text, _ = talk.generate(max_tokens=20, rate=40)  # a text is no silence
            assert len(text) == 20
            assert talk.receive()["code"] == "limit"
            assert talk.closed() == 1008
        wait_until(lambda: not len(server.service.sessions))


def test_the_end_of_the_server_is_told(models):
    with running(models) as server, Conversation(server) as idle, Conversation(server) as busy:
        busy.send("generate", max_tokens=10_000, rate=100)
        busy.receive()
        server.call(server.service.draining.set)
        *tokens, done, draining = busy.until("draining")
        assert done["reason"] == "draining"
        assert done["tokens"] == len(tokens) + 1
        assert draining == idle.receive() == {"type": "draining"}
        assert busy.closed() == idle.closed() == 1012
        with pytest.raises(InvalidStatus) as caught:
            Conversation(server)
        assert caught.value.response.status_code == 503
