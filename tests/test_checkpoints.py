"""Checkpoints: killed at any moment, training goes on with the same bits; hostile files; disks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import fastrnn
from fastrnn import optim
from fastrnn.data import StreamLoader, Streams
from fastrnn.training import Callback, Trainer, read_checkpoint, write_checkpoint

PROGRAM = Path(__file__).with_name("killed_training.py")
KILLS = 20
IDS = np.random.default_rng(0).integers(0, 7, 400)


def run(folder, seconds=0.0):
    """Start the training; return its process once it is about to begin."""
    command = [sys.executable, str(PROGRAM), str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process.stdout as output:
        assert output.readline() == "ready\n"
    return process


def result(folder):
    with np.load(folder / "result.npz") as file:
        return {name: file[name] for name in file.files}


def logged(folder):
    """Return the numbers of the log without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def test_killed_at_20_random_moments_it_ends_with_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole).wait(60) == 0
    rng = np.random.default_rng()
    kills = 0
    while kills < KILLS:
        process = run(killed, 0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        kills += 1
    assert not (killed / "result.npz").exists()  # it had not come to its end by itself
    assert run(killed).wait(60) == 0
    expected, got = result(whole), result(killed)
    assert expected.keys() == got.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)
    assert logged(killed) == logged(whole)
    assert sorted(path.name for path in killed.glob("checkpoint*")) == ["checkpoint.safetensors"]


def make_trainer(hidden=6, **options):
    model = fastrnn.Sequential(
        fastrnn.Embedding(7, 5, seed=0),
        fastrnn.LSTM(5, hidden, dropout=0.0, seed=0),
        fastrnn.Dropout(0.3, seed=1),
        fastrnn.Linear(hidden, 7, seed=0),
    )
    return Trainer(model, **options)


def make_streams(seq_len=5):
    return StreamLoader(Streams(IDS, 4), seq_len)


def fit(trainer, data=None, **options):
    return trainer.fit(data or make_streams(), **{"progress": False, **options})


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, trainer):
        trainer.stop = trainer.step == self.step


@pytest.mark.parametrize("stop", [1, 7, 19, 20, 30, 40])
def test_stopped_and_resumed_is_never_stopped(tmp_path, stop):
    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    assert len(make_streams()) == 19
    expected = fit(whole, epochs=3)
    fit(first, epochs=3, checkpoint=tmp_path, callbacks=[StopAt(stop)])
    assert first.step == stop
    got = fit(second, epochs=3, checkpoint=tmp_path, resume=True)
    assert got["loss"] == expected["loss"]
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[name], array)


def test_a_training_that_had_ended_has_nothing_left_to_do(tmp_path):
    first, second = make_trainer(), make_trainer()
    fit(first, epochs=4, checkpoint=tmp_path, patience=2, monitor="learning_rate")
    assert first.epoch == 3
    fit(second, epochs=4, checkpoint=tmp_path, patience=2, monitor="learning_rate", resume=True)
    assert second.epoch == 3
    for name, array in first.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[name], array)


def test_more_epochs_go_on_from_the_end(tmp_path):
    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    fit(whole, epochs=4)
    fit(first, epochs=2, checkpoint=tmp_path)
    fit(second, epochs=4, checkpoint=tmp_path, resume=True)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[name], array)


def test_without_a_checkpoint_resume_starts_anew(tmp_path):
    trainer = make_trainer()
    fit(trainer, checkpoint=tmp_path / "new", resume=True)
    assert trainer.epoch == 1


@pytest.mark.parametrize(
    "other, data, message",
    [
        (lambda: make_trainer(optimizer="sgd"), None, "expected .*'SGD'.* got .*'Adam'"),
        (lambda: make_trainer(metrics=["accuracy"]), None, "expected .*'accuracy'"),
        (lambda: make_trainer(hidden=5), None, "size mismatch for 1.weight_ih_l0"),
        (make_trainer, make_streams(4), r"expected the data .*'seq_len': 4.*on .*'seq_len': 5"),
    ],
)
def test_a_checkpoint_of_another_training(tmp_path, other, data, message):
    fit(make_trainer(), checkpoint=tmp_path)
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors: (?s:.)*{message}"):
        fit(other(), data, checkpoint=tmp_path, resume=True)


