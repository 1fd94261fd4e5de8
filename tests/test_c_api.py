"""The C library gives the bits of the Python library: every layer and option, every way in."""

import concurrent.futures
import ctypes
import json
import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import c_library
import fastrnn
from c_cases import cases, file_of, randomize, recurrent_layers
from c_library import ApiError, CModel, CStream, lib, step_streams
from fastrnn.serialization import load_metadata


def saved(model, path):
    fastrnn.save(model, path)
    return CModel(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def example():
    """Return a small model and a sequence for it (T, I)."""
    layers = (
        fastrnn.LSTM(3, 5, num_layers=2),
        fastrnn.GRU(5, 4, learned_state=True),
        fastrnn.Linear(4, 2),
    )
    model = randomize(fastrnn.Sequential(*layers), 1)
    return model, np.random.default_rng(2).normal(0, 1, (11, 3)).astype(np.float32)


def flat_state(state):
    """Return Python's state of one sequence as the C library lays it out."""
    parts = []
    for layer in state:
        arrays = layer if isinstance(layer, tuple) else (layer,)
        parts += [np.concatenate([a[i].ravel() for a in arrays]) for i in range(len(arrays[0]))]
    return np.concatenate(parts)


# --- the same bits --------------------------------------------------------------------------------


@hypothesis.settings(max_examples=100)
@hypothesis.given(cases())
def test_whole_sequences_are_those_of_python(folder, case):
    model = saved(case.model, folder / "whole.safetensors")
    expected = case.model(case.x_by_step)[0].swapaxes(0, 1)
    np.testing.assert_array_equal(model.run(case.x), expected)


@hypothesis.settings(max_examples=50)
@hypothesis.given(cases())
def test_lengths_are_those_of_python_and_zeros_follow(folder, case):
    model = saved(case.model, folder / "lengths.safetensors")
    expected = case.model(case.x_by_step, lengths=case.lengths)[0].swapaxes(0, 1).copy()
    x = case.x.copy()
    for row, length in enumerate(case.lengths):
        expected[row, length:] = 0
        x[row, length:] = -5 if x.dtype.kind == "i" else np.nan  # is not read
    np.testing.assert_array_equal(model.run(x, case.lengths), expected)


@hypothesis.settings(max_examples=100)
@hypothesis.given(cases(one_way=True), st.data())
def test_streams_are_python_by_every_way_in(folder, case, data):
    model = saved(case.model, folder / "streams.safetensors")
    expected, last = case.model(case.x_by_step)
    expected = expected.swapaxes(0, 1)
    streams = [CStream(model, data.draw(st.integers(0, 5))) for _ in case.x]
    together = [step_streams(streams, x) for x in case.x_by_step]
    np.testing.assert_array_equal(np.stack(together, 1), expected)
    for row, (x, stream) in enumerate(zip(case.x, streams, strict=True)):
        state = flat_state(
            [tuple(a[:, row] for a in s) if isinstance(s, tuple) else s[:, row] for s in last]
        )
        np.testing.assert_array_equal(stream.state, state)
        stream.reset()
        np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x]), expected[row])
        stream.reset()
        cut = data.draw(st.integers(0, len(x)))
        blocks = [stream.process(x[:cut]), stream.process(x[cut:])]
        np.testing.assert_array_equal(np.concatenate(blocks), expected[row])
        np.testing.assert_array_equal(stream.state, state)


@hypothesis.given(recurrent_layers(6, one_way=True), st.integers(0, 2**32 - 1))
def test_tokens_are_one_hot_vectors(folder, layer, seed):
    model = saved(randomize(layer, seed), folder / "tokens.safetensors")
    tokens = np.random.default_rng(seed).integers(0, 6, (2, 5)).astype(np.int32)
    expected = layer(tokens.T)[0].swapaxes(0, 1)
    np.testing.assert_array_equal(model.run(tokens), expected)
    np.testing.assert_array_equal(CStream(model).process(tokens[0]), expected[0])
    streams = [CStream(model) for _ in tokens]
    np.testing.assert_array_equal(step_streams(streams, tokens[:, 0]), expected[:, 0])
    assert np.array_equal(CStream(model).step(tokens[1, 0]), expected[1, 0])


