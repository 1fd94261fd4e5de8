"""One to many: an image in, a word out
====================================

Digits are read and spelled, letter by letter::

    python examples/one_to_many.py       (needs scikit-learn, for its bundled digits)

The image becomes the first state of a GRU that writes. In training it is given the letters it
should have written so far; afterwards it goes on from its own.
"""

import numpy as np
from sklearn.datasets import load_digits

import fastrnn
from fastrnn import data, losses, optim

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = ["<end>", *sorted(set("".join(NAMES)))]  # <end> also stands before the first letter
END = 0
LONGEST = max(map(len, NAMES)) + 2


def load(seed: int = 0):
    """Return training and test images (N, 64), values from 0 to 1, and their digits (N,)."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, digits = (images[order] / 16).astype(np.float32), digits[order]
    return images[:1300], digits[:1300], images[1300:], digits[1300:]


class Speller:
    """An encoder, from images to states, and a decoder, from letters to the next."""

    def __init__(self, hidden: int = 96) -> None:
        self.encoder = fastrnn.Sequential(
            fastrnn.Linear(64, hidden, seed=1), fastrnn.Tanh(), fastrnn.Dropout(0.2, seed=2)
        )
        self.decoder = fastrnn.Sequential(
            fastrnn.GRU(len(LETTERS), hidden, seed=3), fastrnn.Linear(hidden, len(LETTERS), seed=4)
        )
        self.parameters = {
            f"{part}.{name}": parameter
            for part, layer in (("encoder", self.encoder), ("decoder", self.decoder))
            for name, parameter in layer.parameters().items()
        }

    def train_step(self, images, words, optimizer) -> float:
        """Make one step for images (B, 64) and their words, arrays of letters; return the loss."""
        lengths = [len(word) + 1 for word in words]
        inputs = data.pad_sequence([np.append(END, word) for word in words])
        targets = data.pad_sequence([np.append(word, END) for word in words])
        state, encoder_pullback = self.encoder.vjp(images)
        (logits, _), pullback = self.decoder.vjp(inputs, (state[None],), lengths)
        mask = data.lengths_to_mask(lengths)
        loss, d_logits = losses.cross_entropy(logits, targets, mask=mask)
        optimizer.zero_grad()
        _, (d_state,) = pullback(d_logits)
        encoder_pullback(d_state[0])
        optim.clip_grad_norm(self.parameters, 5.0)
        optimizer.step()
        return loss

    def spell(self, images) -> list[str]:
        """Return the words for images (B, 64): always the most probable letter."""
        state = (self.encoder(images)[None],)
        letters = np.full(len(images), END)
        written = []
        for _ in range(LONGEST):
            logits, state = self.decoder.step(letters, state)
            letters = logits.argmax(axis=-1)
            written.append(letters)
        words = []
        for row in np.stack(written, axis=1):
            ends = np.flatnonzero(row == END)
            words.append("".join(LETTERS[i] for i in row[: ends[0] if len(ends) else LONGEST]))
        return words


def plot(images, words, right) -> None:
    """Draw some images and the words for them; all that are wrong come first."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    order = np.argsort(right, kind="stable")
    figure, axes = plt.subplots(3, 6, figsize=(8, 5))
    figure.suptitle("Images and what was written (first, in red, all that is wrong)")
    for panel, index in zip(axes.flat, order, strict=False):
        panel.imshow(images[index].reshape(8, 8), cmap="gray_r")
        panel.set_title(words[index], color="tab:green" if right[index] else "tab:red")
        panel.axis("off")
    plt.show()


def main(epochs: int = 25, draw: bool = False) -> float:
    """Train and return the share of the test images whose whole name is right."""
    images, digits, test_images, test_digits = load()
    spelled = [np.array([LETTERS.index(letter) for letter in name]) for name in NAMES]
    speller = Speller()
    optimizer = optim.Adam(speller.parameters, lr=3e-3)
    rng = np.random.default_rng(5)
    for epoch in range(epochs):
        total = 0.0
        batches = np.split(rng.permutation(len(images)), range(50, len(images), 50))
        for batch in batches:
            words = [spelled[digit] for digit in digits[batch]]
            total += speller.train_step(images[batch], words, optimizer)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {total / len(batches):.4f} nats per letter")

    words = speller.spell(test_images)
    right = np.array([word == NAMES[digit] for word, digit in zip(words, test_digits, strict=True)])
    print("the first test images:", ", ".join(words[:8]))
    print(f"{len(words)} test images, whole words right {right.mean():.1%}")
    print(f"words that are no names of digits: {sum(word not in NAMES for word in words)}")
    if draw:
        plot(test_images, words, right)
    return float(right.mean())


if __name__ == "__main__":
    main(draw=True)
