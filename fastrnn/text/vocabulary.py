"""Characters and their token ids: `Vocabulary`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _ragged

__all__ = ["Vocabulary"]


class Vocabulary:
    """The characters a model knows, and their token ids: character i has the id i.

    Parameters
    ----------
    characters : str
        At least one, each once.

    Raises
    ------
    ValueError
        If there is none, or one comes twice.
    TypeError
        If it is no str.
    """

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str):
            raise TypeError(f"characters: expected a str, got {type(characters).__name__}")
        if not characters or len(set(characters)) != len(characters):
            raise ValueError(f"characters: expected different characters, got {characters!r}")
        self.characters = characters
        points = [ord(character) for character in characters]
        self._table = np.full(max(points) + 1, -1, np.int64)
        self._table[points] = np.arange(len(points))

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """Return the vocabulary of a text: its distinct characters in the order of code points."""
        return cls(_ragged.characters(text))

    def encode(self, text: str, unknown: str | None = None) -> NDArray[np.int64]:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        unknown : str, optional
            The character of the vocabulary that stands in for those outside it.

        Returns
        -------
        ndarray of int64, (len(text),)

        Raises
        ------
        ValueError
            For a character outside the vocabulary, if `unknown` is not given; the message names
            the first. For an `unknown` that is not itself one character of the vocabulary.
        """
        if unknown is not None and (len(unknown) != 1 or unknown not in self):
            raise ValueError(f"unknown: expected a character of the vocabulary, got {unknown!r}")
        replacement = -1 if unknown is None else self.characters.index(unknown)
        ids, position = _ragged.encode(text, self._table, replacement)
        if unknown is None and position >= 0:
            raise ValueError(
                f"character {text[position]!r} (U+{ord(text[position]):04X}) at position "
                f"{position:,} is not among the {len(self)} characters of the vocabulary"
            )
        return ids

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of token ids (N,); ValueError for an id outside the vocabulary."""
        return _ragged.decode(np.ascontiguousarray(ids, np.int64), self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: str) -> bool:
        return character in self.characters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"
