"""`StreamPool`: each session has the bits of the model run alone, whoever shares its passes."""

import asyncio
import gc
import multiprocessing
import os
import queue
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.streams import AsyncPool, PoolFull, StreamPool
from variant_cases import VARIANTS

LONG = 60.0  # seconds; only ends what would hang for ever
STREAMED = {name: v for name, v in VARIANTS.items() if v[0] != "AUGRU"}


def model_of(name, inputs, H, layers, seed):
    """A network with a head, of a cell and its options."""
    kind, options = STREAMED[name]
    cells = [
        getattr(fastrnn, kind)(inputs if i == 0 else width(H, options), H, **options, seed=seed + i)
        for i in range(layers)
    ]
    return fastrnn.Sequential(*cells, fastrnn.Linear(width(H, options), 3, seed=seed))


def width(H, options):
    return options.get("proj_size") or H


def alone(model, x):
    """The outputs (T, O) of one sequence by itself."""
    return model(x[:, np.newaxis])[0][:, 0]


def random_x(rng, steps, inputs):
    return rng.standard_normal((steps, inputs)).astype(np.float32)


def plain_model(H=16):
    return fastrnn.Sequential(fastrnn.GRU(5, H, seed=1), fastrnn.Linear(H, 3, seed=2))


@pytest.fixture
def pool():
    with StreamPool(plain_model(), capacity=8, num_threads=2) as pool:
        yield pool


class Script:
    """Sessions that come, send, reset, move and go, and what each was sent."""

    def __init__(self, pool, rng):
        self.pool, self.rng = pool, rng
        self.sent = {}  # session: [(x, answer or None)] since its state was the initial one
        self.ended = []  # such lists of sessions that went

    def open(self):
        if len(self.sent) < self.pool.capacity:
            self.sent[self.pool.open()] = []

    def send(self, session):
        x = random_x(self.rng, self.rng.integers(0, 12), self.pool.input_size)
        self.sent[session].append((x, self.pool.submit(session, x)))

    def send_many(self, _):
        sessions = list(self.sent)
        x = self.rng.standard_normal((len(sessions), self.pool.input_size)).astype(np.float32)
        answer = self.pool.submit_many(sessions, x)
        for i, session in enumerate(sessions):
            self.sent[session].append((x[i : i + 1], lambda i=i: answer.result(LONG)[i : i + 1]))

    def reset(self, session):
        self.pool.reset(session)
        self.ended.append(self.sent[session])
        self.sent[session] = []

    def move(self, session):
        state = self.pool.export_state(session)
        self.pool.close(session)
        self.sent[self.pool.open(state)] = self.sent.pop(session)

    def return_later(self, session):
        """Take back the steps after a state was asked for."""
        x = random_x(self.rng, 3, self.pool.input_size)
        answer = self.pool.submit(session, x, state=True)
        self.pool.submit(session, x)
        self.pool.import_state(session, answer.state(LONG))
        self.sent[session].append((x, answer))

    def close(self, session):
        self.ended.append(self.sent.pop(session))
        self.pool.close(session)

    def play(self, actions):
        for action in actions:
            if action == "open" or not self.sent:
                self.open()
            else:
                getattr(self, action)(self.rng.choice(list(self.sent)).item())

    def check(self, model):
        for steps in [*self.sent.values(), *self.ended]:
            done = []
            for x, answer in steps:
                try:
                    y = answer() if callable(answer) else answer.result(LONG)
                except CancelledError:  # its session was closed, and so all that comes after is
                    break
                done.append((x, y))
            if done:
                x, y = (np.concatenate(parts) for parts in zip(*done, strict=True))
                np.testing.assert_array_equal(y, alone(model, x), strict=True)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(STREAMED)),
    sizes=st.tuples(st.integers(1, 6), st.sampled_from([4, 7, 16, 40]), st.integers(1, 2)),
    max_batch=st.integers(1, 64),
    max_delay=st.sampled_from([0.0, 0.0005]),
    num_threads=st.integers(1, 3),
    actions=st.lists(
        st.sampled_from(
            [*["open"] * 3, *["send"] * 8, "send_many", "reset", "move", "return_later", "close"]
        ),
        max_size=60,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_session_has_the_bits_of_the_model_run_alone(
    name, sizes, max_batch, max_delay, num_threads, actions, seed
):
    model = model_of(name, *sizes, seed % 1000)
    with StreamPool(
        model,
        capacity=20,
        max_batch=max_batch,
        max_delay=max_delay,
        max_pending=100000,
        num_threads=num_threads,
    ) as pool:
        script = Script(pool, np.random.default_rng(seed))
        script.play(actions)
        script.check(model)


@pytest.mark.parametrize("H", [16, 200])
def test_threads_that_submit_at_once(H):
    model = plain_model(H=H)
    with StreamPool(model, capacity=32, num_threads=3, max_batch=5) as pool:

        def client(seed):
            rng = np.random.default_rng(seed)
            script = Script(pool, rng)
            script.sent = {pool.open(): [], pool.open(): []}
            for _ in range(40):
                script.play(rng.choice(["send", "send", "send_many", "reset", "move"], 1))
            script.check(model)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(client, range(8)))


