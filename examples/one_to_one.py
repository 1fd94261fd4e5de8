"""One to one: a vector in, a class out
====================================

Images of digits, read as sequences of a single step::

    python examples/one_to_one.py        (needs scikit-learn, for its bundled digits)

A recurrent layer over one step is a gated layer without memory; all else, batches, loss and
optimiser, is as for longer sequences.
"""

import numpy as np
from sklearn.datasets import load_digits

import fastrnn
from fastrnn import losses, optim


def load(seed: int = 0):
    """Return training and test images (N, 64), values from 0 to 1, and their digits (N,)."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, digits = (images[order] / 16).astype(np.float32), digits[order]
    return images[:1300], digits[:1300], images[1300:], digits[1300:]


def plot(images, digits, logits) -> None:
    """Draw the images that the model is least sure of: its answers, and how sure it is."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    least = np.argsort(shares.max(axis=-1))[:12]
    figure, axes = plt.subplots(2, 6, figsize=(8, 3.4))
    figure.suptitle("The twelve test images it is least sure of")
    for panel, index in zip(axes.flat, least, strict=True):
        answer = int(shares[index].argmax())
        right = answer == digits[index]
        panel.imshow(images[index].reshape(8, 8), cmap="gray_r")
        label = f"{answer}: {shares[index, answer]:.0%}"
        label += "" if right else f", is {digits[index]}"
        panel.set_title(label, color="tab:green" if right else "tab:red", fontsize=10)
        panel.axis("off")
    plt.show()


def main(epochs: int = 30, draw: bool = False) -> float:
    """Train and return the share of the test images that are recognised."""
    images, digits, test_images, test_digits = load()
    model = fastrnn.Sequential(
        fastrnn.GRU(64, 96, seed=1),
        fastrnn.LayerNorm(96),
        fastrnn.Dropout(0.3, seed=2),
        fastrnn.Linear(96, 10, seed=3),
    )
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, lr=3e-3)
    rng = np.random.default_rng(4)
    for epoch in range(epochs):
        total = 0.0
        batches = np.split(rng.permutation(len(images)), range(50, len(images), 50))
        for batch in batches:
            x, target = images[None, batch], digits[None, batch]  # (1, B, 64) and (1, B)
            (logits, _), pullback = model.vjp(x)
            loss, d_logits = losses.cross_entropy(logits, target)
            optimizer.zero_grad()
            pullback(d_logits)
            optim.clip_grad_norm(parameters, 5.0)
            optimizer.step()
            total += loss
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}")

    logits, _ = model(test_images[None])
    accuracy = float((logits[0].argmax(axis=-1) == test_digits).mean())
    print(f"{len(test_digits)} test images, accuracy {accuracy:.1%}")
    if draw:
        plot(test_images, test_digits, logits[0])
    return accuracy


if __name__ == "__main__":
    main(draw=True)
