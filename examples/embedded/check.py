"""Compare what the examples wrote with what Python makes of the same files, bit for bit.

Usage: python check.py FOLDER, that of run.sh
"""

import runpy
import struct
import sys
import wave
from pathlib import Path

import numpy as np

import fastrnn


def read_pcm(path):
    """Return the samples (T, C) of a 16-bit recording, as wav.h reads them."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels()).astype(np.float32) / 32768


def read_float(path):
    """Return the samples (T, C) of a recording that wav.h wrote."""
    data = path.read_bytes()
    kind, channels = struct.unpack_from("<HH", data, 20)
    bits, size = struct.unpack_from("<H", data, 34)[0], struct.unpack_from("<I", data, 40)[0]
    expect((kind, bits, len(data) - 44) == (3, 32, size), f"{path}: not what wav.h writes")
    return np.frombuffer(data, "<f4", offset=44).reshape(-1, channels)


def expect(condition, problem):
    """End the program where a condition does not hold."""
    if not condition:
        sys.exit(f"check.py: {problem}")


def expect_same(name, got, expected):
    """End the program where two arrays of float32 are not the same bits."""
    expect(got.shape == expected.shape, f"{name}: {got.shape} instead of {expected.shape}")
    bits = [np.ascontiguousarray(a, np.float32).view(np.uint32) for a in (got, expected)]
    different = int((bits[0] != bits[1]).sum())
    expect(different == 0, f"{name}: {different} of {got.size} values differ")
    print(f"{name}: {got.size} values, the same bits as Python's")


def check_amplifier(folder):
    """Both programs gave the bits of the model, and these sound like the amplifier."""
    model = fastrnn.load(folder / "model.safetensors")
    y = model(read_pcm(folder / "input.wav")[..., None])[0][..., 0]
    for name in ("output.wav", "output_cpp.wav"):
        expect_same(f"amplifier/{name}", read_float(folder / name), y)
    target = read_pcm(folder / "target.wav")
    ratio = np.sum((y - target) ** 2) / np.sum(target**2)
    print(f"amplifier: error-to-signal ratio {ratio:.2%}")
    expect(ratio < 0.1, f"amplifier: an error-to-signal ratio of {ratio}")


def check_voice_activity(folder):
    """The features are those of train.py but for rounding, and the probabilities the model's."""
    training = runpy.run_path(str(Path(__file__).parent / "voice_activity" / "train.py"))
    expected = training["features"](read_pcm(folder / "speech.wav")[:, 0])
    spoken = np.loadtxt(folder / "labels.csv", skiprows=1, dtype=bool)
    for precision in ("float32", "bf16", "int8"):
        model = fastrnn.load(folder / "model.safetensors")
        if precision != "float32":
            model = fastrnn.quantize(model, precision)
        frames = np.loadtxt(folder / f"frames_{precision}.csv", delimiter=",", dtype=np.float32)
        energies, scores = frames[:, :-1], frames[:, -1]
        worst = np.abs(energies - expected).max()
        expect(worst < 1e-5, f"voice_activity: features differ by {worst}")
        expect_same(
            f"voice_activity/frames_{precision}.csv", scores, model(energies[:, None])[0].ravel()
        )
        right = np.mean((scores > 0.5) == spoken)
        print(f"voice_activity: {right:.1%} of frames right")
        expect(right > 0.85, f"voice_activity: {right:.1%} of frames right")


def check_scorer(folder):
    """Scores are those of train.py to the last digit."""
    expected = (folder / "expected.csv").read_text(encoding="utf-8")
    for name in ("scores.csv", "scores_cc.csv"):
        expect((folder / name).read_text(encoding="utf-8") == expected, f"scorer/{name} differs")
    print(f"scorer: {len(expected.splitlines()) - 1} sequences, the same digits as Python's")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    check_amplifier(root / "amplifier")
    check_voice_activity(root / "voice_activity")
    check_scorer(root / "scorer")
