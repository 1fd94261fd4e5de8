"""Many to many, unaligned: lines of digits and CTC
================================================

Lines of handwritten digits are read without being told where each digit is. Each line is made of
three to eight of scikit-learn's bundled digits, stretched or squeezed, moved up or down, and put
next to each other with gaps or an overlap; there are new lines in each epoch. A bidirectional GRU
goes over a line, four columns of pixels at a time; the loss is ``ctc_loss``. It is measured on
lines of digits that it has never seen. Label errors are the edits (Levenshtein, 1966) that make the
right labels of those that were read, by the number of right labels. ::

    python examples/ctc_ocr.py
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits

import fastrnn
from fastrnn import data, decoding, losses, optim

HEIGHT = 10
WINDOW, STRIDE = 4, 2  # columns of pixels of a frame, and from one frame to the next
BLANK = 0  # digit d is class d + 1


def stretch(image, width):
    """Return an image (8, 8) with another width, by linear interpolation."""
    at = np.linspace(0, image.shape[1] - 1, width)
    left = np.minimum(at.astype(int), image.shape[1] - 2)
    part = at - left
    return image[:, left] * (1 - part) + image[:, left + 1] * part


def make_line(images, labels, rng):
    """Return the frames (T, HEIGHT * WINDOW) and the classes (S,) of some of the digits."""
    chosen = rng.integers(len(images), size=rng.integers(3, 9))
    canvas, end = np.zeros((HEIGHT, 14 * len(chosen) + 8)), rng.integers(2, 5)
    for index in chosen:
        digit = stretch(images[index], rng.integers(6, 12))
        top, left = rng.integers(0, 3), end + rng.integers(-1, 4)
        end = left + digit.shape[1]
        canvas[top : top + 8, left:end] += digit
    pixels = np.minimum(canvas[:, : end + 4], 1.0)
    pixels += rng.normal(0.0, 0.05, pixels.shape)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, WINDOW, axis=1)[:, ::STRIDE]
    frames = windows.swapaxes(0, 1).reshape(-1, HEIGHT * WINDOW)
    return (2.0 * frames - 0.6).astype(np.float32), labels[chosen] + 1


def make_lines(count, images, labels, rng):
    lines, targets = zip(*(make_line(images, labels, rng) for _ in range(count)), strict=True)
    return list(lines), list(targets)


def pad(lines):
    return data.pad_sequence(lines), np.array([len(line) for line in lines])


def edits(got, want):
    """Return the fewest insertions, deletions and substitutions from one sequence to the other."""
    row = np.arange(len(want) + 1)
    for n, label in enumerate(got, 1):
        above, row = row, np.full_like(row, n)
        for m in range(1, len(row)):
            change = above[m - 1] + (want[m - 1] != label)
            row[m] = min(above[m] + 1, row[m - 1] + 1, change)
    return int(row[-1])


def train(model, optimizer, lines, targets, batch):
    """Train on the lines once, in their order; return the mean loss."""
    total = 0.0
    for first in range(0, len(lines), batch):
        x, lengths = pad(lines[first : first + batch])
        y = targets[first : first + batch]
        (logits, _), pullback = model.vjp(x, lengths=lengths)
        loss, d_logits = losses.ctc_loss(
            logits, np.concatenate(y), lengths, [len(labels) for labels in y], BLANK
        )
        optimizer.zero_grad()
        pullback(d_logits)
        optim.clip_grad_norm(model.parameters(), 5.0)
        optimizer.step()
        total += loss * len(y)
    return total / len(lines)


def error_rates(model, lines, targets):
    """Return the label error rates of the best path and of the prefix search."""
    x, lengths = pad(lines)
    logits, _ = model(x, lengths=lengths)
    best_path = decoding.ctc_greedy(logits, lengths, BLANK)
    prefix = decoding.ctc_prefix_beam_search(logits, lengths, BLANK, beam_width=8)
    read = (best_path.tokens, best_path.lengths), (prefix.tokens[:, 0], prefix.lengths[:, 0])
    return tuple(
        sum(edits(row[:n], y) for row, n, y in zip(tokens, counts, targets, strict=True))
        / sum(map(len, targets))
        for tokens, counts in read
    )


def plot(model, lines, targets):
    """Draw some lines, and below each what the model takes each frame for."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    figure, axes = plt.subplots(2 * len(lines), 1, figsize=(8, 1.9 * len(lines)))
    for line, labels, image, heat in zip(lines, targets, axes[::2], axes[1::2], strict=True):
        pixels = line.reshape(len(line), HEIGHT, WINDOW)[:, :, :STRIDE]
        image.imshow(pixels.swapaxes(0, 1).reshape(HEIGHT, -1), cmap="gray_r", aspect="auto")
        image.axis("off")
        logits, _ = model(line[:, None])
        read = decoding.ctc_greedy(logits, None, BLANK).tokens[0] - 1
        image.set_title(f"is {labels - 1}, read {read}", fontsize=9)
        shares = np.exp(logits[:, 0] - logits[:, 0].max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        heat.imshow(shares.T, cmap="Blues", aspect="auto", vmin=0, vmax=1)
        heat.set_yticks(range(0, 11, 2), ["blank", "1", "3", "5", "7", "9"], fontsize=6)
        heat.set_xticks([])
    figure.suptitle("Lines, and below each the probabilities of the digits at each frame")
    plt.show()


def main(epochs=12, lines=1500, test_lines=400, hidden=48, batch=10, lr=5e-3, seed=1, draw=False):
    """Train, print, and return the label error rates of best path and prefix search."""
    rng = np.random.default_rng(seed)
    digits = load_digits()
    images, labels = digits.images / 16.0, digits.target
    order = rng.permutation(len(images))
    known, unseen = order[:1400], order[1400:]
    model = fastrnn.Sequential(
        fastrnn.GRU(HEIGHT * WINDOW, hidden, bidirectional=True, seed=seed),
        fastrnn.Linear(2 * hidden, 11, seed=seed),
    )
    optimizer = optim.Adam(model.parameters(), lr=lr)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        optimizer.lr = lr * min(1.0, 2.0 * (1.0 - (epoch - 1) / epochs))
        loss = train(model, optimizer, *make_lines(lines, images[known], labels[known], rng), batch)
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch}/{epochs}: loss {loss:.3f} nats per label, {seconds:.1f} s", flush=True
        )
    test, right = make_lines(test_lines, images[unseen], labels[unseen], rng)
    best_path, prefix = error_rates(model, test, right)
    print(f"{test_lines} lines of {sum(map(len, right)):,} digits that were not trained on:")
    print(f"label error rate {best_path:.2%} by best path, {prefix:.2%} by prefix search")
    if draw:
        plot(model, test[:3], right[:3])
    return best_path, prefix


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=12, help="default: 12")
    parser.add_argument("--hidden", type=int, default=48, help="units each way (default: 48)")
    arguments = parser.parse_args()
    fastrnn.set_num_threads(1)  # a second one gains little here, and loses much on busy cores
    main(**vars(arguments), draw=True)