@pytest.mark.parametrize("values", [[0.0, -0.0, 1e-40, -1e-45], [np.inf, -np.inf], [np.nan, 1.0]])
def test_numbers_that_are_none(tmp_path, values):
    model, x = example()
    x.flat[: len(values)] = values
    loaded = CModel(file_of(model, tmp_path))
    np.testing.assert_array_equal(loaded.run(x[None])[0], model(x)[0])
    np.testing.assert_array_equal(CStream(loaded).process(x), model(x)[0])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 64, 65, 130])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_sizes_around_those_of_vectors(tmp_path, kind, size):
    layer = randomize(getattr(fastrnn, kind)(size, size), size)
    x = np.random.default_rng(1).normal(0, 1, (7, size)).astype(np.float32)
    model = CModel(file_of(layer, tmp_path))
    np.testing.assert_array_equal(CStream(model).process(x), layer(x)[0])
    stream = CStream(model)
    np.testing.assert_array_equal([stream.step(x_t) for x_t in x], layer(x)[0])


def test_the_last_step_is_left_to_the_caller(tmp_path):
    model = fastrnn.Sequential(fastrnn.GRU(3, 4), fastrnn.LastStep(), fastrnn.Linear(4, 2))
    x = np.random.default_rng(1).normal(0, 1, (2, 6, 3)).astype(np.float32)
    y = CModel(file_of(randomize(model, 1), tmp_path)).run(x, [4, 6])
    expected = model(x.swapaxes(0, 1), lengths=[4, 6])[0]
    np.testing.assert_array_equal([y[0, 3], y[1, 5]], expected)


def test_layers_in_layers(tmp_path):
    inner = fastrnn.Sequential(fastrnn.Dropout(0.5), fastrnn.GRU(3, 4), fastrnn.Sequential())
    model = fastrnn.Sequential(fastrnn.Tanh(), inner, fastrnn.VariationalDropout(0.1))
    x = np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32)
    loaded = CModel(file_of(model, tmp_path))
    assert loaded.info.input_size == 3
    np.testing.assert_array_equal(CStream(loaded).process(x), model(x)[0])


def test_more_streams_than_are_taken_at_once(tmp_path):
    layer = randomize(fastrnn.GRU(3, 4), 1)
    model = CModel(file_of(layer, tmp_path))
    x = np.random.default_rng(2).normal(0, 1, (2, 600, 3)).astype(np.float32)
    streams = [CStream(model) for _ in range(600)]
    y = [step_streams(streams, x_t) for x_t in x]
    np.testing.assert_array_equal(y, layer(x)[0])


def test_many_threads_use_one_model(tmp_path):
    model, x = example()
    loaded = CModel(file_of(model, tmp_path))
    expected = model(x)[0]

    def work(seed):
        stream = CStream(loaded)
        for _ in range(20):
            stream.reset()
            np.testing.assert_array_equal([stream.step(x_t) for x_t in x], expected)
            np.testing.assert_array_equal(loaded.run(x[None])[0], expected)
            with pytest.raises(ApiError, match=f"got {seed + 100}$"):  # each thread its message
                stream.state = np.zeros(seed + 100, np.float32)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))


# --- models and streams ---------------------------------------------------------------------------


def test_memory_gives_the_model_of_the_path_at_any_address(tmp_path):
    model, x = example()
    path = file_of(model, tmp_path)
    content, expected = path.read_bytes(), model(x)[0]
    for offset in range(9):
        buffer = np.frombuffer(b"x" * offset + content, np.uint8).copy()
        handle = ctypes.c_void_p()
        data = ctypes.c_void_p(buffer.ctypes.data + offset)
        assert lib.fr_model_load_memory(data, len(content), None, ctypes.byref(handle)) == 0
        buffer[:] = 255  # is not needed any more
        loaded = CModel.__new__(CModel)
        loaded.handle = handle
        np.testing.assert_array_equal(loaded.run(x[None])[0], expected)


def test_a_file_that_is_mapped(tmp_path):
    """Larger than what is read at once, and unaligned, as a header of another writer may be."""
    layer = randomize(fastrnn.Embedding(50000, 90), 1)
    path = file_of(layer, tmp_path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end] + b" " * 3
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    assert path.stat().st_size > 16 << 20
    tokens = np.array([[0, 49999, 777]], np.int32)
    np.testing.assert_array_equal(CModel(path).run(tokens)[0], layer.weight.data[tokens[0]])


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"labels": ["a", "ü", "😀", "\ud800", '"\\\n'], "rate": 0.1, "deep": {"x": [None, True]}},
        {"n": 10**30, "text": "x" * 100_000},
        {"deep": eval("[" * 90 + "]" * 90)},
    ],
)
def test_metadata_come_back(tmp_path, metadata):
    path = file_of(fastrnn.Linear(2, 2), tmp_path, metadata)
    assert json.loads(CModel(path).metadata) == metadata == load_metadata(path)


