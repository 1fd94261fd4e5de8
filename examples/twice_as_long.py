"""What attention is for: strings twice as long as any in training.

Two encoder-decoders of the same sizes learn to reverse strings of 3 to 8 different symbols; only
one of them has attention. Without it all that the decoder knows of a string is the encoder's last
state, which has learned to hold 15 symbols and not 30. With it the decoder looks up the neighbour
of the symbol it just wrote, at whatever place that is.

`python examples/twice_as_long.py` trains both for about half a minute and prints how many strings,
and how many of their symbols, each gets right.
"""

import time

import numpy as np

from fastrnn import (
    GRU,
    Embedding,
    EncoderDecoder,
    GeneralAttention,
    Linear,
    LuongDecoder,
    PlainDecoder,
    optim,
)

SYMBOLS = 26
START, END = SYMBOLS, SYMBOLS + 1


def make_batch(lengths, rng):
    """Return strings of different symbols (T, B) and, between START and END, their reverses."""
    longest = max(lengths)
    source = np.zeros((longest, len(lengths)), np.int64)
    target = np.full((longest + 2, len(lengths)), END)
    target[0] = START
    for row, length in enumerate(lengths):
        source[:length, row] = rng.permutation(SYMBOLS)[:length]
        target[1 : length + 1, row] = source[:length, row][::-1]
    return source, target


def build_model(attention, hidden, seed):
    rng = np.random.default_rng(seed)
    rnn = GRU(32, 2 * hidden, seed=rng)
    return EncoderDecoder(
        GRU(32, hidden, bidirectional=True, seed=rng),
        LuongDecoder(rnn, GeneralAttention(2 * hidden, 2 * hidden, seed=rng), seed=rng)
        if attention
        else PlainDecoder(rnn),
        Linear(2 * hidden, SYMBOLS + 2, seed=rng),
        Embedding(SYMBOLS, 32, seed=rng),
        Embedding(SYMBOLS + 2, 32, seed=rng),
    )


def train(model, steps, longest, rng):
    optimizer = optim.Adam(model)
    for step in range(1, steps + 1):
        optimizer.lr = 3e-3 * min(1.0, 2.0 * (1.0 - step / (steps + 1)))  # falls in the second half
        lengths = rng.integers(3, longest + 1, size=64)
        source, target = make_batch(lengths, rng)
        loss, pullback = model.loss_vjp(source, target, lengths, lengths + 2)
        model.zero_grad()
        pullback()
        optim.clip_grad_norm(model, 1.0)
        optimizer.step()
        if step % 250 == 0: print(step, loss)


def right(model, length, count, rng):
    """Return the shares of strings and of symbols that greedy decoding gets right."""
    source, target = make_batch([length] * count, rng)
    state, tokens, steps = model.start(source), target[0], []
    for _ in range(length + 1):
        logits, state = model.step(tokens, state)
        tokens = logits.argmax(axis=-1)
        steps.append(tokens)
    same = np.array(steps) == target[1:]
    return same.all(axis=0).mean(), same[:-1].mean()


def main(steps=1000, longest=8, hidden=64, count=500, seed=0):
    """Train both, print, and return their shares of right strings and symbols, long ones' last."""
    results = {}
    for name in ("without attention", "with attention"):
        rng = np.random.default_rng(seed)
        started = time.perf_counter()
        model = build_model(name == "with attention", hidden, seed)
        train(model, steps, longest, rng)
        results[name] = [right(model, n, count, rng) for n in (longest, 2 * longest)]
        print(f"{name}: {model.num_parameters()} weights, {time.perf_counter() - started:.0f} s")
    for name, shares in results.items():
        for length, (strings, symbols) in zip((longest, 2 * longest), shares, strict=True):
            print(f"{name}, length {length}: {strings:.1%} of strings, {symbols:.1%} of symbols")
    return results


if __name__ == "__main__":
    main()
