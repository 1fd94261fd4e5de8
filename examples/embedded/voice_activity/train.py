"""Train a GRU that tells frame by frame whether someone speaks, for vad.cpp.

    python train.py --out FOLDER    (half a minute; --quick: seconds)

Speech is made up: voiced sounds (harmonics of a gliding pitch under moving formants) and hisses, in
words with pauses. Over it lie noise, hum, beeps and clicks at 0 to 20 dB. The model takes log-mel
frames, `features` here and in features.hpp, and gives the probability of speech.

Written to FOLDER: model.safetensors; speech.wav, a recording that was not trained on; labels.csv,
where there is speech in it.
"""

import argparse
import wave
from pathlib import Path

import numpy as np

import fastrnn

RATE, WINDOW, HOP, BANDS = 8000, 256, 128, 20  # 16 ms from frame to frame
SECONDS = 16  # of a recording


def filter_bank():
    """Return triangles (bands, bins) between 100 and 3800 Hz, evenly spaced in mel."""
    edges = 700 * np.expm1(np.linspace(np.log1p(100 / 700), np.log1p(3800 / 700), BANDS + 2))
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    left, centre, right = (edges[i : i + BANDS, None] for i in range(3))
    up, down = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0, np.minimum(up, down))


def features(signal):
    """Return a frame of log10 energies (T, bands) for each HOP samples, float32."""
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(float), WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    return np.log10(power @ filter_bank().T + 1e-4).astype(np.float32)


def glide(rng, low, high, count, every=0.1):
    """Return a curve that wanders between two values."""
    marks = np.arange(0, count + every * RATE, every * RATE)
    return np.interp(np.arange(count), marks, rng.uniform(low, high, len(marks)))


def coloured(rng, count, exponent, low=0):
    """Return noise of deviation 1 whose power falls with frequency, above a limit in Hz."""
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count)) / np.maximum(frequency, 20) ** exponent
    noise = np.fft.irfft(spectrum * (frequency >= low), count)
    return noise / noise.std()


def voiced(rng, count):
    """Return a vowel that changes on its way."""
    pitch = rng.uniform(90, 230) * glide(rng, 0.85, 1.15, count)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = [glide(rng, *limits, count) for limits in ((250, 850), (850, 2300), (2300, 3400))]
    sound = np.zeros(count)
    for k in range(1, 36):
        gain = sum(1 / (1 + ((k * pitch - formant) / 90) ** 2) for formant in formants)
        sound += (k * pitch < 3900) * gain / np.sqrt(k) * np.sin(k * phase)
    return sound


def word(rng):
    """Return one to four syllables."""
    parts = []
    for _ in range(rng.integers(1, 5)):
        if rng.random() < 0.6:
            parts.append(0.15 * coloured(rng, rng.integers(400, 1000), 0, low=1800))
        parts.append(voiced(rng, rng.integers(800, 2400)))
    faded = [part * np.minimum(1, 8 * np.sin(np.linspace(0, np.pi, len(part)))) for part in parts]
    return rng.uniform(0.3, 1) * np.concatenate(faded)


def speech(rng):
    """Return words with pauses, and where they are, both (samples,)."""
    signal, spoken = np.zeros(SECONDS * RATE), np.zeros(SECONDS * RATE, bool)
    at = rng.integers(0, RATE)
    while True:
        sound = word(rng)
        if at + len(sound) > len(signal):
            return signal / signal[spoken].std(), spoken
        signal[at : at + len(sound)] = sound
        spoken[at : at + len(sound)] = True
        at += len(sound) + rng.integers(RATE // 5, 2 * RATE)


def disturbance(rng):
    """Return noise, hum, beeps and clicks of deviation 1 together."""
    count = SECONDS * RATE
    t = np.arange(count) / RATE
    noise = coloured(rng, count, rng.uniform(0, 1)) * (1 + 0.5 * glide(rng, -1, 1, count, 0.5))
    for k in range(1, 8):
        noise += rng.uniform(0, 0.8) / k * np.sin(2 * np.pi * k * rng.choice([50, 60]) * t)
    for start in rng.integers(0, count - RATE, rng.integers(0, 8)):
        part = slice(start, start + rng.integers(500, RATE))
        noise[part] += rng.uniform(1, 3) * np.sin(2 * np.pi * rng.uniform(300, 3000) * t[part])
    noise[rng.integers(0, count, rng.integers(0, 20))] += rng.uniform(-20, 20)
    return noise / noise.std()


def recording(rng):
    """Return speech in noise, within -1 and 1, and for each frame whether half of it is speech."""
    signal, spoken = speech(rng)
    signal = signal + disturbance(rng) * 10 ** (-rng.uniform(0, 20) / 20)
    signal *= rng.uniform(0.1, 0.9) / np.abs(signal).max()
    frames = np.lib.stride_tricks.sliding_window_view(spoken, WINDOW)[::HOP]
    return signal, frames.mean(axis=1) > 0.5


def cross_entropy(logits, targets, mask=None):
    """Return the mean of -log p of what is so, and its gradient; p is the logits' sigmoid."""
    sign = np.where(targets, 1, -1).astype(logits.dtype)
    loss = np.logaddexp(0, -sign * logits).mean()
    return loss, -sign / (1 + np.exp(sign * logits)) / logits.size


def area_under_curve(scores, labels):
    """Return the probability that a frame of speech scores higher than another one."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = labels.sum()
    return (ranks[labels].sum() / positive - (positive + 1) / 2) / (len(labels) - positive)


def write_wav(path, signal):
    """Write one channel as 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(32767 * signal).astype("<i2").tobytes())


def main(out, quick=False, seed=0):
    """Train, write the files and return area under the curve and accuracy."""
    rng = np.random.default_rng(seed)
    data = [recording(rng) for _ in range(30 if quick else 120)]
    x = np.stack([features(signal) for signal, _ in data])  # (N, T, bands)
    labels = np.stack([spoken for _, spoken in data])[..., None]
    body = [fastrnn.GRU(BANDS, 32, seed=seed), fastrnn.Linear(32, 1, seed=seed)]
    logits = fastrnn.Sequential(*body)
    optimizer = fastrnn.optim.Adam(logits, lr=0.01)
    trainer = fastrnn.Trainer(logits, cross_entropy, optimizer, clip_norm=1.0)
    trainer.fit((x, labels), batch_size=4, epochs=6 if quick else 15, progress=False)
    model = fastrnn.Sequential(*body, fastrnn.Sigmoid())
    held_out = [recording(rng) for _ in range(10)]
    scores = np.concatenate([model(features(signal)[:, None])[0].ravel() for signal, _ in held_out])
    spoken = np.concatenate([each for _, each in held_out])
    area, accuracy = area_under_curve(scores, spoken), np.mean((scores > 0.5) == spoken)
    print(f"{len(spoken)} held-out frames, {spoken.mean():.0%} of them speech")
    print(f"area under the ROC curve {area:.4f}, {accuracy:.1%} right")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fastrnn.save(model, out / "model.safetensors", {"sample_rate": RATE, "hop": HOP})
    write_wav(out / "speech.wav", held_out[0][0])
    np.savetxt(out / "labels.csv", held_out[0][1], fmt="%d", header="speech", comments="")
    print(f"written: model.safetensors, speech.wav, labels.csv in {out}")
    return area, accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default=".", help="folder for model and recording")
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs")
    main(**vars(parser.parse_args()))