def test_the_model_of_a_training_is_no_checkpoint(tmp_path):
    fastrnn.save(make_trainer().model, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors: no checkpoint"):
        fit(make_trainer(), checkpoint=tmp_path, resume=True)


# --- the file -------------------------------------------------------------------------------------

arrays = npst.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint32]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    scalars | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=8,
)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


@given(st.dictionaries(st.text(), trees, max_size=4))
def test_what_is_written_is_read(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "file"
    write_checkpoint(path, tree)
    assert_same(read_checkpoint(path), tree)


def test_a_nan_survives(tmp_path):
    write_checkpoint(tmp_path / "file", {"loss": float("nan"), "best": float("-inf")})
    state = read_checkpoint(tmp_path / "file")
    assert np.isnan(state["loss"])
    assert state["best"] == float("-inf")


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), b"x", 1j])
def test_what_cannot_be_written(tmp_path, value):
    with pytest.raises(TypeError, match="/thing: expected"):
        write_checkpoint(tmp_path / "file", {"thing": value})
    assert not (tmp_path / "file").exists()


def test_a_checkpoint_cut_anywhere_is_a_clear_error(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, {"a": np.arange(5.0), "b": [1, (2, None)]})
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors: "):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "state",
    [
        "[1, 2]",
        '{"dict": {"a": [1]}}',
        '{"dict": {"a": {"array": "nowhere"}}}',
        '{"dict": {"a": {"array": ["a"]}}}',
        '{"dict": {"a": {"array": "a"}, "b": {"array": "a"}}}',
        '{"dict": {"a": {"float": 3}}}',
        '{"dict": {"a": {"float": "__import__"}}}',
        '{"dict": {"a": {"eval": "1"}}}',
        '{"dict": {"a": {"list": [], "tuple": []}}}',
        '{"list": []}',
        '{"dict": {"a": ' + '{"list": [' * 60 + "]}" * 60 + "}}",
        "{" * 100_000,
    ],
)
def test_a_hostile_checkpoint_is_a_clear_error(tmp_path, state):
    from safetensors.numpy import save

    path = tmp_path / "checkpoint.safetensors"
    text = f'{{"format": 1, "state": {state}}}'
    path.write_bytes(save({"a": np.zeros(2)}, {"fastrnn_checkpoint": text}))
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors: no checkpoint"):
        read_checkpoint(path)


