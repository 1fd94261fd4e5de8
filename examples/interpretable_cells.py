"""Interpretable cells: who follows quotes and brackets?
=====================================================

A character model learns a made-up language. Words differ inside quotations, inside brackets and
outside, but are spelt with the same letters, so no single character tells where one is: a model
that predicts well has to remember. After training, the cells of the LSTM are ranked by how well
each alone tells whether a character is inside; the same search in the model before training says
what any cells would give. A page shows the text coloured by the best. (Karpathy, Johnson & Fei-Fei
2016, "Visualizing and understanding recurrent networks".)
"""

import argparse
import random
from pathlib import Path

import numpy as np

from fastrnn import inspect, text

OUTSIDE = ["stone", "tale", "rates", "least", "below", "night", "parts", "steal", "large"]
QUOTED = ["notes", "late", "stare", "slate", "elbow", "thing", "strap", "least", "regal"]
BRACKETED = ["onset", "teal", "tears", "stale", "bowel", "traps", "lager", "night", "tones"]
PROPERTIES = ("quotes", "brackets")


def make_text(length: int, seed: int = 1) -> str:
    """Return words, quotations of 3 to 9 words, and brackets of 2 to 6 words that may nest."""
    rng = random.Random(seed)

    def bracket(depth: int) -> str:
        words = rng.choices(BRACKETED, k=rng.randint(2, 6))
        if depth < 2 and rng.random() < 0.4:
            words.insert(rng.randrange(len(words)), bracket(depth + 1))
        return "(" + " ".join(words) + ")"

    def phrase() -> str:
        kind = rng.random()
        if kind < 0.3:
            return '"' + " ".join(rng.choices(QUOTED, k=rng.randint(3, 9))) + '"'
        if kind < 0.6:
            return bracket(1)
        return " ".join(rng.choices(OUTSIDE, k=rng.randint(2, 8)))

    lines, line, total = [], "", 0
    while total < length:
        for word in phrase().split():
            line += word
            if len(line) > 50:
                lines.append(line)
                total += len(line) + 1
                line = ""
            else:
                line += " "
    return "\n".join(lines)


def search(model, vocabulary, content: str) -> dict[str, tuple[inspect.CellScore, str]]:
    """Return for each property the best cell and its name."""
    found = inspect.activations(model, vocabulary.encode(content))
    best = {}
    for name in PROPERTIES:
        score = inspect.find_cells(found.values, inspect.PROPERTIES[name](content), top=1)[0]
        best[name] = score, f"cell {found.units[score.cell][1]}"
    return best


def plot(shown: str, column, label: str) -> None:
    """Draw the text, line by line, on the colours of a cell's activations."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    lines = shown.split("\n")[:12]
    colors, start = np.full((len(lines), max(map(len, lines))), np.nan), 0
    _, axes = plt.subplots(figsize=(9, 3.6))
    for row, line in enumerate(lines):
        colors[row, : len(line)] = column[start : start + len(line)]
        start += len(line) + 1
        for place, character in enumerate(line):
            axes.text(place, row, character, ha="center", va="center", family="monospace")
    axes.imshow(colors, cmap="RdBu_r", vmin=-1.6, vmax=1.6, aspect="auto")
    axes.set_title(label, loc="left")
    axes.axis("off")
    plt.show()


def main(
    length: int = 400_000,
    unseen_length: int = 20_000,
    epochs: int = 6,
    hidden: int = 32,
    out: str | None = "cells.html",
    draw: bool = False,
) -> dict[str, tuple[float, float]]:
    """Print and return the held-out score of the best cell, trained and untrained."""
    recipe = text.Recipe(
        hidden=hidden, layers=1, seq_len=100, batch=32, epochs=epochs, lr=5e-3, clip=1.0
    )
    training = text.Training(make_text(length), recipe)
    unseen = make_text(unseen_length, seed=2)
    before = search(training.model, training.vocabulary, unseen)
    training.fit()
    after = search(training.model, training.vocabulary, unseen)
    shown = unseen[:4000]
    found = inspect.activations(training.model, training.vocabulary.encode(shown))
    values = found.values[:, [score.cell for score, _ in after.values()]]
    labels = [f"{name}: {cell} ({score.score:.3f})" for name, (score, cell) in after.items()]
    if out is not None:
        page = inspect.color_text(shown, values, labels, "Cells of a made-up language")
        Path(out).write_text(page, encoding="utf-8")
        print(f"Wrote {out}.")
    if draw:
        plot(shown, values[:, -1], labels[-1])
    print("Best cell on text that neither training nor the search has seen:")
    for name in PROPERTIES:
        (new, cell), (old, _) = after[name], before[name]
        print(f"  {name:8} AUC {new.score:.3f} ({cell}); untrained model {old.score:.3f}")
    return {name: (after[name][0].score, before[name][0].score) for name in PROPERTIES}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6, help="(default: 6)")
    parser.add_argument("--out", default="cells.html", help="default: cells.html")
    main(**vars(parser.parse_args()), draw=True)
