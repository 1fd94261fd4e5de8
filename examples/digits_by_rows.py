"""Digits read row by row: what is known after each row
====================================================

::

    python examples/digits_by_rows.py    (needs scikit-learn, for its bundled digits)

An image of 8 x 8 pixels is a sequence of 8 steps. Two networks learn the same: one is asked after
every row (many to many), the other only after the last (many to one). Both are then asked after
every row.
"""

import numpy as np
from sklearn.datasets import load_digits

import fastrnn
from fastrnn import losses, optim


def load(seed: int = 0):
    """Return training and test images as rows (8, N, 8), values from 0 to 1, and digits (N,)."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    rows = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8).swapaxes(0, 1)
    digits = digits[order]
    return rows[:, :1300], digits[:1300], rows[:, 1300:], digits[1300:]


def make_model() -> fastrnn.Sequential:
    lstm = fastrnn.init.forget_bias_(fastrnn.LSTM(8, 64, seed=1), 1.0)
    return fastrnn.Sequential(
        lstm,
        fastrnn.LayerNorm(64),
        fastrnn.VariationalDropout(0.2, seed=2),
        fastrnn.Linear(64, 10, seed=3),
    )


def train(model, rows, digits, epochs: int, each_row: bool) -> None:
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, lr=4e-3)
    rng = np.random.default_rng(4)
    for _ in range(epochs):
        for batch in np.split(rng.permutation(len(digits)), range(50, len(digits), 50)):
            x = rows[:, batch]
            targets = np.broadcast_to(digits[batch], x.shape[:2])  # (8, B): the same at each row
            mask = np.full(x.shape[:2], each_row)
            mask[-1] = True
            (logits, _), pullback = model.vjp(x)
            _, d_logits = losses.cross_entropy(logits, targets, mask=mask)
            optimizer.zero_grad()
            pullback(d_logits)
            optim.clip_grad_norm(parameters, 5.0)
            optimizer.step()


def accuracies(model, rows, digits):
    """Return the share of the images that are recognised after each row, shape (8,)."""
    logits, _ = model(rows)
    return (logits.argmax(axis=-1) == digits).mean(axis=1)


def plot(model, rows, digits, table) -> None:
    """Draw what the model takes some images for after each row, and how often it is right."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    shares = model(rows)[0]
    shares = np.exp(shares - shares.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    figure = plt.figure(figsize=(9, 6.2))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    chosen = [int(np.flatnonzero(digits == digit)[0]) for digit in (0, 3, 6, 8)]
    panels = upper.subplots(1, 8, width_ratios=(0.8, 1) * 4)
    for image, heat, index in zip(panels[::2], panels[1::2], chosen, strict=True):
        image.imshow(rows[:, index], cmap="gray_r", aspect="auto")
        image.set(xticks=[], yticks=range(8), yticklabels=range(1, 9))
        heat.imshow(shares[:, index], cmap="viridis", vmin=0, vmax=1, aspect="auto")
        heat.set(xticks=range(0, 10, 3), yticks=[], xlabel="taken for")
    panels[0].set_ylabel("rows read")
    upper.suptitle("How sure it is of each digit after each row (yellow: certain)")
    axes = lower.subplots()
    for values, label in zip(table, ("asked after each row", "asked after the last"), strict=True):
        axes.plot(range(1, 9), values, marker="o", label=label)
    axes.axhline(0.1, color="gray", linestyle=":", label="chance")
    axes.set(xlabel="rows read", ylabel="test images recognised", ylim=(0, 1.03))
    axes.legend()
    plt.show()


def main(epochs: int = 30, draw: bool = False) -> float:
    """Train both and return the share that the first recognises after all rows."""
    rows, digits, test_rows, test_digits = load()
    each, last = make_model(), make_model()
    train(each, rows, digits, epochs, each_row=True)
    train(last, rows, digits, epochs, each_row=False)
    table = [accuracies(model, test_rows, test_digits) for model in (each, last)]
    print(f"accuracy of {len(test_digits)} test images")
    print("rows read   asked after each row   asked after the last")
    for row, (a, b) in enumerate(zip(*table, strict=True), 1):
        print(f"{row:9d}   {a:20.1%}   {b:20.1%}")
    if draw:
        plot(each, test_rows, test_digits, table)
    return float(table[0][-1])


if __name__ == "__main__":
    main(draw=True)