def test_tokens_and_one_hot_vectors_are_the_same():
    model = fastrnn.Sequential(fastrnn.LSTM(7, 12, seed=0), fastrnn.Linear(12, 7, seed=1))
    tokens = np.random.default_rng(0).integers(0, 7, 30)
    with StreamPool(model, num_threads=2) as pool:
        a, b, c = pool.open(), pool.open(), pool.open()
        y = pool.step(a, tokens)
        np.testing.assert_array_equal(y, pool.step(b, np.eye(7, dtype=np.float32)[tokens]))
        np.testing.assert_array_equal(y[0], pool.step(c, int(tokens[0])))
        np.testing.assert_array_equal(y, alone(model, tokens))


def test_an_embedding_takes_tokens_alone():
    model = fastrnn.Sequential(fastrnn.Embedding(7, 4, seed=0), fastrnn.GRU(4, 12, seed=1))
    tokens = [3, 0, 6]
    with StreamPool(model) as pool:
        assert pool.takes_tokens
        session = pool.open()
        np.testing.assert_array_equal(pool.step(session, tokens), alone(model, np.array(tokens)))
        for bad in ([0.5, 1.0], [7], [-1]):
            with pytest.raises((TypeError, ValueError), match="x: expected"):
                pool.step(session, bad)


def test_a_file_its_content_and_the_layer_are_the_same_model(tmp_path):
    model, path = plain_model(), tmp_path / "m.safetensors"
    fastrnn.save(model, path)
    x = random_x(np.random.default_rng(0), 4, 5)
    for source in (model, path, str(path), path.read_bytes()):
        with StreamPool(source) as pool:
            np.testing.assert_array_equal(pool.step(pool.open(), x), alone(model, x))


def test_a_state_goes_on_in_another_pool_of_the_same_file(tmp_path):
    model = plain_model()
    x = random_x(np.random.default_rng(0), 9, 5)
    with StreamPool(model) as first, StreamPool(model) as second:
        answer = first.submit(first.open(), x[:4], state=True)
        y = second.step(second.open(answer.state()), x[4:])
        np.testing.assert_array_equal(y, alone(model, x)[4:])
        (h,) = first.hidden(answer.state())
        np.testing.assert_array_equal(h, model[0](x[:4, np.newaxis])[1][0, 0])


