"""What attention is for: strings twice as long as any in training
===============================================================

Three encoder-decoders of about the same size learn to reverse strings of 2 to 10 different letters.
The first has no attention: all that its decoder knows of a string is the encoder's last state, and
what that has learned to hold is 10 letters, not 20. It gets five times as many steps, as it learns
slowly. The second attends after the recurrent layer (Luong), the third also feeds what it read back
as an input: it knows where it looked last, and finds the neighbour wherever that is.

``python examples/twice_as_long.py`` trains for about a minute and prints how many strings, and how
many of their letters, each gets right.
"""

import argparse
import time

import numpy as np

from fastrnn import (
    GRU,
    Embedding,
    EncoderDecoder,
    GeneralAttention,
    InputFeedingDecoder,
    Linear,
    LuongDecoder,
    PlainDecoder,
    optim,
)

LETTERS = 26
START, END = LETTERS, LETTERS + 1
STEPS = {"without attention": 5, "attention": 1, "input feeding": 1}  # times those of main


def make_batch(lengths, rng):
    """Return strings of different letters (T, B) and, between START and END, their reverses."""
    longest = max(lengths)
    source = np.zeros((longest, len(lengths)), np.int64)
    target = np.full((longest + 2, len(lengths)), END)
    target[0] = START
    for row, length in enumerate(lengths):
        source[:length, row] = rng.permutation(LETTERS)[:length]
        target[1 : length + 1, row] = source[:length, row][::-1]
    return source, target


def build_model(kind, hidden, seed):
    rng = np.random.default_rng(seed)
    size = 2 * hidden
    if kind == "without attention":
        decoder = PlainDecoder(GRU(32, size, seed=rng))
    elif kind == "attention":
        decoder = LuongDecoder(
            GRU(32, size, seed=rng), GeneralAttention(size, size, seed=rng), seed=rng
        )
    else:
        decoder = InputFeedingDecoder(
            GRU(32 + size, size, seed=rng), GeneralAttention(size, size, seed=rng), seed=rng
        )
    return EncoderDecoder(
        GRU(32, hidden, bidirectional=True, seed=rng),
        decoder,
        Linear(size, LETTERS + 2, seed=rng),
        Embedding(LETTERS, 32, seed=rng),
        Embedding(LETTERS + 2, 32, seed=rng),
    )


def train(model, steps, longest, rng):
    optimizer = optim.Adam(model)
    for step in range(1, steps + 1):
        optimizer.lr = 3e-3 * min(1.0, 2.0 * (1.0 - step / (steps + 1)))  # falls in the second half
        lengths = rng.integers(2, longest + 1, size=64)
        source, target = make_batch(lengths, rng)
        _, pullback = model.loss_vjp(source, target, lengths, lengths + 2)
        model.zero_grad()
        pullback()
        optim.clip_grad_norm(model, 1.0)
        optimizer.step()


def right(model, length, count, rng):
    """Return the shares of strings and of letters that greedy decoding gets right."""
    source, target = make_batch([length] * count, rng)
    state, tokens, steps = model.start(source), target[0], []
    for _ in range(length + 1):
        logits, state = model.step(tokens, state)
        tokens = logits.argmax(axis=-1)
        steps.append(tokens)
    same = np.array(steps) == target[1:]
    return same.all(axis=0).mean(), same[:-1].mean()


def plot(results, longest):
    """Draw the shares of right letters of each model, for both lengths."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    _, axes = plt.subplots(figsize=(7, 3.6))
    for index, (length, color) in enumerate(((longest, "tab:blue"), (2 * longest, "tab:orange"))):
        letters = [100 * shares[index][1] for shares in results.values()]
        places = np.arange(len(results)) + 0.4 * index - 0.2
        bars = axes.bar(places, letters, 0.38, color=color, label=f"strings of {length}")
        axes.bar_label(bars, fmt="%.0f%%")
    axes.set_xticks(range(len(results)), results)
    axes.set(
        ylabel="letters right in %", ylim=(0, 110), title=f"Trained on strings up to {longest}"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.show()


def main(steps=600, longest=10, hidden=64, count=500, seed=0, draw=False):
    """Train, print, and return the shares of right strings and letters, of both lengths."""
    results = {}
    for kind, times in STEPS.items():
        rng = np.random.default_rng(seed)
        started = time.perf_counter()
        model = build_model(kind, hidden, seed)
        train(model, times * steps, longest, rng)
        results[kind] = [right(model, n, count, rng) for n in (longest, 2 * longest)]
        seconds = time.perf_counter() - started
        print(f"{kind}: {model.num_parameters()} weights, {times * steps} steps, {seconds:.0f} s")
    for index, length in enumerate((longest, 2 * longest)):
        for kind, shares in results.items():
            strings, letters = shares[index]
            print(f"length {length}, {kind}: {strings:.1%} of strings, {letters:.1%} of letters")
    if draw:
        plot(results, longest)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="(default: 600)")
    main(**vars(parser.parse_args()), draw=True)