def test_info_describes_the_model(tmp_path):
    model, _ = example()
    info = CModel(file_of(model, tmp_path)).info
    assert (info.input_size, info.output_size, info.state_size) == (3, 2, 2 * (5 + 5) + 4)
    assert (info.takes_tokens, info.streams, info.precision) == (0, 1, 1)
    assert info.memory > 4 * model.num_parameters()
    tokens = CModel(file_of(fastrnn.Embedding(9, 4), tmp_path)).info
    assert (tokens.input_size, tokens.output_size, tokens.takes_tokens) == (9, 4, 1)
    both = CModel(file_of(fastrnn.GRU(3, 4, bidirectional=True), tmp_path)).info
    assert (both.streams, both.state_size, both.output_size) == (0, 0, 8)


def test_a_state_moves_from_stream_to_stream(tmp_path):
    model, x = example()
    loaded = CModel(file_of(model, tmp_path))
    first, second = CStream(loaded), CStream(loaded)
    first.process(x[:6])
    second.state = first.state
    np.testing.assert_array_equal(second.process(x[6:]), model(x)[0][6:])
    second.reset()
    initial = model[1].parameters()["h_0"].data
    np.testing.assert_array_equal(second.state, np.append(np.zeros(20, np.float32), initial))


def test_streams_outlive_their_model(tmp_path):
    model, x = example()
    loaded = CModel(file_of(model, tmp_path))
    streams = [CStream(loaded), CStream(loaded)]
    lib.fr_model_free(loaded.handle)
    loaded.handle = None
    del loaded
    np.testing.assert_array_equal(streams[0].process(x), model(x)[0])
    streams.pop(0)
    np.testing.assert_array_equal(streams[0].process(x), model(x)[0])


def test_a_step_may_write_over_its_input(tmp_path):
    layer = randomize(fastrnn.GRU(4, 4), 1)
    stream = CStream(CModel(file_of(layer, tmp_path)))
    x = np.ones(4, np.float32)
    expected = layer(x[None])[0][0]
    assert lib.fr_stream_step(stream.handle, x.ctypes.data, x.ctypes.data) == 0
    np.testing.assert_array_equal(x, expected)


def test_nothing_to_do_is_done(tmp_path):
    model, _ = example()
    loaded = CModel(file_of(model, tmp_path))
    stream = CStream(loaded)
    assert lib.fr_stream_process(stream.handle, None, 0, None) == 0
    assert lib.fr_streams_step(None, 0, None, None) == 0
    assert lib.fr_model_run(loaded.handle, None, 0, 5, None, None) == 0
    assert lib.fr_model_run(loaded.handle, None, 5, 0, None, None) == 0
    lib.fr_model_free(None)
    lib.fr_stream_free(None)
    assert lib.fr_model_metadata(None) is None


# --- wrong arguments ------------------------------------------------------------------------------


