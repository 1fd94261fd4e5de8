"""Train an LSTM to sound like an amplifier, for amplifier.c and amplifier.cpp.

    python train.py --out FOLDER    (about a minute; --quick: seconds, and sounds like it)

The amplifier is made up: coupling capacitor, pre-gain, a supply that sags under load, asymmetric
clipping, tone filters, a second stage. The network hears what goes in and what comes out, nothing
else, as in Wright, Damskägg, Juvela & Välimäki 2020, "Real-time guitar amplifier emulation with
deep learning", from which the loss and the measure come: the error-to-signal ratio (ESR).

Written to FOLDER: model.safetensors; input.wav, a stereo recording that was not trained on;
target.wav, what the amplifier makes of it.
"""

import argparse
import wave
from pathlib import Path

import numpy as np

import fastrnn

RATE = 44100
SEGMENT, ROWS = RATE // 2, 20  # samples in a row, and so many of these side by side
WARM_UP, WINDOW = 1024, 256  # samples until the state is that of the signal; of a step


def string(rng, pitch, count):
    """Return a plucked string after Karplus & Strong 1983: noise that a loop makes duller."""
    period = round(RATE / pitch)
    wave, rounds = rng.uniform(-1, 1, period), []
    for _ in range(count // period + 1):
        rounds.append(wave)
        wave = 0.498 * (wave + np.roll(wave, 1))
    return np.concatenate(rounds)[:count]


def plucked(rng, seconds):
    """Return a recording of a guitar: plucked strings, alone and in chords, and last a sweep."""
    t = np.arange(int(seconds * RATE)) / RATE
    signal = np.zeros_like(t)
    for start in range(0, len(t), RATE // 4):
        note = signal[start : start + RATE]  # a view
        lowest = 82.4 * 2 ** (rng.integers(0, 24) / 12)
        for semitone in rng.choice([0, 4, 7, 12], size=rng.integers(0, 4), replace=False):
            loudness = 0.4 * rng.uniform(0.1, 1) * np.minimum(1, np.arange(len(note)) / 100)
            note += loudness * string(rng, lowest * 2 ** (semitone / 12), len(note))
    sweep = rng.uniform(0.1, 0.9) * np.sin(2 * np.pi * 40 * seconds / 7 * 2 ** (7 * t / seconds))
    last = slice(int(0.92 * len(t)), None)
    signal[last] = sweep[last]
    return np.clip(signal, -1, 1)


def low_pass(x, cutoff):
    """Return x behind a filter of first order, as its impulse response says."""
    decay = np.exp(-2 * np.pi * cutoff / RATE)
    taps = (1 - decay) * decay ** np.arange(min(len(x), int(-20 / np.log(decay)) + 1))
    n = 1 << (len(x) + len(taps)).bit_length()
    return np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(taps, n), n)[: len(x)]


def amplifier(x):
    """Return what the amplifier makes of x."""
    x = x - low_pass(x, 60)  # no direct current through the capacitor
    sag = low_pass(np.abs(x), 8)
    x = 10 * x / (1 + 4 * sag)
    x = np.tanh(x + 0.4) - np.tanh(0.4)  # one half-wave clips sooner than the other
    x = low_pass(x, 4500) + 0.3 * (x - low_pass(x, 1200))
    return 0.8 * np.tanh(1.2 * x)


def emphasis(x, coefficient=0.85):
    """Return x[t] - 0.85 x[t - 1], louder where ears are sharper."""
    return x[1:] - coefficient * x[:-1]


def loss_and_gradient(y, target):
    """Return the ESR of a window, emphasised and with its direct current, and its gradient."""
    energy = np.mean(emphasis(target) ** 2) + 1e-5
    error, direct = y - target, np.mean(y - target, axis=0, keepdims=True)
    sharp = emphasis(error)
    loss = np.mean(sharp**2) / energy + np.mean(direct**2) / energy
    gradient = np.zeros_like(y)
    gradient[1:] += 2 / sharp.size / energy * sharp
    gradient[:-1] -= 0.85 * 2 / sharp.size / energy * sharp
    gradient += 2 / y.size / energy * direct
    return loss, gradient


def esr(y, target):
    """Return the error-to-signal ratio."""
    return np.sum((y - target) ** 2) / np.sum(target**2)


def train(model, x, target, epochs, rng):
    """Train on segments of x, ROWS at a time, window by window with the state carried over."""
    count = len(x) // SEGMENT
    cut = [a[: count * SEGMENT].reshape(count, SEGMENT).T[..., None] for a in (x, target)]
    x, target = (np.ascontiguousarray(a, np.float32) for a in cut)  # (T, B, 1)
    optimizer = fastrnn.optim.Adam(model)
    starts = range(WARM_UP, SEGMENT - WINDOW + 1, WINDOW)
    for epoch in range(epochs):
        losses = []
        optimizer.lr = 0.01 * min(1, 2 * (1 - epoch / epochs))
        for rows in np.array_split(rng.permutation(count), max(1, count // ROWS)):
            _, state = model(x[:WARM_UP, rows])
            for window in (slice(start, start + WINDOW) for start in starts):
                (y, state), pullback = model.vjp(x[window][:, rows], state)
                loss, gradient = loss_and_gradient(y, target[window][:, rows])
                model.zero_grad()
                pullback(gradient)
                fastrnn.optim.clip_grad_norm(model, 1.0)
                optimizer.step()
                losses.append(loss)
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}", flush=True)


def write_wav(path, signal):
    """Write channels (T, C) as 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(signal.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.rint(32768 * signal), -32768, 32767).astype("<i2").tobytes())


def draw(path, x, target, y):
    """Draw 15 ms of a loud note, over time and as output over input."""
    import matplotlib.pyplot as plt

    count = 15 * RATE // 1000
    late = range(RATE // 5, 7 * RATE, RATE // 4)  # of each pluck, when its noise is gone
    start = max(late, key=lambda at: np.sum(x[at : at + count] ** 2))
    x, target, y = (signal[start : start + count] for signal in (x, target, y))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.2), width_ratios=(3, 1), layout="constrained"
    )
    t = np.arange(count) / RATE * 1000
    left.plot(t, x, color="0.7", label="into the amplifier")
    for axes, over in ((left, t), (right, x)):
        axes.plot(over, target, color="C0", linewidth=4, alpha=0.5, label="out of it")
        axes.plot(over, y, color="k", linewidth=0.8, label="out of the network")
    left.set(xlabel="ms")
    left.legend(loc="upper right", bbox_to_anchor=(1, 1.17), ncols=3, frameon=False)
    right.set(xlabel="in", ylabel="out")
    figure.savefig(path, dpi=100)
    print(f"figure: {path}")


def main(out, hidden=32, quick=False, seed=0, plot=None):
    """Train, write the files and return the ESR on what was not trained on."""
    rng = np.random.default_rng(seed)
    x = plucked(rng, 30)
    model = fastrnn.Sequential(
        fastrnn.LSTM(1, hidden, seed=seed), fastrnn.Linear(hidden, 1, seed=seed)
    )
    train(model, x, amplifier(x), 4 if quick else 16, rng)
    held_out = np.stack([plucked(rng, 8) for _ in range(2)], axis=1)
    target = np.stack([amplifier(channel) for channel in held_out.T], axis=1)
    y = model(held_out[..., None].astype(np.float32))[0][..., 0]
    ratio = esr(y, target)
    print(f"held-out recording: ESR {ratio:.2%} ({10 * np.log10(ratio):.1f} dB)")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fastrnn.save(model, out / "model.safetensors", {"sample_rate": RATE, "esr": float(ratio)})
    write_wav(out / "input.wav", held_out)
    write_wav(out / "target.wav", target)
    if plot:
        draw(plot, held_out[:, 0], target[:, 0], y[:, 0])
    print(f"written: model.safetensors, input.wav, target.wav in {out}")
    return ratio


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default=".", help="folder for model and recordings")
    parser.add_argument("--hidden", type=int, default=32, help="(default: 32)")
    parser.add_argument("--plot", metavar="FILE", help="draw what it learned (needs matplotlib)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first try")
    main(**vars(parser.parse_args()))