@given(data=st.data())
@settings(max_examples=100)
def test_damaged_states_are_refused(data):
    pool = test_damaged_states_are_refused.pool
    state = bytearray(pool.export_state(test_damaged_states_are_refused.session))
    how = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if how == "flip":
        state[data.draw(st.integers(0, len(state) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del state[data.draw(st.integers(0, len(state) - 1)) :]
    else:
        state += data.draw(st.binary(min_size=1, max_size=20))
    with pytest.raises(ValueError, match=r"^state: "):
        pool.open(bytes(state))


test_damaged_states_are_refused.pool = StreamPool(plain_model(), num_threads=1)
test_damaged_states_are_refused.session = test_damaged_states_are_refused.pool.open()


def test_a_state_of_another_model_is_refused(pool):
    with StreamPool(plain_model(H=17)) as other:
        state = other.export_state(other.open())
    with pytest.raises(ValueError, match="state: the state is that of another model"):
        pool.open(state)


def test_sessions_end(pool):
    session = pool.open()
    assert len(pool) == 1
    pool.close(session)
    assert len(pool) == 0
    for use in (pool.close, pool.reset, pool.export_state, lambda s: pool.step(s, [0.0] * 5)):
        with pytest.raises(KeyError, match="session: expected an open one"):
            use(session)
    assert pool.open() != session


def test_numbers_that_are_no_sessions(pool):
    for number in (0, 1, 2**32 + 1, 2**64 - 1, 2**70):
        with pytest.raises(KeyError):
            pool.step(number, [0.0] * 5)
    with pytest.raises(TypeError, match="session: expected an integer"):
        pool.step("1", [0.0] * 5)


def test_submit_many_takes_all_or_none(pool):
    a, b = pool.open(), pool.open()
    x = random_x(np.random.default_rng(0), 2, 5)
    with pytest.raises(KeyError):
        pool.submit_many([a, b, 12345], np.zeros((3, 5), "f"))
    assert pool.stats()["pending_steps"] == 0
    first = pool.submit_many([a, b, a], np.stack([x[0], x[0], x[1]])).result(LONG)
    np.testing.assert_array_equal(first[[0, 2]], alone(plain_model(), x))


def test_a_full_pool(pool):
    sessions = [pool.open() for _ in range(8)]
    with pytest.raises(PoolFull, match="8 sessions are open"):
        pool.open()
    pool.close(sessions[3])
    pool.open()


def busy(pool, session, steps=200000):
    """Keep the only thread of a pool busy with one session for a while."""
    return pool.submit(session, np.zeros((steps, pool.input_size), np.float32))


def test_full_queues_push_back():
    with StreamPool(plain_model(H=64), max_pending=10, num_threads=1) as pool:
        session = pool.open()
        first = busy(pool, session)  # alone it may bring more
        with pytest.raises(queue.Full):
            pool.submit(session, [0.0] * 5, block=False)
        with pytest.raises(queue.Full):
            pool.submit(session, [0.0] * 5, timeout=0.01)
        later = pool.submit(session, [0.0] * 5)  # waits
        assert pool.stats()["pending_steps"] <= 1
        assert later.result(LONG).shape == (3,)
        assert first.done()
        assert pool.stats()["pending_steps"] == 0


def test_closing_cancels_what_is_pending():
    with StreamPool(plain_model(H=64), max_pending=10**6, num_threads=1) as pool:
        session, other = pool.open(), pool.open()
        answers = [busy(pool, session), pool.submit(session, [0.0] * 5)]
        pool.close(session)
        for answer in answers:
            with pytest.raises(CancelledError):
                answer.result(LONG)
            assert answer.cancelled()
        pool.step(other, [0.0] * 5)
        assert len(pool) == 1
        assert pool.stats()["pending_steps"] == 0


def test_shutdown_finishes_or_cancels():
    for wait in (True, False):
        pool = StreamPool(plain_model(H=64), num_threads=2)
        answers = [busy(pool, pool.open()) for _ in range(3)]
        pool.shutdown(wait)
        assert [answer.cancelled() for answer in answers] == [not wait] * 3
        with pytest.raises(RuntimeError, match="shut down"):
            pool.open()
        pool.shutdown()  # again is fine


def test_idle_sessions_expire():
    with StreamPool(plain_model(), capacity=2, idle_timeout=0.05, num_threads=1) as pool:
        session = pool.open()
        deadline = time.monotonic() + LONG
        while len(pool) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool.stats()["expired"] == 1
        with pytest.raises(KeyError):
            pool.step(session, [0.0] * 5)


def test_results_can_be_waited_for_with_a_limit():
    with StreamPool(plain_model(H=64), num_threads=1) as pool:
        answer = busy(pool, pool.open())
        with pytest.raises(TimeoutError):
            answer.result(0.001)
        assert answer.result(LONG).shape == (200000, 3)
        with pytest.raises(ValueError, match="state"):
            answer.state()


def test_results_outlive_answers_and_pools():
    pool = StreamPool(plain_model())
    x = random_x(np.random.default_rng(0), 1000, 5)
    session = pool.open()
    pool.submit(session, x)  # dropped
    y = pool.submit(session, x).result()
    del pool
    gc.collect()
    np.testing.assert_array_equal(y, alone(plain_model(), np.concatenate([x, x]))[1000:])


def test_max_delay_gathers():
    with StreamPool(plain_model(), max_delay=LONG, max_batch=4, num_threads=2) as pool:
        sessions = [pool.open() for _ in range(5)]
        answers = [pool.submit(s, [0.0] * 5) for s in sessions[:4]]  # a full pass
        for answer in answers:
            answer.result(LONG)
        assert pool.stats()["batch_sizes"] == [0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"capacity": 0}, "capacity: expected at least 1"),
        ({"capacity": 1 << 40}, "capacity: expected at most"),
        ({"max_batch": 65}, "max_batch: expected at most 64"),
        ({"max_delay": -1}, "max_delay"),
        ({"max_delay": float("nan")}, "max_delay"),
        ({"max_pending": 0}, "max_pending: expected at least 1"),
        ({"idle_timeout": 0}, "idle_timeout: expected more than 0"),
        ({"num_threads": 0}, "num_threads: expected at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StreamPool(plain_model(), **arguments)


@pytest.mark.parametrize(
    "model, error, message",
    [
        (fastrnn.GRU(2, 3, bidirectional=True), ValueError, "model: expected one that can be str"),
        (fastrnn.GRU(2, 3, dtype="float64"), ValueError, "model: .*float32"),
        (b"no model", ValueError, "model: "),
        (5.5, TypeError, "model: expected a layer, a path or bytes"),
    ],
)
def test_bad_models(model, error, message):
    with pytest.raises(error, match=message):
        StreamPool(model)


def test_bad_input(pool):
    session = pool.open()
    for x in (np.zeros((2, 4), "f"), np.zeros(6, "f"), np.zeros((1, 2, 5), "f"), [], 1.5):
        with pytest.raises(ValueError, match=r"^x: expected"):
            pool.submit(session, x)
    with pytest.raises(TypeError, match="x: expected an array of float32, got float64"):
        pool.submit(session, np.zeros(5))
    assert pool.step(session, np.zeros((0, 5), "f")).shape == (0, 3)
    assert pool.submit_many([], np.zeros((0, 5), "f")).result(LONG).shape == (0, 3)


def test_nan_stays_in_its_session():
    model = plain_model()
    with StreamPool(model, num_threads=1, max_delay=LONG, max_batch=2) as pool:
        x = random_x(np.random.default_rng(0), 2, 5)
        bad = x.copy()
        bad[0, 0] = np.nan
        y = pool.submit_many([pool.open(), pool.open()], np.stack([x, bad])).result(LONG)
        assert np.isnan(y[1]).all()
        np.testing.assert_array_equal(y[0], alone(model, x))


def in_child(pool, connection):
    try:
        pool.open()
        connection.send("opened")
    except RuntimeError as error:
        connection.send(str(error))
    del pool


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told(pool):
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(pool, there))
    child.start()
    assert here.poll(LONG)
    assert "belongs to the process that made it" in here.recv()
    child.join(LONG)
    assert child.exitcode == 0
    pool.step(pool.open(), [0.0] * 5)


def test_asyncio():
    model = plain_model()

    async def client(pool, seed):
        rng = np.random.default_rng(seed)
        session = pool.pool.open()
        x = [random_x(rng, n, 5) for n in rng.integers(0, 9, 20)]
        futures = [pool.submit(session, part, state=i == 3) for i, part in enumerate(x)]
        y = [await future for future in futures]
        np.testing.assert_array_equal(
            np.concatenate([part for part, _ in y]), alone(model, np.concatenate(x))
        )
        assert [state is not None for _, state in y] == [i == 3 for i in range(20)]
        assert await pool.submit(session, None, reset=True) == (None, None)
        np.testing.assert_array_equal((await pool.submit(session, x[0]))[0], y[0][0])
        pool.pool.close(session)
        with pytest.raises(KeyError):
            pool.submit(session, x[0])

    async def main():
        pool = AsyncPool(StreamPool(model, num_threads=2))
        await asyncio.gather(*(client(pool, seed) for seed in range(20)))
        pool.close()
        pool.pool.shutdown()

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_asyncio_closing_cancels():
    async def main():
        pool = AsyncPool(StreamPool(plain_model(H=64), num_threads=1))
        session = pool.pool.open()
        future = pool.submit(session, np.zeros((200000, 5), "f"))
        pool.pool.close(session)
        with pytest.raises(asyncio.CancelledError):
            await future
        future = pool.submit(pool.pool.open(), np.zeros((200000, 5), "f"))
        pool.close()
        with pytest.raises(asyncio.CancelledError):
            await future
        pool.pool.shutdown(wait=False)

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_threads_end_with_the_pool():
    before = threading.active_count()
    for _ in range(20):
        StreamPool(plain_model(), num_threads=2).shutdown()
    assert threading.active_count() == before


def test_answers_of_no_sessions_are_done_and_freed(pool):
    nobody, nothing = np.empty(0, np.uint64), np.empty((0, 1, 5), np.float32)
    assert pool.submit_many(nobody, nothing).result().shape == (0, 1, pool.output_size)
    tokens = np.empty((0, 4), np.int64)
    assert pool.submit_many(nobody, tokens).result().shape == (0, 4, pool.output_size)
    before = resident()
    for _ in range(30000):  # kept, they would be 10 MB
        pool.submit_many(nobody, nothing)
    assert resident() - before < 4 << 20


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