# --- disks ----------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    trainer = make_trainer()
    with pytest.raises(OSError, match=r"checkpoint: cannot write to .*file/folder"):
        fit(trainer, checkpoint=tmp_path / "file" / "folder")
    assert trainer.step == 0


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from test_checkpoints import fit, make_trainer
trainer = make_trainer()
fit(trainer, checkpoint={folder!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    fit(trainer, checkpoint={folder!r})
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_a_clear_error_and_the_older_checkpoint_stays(tmp_path):
    """No file may grow beyond 4096 bytes: the system refuses to write more, as a full disk does."""
    code = FULL.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "checkpoint.safetensors: cannot write the checkpoint (File too large)" in done.stdout
    assert "the one before it is as it was" in done.stdout
    second = make_trainer()
    fit(second, epochs=1, checkpoint=tmp_path, resume=True)
    assert second.epoch == 1
    assert second.step == 19
    assert not list(tmp_path.glob("*.tmp"))


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    (tmp_path / "checkpoint.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    fit(make_trainer(), checkpoint=tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


def test_state_of_schedules_and_plateaus_goes_with_the_checkpoint(tmp_path):
    def make():
        def schedule(optimizer):
            return optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.05)

        return make_trainer(schedule=schedule)

    whole, first, second = make(), make(), make()
    expected = fit(whole, epochs=6)
    fit(first, epochs=6, checkpoint=tmp_path, callbacks=[StopAt(70)])
    got = fit(second, epochs=6, checkpoint=tmp_path, resume=True)
    assert got["learning_rate"] == expected["learning_rate"]
    assert len(set(got["learning_rate"])) > 1
    assert got["loss"] == expected["loss"]


# --- states that do not fit -----------------------------------------------------------------------


def changed(tree, path, value):
    """Return a copy of a nested state in which one place has another value."""
    if not path:
        return value
    if isinstance(tree, dict):
        return tree | {path[0]: changed(tree[path[0]], path[1:], value)}
    return [changed(v, path[1:], value) if i == path[0] else v for i, v in enumerate(tree)]


@pytest.mark.parametrize(
    "path, value",
    [
        (["step"], -1),
        (["step"], "abc"),
        (["epoch"], -1),
        (["first_epoch"], 10**30),
        (["first_epoch"], -1),
        (["now"], {}),
        (["now", "batch"], -3),
        (["now", "batch"], 1000),
        (["now", "loss"], "abc"),
        (["now", "sums"], [1]),
        (["largest"], 3),
        (["last", "loss"], "abc"),
        (["history"], [1]),
        (["average", "3.bias"], np.zeros(1, np.float32)),
        (["average", "3.bias"], np.zeros(7, np.int64)),
        (["optimizer", "3.bias.exp_avg"], np.zeros(1, np.float32)),
        (["optimizer", "lr"], "abc"),
        (["schedule", "best"], "abc"),
        (["schedule", "num_bad_epochs"], -1),
        (["generators", "2.rng"], None),
        (["generators", "2.rng", "state", "state"], -1),
        (["generators", "2.rng", "bit_generator"], "MT19937"),
        (["callbacks"], 1),
        (["callbacks", "EarlyStopping1"], {}),
        (["callbacks", "EarlyStopping1", "best"], "abc"),
        (["callbacks", "EarlyStopping1", "waited"], -1),
        (["data"], np.zeros(3)),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(tmp_path, path, value):
    def make():
        return make_trainer(schedule=optim.ReduceLROnPlateau, ema=0.9)

    fit(make(), epochs=3, checkpoint=tmp_path, patience=2, callbacks=[StopAt(25)])
    file = tmp_path / "checkpoint.safetensors"
    write_checkpoint(file, changed(read_checkpoint(file), path, value))
    trainer = make()
    before = trainer.state_dict()
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors: "):
        fit(trainer, epochs=3, checkpoint=tmp_path, patience=2, resume=True)
    np.testing.assert_equal(trainer.state_dict(), before)


def test_best_weights_of_another_model(tmp_path):
    fit(make_trainer(), epochs=2, checkpoint=tmp_path, patience=2)
    file = tmp_path / "checkpoint.safetensors"
    state = changed(read_checkpoint(file), ["callbacks", "EarlyStopping1", "weights"], {})
    write_checkpoint(file, state)
    with pytest.raises(ValueError, match="EarlyStopping: expected the best weights of this model"):
        fit(make_trainer(), epochs=2, checkpoint=tmp_path, patience=2, resume=True)


def test_a_state_in_memory_is_that_of_its_time():
    trainer = make_trainer()
    fit(trainer)
    state = trainer.state_dict()
    fit(trainer)
    trainer.load_state_dict(state)
    assert len(trainer.history) == 1


def test_places_with_the_same_name_are_kept_apart(tmp_path):
    state = {"a": {"b": np.zeros(2)}, "a/b": np.ones(3)}
    write_checkpoint(tmp_path / "file", state)
    assert_same(read_checkpoint(tmp_path / "file"), state)


def test_keys_are_strings(tmp_path):
    with pytest.raises(TypeError, match=r"/a: expected strings as keys, got \[1\]"):
        write_checkpoint(tmp_path / "file", {"a": {1: 2}})
