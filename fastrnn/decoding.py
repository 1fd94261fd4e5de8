"""From logits to sequences: greedy and beam search, sampling; and the same for CTC.

The first three go on token by token, and ask for the next logits with a function

    step(tokens, state) -> (logits, state)

of token ids (N,) and the state that those tokens' pasts left: None at first unless one is given. A
recurrent `Sequential` from token ids to logits has it as its method ``step``. What a state is, only
the model knows. Beam search re-orders its rows with ``select(state, indices)``, by default
`select_state`.

Results have one row for each sequence, as targets of `fastrnn.losses.ctc_loss` have: tokens are
(B, S), not (S, B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, _decoding
from .base import (
    RealArray,
    check_lengths,
    check_number,
    check_size,
    integer_array,
    real_array,
)

__all__ = [
    "Decoded",
    "Sampler",
    "beam_search",
    "ctc_greedy",
    "ctc_prefix_beam_search",
    "greedy",
    "sample",
    "select_state",
]

Integers = NDArray[np.int64]
Step = Callable[[Integers, Any], tuple[ArrayLike, Any]]
Select = Callable[[Any, Integers], Any]

NOTHING = -100  # a target that cross_entropy leaves out


class Decoded(NamedTuple):
    """Sequences; searches for the n best have an axis for them: (B, n, S), (B, n) and (B, n).

    Attributes
    ----------
    tokens : ndarray of int64, shape (B, S)
        S is the longest length. Past its length a row is filled with the end token (of CTC, with
        the blank).
    lengths : ndarray of int64, shape (B,)
        With the end token, where there is one.
    scores : ndarray of float64, shape (B,)
        Natural logarithms of probabilities; each function says of what.
    """

    tokens: Integers
    lengths: Integers
    scores: NDArray[np.float64]


def select_state(state: Any, indices: ArrayLike, axis: int = 1) -> Any:
    """Return the rows `indices` of a state; they may repeat.

    Parameters
    ----------
    state : ndarray, None, or a (nested) tuple or list of states
        As recurrent layers and `Sequential` take and return them: arrays (L, B, H).
    indices : array_like of int, shape (N,)
    axis : int, default 1
        The axis of the rows.

    Returns
    -------
    state
        Of the same structure (lists become tuples), as copies.

    Raises
    ------
    IndexError
        If an index is no row.
    """
    if state is None:
        return None
    if isinstance(state, (tuple, list)):
        return tuple(select_state(part, indices, axis) for part in state)
    return np.take(state, integer_array("indices", indices), axis=axis)


# --- token by token -------------------------------------------------------------------------------


class Sampler:
    """Draws the next token of each row from softmax(logits / temperature), or the best of it.

    Parameters
    ----------
    temperature : float, default 1.0
        Below 1 safer, above 1 wilder, 0 always the most probable token.
    top_k : int, optional
        Only the k most probable tokens are drawn: Fan et al. (2018), "Hierarchical neural story
        generation".
    top_p : float, optional
        Only the nucleus is drawn: the fewest tokens whose probabilities have at least this sum,
        above 0 and at most 1, after `temperature` and of what `top_k` left. Holtzman et al. (2020),
        "The curious case of neural text degeneration".
    seed : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.temperature = check_number("temperature", temperature, 0.0)
        self.top_k = None if top_k is None else check_size("top_k", top_k)
        self.top_p = None if top_p is None else check_number("top_p", top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise ValueError("top_p: expected a number above 0, got 0.0")
        if not (seed is None or isinstance(seed, np.random.Generator)):
            seed = check_size("seed", seed, 0)
        self._rng = np.random.default_rng(seed)

    def __call__(self, logits: ArrayLike) -> Integers:
        """Return a token (N,) for each row of logits (N, V), float32 or float64.

        Of equal probabilities, the lower token is the more probable.
        """
        scores = _check_logits(logits)
        if self.temperature > 0.0:
            noise = self._rng.gumbel(size=scores.shape)
            if self.top_k is not None or self.top_p is not None:
                kept = _decoding.most_likely(
                    scores,
                    self.temperature,
                    min(self.top_k or scores.shape[1], scores.shape[1]),
                    1.0 if self.top_p is None else self.top_p,
                )
                scores = np.where(kept, scores, -np.inf)
            # Gumbel-max: the largest is distributed as softmax(scores / temperature).
            scores = scores + self.temperature * noise
        tokens: Integers = np.argmax(scores, axis=1)
        return tokens


def greedy(
    step: Step,
    start_tokens: ArrayLike,
    state: Any = None,
    *,
    max_length: int,
    eos: int | None = None,
) -> Decoded:
    """Go on with the most probable token each time; of equals, the lowest.

    Parameters
    ----------
    step : callable
        ``step(tokens, state) -> (logits, state)`` of tokens (B,) and logits (B, V); see the module.
    start_tokens : array_like of int, shape (B,)
        What the first step takes; not part of the result.
    state : optional
        What the first step takes.
    max_length : int
        Most tokens of a sequence, with its end token.
    eos : int, optional
        The end token. A sequence ends with it; the others go on, and `step` still gets all rows.

    Returns
    -------
    Decoded
        Scores are log-probabilities: sums of log(softmax(logits)) of the sequence's tokens.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the logits do not: their dtype, their shape, or that they
        are not finite (-inf is taken where another class of the row is finite).
    """
    return _generate(step, start_tokens, state, max_length, eos, Sampler(0.0))


def sample(
    step: Step,
    start_tokens: ArrayLike,
    state: Any = None,
    *,
    max_length: int,
    eos: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | np.random.Generator | None = None,
) -> Decoded:
    """Go on with tokens that are drawn, as `Sampler` draws them.

    Parameters
    ----------
    step, start_tokens, state, max_length, eos
        As of `greedy`.
    temperature, top_k, top_p, seed
        As of `Sampler`. The same seed gives the same sequences to the same batch.

    Returns
    -------
    Decoded
        Scores are log-probabilities under the model: of softmax(logits), whatever `temperature`,
        `top_k` and `top_p` are.

    Raises
    ------
    TypeError, ValueError
        As `greedy` and `Sampler` do.
    """
    sampler = Sampler(temperature, top_k, top_p, seed)
    return _generate(step, start_tokens, state, max_length, eos, sampler)


def _generate(
    step: Step,
    start_tokens: ArrayLike,
    state: Any,
    max_length: int,
    eos: int | None,
    choose: Sampler,
) -> Decoded:
    tokens = _check_start(start_tokens)
    max_length = check_size("max_length", max_length, 0)
    end = _check_eos(eos)
    running = np.ones(len(tokens), np.bool_)
    lengths, scores = np.zeros(len(tokens), np.int64), np.zeros(len(tokens))
    columns: list[Integers] = []
    while len(columns) < max_length and running.any():
        logits, state = step(tokens, state)
        logits = _check_logits(logits, len(tokens), end)
        tokens = np.where(running, choose(logits), end)
        columns.append(tokens)
        scores -= _negative_log_likelihood(logits, np.where(running, tokens, NOTHING))
        lengths += running
        running &= tokens != end
    stacked = np.stack(columns, axis=1) if columns else np.empty((len(tokens), 0), np.int64)
    return Decoded(stacked, lengths, scores)


def _check_start(start_tokens: ArrayLike) -> Integers:
    tokens = integer_array("start_tokens", start_tokens)
    if tokens.ndim != 1:
        raise ValueError(f"start_tokens: expected the shape (B,), got {tokens.shape}")
    return tokens


def _check_eos(eos: int | None) -> int:
    """Return the end token; -1, which no token is, if there is none."""
    return -1 if eos is None else check_size("eos", eos, 0)


def _check_logits(logits: ArrayLike, rows: int | None = None, end: int = -1) -> RealArray:
    array = real_array("logits", logits)
    if array.ndim != 2 or array.shape[1] == 0 or rows not in (None, len(array)):
        N = "N" if rows is None else rows
        raise ValueError(f"logits: expected the shape ({N}, V), got {array.shape}")
    if end >= array.shape[1]:
        raise ValueError(f"eos: expected a token below {array.shape[1]}, got {end}")
    _check_finite(array)
    return array


def _check_finite(logits: RealArray) -> None:
    row = _decoding.not_finite(logits)
    if row >= 0:
        raise ValueError(
            "logits: expected finite numbers (or -inf for some classes of a row), "
            f"got a row with the maximum {logits[row].max()}"
        )


def _negative_log_likelihood(logits: RealArray, targets: Integers) -> RealArray:
    return _core.cross_entropy(logits, targets, None, NOTHING, False)[0]


# --- beam search ----------------------------------------------------------------------------------


def beam_search(
    step: Step,
    start_tokens: ArrayLike,
    state: Any = None,
    *,
    max_length: int,
    eos: int | None = None,
    beam_width: int = 4,
    n_best: int = 1,
    length_penalty: float = 0.0,
    select: Select = select_state,
) -> Decoded:
    """Search for the most probable sequences, with the best `beam_width` open ones at each step.

    Graves (2012), "Sequence transduction with recurrent neural networks", and the length penalty of
    Wu et al. (2016), "Google's neural machine translation system", equation 14: the score of a
    sequence Y of n tokens is log P(Y) / ((5 + n) / 6)^length_penalty.

    Each step all open hypotheses may end, and the best `beam_width` of those that do not stay open.
    A row of the batch is finished when no open hypothesis of it can come to a score above those of
    its n best, whatever may follow: that changes no result. `step` gets open hypotheses of
    unfinished rows alone, of which there are B at first and at most B * beam_width.

    Parameters
    ----------
    step : callable
        ``step(tokens, state) -> (logits, state)`` of tokens (N,) and logits (N, V); see the module.
        N changes from step to step.
    start_tokens : array_like of int, shape (B,)
        What the first step takes; not part of the result.
    state : optional
        What the first step takes.
    max_length : int
        Most tokens of a sequence, with its end token. Hypotheses that are open then count as
        sequences, too.
    eos : int, optional
        The end token.
    beam_width : int, default 4
    n_best : int, default 1
        Sequences to return for each row, the best first; at most `beam_width`.
    length_penalty : float, default 0.0
        From 0, which is none, to 10; the higher, the longer the sequences.
    select : callable
        ``select(state, indices) -> state``: rows of a state, which may repeat or be left out.

    Returns
    -------
    Decoded
        Tokens (B, n_best, S), lengths and scores (B, n_best). Where there is no n-th best the
        length is 0 and the score -inf.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the logits do not, as of `greedy`.
    """
    tokens = _check_start(start_tokens)
    max_length = check_size("max_length", max_length, 0)
    end = _check_eos(eos)
    beam_width = check_size("beam_width", beam_width)
    n_best = _check_n_best(n_best, beam_width)
    alpha = check_number("length_penalty", length_penalty, 0.0, 10.0)

    B = len(tokens)
    best = _NBest(B, n_best, alpha)
    rows, offsets, scores = np.arange(B), np.arange(B + 1), np.zeros(B)
    history: list[tuple[Integers, Integers]] = []  # of each step: parents and tokens
    while len(history) < max_length and len(tokens):
        logits, state = step(tokens, state)
        logits = _check_logits(logits, len(tokens), end)
        parents, tokens, scores, new_offsets, ended = _decoding.expand(
            logits, scores, offsets, beam_width, end
        )
        if eos is not None:
            best.offer(rows, offsets, ended, len(history), len(history) + 1)
        unfinished = best.can_change(rows, new_offsets, scores, max_length)
        rows, offsets, hypotheses = _take_rows(rows, new_offsets, unfinished)
        parents, tokens, scores = parents[hypotheses], tokens[hypotheses], scores[hypotheses]
        history.append((parents, tokens))
        if len(history) < max_length and len(tokens):
            state = select(state, parents)
    best.offer(rows, offsets, scores, len(history), len(history))
    return best.decoded(history, max(end, 0))


def _check_n_best(n_best: int, beam_width: int) -> int:
    if check_size("n_best", n_best) > beam_width:
        raise ValueError(f"n_best: expected at most beam_width {beam_width}, got {n_best}")
    return n_best


def _take_rows(
    rows: Integers, offsets: Integers, taken: NDArray[np.bool_]
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Leave rows out: return the rows, offsets, and of their hypotheses which ones stay."""
    counts = np.diff(offsets)
    return rows[taken], np.append(0, np.cumsum(counts[taken])), np.repeat(taken, counts)


class _NBest:
    """The n best finished hypotheses of each row, and where in the history of steps they are."""

    def __init__(self, B: int, n_best: int, alpha: float) -> None:
        self._alpha = alpha
        self._scores = np.full((B, n_best), -np.inf)
        self._places = np.zeros((B, n_best, 3), np.int64)  # step, hypothesis, length

    def _penalty(self, length: int) -> float:
        return float(((5.0 + length) / 6.0) ** self._alpha)

    def offer(
        self, rows: Integers, offsets: Integers, scores: NDArray[np.float64], step: int, length: int
    ) -> None:
        """Take those of a step's hypotheses that are better; `scores` are log-probabilities."""
        _decoding.keep_best(
            self._scores, self._places, rows, offsets, scores / self._penalty(length), step, length
        )

    def can_change(
        self, rows: Integers, offsets: Integers, scores: NDArray[np.float64], max_length: int
    ) -> NDArray[np.bool_]:
        """Return of which rows an open hypothesis may come to be among the n best.

        What follows can only lower its log-probability, and no penalty is larger than the last.
        """
        unfinished = np.diff(offsets) > 0
        highest = scores[offsets[:-1][unfinished]] / self._penalty(max_length)
        unfinished[unfinished] = highest > self._scores[rows[unfinished], -1]
        return unfinished

    def decoded(self, history: list[tuple[Integers, Integers]], padding: int) -> Decoded:
        """Read the sequences from the history, from the last step to the first."""
        steps, hypotheses, lengths = np.moveaxis(self._places, 2, 0).copy()
        longest = lengths.max(initial=0)
        sequences = np.full((*lengths.shape, longest), padding, np.int64)  # and ends, which pad
        for time in range(min(longest, len(history)), 0, -1):
            parents, tokens = history[time - 1]
            here = steps >= time
            found = hypotheses[here]
            sequences[here, time - 1] = tokens[found]
            hypotheses[here] = parents[found]
        return Decoded(sequences, lengths, self._scores)


# --- connectionist temporal classification --------------------------------------------------------


def ctc_greedy(logits: ArrayLike, lengths: ArrayLike | None = None, blank: int = 0) -> Decoded:
    """Read the most probable alignment: the best class of each frame; of equals, the lowest.

    "Best path decoding" of Graves et al. (2006), "Connectionist temporal classification", section
    3.2: repetitions are merged, then blanks are taken out.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (T, B, C)
        Or log-probabilities: log_softmax leaves them as they are.
    lengths : array_like of int, shape (B,), optional
        Number of frames of each sequence, from 0 to T; all T by default.
    blank : int, default 0

    Returns
    -------
    Decoded
        Scores are log-probabilities of the alignment, which is less than that of the labels.

    Raises
    ------
    IndexError
        If `blank` is no class.
    TypeError, ValueError
        If a dtype, a shape or a length does not fit, or logits are not finite (-inf is taken where
        another class of the frame is finite). Frames past the lengths are not looked at.
    """
    scores, frames, blank = _check_ctc(logits, lengths, blank)
    T, B, C = scores.shape
    inside = np.arange(T)[:, np.newaxis] < frames
    best = scores.argmax(axis=2)
    starts = inside & (best != blank)
    starts[1:] &= best[1:] != best[:-1]
    counts = np.count_nonzero(starts, axis=0)
    labels = np.full((B, counts.max(initial=0)), blank, np.int64)
    frame, row = np.nonzero(starts)
    labels[row, (np.cumsum(starts, axis=0) - 1)[frame, row]] = best[frame, row]
    targets = np.where(inside, best, NOTHING)
    losses = _negative_log_likelihood(scores.reshape(-1, C), targets.reshape(-1))
    return Decoded(labels, counts, -losses.reshape(T, B).sum(axis=0, dtype=np.float64))


def ctc_prefix_beam_search(
    logits: ArrayLike,
    lengths: ArrayLike | None = None,
    blank: int = 0,
    *,
    beam_width: int = 16,
    n_best: int = 1,
) -> Decoded:
    """Search for the most probable labels, over the sum of their alignments.

    Graves and Jaitly (2014), "Towards end-to-end speech recognition with recurrent neural
    networks"; Hannun et al. (2014), "First-pass large vocabulary continuous speech
    recognition using bi-directional recurrent DNNs" (here without a language model). Frame by
    frame, the `beam_width` most probable beginnings are kept.

    Parameters
    ----------
    logits, lengths, blank
        As of `ctc_greedy`.
    beam_width : int, default 16
    n_best : int, default 1
        Sequences to return for each row, the best first; at most `beam_width`.

    Returns
    -------
    Decoded
        Tokens (B, n_best, S), lengths and scores (B, n_best). Scores are log-probabilities of the
        labels: sums over those of their alignments whose beginnings were kept, so at most
        -`fastrnn.losses.ctc_loss`. Where there is no n-th best the length is 0 and the score -inf.

    Raises
    ------
    IndexError, TypeError, ValueError
        As `ctc_greedy`; and if `n_best` is above `beam_width`.
    """
    scores, frames, blank = _check_ctc(logits, lengths, blank)
    beam_width = check_size("beam_width", beam_width)
    n_best = _check_n_best(n_best, beam_width)
    labels, counts, totals = _decoding.ctc_prefix_beam_search(
        scores, frames, blank, beam_width, n_best
    )
    return Decoded(labels[:, :, : counts.max(initial=0)].copy(), counts, totals)


def _check_ctc(
    logits: ArrayLike, lengths: ArrayLike | None, blank: int
) -> tuple[RealArray, Integers, int]:
    scores = real_array("logits", logits)
    if scores.ndim != 3 or scores.shape[2] == 0:
        raise ValueError(f"logits: expected the shape (T, B, C), got {scores.shape}")
    T, B, C = scores.shape
    blank = check_size("blank", blank, 0)
    if blank >= C:
        raise IndexError(f"blank: expected a class from 0 to {C - 1}, got {blank}")
    frames = check_lengths("lengths", T if lengths is None else lengths, B, T)
    _check_finite(scores[np.arange(T)[:, np.newaxis] < frames])
    return scores, frames, blank
