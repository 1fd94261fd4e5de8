"""A classifier with scikit-learn's API: digits, rows as steps
===========================================================

::

    python examples/digits_classifier.py    (needs scikit-learn, for its API and its bundled digits)

An image of 8 x 8 pixels is a row of 64 numbers in scikit-learn's table; ``n_steps=8`` makes each a
sequence of 8 steps, the image's rows. A quarter of the images is kept for the test.
"""

import time

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastrnn
from fastrnn.estimators import SequenceClassifier


def plot(classifier: SequenceClassifier, images, digits) -> None:
    """Draw the test images that are taken for another digit, with both."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    answers = classifier.predict(images)
    wrong = (answers != digits).nonzero()[0][:12]
    figure, axes = plt.subplots(2, 6, figsize=(8, 3.4))
    figure.suptitle("Test images that are taken for another digit")
    for panel in axes.flat:
        panel.axis("off")
    for panel, index in zip(axes.flat, wrong, strict=False):
        panel.imshow(images[index].reshape(8, 8), cmap="gray_r")
        panel.set_title(f"{answers[index]}, is {digits[index]}", color="tab:red", fontsize=10)
    plt.show()


def main(max_epochs: int = 40, draw: bool = False) -> float:
    """Train and return the share of the test images that is recognised."""
    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images, digits, stratify=digits, random_state=0
    )
    classifier = SequenceClassifier(
        n_steps=8, bidirectional=True, dropout=0.3, max_epochs=max_epochs, random_state=0
    )
    fastrnn.set_num_threads(1)  # so small a network is not worth a second, least on a busy machine
    start = time.perf_counter()
    classifier.fit(train_images, train_digits)
    seconds = time.perf_counter() - start
    accuracy = classifier.score(test_images, test_digits)
    print(f"{classifier.model_.num_parameters():,} weights, {classifier.n_iter_} epochs")
    print(f"accuracy of {len(test_digits)} test images: {accuracy:.1%}")
    print(f"training: {seconds:.1f} s")
    if draw:
        plot(classifier, test_images, test_digits)
    return accuracy


if __name__ == "__main__":
    main(draw=True)
