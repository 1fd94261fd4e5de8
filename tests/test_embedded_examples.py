"""The programs of examples/embedded: what they write is Python's, and bad files get one clear line.

That they learn, and are built from an installed library, is seen by examples/embedded/run.sh.
"""

import os
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastrnn

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "embedded"
LIBRARY = Path(os.environ.get("FASTRNN_C_LIBRARY", ROOT / "build/make/libfastrnn.so"))
pytest.importorskip("safetensors")


def build(source, program):
    variable, default, standard = {
        ".c": ("CC", "cc", "-std=c99"),
        ".cpp": ("CXX", "c++", "-std=c++17"),
    }[source.suffix]
    compiler = shlex.split(os.environ.get(variable, default))
    if not shutil.which(compiler[0]):
        pytest.skip(f"no compiler {compiler[0]}")
    flags = [standard, "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    places = [f"-I{ROOT / 'src' / 'include'}", str(source), "-o", str(program)]
    link = [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}", "-lm"]
    subprocess.run([*compiler, *flags, *places, *link], check=True)
    return program


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def save(path, layer, outputs):
    fastrnn.save(
        fastrnn.Sequential(layer, fastrnn.Linear(layer.hidden_size, outputs, seed=1)), path
    )
    return fastrnn.load(path)


# --- scorer ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    model = save(folder / "model.safetensors", fastrnn.GRU(2, 8, seed=0), 3)
    return build(EXAMPLES / "scorer" / "scorer.c", folder / "scorer"), model


def score(scorer, path):
    return run(scorer[0], scorer[0].parent / "model.safetensors", path)


def test_scores_are_those_of_python(scorer, tmp_path):
    """Two full batches and a rest, of all lengths; lines end as on Windows in one of two files."""
    rng = np.random.default_rng(0)
    runs = [
        rng.standard_normal((length, 2)).astype("f4") for length in rng.integers(1, 90, 2 * 64 + 5)
    ]
    lines = [f"r{i},{a:.9g},{b:.9g}" for i, each in enumerate(runs) for a, b in each]
    expected = [
        f"r{i}," + ",".join(f"{v:.9g}" for v in scorer[1](each)[0][-1])
        for i, each in enumerate(runs)
    ]
    for end in ("\n", "\r\n"):
        path = tmp_path / "runs.csv"
        path.write_bytes(end.join(["id,a,b", *lines]).encode())  # the last line without its end
        result = score(scorer, path)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == ["id,score_0,score_1,score_2", *expected]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1: expected the names of the columns, got an empty file"),
        ("id,a\n", "line 1: expected an id and 2 columns for the model's inputs, got 2 columns"),
        ("id,a,b\nr,1,2\nr,1\n", "line 3: expected an id and 2 numbers, got 'r,1'"),
        ("id,a,b\nr,1,2,3\n", "line 2: expected an id and 2 numbers, got 'r,1,2,3'"),
        ("id,a,b\nr,1,two\n", "line 2, column 3: expected a number, got 'two'"),
        ("id,a,b\nr,,2\n", "line 2, column 2: expected a number, got ',2'"),
        ("id,a,b\nr,1,nan\n", "line 2, column 3: expected a number, got 'nan'"),
        ("id,a,b\nr,1e99,1\n", "line 2, column 2: expected a number, got '1e99,1'"),
        ("id,a,b\n\n", "line 2: expected an id of at most 63 characters and a comma, got ''"),
        (
            "id,a,b\n,1\n",
            "line 2: expected an id of at most 63 characters and a comma, got ',1'",
        ),
        ("id,a,b\n" + 5000 * "r" + ",1,2\n", "line 2: longer than 4094 characters"),
    ],
)
def test_scorer_names_the_line(scorer, tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    result = score(scorer, path)
    assert result.returncode == 1
    assert result.stderr == f"scorer: {message}\n"


# --- amplifier ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["amplifier.c", "amplifier.cpp"])
def amplifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("amplifier")
    model = save(folder / "model.safetensors", fastrnn.LSTM(1, 8, seed=0), 1)
    return build(EXAMPLES / "amplifier" / request.param, folder / "amplifier"), model


def play(amplifier, path, out):
    return run(amplifier[0], amplifier[0].parent / "model.safetensors", path, out)


def recording(samples, kind=1, extra=b""):
    """Return a WAV file of samples (T, C), int16 or float32."""
    bits, channels = 8 * samples.itemsize, samples.shape[1]
    frame = samples.itemsize * channels
    layout = struct.pack("<HHIIHH", kind, channels, 8000, 8000 * frame, frame, bits) + extra
    chunks = b"".join(
        name + struct.pack("<I", len(data)) + data + len(data) % 2 * b"\0"
        for name, data in ((b"LIST", b"odd"), (b"fmt ", layout), (b"data", samples.tobytes()))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def played(path):
    data = path.read_bytes()
    channels, bits = struct.unpack_from("<H", data, 22)[0], struct.unpack_from("<H", data, 34)[0]
    assert bits == 32
    return np.frombuffer(data, "<f4", offset=44).reshape(-1, channels)


@pytest.mark.parametrize("frames, channels", [(0, 1), (1, 2), (64, 1), (200, 3)])
@pytest.mark.parametrize("kind", ["int16", "float32", "extensible"])
def test_amplifier_is_the_model(amplifier, tmp_path, frames, channels, kind):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (frames, channels)).astype(np.float32)
    if kind == "int16":
        whole = (x * 32767).astype("<i2")
        data, x = recording(whole), whole.astype(np.float32) / 32768
    elif kind == "float32":
        data = recording(x, 3)
    else:
        data = recording(x, 0xFFFE, struct.pack("<HHIH", 22, 32, 0, 3) + bytes(14))
    (tmp_path / "in.wav").write_bytes(data)
    result = play(amplifier, tmp_path / "in.wav", tmp_path / "out.wav")
    assert (result.returncode, result.stderr) == (0, "")
    y = amplifier[1](x[..., None])[0][..., 0] if frames else x
    assert played(tmp_path / "out.wav").tobytes() == y.tobytes()


def test_amplifier_of_any_cut_recording(amplifier, tmp_path):
    """Whatever is left of a file: all its whole frames, or one line and no output."""
    data = recording(np.arange(20, dtype="<i2").reshape(10, 2))
    begin = len(data) - 40
    path, out = tmp_path / "in.wav", tmp_path / "out.wav"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        result = play(amplifier, path, out)
        if length < begin:
            assert result.returncode == 1
            assert result.stderr.count("\n") == 1
            assert str(path) in result.stderr
            assert not out.exists()
        else:
            assert (result.returncode, result.stderr) == (0, "")
            assert len(played(out)) == (length - begin) // 4


@pytest.mark.parametrize(
    "data, message",
    [
        (recording(np.zeros((4, 1), "i1")), "expected 16-bit or 32-bit float samples"),
        (recording(np.zeros((4, 0), "<i2")), "no channels, or a rate of 0"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "no format before its samples"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff", "no samples in it"),
    ],
)
def test_amplifier_refuses(amplifier, tmp_path, data, message):
    path = tmp_path / "in.wav"
    path.write_bytes(data)
    result = play(amplifier, path, tmp_path / "out.wav")
    assert result.returncode == 1
    assert result.stderr.endswith(f"{path}: {message}\n")