@pytest.fixture
def wrong(tmp_path):
    """Functions of wrong calls by name."""
    model = CModel(file_of(example()[0], tmp_path))
    other = CModel(file_of(fastrnn.GRU(3, 2), tmp_path))
    tokens = CModel(file_of(fastrnn.Embedding(9, 4), tmp_path))
    linear = CModel(file_of(fastrnn.Sequential(fastrnn.Tanh(), fastrnn.Linear(3, 3)), tmp_path))
    both = CModel(file_of(fastrnn.GRU(3, 4, bidirectional=True), tmp_path))
    stream, second, foreign = CStream(model), CStream(model), CStream(other)
    of_tokens = CStream(tokens)
    x, y = np.zeros(99, np.float32), np.zeros(99, np.float32)
    ids = np.array([0, 9, -1], np.int32)
    handles = (ctypes.c_void_p * 3)(stream.handle, second.handle, stream.handle)
    mixed = (ctypes.c_void_p * 2)(stream.handle, foreign.handle)
    holes = (ctypes.c_void_p * 2)(stream.handle, None)
    lengths = np.array([4, 6], np.uintp)
    out = ctypes.c_void_p()
    at_x, at_y, ref = x.ctypes.data, y.ctypes.data, ctypes.byref(out)
    at_ids, big = ids.ctypes.data, 2**62
    keep = (model, other, tokens, of_tokens, both, stream, second, foreign, x, y, ids, lengths)
    keep += (linear,)
    calls = {
        "x: expected a pointer, got null": lambda: lib.fr_stream_step(stream.handle, None, at_y),
        "y: expected a pointer, got null": lambda: lib.fr_stream_step(stream.handle, at_x, None),
        "stream: expected a pointer, got null": lambda: lib.fr_stream_step(None, at_x, at_y),
        "stream: expected a pointer, got null ": lambda: lib.fr_stream_reset(None),
        "stream: expected a pointer, got null  ": lambda: lib.fr_stream_get_state(None, at_x, 1),
        "model: expected a pointer, got null": lambda: lib.fr_model_load(b"x", None, None),
        "model: expected a pointer, got null ": lambda: lib.fr_stream_create(None, None, ref),
        "stream: expected a pointer, got null   ": lambda: lib.fr_stream_create(
            model.handle, None, None
        ),
        "model: expected a pointer, got null  ": lambda: lib.fr_model_run(
            None, at_x, 1, 1, None, at_y
        ),
        "info: expected a pointer, got null": lambda: lib.fr_model_get_info(model.handle, None),
        "path: expected a pointer, got null": lambda: lib.fr_model_load(None, None, ref),
        "data: expected a pointer, got null": lambda: lib.fr_model_load_memory(None, 9, None, ref),
        "streams: expected a pointer, got null": lambda: lib.fr_streams_step(None, 1, at_x, at_y),
        "streams: expected pointers, got null at 1": lambda: lib.fr_streams_step(
            holes, 2, at_x, at_y
        ),
        "streams: expected each once, got one again at 2": lambda: lib.fr_streams_step(
            handles, 3, at_x, at_y
        ),
        "streams: expected those of one model, got another's at 1": lambda: lib.fr_streams_step(
            mixed, 2, at_x, at_y
        ),
        "state: expected a pointer, got null": lambda: lib.fr_stream_set_state(
            stream.handle, None, 24
        ),
        "count: expected the model's state_size 24, got 23": lambda: lib.fr_stream_get_state(
            stream.handle, at_y, 23
        ),
        "tokens: expected 0 to 8, got 9 at 1": lambda: lib.fr_model_run_tokens(
            tokens.handle, at_ids, 1, 3, None, at_y
        ),
        "tokens: expected 0 to 8, got -1 at 0": lambda: lib.fr_stream_step_token(
            of_tokens.handle, -1, at_y
        ),
        "tokens: expected 0 to 2, got 9 at 1": lambda: lib.fr_stream_process_tokens(
            stream.handle, at_ids, 3, at_y
        ),
        "tokens: expected 0 to 2, got 9 at 1 ": lambda: lib.fr_streams_step_tokens(
            handles, 2, at_ids, at_y
        ),
        "x: expected tokens, which": lambda: lib.fr_model_run(
            tokens.handle, at_x, 1, 1, None, at_y
        ),
        "tokens: expected x, as": lambda: lib.fr_model_run_tokens(
            linear.handle, at_ids, 1, 1, None, at_y
        ),
        "lengths: expected 0 to 5, got 6 at 1": lambda: lib.fr_model_run(
            model.handle, at_x, 2, 5, lengths.ctypes.data, at_y
        ),
        "batch, steps: expected sizes of an array, got": lambda: lib.fr_model_run(
            model.handle, at_x, big, big, None, at_y
        ),
        "batch, steps: expected sizes of an array, got ": lambda: lib.fr_model_run(
            model.handle, at_x, 1, big, None, at_y
        ),
        "steps: expected the size of an array, got": lambda: lib.fr_stream_process(
            stream.handle, at_x, big, at_y
        ),
        "y: expected memory apart from the input's": lambda: lib.fr_stream_process(
            stream.handle, at_x, 2, at_x + 20
        ),
        "y: expected memory apart from the input's ": lambda: lib.fr_streams_step(
            handles, 2, at_x, at_x
        ),
        r"model: expected one that can be streamed, but model \(GRU\) is bidirectional": (
            lambda: lib.fr_stream_create(both.handle, None, ref)
        ),
    }
    return calls, keep


def test_wrong_arguments_are_named(wrong):
    calls, keep = wrong
    y = keep[-4]
    for message, call in calls.items():
        status = call()
        expected = "FR_UNSUPPORTED" if "can be streamed" in message else "FR_INVALID_ARGUMENT"
        with pytest.raises(ApiError, match=f"^{message.strip()}") as error:
            c_library.check(status)
        assert error.value.status == expected, message
        assert not y.any()


