"""Many to many: dates in words to ISO dates
=========================================

Letter by letter, with an encoder-decoder and attention::

    the fourteenth of july nineteen eighty nine  ->  1989-07-14

``python examples/dates.py`` trains for some 20 seconds and prints the share of held-out dates
that come out right in all ten characters. Days of the test set are in no example of the training,
in whatever format.
"""

import datetime
import string
import time

import numpy as np

from fastrnn import LSTM, Embedding, EncoderDecoder, GeneralAttention, Linear, LuongDecoder, optim
from fastrnn.data import pad_sequence

SOURCE = " ,'" + string.digits + string.ascii_letters  # ids from 1 on; 0 is padding
TARGET = string.digits + "-^$"  # ^ starts, $ ends
START = TARGET.index("^")

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ONES += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"]
ONES += ["eighteen", "nineteen"]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
IRREGULAR = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}


def number(n):
    """Return 0 to 99 in words."""
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")


def ordinal(n):
    """Return 1 to 31 in words: first, ..., thirty first."""
    *tens, last = number(n).split()
    return " ".join([*tens, IRREGULAR.get(last, last + "th")])


def short_ordinal(n):
    """Return 1st, 2nd, ..., 31st."""
    return f"{n}{'th' if n // 10 == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def year_in_words(year, rng):
    """Return one of the ways to say a year from 1900 to 2099."""
    hundreds, rest = divmod(year, 100)
    if hundreds == 20 and (rest < 10 or rng.random() < 0.3):
        joint = " and " if rng.random() < 0.5 else " "
        return "two thousand" + (joint + number(rest) if rest else "")
    if rest == 0:
        return number(hundreds) + " hundred"
    return number(hundreds) + (" oh " if rest < 10 else " ") + number(rest)


def in_words(day, rng):
    """Return a day (datetime.date) in one of eight formats."""
    d, month, year = day.day, day.strftime("%B"), year_in_words(day.year, rng)
    text = (
        f"the {ordinal(d)} of {month} {year}",
        f"{month} the {ordinal(d)}, {year}",
        f"{ordinal(d)} {month} {year}",
        f"{day:%A}, {month} {short_ordinal(d)}, {day.year}",
        f"{day:%a} {d} {day:%b} {day.year}",
        f"{day:%b} {d}, '{day.year % 100:02d}" if day.year >= 2000 else f"{month} {d}, {day.year}",
        f"the {short_ordinal(d)} day of {month} in the year {year}",
        f"{day:%A} the {ordinal(d)} of {month}, {day.year}",
    )[rng.integers(8)]
    return text.lower() if rng.random() < 0.5 else text


def make_batch(days, rng):
    """Return source (T, B), lengths (B,) and target (12, B) of some days, and their texts."""
    texts = [in_words(day, rng) for day in days]
    source = [np.array([SOURCE.index(c) + 1 for c in text]) for text in texts]
    target = [[TARGET.index(c) for c in f"^{day}$"] for day in days]
    return pad_sequence(source), [len(s) for s in source], np.array(target).T, texts


def build_model(hidden=64, seed=0):
    rng = np.random.default_rng(seed)
    decoder = LuongDecoder(
        LSTM(16, 2 * hidden, seed=rng), GeneralAttention(2 * hidden, 2 * hidden, seed=rng), seed=rng
    )
    return EncoderDecoder(
        LSTM(32, hidden, bidirectional=True, seed=rng),
        decoder,
        Linear(2 * hidden, len(TARGET), seed=rng),
        Embedding(len(SOURCE) + 1, 32, seed=rng),
        Embedding(len(TARGET), 16, seed=rng),
    )


def translate(model, source, lengths):
    """Return the most probable characters, one after the other, as ISO dates."""
    state, tokens = model.start(source, lengths), np.full(len(lengths), START)
    steps = []
    for _ in range(len("2000-01-01")):
        logits, state = model.step(tokens, state)
        tokens = logits.argmax(axis=-1)
        steps.append(tokens)
    return ["".join(TARGET[token] for token in row) for row in np.transpose(steps)]


def plot(model, day, text):
    """Draw where the decoder looks in the text while it writes the date."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    source = np.array([SOURCE.index(c) + 1 for c in text])[:, None]
    inputs = np.array([TARGET.index(c) for c in f"^{day}"])[:, None]
    _, weights = model(source, inputs)  # (T, 1, T_s)
    _, axes = plt.subplots(figsize=(9, 3.4))
    axes.imshow(weights[:, 0], cmap="Blues", aspect="auto", vmin=0, vmax=1)
    axes.set_xticks(range(len(text)), text, family="monospace")
    axes.set_yticks(range(len(inputs)), [*str(day), "end"], family="monospace")
    axes.set(xlabel="read", ylabel="written", title="Where the decoder looks for each character")
    plt.show()


def main(steps=500, batch=64, test=2000, seed=0, draw=False):
    """Train, print, and return the shares of right dates and right characters."""
    rng = np.random.default_rng(seed)
    first = datetime.date(1900, 1, 1).toordinal()
    days = first + rng.permutation(datetime.date(2100, 1, 1).toordinal() - first)
    days = [datetime.date.fromordinal(int(day)) for day in days]
    held_out, days = days[:test], days[test:]

    model = build_model(seed=seed)
    optimizer = optim.Adam(model, lr=3e-3)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.lr = 3e-3 * min(1.0, 2.0 * (1.0 - step / (steps + 1)))  # falls in the second half
        chosen = [days[i] for i in rng.integers(len(days), size=batch)]
        source, lengths, target, _ = make_batch(chosen, rng)
        loss, pullback = model.loss_vjp(source, target, lengths)
        model.zero_grad()
        pullback()
        optim.clip_grad_norm(model, 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.4f}, {time.perf_counter() - started:.0f} s")

    source, lengths, _, texts = make_batch(held_out, rng)
    guesses = translate(model, source, lengths)
    for text, guess in list(zip(texts, guesses, strict=True))[:8]:
        print(f"{text:>60}  ->  {guess}")
    wanted = [str(day) for day in held_out]
    exact = np.mean([a == b for a, b in zip(guesses, wanted, strict=True)])
    characters = np.mean([a == b for a, b in zip("".join(guesses), "".join(wanted), strict=True)])
    print(f"right characters of {test} held-out dates: {characters:.2%}")
    print(f"exact match of {test} held-out dates: {exact:.2%}")
    if draw:
        plot(model, datetime.date(1989, 7, 14), "the fourteenth of july nineteen eighty nine")
    return exact, characters


if __name__ == "__main__":
    main(draw=True)
