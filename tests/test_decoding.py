"""Greedy, sampled and beam decoding against plain Python, on models that are tables."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import _decoding
from fastrnn.decoding import Sampler, beam_search, greedy, sample, select_state


class TableModel:
    """The next token depends on the last two and on the time: logits (8, V, V, V), bit for bit."""

    def __init__(self, V, seed=0, size=1.0):
        self.table = size * np.random.default_rng(seed).standard_normal((8, V, V, V))
        self.rows = []  # of each call

    def step(self, tokens, state):
        time, last = np.zeros((2, len(tokens)), int) if state is None else state
        self.rows.append(len(tokens))
        return self.table[time, last, tokens], np.stack([(time + 1) % 8, tokens])

    def log_probs(self, seen):
        """Of the token after those seen, with the start, so far."""
        before = seen[-2] if len(seen) > 1 else 0
        logits = self.table[(len(seen) - 1) % 8, before, seen[-1]]
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def log_probability(self, start, tokens):
        """Sum of the log-probabilities of tokens after a start."""
        seen = [start, *tokens]
        return math.fsum(self.log_probs(seen[:n])[seen[n]] for n in range(1, len(seen)))


def sequences(V, eos, max_length):
    """All that a search can return: up to max_length tokens, the shorter ones with an end."""
    others = [v for v in range(V) if v != eos]
    for n in range(max_length):
        for tokens in itertools.product(others, repeat=n):
            yield (*tokens, eos)
    yield from itertools.product(others, repeat=max_length)


def penalised(log_probability, length, alpha):
    return log_probability / ((5 + length) / 6) ** alpha


def rows_of(decoded):
    """[(tokens, score), ...] of each row of the batch; what is past the lengths is checked."""
    result = []
    for tokens, lengths, scores in zip(*decoded, strict=True):
        found = [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
        result.append([pair for pair in zip(found, scores, strict=True) if pair[1] > -np.inf])
    return result


# --- beam search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("V", [2, 3])
def test_beam_search_of_full_width_is_exhaustive(V, alpha):
    model, eos, most = TableModel(V, seed=V), V - 1, 5
    options = {"max_length": most, "eos": eos, "beam_width": V**most, "length_penalty": alpha}
    starts = list(range(V))
    got = rows_of(beam_search(model.step, starts, n_best=20, **options))
    for start, row in zip(starts, got, strict=True):
        scored = [
            (penalised(model.log_probability(start, tokens), len(tokens), alpha), list(tokens))
            for tokens in sequences(V, eos, most)
        ]
        want = sorted(scored, key=lambda pair: -pair[0])[:20]
        assert [tokens for tokens, _ in row] == [tokens for _, tokens in want]
        assert [score for _, score in row] == pytest.approx([score for score, _ in want], rel=1e-13)


def plain_beam_search(model, start, eos, most, width, n_best, alpha):
    """One row, without any way to stop early."""
    live, finished = [(0.0, [])], []
    for _ in range(most):
        candidates = []
        for score, tokens in live:
            for v, log_probability in enumerate(model.log_probs([start, *tokens])):
                extended = (score + log_probability, [*tokens, v])
                (finished if v == eos else candidates).append(extended)
        live = sorted(candidates, key=lambda pair: -pair[0])[:width]
    ranked = [(penalised(score, len(y), alpha), y) for score, y in [*finished, *live]]
    return sorted(ranked, key=lambda pair: -pair[0])[:n_best]


@given(
    V=st.integers(1, 5),
    seed=st.integers(0, 99),
    size=st.sampled_from([0.3, 1.0, 5.0]),
    most=st.integers(0, 7),
    width=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 0.7, 3.0]),
    with_eos=st.booleans(),
    B=st.integers(0, 3),
)
def test_beam_search_is_the_plain_one(V, seed, size, most, width, alpha, with_eos, B):
    """Which neither stops early nor leaves finished rows out."""
    model, eos = TableModel(V, seed, size=size), V // 2 if with_eos else None
    n_best, starts = 1 + seed % width, np.arange(B) % V
    options = {"max_length": most, "eos": eos, "beam_width": width, "n_best": n_best}
    got = rows_of(beam_search(model.step, starts, length_penalty=alpha, **options))
    for start, row in zip(starts, got, strict=True):
        want = plain_beam_search(model, start, eos, most, width, n_best, alpha)
        assert [tokens for tokens, _ in row] == [tokens for _, tokens in want]
        assert [score for _, score in row] == pytest.approx([score for score, _ in want], rel=1e-13)


def test_beam_search_stops_when_nothing_can_win_and_leaves_rows_out():
    model = TableModel(6, seed=1)
    model.table[..., 5] += 5.0  # almost sure to end
    model.table[:, 1, :, 5] -= 10.0  # but not after a 1, or one token later
    model.table[:, :, 1, 5] -= 10.0
    beam_search(model.step, [0, 1, 2], max_length=1000, eos=5, beam_width=3)
    assert model.rows[0] == 3
    assert model.rows[1] <= 9
    assert model.rows[-1] <= 3  # the row that began with 1 alone
    assert 2 < len(model.rows) < 100


def test_beam_search_prefers_lower_indices_of_equals():
    def step(tokens, state):
        return np.zeros((len(tokens), 4)), None

    decoded = beam_search(step, [0], max_length=2, beam_width=6, n_best=6)
    # The first step leaves 0, 1, 2, 3; the second the first six of their extensions.
    want = [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]
    assert decoded.tokens[0].tolist() == want
    assert greedy(step, [3], max_length=2).tokens.tolist() == [[0, 0]]


def test_beam_search_with_tokens_that_cannot_come():
    def step(tokens, state):
        return np.tile([0.0, -np.inf, 0.0], (len(tokens), 1)), None

    decoded = beam_search(step, [0], max_length=2, eos=2, beam_width=8, n_best=4)
    assert decoded.lengths.tolist() == [[1, 2, 2, 0]]
    assert decoded.tokens.tolist() == [[[2, 2], [0, 2], [0, 0], [2, 2]]]  # what ended comes first
    half = math.log(0.5)
    assert decoded.scores[0].tolist() == pytest.approx([half, 2 * half, 2 * half, -np.inf])


def recurrent_model(seed=0):
    return fastrnn.Sequential(
        fastrnn.Embedding(7, 4, seed=seed),
        fastrnn.LSTM(4, 6, num_layers=2, seed=seed),
        fastrnn.GRU(6, 5, seed=seed),
        fastrnn.Linear(5, 7, seed=seed),
    )


def test_beam_search_with_a_recurrent_model_scores_as_the_model_reads():
    model = recurrent_model()
    state = model(np.array([[1, 2, 3]]))[1]
    decoded = beam_search(model.step, [4, 5, 6], state, max_length=6, eos=0, beam_width=5, n_best=3)
    for b, start in enumerate([4, 5, 6]):
        for n in range(3):
            tokens = decoded.tokens[b, n, : decoded.lengths[b, n]]
            inputs = np.append(start, tokens[:-1])[:, None]
            logits, _ = model(inputs, select_state(state, [b]))
            loss, _ = fastrnn.losses.cross_entropy(logits[:, 0], tokens, reduction="sum")
            assert decoded.scores[b, n] == pytest.approx(-loss, rel=1e-5)


def test_beam_search_of_width_one_is_greedy():
    model = recurrent_model(1)
    starts = np.arange(7)
    wide = beam_search(model.step, starts, max_length=9, beam_width=1)
    narrow = greedy(model.step, starts, max_length=9)
    assert np.array_equal(wide.tokens[:, 0], narrow.tokens)
    assert wide.scores[:, 0] == pytest.approx(narrow.scores, rel=1e-5)


# --- greedy and sample ----------------------------------------------------------------------------


def test_greedy_takes_the_most_probable_token():
    model = TableModel(5, seed=2)
    decoded = greedy(model.step, [0, 1, 2, 3], max_length=8, eos=4)
    for start, tokens, length, score in zip(range(4), *decoded, strict=True):
        seen = [start]
        while len(seen) < 9 and 4 not in seen[1:]:
            seen.append(int(np.argmax(model.log_probs(seen))))
        assert tokens[:length].tolist() == seen[1:]
        assert (tokens[length:] == 4).all()
        assert score == pytest.approx(model.log_probability(start, seen[1:]), rel=1e-13)
    assert decoded.tokens.shape == (4, decoded.lengths.max())


def test_sample_with_an_end_token():
    model = TableModel(4, seed=3)
    decoded = sample(model.step, np.zeros(200, int), max_length=6, eos=3, seed=1)
    assert set(decoded.lengths.tolist()) == {1, 2, 3, 4, 5, 6}
    for tokens, length, score in zip(*decoded, strict=True):
        assert 3 not in tokens[: length - 1]
        assert (tokens[length:] == 3).all()
        assert length == 6 or tokens[length - 1] == 3
        want = model.log_probability(0, tokens[:length])
        assert score == pytest.approx(want, rel=1e-13)


def test_sample_repeats_with_its_seed():
    model = TableModel(6)
    options = {"max_length": 30, "top_k": 4, "top_p": 0.9}
    first, again, other = (
        sample(model.step, [0, 1], seed=seed, **options).tokens.tolist()
        for seed in (5, np.random.default_rng(5), 6)
    )
    assert first == again != other


def test_sample_at_temperature_zero_is_greedy():
    model = TableModel(6)
    got = sample(model.step, [0, 1], max_length=9, temperature=0.0, top_k=3, top_p=0.5)
    assert np.array_equal(got.tokens, greedy(model.step, [0, 1], max_length=9).tokens)


def filtered_by_sorting(logits, temperature, top_k, top_p):
    """Probabilities of one row, what is filtered out being zero."""
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    order = np.argsort(-p, kind="stable")
    order = order[: top_k or len(p)]
    if top_p is not None and top_p < 1.0:
        shares = np.cumsum(p[order]) / p[order].sum()
        order = order[: 1 + np.count_nonzero(shares < top_p)]
    kept = np.zeros_like(p)
    kept[order] = p[order]
    return kept / kept.sum()


@given(
    V=st.integers(1, 30),
    seed=st.integers(0, 999),
    levels=st.sampled_from([2, 5, 1000]),  # few: many equal ones
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.one_of(st.none(), st.integers(1, 40)),
    top_p=st.sampled_from([0.05, 0.37, 0.8, 0.99, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_most_likely_are_those_that_sorting_finds(
    V, seed, levels, temperature, top_k, top_p, dtype
):
    rng = np.random.default_rng(seed)
    logits = (rng.integers(0, levels, (3, V)) * 3.0 / levels).astype(dtype)
    k = V if top_k is None else min(top_k, V)
    mask = _decoding.most_likely(logits, temperature, k, top_p)
    assert mask.dtype == np.bool_
    for row, kept in zip(logits, mask, strict=True):
        want = filtered_by_sorting(row, temperature, k, top_p)
        assert kept.tolist() == (want > 0.0).tolist() or on_the_edge(row, temperature, k, top_p)


def on_the_edge(logits, temperature, k, top_p):
    """Whether rounding decides if one more token is needed."""
    p = np.sort(filtered_by_sorting(logits, temperature, k, None))[::-1]
    return np.abs(np.cumsum(p) - top_p).min() < 1e-12


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.5, None, None), (1.0, 3, None), (1.5, None, 0.7), (2.0, 6, 0.8)],
)
def test_sampler_draws_from_what_is_left(temperature, top_k, top_p):
    """Chi-square of 20,000 draws with a fixed seed, below the 99.9 % quantile."""
    logits = np.random.default_rng(8).standard_normal(9).astype(np.float32)
    share = filtered_by_sorting(logits, temperature, top_k, top_p)
    draws = Sampler(temperature, top_k, top_p, seed=11)(np.tile(logits, (20_000, 1)))
    counts = np.bincount(draws, minlength=9)
    possible = share > 0.0
    assert not counts[~possible].any()
    expected = 20_000 * share[possible]
    chi_square = ((counts[possible] - expected) ** 2 / expected).sum()
    quantiles = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12]  # 0.999, by freedom
    assert chi_square < quantiles[np.count_nonzero(possible) - 1]


def test_sampler_at_any_scale():
    logits = np.array([[3e38, -3e38, 0.0], [-3e38, -3e38, 1.0]], np.float32)
    for temperature in (1e-300, 1.0, 1e6):
        assert Sampler(temperature, 2, 0.9, seed=0)(logits).tolist() == [0, 2]
    assert Sampler(0.0)(np.array([[1.0, 2.0, 2.0]])).tolist() == [1]
    assert Sampler()(np.zeros((0, 3))).tolist() == []


# --- states and bad input -------------------------------------------------------------------------


def test_select_state():
    h, c = np.arange(6.0).reshape(1, 3, 2), np.arange(12.0).reshape(2, 3, 2)
    got = select_state(((h, c), None, [h]), [2, 0, 0, 1])
    assert np.array_equal(got[0][0], h[:, [2, 0, 0, 1]])
    assert np.array_equal(got[0][1], c[:, [2, 0, 0, 1]])
    assert got[1] is None
    assert np.array_equal(got[2][0], got[0][0])
    assert select_state(h, [0], axis=2).shape == (1, 3, 1)
    with pytest.raises(IndexError):
        select_state(h, [3])


def constant(logits):
    return lambda tokens, state: (np.asarray(logits), state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"step": constant(np.zeros((2, 3), int))}, TypeError, "logits: expected an array of floa"),
        (
            {"step": constant(np.zeros((1, 3)))},
            ValueError,
            r"logits: expected the shape \(2, V\), g",
        ),
        (
            {"step": constant(np.zeros((2, 0)))},
            ValueError,
            r"logits: expected the shape \(2, V\), g",
        ),
        (
            {"step": constant([[0.0, np.nan]] * 2)},
            ValueError,
            "logits: expected finite .* maximum nan",
        ),
        (
            {"step": constant([[0.0, np.inf]] * 2)},
            ValueError,
            "logits: expected finite .* maximum inf",
        ),
        (
            {"step": constant([[-np.inf] * 2] * 2)},
            ValueError,
            "logits: expected finite .* maximum -inf",
        ),
        ({"start_tokens": 1}, ValueError, r"start_tokens: expected the shape \(B,\), got \(\)"),
        ({"start_tokens": [0.5]}, TypeError, "start_tokens: expected an array of integers"),
        ({"max_length": -1}, ValueError, "max_length: expected at least 0, got -1"),
        ({"eos": -1}, ValueError, "eos: expected at least 0, got -1"),
        ({"eos": 3}, ValueError, "eos: expected a token below 3, got 3"),
    ],
)
@pytest.mark.parametrize("search", [greedy, sample, beam_search])
def test_searches_refuse(search, change, error, message):
    step = constant(np.zeros((2, 3)))
    arguments = {"step": step, "start_tokens": [0, 1], "max_length": 1, **change}
    with pytest.raises(error, match=f"^{message}"):
        search(**arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": -1}, ValueError, "temperature: expected at least 0.0, got -1"),
        ({"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k: expected an integer, got 2.0"),
        ({"top_p": 0}, ValueError, "top_p: expected a number above 0, got 0.0"),
        ({"top_p": 1.1}, ValueError, "top_p: expected a number from 0.0 to 1.0, got 1.1"),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ],
)
def test_sampler_refuses(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Sampler(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width: expected at least 1, got 0"),
        ({"n_best": 5}, "n_best: expected at most beam_width 4, got 5"),
        ({"length_penalty": -1.0}, "length_penalty: expected a number from 0.0 to 10.0, got -1.0"),
    ],
)
def test_beam_search_refuses(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        beam_search(constant(np.zeros((1, 3))), [0], max_length=1, **options)