def test_no_steps_take_no_time_whatever_the_batch(tmp_path):
    tokens = CModel(file_of(fastrnn.Embedding(9, 4), tmp_path))
    most = 2 ** (8 * ctypes.sizeof(ctypes.c_size_t)) - 1
    ids, y = np.zeros(1, np.int32), np.zeros(1, np.float32)
    arguments = (tokens.handle, ids.ctypes.data, most, 0, None, y.ctypes.data)
    c_library.check(lib.fr_model_run_tokens(*arguments))


def test_a_call_that_failed_leaves_the_streams_usable(wrong):
    calls, keep = wrong
    for call in calls.values():
        call()
    stream, second = keep[5:7]
    assert not stream.state[:20].any()
    step_streams([stream, second], np.ones((2, 3), np.float32))
    assert stream.state[:20].all()


def test_success_leaves_the_message(tmp_path):
    with pytest.raises(ApiError):
        CModel(tmp_path / "none")
    before = lib.fr_last_error()
    model, x = example()
    CStream(CModel(file_of(model, tmp_path))).process(x)
    assert lib.fr_last_error() == before != b""


def test_an_instruction_set_that_cannot_be_had(tmp_path):
    """In a process of its own, as the choice is made once."""
    path = file_of(fastrnn.GRU(2, 3), tmp_path)
    code = (
        "import sys, c_library\n"
        "print(c_library.lib.fr_isa(), c_library.lib.fr_last_error())\n"
        "c_library.CModel(sys.argv[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path],
        env=os.environ | {"FASTRNN_ISA": "mmx", "PYTHONPATH": str(c_library.ROOT / "tests")},
        capture_output=True,
        text=True,
    )
    assert result.stdout.startswith('None b"FASTRNN_ISA: expected one of ')
    assert "ApiError: FASTRNN_ISA: expected one of " in result.stderr
    assert result.returncode == 1


# --- structs of other versions --------------------------------------------------------------------


def load_with(path, options):
    handle = ctypes.c_void_p()
    status = lib.fr_model_load(str(path).encode(), options, ctypes.byref(handle))
    lib.fr_model_free(handle)
    return c_library.STATUSES[status]


def test_options_of_other_versions(tmp_path):
    path = file_of(fastrnn.GRU(2, 3), tmp_path)
    size = ctypes.sizeof(c_library.ModelOptions)
    words = np.zeros(32, np.uintp)
    for struct_size, last, expected in (
        (ctypes.sizeof(ctypes.c_size_t), 0, "FR_OK"),  # of a version with fewer options
        (size, 7, "FR_OK"),  # what is behind the struct is not looked at
        (size + 8, 0, "FR_OK"),  # of one with more, which are not used
        (size + 8, 7, "FR_UNSUPPORTED"),  # and used
        (0, 0, "FR_INVALID_ARGUMENT"),
        (7, 0, "FR_INVALID_ARGUMENT"),
        (2**63, 0, "FR_INVALID_ARGUMENT"),
    ):
        words[0], words[size // words.itemsize] = struct_size, last
        assert load_with(path, words.ctypes.data) == expected, (struct_size, last)
    for precision in (-1, 5):
        options = c_library.ModelOptions(size, precision)
        assert load_with(path, ctypes.byref(options)) == "FR_INVALID_ARGUMENT"


def test_info_of_other_versions(tmp_path):
    model = CModel(file_of(fastrnn.GRU(2, 3), tmp_path))
    word, whole = ctypes.sizeof(ctypes.c_size_t), ctypes.sizeof(c_library.ModelInfo)
    expected = np.frombuffer(bytes(model.info), np.uint8)
    for size in (word, 2 * word, 2 * word + 3, whole, whole + 2 * word):
        info = np.full(whole + 4 * word, 0xAB, np.uint8)
        info[:word] = np.frombuffer(np.uintp(size).tobytes(), np.uint8)
        assert lib.fr_model_get_info(model.handle, info.ctypes.data) == 0
        filled = min(size, whole) // word * word
        np.testing.assert_array_equal(info[word:filled], expected[word:filled])
        assert (info[filled:] == 0xAB).all()
    info = c_library.ModelInfo(1)
    assert lib.fr_model_get_info(model.handle, ctypes.byref(info)) == 1
