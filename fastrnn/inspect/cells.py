"""Cells that can be interpreted: activations along a text, and which follow a property of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import Layer, RealArray, check_size, real_array
from ..recurrent import Recurrent
from .gates import capture
from .parts import leaves

__all__ = ["PROPERTIES", "Activations", "CellScore", "activations", "find_cells"]

Floats = NDArray[np.float64]


# --- activations along a sequence -----------------------------------------------------------------


class Activations(NamedTuple):
    """One column for each unit of each recurrent layer.

    Attributes
    ----------
    values : ndarray, shape (T, C)
        tanh(c) of an LSTM, h of the others, after each step.
    units : list of (str, int)
        Layer and number of the unit of each column; the units of a reverse direction are numbered
        from H on.
    """

    values: RealArray
    units: list[tuple[str, int]]


def activations(
    model: Layer,
    x: ArrayLike,
    layers: Iterable[str] | None = None,
    *,
    window: int = 1000,
) -> Activations:
    """Return what the cells of a model hold along one sequence.

    Parameters
    ----------
    model : RNN, IndRNN, LSTM, GRU or Sequential
    x : array_like
        One sequence: token ids (T,), or (T, I).
    layers : iterable of str, optional
        Names of layers, as of `capture`; all if None.
    window : int, default 1000
        Steps to run at once, which bounds the memory; the state is carried on. (Not for a model
        with both directions, which runs whole.)

    Returns
    -------
    Activations

    Raises
    ------
    ValueError
        As `capture`, for an empty sequence, and for a layer with `go_backwards`.
    """
    array = np.asarray(x)
    if not array.shape or not len(array):
        raise ValueError(f"x: expected a sequence of at least one step, got shape {array.shape}")
    size = check_size("window", window)
    stacks = [leaf.layer for leaf in leaves(model) if isinstance(leaf.layer, Recurrent)]
    if any(stack.go_backwards for stack in stacks):
        raise ValueError("model: expected layers that read forward, got one that goes backwards")
    if any(stack.bidirectional for stack in stacks):
        size = len(array)
    names = None if layers is None else list(layers)
    blocks, units, state = [], [], None
    for start in range(0, len(array), size):
        captured = capture(model, array[start : start + size], state, layers=names)
        state = captured.state
        columns = {
            name: np.tanh(gates["c"]) if "c" in gates else gates["h"]
            for name, gates in captured.layers.items()
        }
        rows = [column.reshape(len(column), -1) for column in columns.values()]
        if captured.lengths.shape != (1,):
            raise ValueError(f"x: expected one sequence, got {len(captured.lengths)}")
        blocks.append(np.concatenate(rows, axis=1))
        units = [(n, u) for n, row in zip(columns, rows, strict=True) for u in range(row.shape[1])]
    return Activations(np.concatenate(blocks), units)


# --- properties of the characters of a text -------------------------------------------------------
#
# Each is known once a character has been read: it does not depend on what comes after.


def inside_quotes(text: str) -> NDArray[np.bool_]:
    """Return True from an opening double quote up to the character before the closing one.

    A blank line ends a quotation, so that one quote too many does not turn round all the rest.
    """
    inside, found, last = False, [], ""
    for character in text:
        if character == '"':
            inside = not inside
        elif character in "“„":
            inside = True
        elif character == "”" or character == last == "\n":
            inside = False
        found.append(inside)
        last = character
    return np.array(found, np.bool_)


def bracket_depth(text: str) -> Floats:
    """Return the number of open brackets (, [ and {; a closing one too many is passed over."""
    depth, found = 0, []
    for character in text:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(depth - 1, 0)
        found.append(depth)
    return np.array(found, np.float64)


def inside_brackets(text: str) -> NDArray[np.bool_]:
    """Tell whether a bracket is open."""
    return bracket_depth(text) > 0


def line_position(text: str) -> Floats:
    """Return the number of characters since the line's start; 0 for the first and a line end."""
    found, position = [], 0
    for character in text:
        found.append(0 if character == "\n" else position)
        position = 0 if character == "\n" else position + 1
    return np.array(found, np.float64)


def indentation(text: str) -> Floats:
    """Return the number of spaces that the line begins with, as far as it has been read.

    A tab counts 8.
    """
    found, depth, leading = [], 0, True
    for character in text:
        if character == "\n":
            depth, leading = 0, True
        elif leading and character in " \t":
            depth += 8 if character == "\t" else 1
        else:
            leading = False
        found.append(depth)
    return np.array(found, np.float64)


def inside_comment(text: str) -> NDArray[np.bool_]:
    """Return True from a # or // up to the end of the line."""
    found, inside, last = [], False, ""
    for character in text:
        if character == "\n":
            inside = False
        elif character == "#" or character == last == "/":
            inside = True
        found.append(inside)
        last = character
    return np.array(found, np.bool_)


PROPERTIES: dict[str, Callable[[str], NDArray[Any]]] = {
    "quotes": inside_quotes,
    "brackets": inside_brackets,
    "bracket-depth": bracket_depth,
    "line-position": line_position,
    "indentation": indentation,
    "comment": inside_comment,
}


# --- the search -----------------------------------------------------------------------------------


class CellScore(NamedTuple):
    """How well one cell predicts a property; what was chosen was chosen on the first part.

    Attributes
    ----------
    cell : int
        Column of the activations.
    score : float
        On the held-out part: for a boolean property the area under the ROC curve, the probability
        that a character with it has the higher activation than one without (the lower, if `sign`
        is -1); for a real one the correlation, times `sign`.
    fitted : float
        The same on the first part, by which the cells are ranked.
    sign : int
        1 if the activation rises with the property, -1 if it falls.
    threshold : float or None
        Of a boolean property: the activation that best tells its characters from the others on
        the first part; above it (below, if `sign` is -1) the property is predicted.
    accuracy : float or None
        Of a boolean property: mean on the held-out part of the fractions of characters with and
        without it that the threshold puts right; 0.5 is chance.
    """

    cell: int
    score: float
    fitted: float
    sign: int
    threshold: float | None
    accuracy: float | None


def find_cells(
    activations: ArrayLike, property: ArrayLike, top: int = 10, held_out: float = 0.5
) -> list[CellScore]:
    """Rank cells by how well each alone predicts a property of the characters.

    Parameters
    ----------
    activations : array_like, shape (T, C)
        As `Activations.values`.
    property : array_like, shape (T,)
        Boolean, or real numbers, as the functions in `PROPERTIES` return.
    top : int, default 10
        Number of cells to return, at most.
    held_out : float, default 0.5
        The last part of the characters, on which the scores are measured. The first part ranks the
        cells, and chooses signs and thresholds.

    Returns
    -------
    list of CellScore
        The best on the first part first.

    Raises
    ------
    ValueError
        For shapes that do not fit, activations or properties that are not finite, or a property
        that is the same for all characters of either part.
    """
    values, wanted = _check_search(activations, property)
    size = check_size("top", top)
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"held_out: expected a number between 0 and 1, got {held_out}")
    cut = round(len(values) * (1.0 - held_out))
    for part, where in ((wanted[:cut], "first"), (wanted[cut:], "held-out")):
        if not part.size or (part == part[0]).all():
            raise ValueError(f"property: it is the same for all characters of the {where} part")
    boolean = wanted.dtype == np.bool_
    measure = area_under_curve if boolean else _correlation
    chance = 0.5 if boolean else 0.0
    fitted = np.array([measure(column[:cut], wanted[:cut]) for column in values.T]) - chance
    scores = []
    for cell in np.argsort(-np.abs(fitted), kind="stable")[:size].tolist():
        sign = 1 if fitted[cell] >= 0.0 else -1
        rising = sign * values[:, cell]
        score = chance + sign * (measure(values[cut:, cell], wanted[cut:]) - chance)
        limit = _threshold(rising[:cut], wanted[:cut]) if boolean else None
        accuracy = None if limit is None else _accuracy(rising[cut:] > limit, wanted[cut:])
        scores.append(
            CellScore(
                cell,
                score,
                chance + abs(float(fitted[cell])),
                sign,
                None if limit is None else sign * limit,
                accuracy,
            )
        )
    return scores


def _check_search(activations: ArrayLike, property: ArrayLike) -> tuple[RealArray, NDArray[Any]]:
    values, wanted = real_array("activations", activations), np.asarray(property)
    if values.ndim != 2:
        raise ValueError(f"activations: expected the shape (T, C), got {values.shape}")
    if wanted.shape != values.shape[:1]:
        raise ValueError(f"property: expected the shape {values.shape[:1]}, got {wanted.shape}")
    if wanted.dtype.kind not in "biuf":
        raise TypeError(f"property: expected booleans or real numbers, got {wanted.dtype}")
    for name, array in (("activations", values), ("property", wanted)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers")
    return values, wanted if wanted.dtype == np.bool_ else wanted.astype(np.float64)


def _accuracy(predicted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    right = predicted == wanted
    return float((right[wanted].mean() + right[~wanted].mean()) / 2)


def area_under_curve(values: RealArray, wanted: NDArray[np.bool_]) -> float:
    """Return P(value with > value without) + P(equal) / 2, from ranks (Mann & Whitney 1947)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(np.count_nonzero(wanted))
    wins = ranks[wanted].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * (wanted.size - positive)))


def _threshold(values: RealArray, wanted: NDArray[np.bool_]) -> float:
    """Return the value above which `wanted` is best told apart, by the mean of both fractions."""
    order = np.argsort(values, kind="stable")
    ordered, hits = values[order].astype(np.float64), wanted[order]
    # Fractions of those with and without the property that are at or below each value.
    below = np.cumsum(hits) / hits.sum()
    others = np.cumsum(~hits) / (~hits).sum()
    gain = np.where(np.append(ordered[1:] > ordered[:-1], False), others - below, -np.inf)
    best = int(np.argmax(gain))
    if best == len(ordered) - 1 or gain[best] == -np.inf:
        return float(ordered[-1])  # all are the same
    return float((ordered[best] + ordered[best + 1]) / 2)


def _correlation(a: RealArray, b: RealArray) -> float:
    """Return Pearson's correlation; 0 for what is constant."""
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0.0 else 0.0
