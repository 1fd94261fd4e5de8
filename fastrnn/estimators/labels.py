"""Class labels: to numbers and back, and as JSON takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_json", "encode", "from_json", "softmax"]

# What a file may name; "str" is NumPy's text of the width that the labels need.
NUMBERS = frozenset(
    np.dtype(code).name for code in ("?", *np.typecodes["AllInteger"], *np.typecodes["Float"])
)


def encode(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of each label among the sorted classes; ValueError if it is none."""
    places = np.searchsorted(classes, labels)
    places[places == len(classes)] = 0
    wrong = classes[places] != labels
    if np.any(wrong):
        raise ValueError(f"y: expected labels among {classes}, got {labels[wrong][0]!r}")
    return places.astype(np.int64)


def as_json(labels: NDArray[Any]) -> dict[str, Any]:
    """Return labels as JSON takes them; TypeError if they are no bools, numbers or texts."""
    texts = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)
    name = "object" if texts else "str" if labels.dtype.kind == "U" else labels.dtype.name
    if name not in {"object", "str"} | NUMBERS or (name == "object" and not texts):
        raise TypeError(f"classes_: expected bools, numbers or texts, got {labels.dtype}")
    return {"dtype": name, "items": labels.tolist()}


def from_json(value: Any) -> NDArray[Any]:
    """Return what `as_json` described; ValueError if it is not that."""
    name, items = value["dtype"], value["items"]
    if name not in {"object", "str"} | NUMBERS:
        raise ValueError(f"classes: expected a dtype of labels, got {name!r}")
    kinds = (bool, int, float) if name in NUMBERS else (str,)
    if not isinstance(items, list) or not all(isinstance(item, kinds) for item in items):
        raise ValueError(f"classes: expected a list of {name}")
    labels = np.array(items, dtype=None if name == "str" else name)
    if not len(labels) or len(np.unique(labels)) < len(labels):
        raise ValueError("classes: expected different labels, at least one")
    return labels


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of logits (..., C), in float64."""
    scores = np.asarray(logits, np.float64)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
