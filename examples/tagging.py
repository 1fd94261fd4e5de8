"""A label for each step: persons and places
=========================================

::

    python examples/tagging.py    (needs scikit-learn, for its API)

The sentences are made here. All names are one token, that of unknown words: whether one is a
person's or a place's follows from the words on both sides of it.
"""

import numpy as np

from fastrnn.estimators import SequenceTagger

TEMPLATES = [
    "PERSON lives in PLACE",
    "PERSON went from PLACE to PLACE with PERSON",
    "the people of PLACE met PERSON",
    "in PLACE PERSON was born",
    "PERSON and PERSON walked to PLACE",
    "near PLACE there is a lake",
    "PERSON said that PLACE is too far",
    "who is PERSON",
    "where is PLACE",
    "PLACE is the home of PERSON",
    "PERSON is the friend of PERSON",
]
WORDS = sorted({word for template in TEMPLATES for word in template.split()} - {"PERSON", "PLACE"})
IDS = {word: number for number, word in enumerate(WORDS, 1)}
NAME = 0  # the token of words that are not known


def make(count: int, seed: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """Return sentences as token ids, and the tag of each of their words."""
    rng = np.random.default_rng(seed)
    sentences, tags = [], []
    for _ in range(count):
        parts = [TEMPLATES[i].split() for i in rng.integers(len(TEMPLATES), size=2)]
        words = [*parts[0], "and", *parts[1]]
        sentences.append(np.array([IDS.get(word, NAME) for word in words]))
        tags.append([word if word in ("PERSON", "PLACE") else "-" for word in words])
    return sentences, tags


def plot(sentences, probabilities, classes) -> None:
    """Draw sentences; each name on the colour of what it is taken for, the surer the stronger."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    figure = plt.figure(figsize=(5.5, 0.35 * len(sentences) + 0.4))
    figure.suptitle("Names taken for a person (blue) and for a place (orange)")
    colors = {"PERSON": "tab:blue", "PLACE": "tab:orange"}
    for row, (sentence, shares) in enumerate(zip(sentences, probabilities, strict=True)):
        place = 0.01
        for token, share in zip(sentence, shares, strict=True):
            tag = classes[share.argmax()]
            box = {"facecolor": colors.get(tag, "white"), "alpha": 0.6 * share.max()}
            box |= {"edgecolor": "none", "boxstyle": "square,pad=0.15"}
            word = "NAME" if token == NAME else WORDS[token - 1]
            options = {"family": "monospace", "fontsize": 9, "bbox": box if tag in colors else None}
            figure.text(place, 0.8 - 0.8 * row / len(sentences), word, **options)
            place += 0.0144 * (len(word) + 1)
    plt.show()


def main(count: int = 600, max_epochs: int = 15, draw: bool = False) -> float:
    """Train and return the share of the words of new sentences that get the right tag."""
    sentences, tags = make(count, seed=0)
    tagger = SequenceTagger(
        hidden_size=32, embedding_dim=16, lr=1e-2, max_epochs=max_epochs, random_state=0
    )
    tagger.fit(sentences, tags)
    test_sentences, test_tags = make(200, seed=1)
    right = tagger.score(test_sentences, test_tags)
    for sentence, found in zip(test_sentences[:3], tagger.predict(test_sentences[:3]), strict=True):
        words = ["NAME" if token == NAME else WORDS[token - 1] for token in sentence]
        tagged = [w if tag == "-" else f"{w}/{tag}" for w, tag in zip(words, found, strict=True)]
        print(" ".join(tagged))
    print(f"right tags of the words of {len(test_sentences)} sentences: {right:.1%}")
    if draw:
        shown = test_sentences[:8]
        plot(shown, tagger.predict_proba(shown), tagger.classes_)
    return right


if __name__ == "__main__":
    main(draw=True)
