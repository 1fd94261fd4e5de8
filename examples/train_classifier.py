"""A classifier with Trainer: digits, rows as steps
================================================

An image of 8 x 8 pixels is a sequence of 8 steps. ``Trainer`` shuffles, validates, lowers the
learning rate, stops when the validation has not improved for a while, and keeps the best weights::

    python examples/train_classifier.py    (needs scikit-learn, for its bundled digits)

The picture is that of ``history.plot()``.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import fastrnn
from fastrnn import optim


def load(seed: int = 0):
    """Return (images, digits) for training, validation and test: images (N, 8, 8) from 0 to 1."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, digits = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8), digits[order]
    return [(images[part], digits[part]) for part in np.split(np.arange(len(images)), (1200, 1400))]


def make_model(hidden: int = 64) -> fastrnn.Sequential:
    return fastrnn.Sequential(
        fastrnn.LSTM(8, hidden, bidirectional=True, seed=1),
        fastrnn.MaxPooling(),
        fastrnn.Dropout(0.2, seed=2),
        fastrnn.Linear(2 * hidden, 10, seed=3),
    )


def main(epochs: int = 40, out: str | None = "training.png", progress: bool = False) -> float:
    """Train and return the share of the test images that are recognised."""
    training, validation, test = load()
    model = make_model()
    trainer = fastrnn.Trainer(
        model,
        optimizer=optim.Adam(model, lr=5e-3),
        schedule=lambda optimizer: optim.CosineAnnealingLR(optimizer, epochs),
        metrics=["accuracy"],
        clip_norm=1.0,
    )
    history = trainer.fit(
        training, validation=validation, epochs=epochs, patience=10, progress=progress
    )
    for record in history[::5]:
        print(
            f"epoch {record['epoch']:2}: loss {record['loss']:.4f}, "
            f"validation accuracy {record['validation_accuracy']:.1%}"
        )
    measured = trainer.evaluate(test)
    print(f"{len(history)} epochs, {sum(history['seconds']):.1f} s of training")
    print(f"{len(test[1])} test images, accuracy {measured['accuracy']:.1%}")
    if out is not None:
        try:
            history.plot().savefig(out)
        except ImportError as error:  # the picture is an extra
            print(error)
        else:
            print(f"Wrote {out}.")
    return measured["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="(default: 40)")
    parser.add_argument("--out", default="training.png", help="default: training.png")
    main(**vars(parser.parse_args()))
