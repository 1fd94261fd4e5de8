"""The character language model."""

import math

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from estimator_cases import SMALL, TEXT, same
from fastrnn import losses
from fastrnn.estimators import CharLanguageModel

QUICK = {"hidden_size": 32, "num_layers": 1, "lr": 1e-2, "random_state": 0}


@pytest.fixture(autouse=True)
def _one_thread(set_num_threads):
    set_num_threads(1)


def test_it_learns_a_text():
    writer = CharLanguageModel(**QUICK, max_epochs=12).fit(TEXT * 2)
    assert writer.perplexity(TEXT) < 1.5
    assert writer.sample(19, prime="to be, or not ", temperature=0) == "to be: that is the "
    assert writer.sample(30, seed=1) == writer.sample(30, seed=1) != writer.sample(30, seed=2)
    assert set(writer.sample(50, seed=1, temperature=3, top_k=2)) <= set(TEXT)


def test_the_score_by_the_formula():
    writer = CharLanguageModel(**SMALL).fit(TEXT)
    content = TEXT[:301]
    ids = writer.vocabulary_.encode(content)
    logits, _ = writer.model_(ids[:-1])
    expected = -losses.cross_entropy(logits, ids[1:])[0]
    assert writer.score(content) == pytest.approx(expected, rel=1e-6)
    assert writer.perplexity(content) == pytest.approx(math.exp(-expected), rel=1e-6)


def test_texts_are_joined_by_line_ends():
    one = CharLanguageModel(**SMALL).fit([TEXT, TEXT])
    other = CharLanguageModel(**SMALL).fit(f"{TEXT}\n{TEXT}")
    assert same(one.score([TEXT]), other.score(TEXT))


def test_short_texts_have_fewer_streams():
    writer = CharLanguageModel(**SMALL, seq_len=5, batch_size=4)
    writer._check_settings()
    for length, streams in ((2, 1), (199, 1), (200, 2), (10_000, 4)):
        loader = writer._loader("X", np.zeros(length, int))
        assert loader.streams.batch == streams
    assert writer.fit("ab").vocabulary_.characters == "ab"
    with pytest.raises(ValueError, match="X: expected at least 2 characters, got 1"):
        writer.fit("a")


def test_the_same_random_state_gives_the_same_bits(set_num_threads):
    one = CharLanguageModel(**SMALL, dropout=0.3).fit(TEXT).score(TEXT)
    set_num_threads(2)
    assert same(CharLanguageModel(**SMALL, dropout=0.3).fit(TEXT).score(TEXT), one)


def test_partial_fit_goes_on():
    writer = CharLanguageModel(**QUICK, vocabulary="".join(sorted(set(TEXT + "x"))))
    first = writer.partial_fit(TEXT).score(TEXT)
    for _ in range(4):
        writer.partial_fit(TEXT)
    assert writer.score(TEXT) > first + 0.3
    assert writer.n_iter_ == 5
    assert len(writer.vocabulary_) == len(set(TEXT)) + 1
    with pytest.raises(ValueError, match="character '#'"):
        writer.partial_fit("to be #")


def test_early_stopping_validates_on_the_end():
    writer = CharLanguageModel(**SMALL, early_stopping=True).fit(TEXT)
    assert "validation_loss" in writer.history_[-1]
    with pytest.raises(ValueError, match="validation_fraction: "):
        CharLanguageModel(**SMALL, early_stopping=True).fit("abcdef")


def test_grid_search_over_lines():
    lines = [TEXT[i : i + 60] for i in range(0, 480, 60)]
    vocabulary = "".join(sorted({"\n", *TEXT}))
    search = GridSearchCV(
        CharLanguageModel(**SMALL, vocabulary=vocabulary), {"lr": [1e-6, 1e-2]}, cv=2
    )
    assert search.fit(lines).best_params_ == {"lr": 1e-2}


def test_bad_arguments():
    with pytest.raises(NotFittedError):
        CharLanguageModel().sample()
    with pytest.raises(NotFittedError):
        CharLanguageModel().score(TEXT)
    with pytest.raises(TypeError, match="X: expected a text or texts, got int"):
        CharLanguageModel().fit(3)
    with pytest.raises(ValueError, match=r"^seq_len: "):
        CharLanguageModel(seq_len=0).fit(TEXT)
    with pytest.raises(ValueError, match="characters: expected different"):
        CharLanguageModel(vocabulary="aa").fit("aa")
