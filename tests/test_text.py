"""Character models: vocabulary, recipe, training, sampling, files."""

import collections
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import GRU, LSTM, RNN, Linear, Sequential, serialization
from fastrnn.text import Recipe, Training, Vocabulary, build_model, load_model, sample, save_model

WORDS = "the cat sat on the mat; the dog sat on the log.\n"
TEXT = WORDS * 40
TINY = Recipe(hidden=5, layers=1, seq_len=7, batch=3, epochs=2)


# --- vocabulary -----------------------------------------------------------------------------------


@given(st.text(st.characters(), min_size=1))
def test_vocabulary_round_trip(content):
    vocabulary = Vocabulary.from_text(content)
    assert vocabulary.characters == "".join(sorted(set(content)))
    ids = vocabulary.encode(content)
    assert ids.dtype == np.int64
    assert vocabulary.decode(ids) == content


def test_unknown_characters_are_named_or_replaced():
    vocabulary = Vocabulary.from_text("hello")
    message = r"character 'é' \(U\+00E9\) at position 3 is not among the 4 characters"
    with pytest.raises(ValueError, match=message):
        vocabulary.encode("heléo😀")
    assert vocabulary.decode(vocabulary.encode("heléo😀", unknown="l")) == "hellol"
    for unknown in ("é", "", "he"):
        with pytest.raises(ValueError, match="unknown: expected a character of the vocabulary"):
            vocabulary.encode("hello", unknown=unknown)


def test_vocabulary_rejects():
    for characters in ("", "aba"):
        with pytest.raises(ValueError, match="characters: expected different characters"):
            Vocabulary(characters)
    with pytest.raises(TypeError, match="characters: expected a str, got list"):
        Vocabulary(["a"])
    with pytest.raises(ValueError, match="ids: expected 0 to 1, got 2 at index 0"):
        Vocabulary("ab").decode([2])


def test_vocabulary_compares_by_its_characters():
    assert Vocabulary("ab") == Vocabulary.from_text("bab")
    assert Vocabulary("ab") != Vocabulary("ba")
    assert len({Vocabulary("ab"), Vocabulary("ab")}) == 1
    assert "a" in Vocabulary("ab")
    assert len(Vocabulary("ab")) == 2


# --- model and recipe -----------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "kind"), [("lstm", LSTM), ("gru", GRU), ("rnn", RNN)])
def test_build_model(cell, kind):
    model = build_model(cell, Vocabulary("abc"), hidden=4, layers=2, dropout=0.5, seed=0)
    recurrent, linear = model
    assert type(recurrent) is kind
    assert (recurrent.input_size, recurrent.hidden_size, recurrent.num_layers) == (3, 4, 2)
    assert recurrent.dropout == 0.5
    assert (linear.in_features, linear.out_features) == (4, 3)
    logits, _ = model(np.array([[0, 1], [2, 0]]))
    assert logits.shape == (2, 2, 3)
    assert logits.dtype == np.float32


def test_build_model_is_drawn_from_its_seed():
    same = [build_model("gru", Vocabulary("abc"), 4, seed=s).state_dict() for s in (1, 1, 2)]
    for name in same[0]:
        np.testing.assert_array_equal(same[0][name], same[1][name])
        assert (same[0][name] != same[2][name]).any()
    first = same[0]["0.weight_ih_l0"].ravel()
    assert not np.isin(same[0]["1.weight"], first).any()  # one stream of draws, not the same twice


def test_build_model_rejects_an_unknown_cell():
    with pytest.raises(ValueError, match="cell: expected one of lstm, gru, rnn, got 'elman'"):
        build_model("elman", Vocabulary("ab"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "elman"}, "cell: expected one of lstm, gru, rnn, got 'elman'"),
        ({"hidden": 0}, "hidden: expected at least 1, got 0"),
        ({"layers": 0}, "layers"),
        ({"seq_len": 0}, "seq_len"),
        ({"batch": -1}, "batch"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"dropout": 1.5}, "dropout"),
        ({"clip": -1.0}, "clip"),
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
        ({"lr": math.nan}, "lr"),
        ({"lr": math.inf}, "lr"),
    ],
)
def test_recipe_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**arguments)


# --- training -------------------------------------------------------------------------------------


def test_training_reads_the_text_as_the_recipe_says():
    training = Training(TEXT, TINY)
    cut = int(len(TEXT) * 0.95)
    ids = training.vocabulary.encode(TEXT)
    for part, streams in ((ids[:cut], training.train), (ids[cut:], training.validation)):
        T = (len(part) - 1) // 3
        np.testing.assert_array_equal(streams.inputs, part[: 3 * T].reshape(3, T).T)
        np.testing.assert_array_equal(streams.targets, part[1 : 3 * T + 1].reshape(3, T).T)
    assert training.windows == len(training.train) // 7
    assert training.window_size == 21
    assert len(list(training.epoch())) == training.windows
    assert training.epochs == 1


def test_training_lowers_the_loss_and_repeats_with_its_seed():
    losses = []
    for _ in range(2):
        training = Training(TEXT, TINY)
        before = training.validate()
        for _ in range(3):
            collections.deque(training.epoch(), maxlen=0)
        losses.append(training.validate())
    assert losses[0] < before - 0.3
    assert losses[0] == losses[1]


def test_learning_rate_falls_from_the_tenth_epoch_on():
    training = Training(WORDS * 3, Recipe(hidden=1, layers=1, seq_len=40, batch=1, lr=0.1))
    rates = []
    for _ in range(12):
        collections.deque(training.epoch(), maxlen=0)
        rates.append(training.optimizer.lr)
    assert rates == pytest.approx([0.1] * 9 + [0.1 * 0.97, 0.1 * 0.97**2, 0.1 * 0.97**3])


@pytest.mark.parametrize(
    ("seq_len", "batch", "enough", "message"),
    [
        (40, 1, 44, r"40 characters .*\(1 streams, windows of 40\).*, got 40 and 3"),
        (7, 3, 61, r"more than 21 .* more than 3 to validate on, got 57 and 3"),
    ],
)
def test_training_rejects_a_short_text(seq_len, batch, enough, message):
    recipe = Recipe(hidden=1, layers=1, seq_len=seq_len, batch=batch)
    training = Training("a" * enough, recipe)
    assert training.windows >= 1
    assert math.isfinite(training.validate())
    with pytest.raises(ValueError, match=message):
        Training("a" * (enough - 1), recipe)


# --- sampling -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    training = Training(TEXT, Recipe(hidden=24, layers=1, seq_len=12, batch=4, lr=0.02))
    for _ in range(12):
        collections.deque(training.epoch(), maxlen=0)
    return training


def test_sample_goes_on_as_the_text_does(trained):
    written = sample(trained.model, trained.vocabulary, 40, prime="the cat s", temperature=0)
    assert WORDS.replace("\n", "")[9:14] in "".join(written)


def test_sample_takes_the_likeliest_at_temperature_zero(trained):
    """Against the whole text so far read again for each character."""
    prime = "the dog"
    written = prime
    for _ in range(20):
        logits, _ = trained.model(trained.vocabulary.encode(written))
        written += trained.vocabulary.characters[int(np.argmax(logits[-1]))]
    got = sample(trained.model, trained.vocabulary, 20, prime=prime, temperature=0)
    assert prime + "".join(got) == written


def test_sample_draws_from_the_softmax():
    """The first character, over many seeds: within five standard deviations of its share."""
    vocabulary, temperature, draws = Vocabulary("\nabc"), 0.5, 2000
    model = build_model("rnn", vocabulary, 3, 1, seed=4)
    logits = model(vocabulary.encode("\n"))[0][-1].astype(float)
    shares = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    counts = collections.Counter(
        next(sample(model, vocabulary, 1, temperature=temperature, seed=seed))
        for seed in range(draws)
    )
    for character, share in zip(vocabulary.characters, shares, strict=True):
        deviation = math.sqrt(draws * share * (1 - share))
        assert abs(counts[character] - draws * share) < 5 * deviation


def test_sample_draws_from_the_likeliest_alone():
    vocabulary = Vocabulary("\nabcdefgh")
    model = build_model("gru", vocabulary, 5, 1, seed=4)
    logits = model(vocabulary.encode("\n"))[0][-1]
    order = [vocabulary.characters[v] for v in np.argsort(-logits)]
    shares = np.cumsum(np.sort(np.exp(logits))[::-1]) / np.exp(logits).sum()
    nucleus = 1 + np.count_nonzero(shares < 0.6)
    assert 1 < nucleus < 9
    for options, count in (({"top_k": 3}, 3), ({"top_p": 0.6}, nucleus)):
        drawn = {next(sample(model, vocabulary, 1, seed=seed, **options)) for seed in range(300)}
        assert drawn == set(order[:count])


def test_sample_repeats_with_its_seed_and_has_its_length(trained):
    def write(seed):
        return "".join(sample(trained.model, trained.vocabulary, 200, seed=seed))

    assert len(write(1)) == 200
    assert write(1) == write(1) != write(2)
    assert list(sample(trained.model, trained.vocabulary, 0)) == []


def test_sample_comes_character_by_character(trained):
    endless = sample(trained.model, trained.vocabulary, 10**9, seed=1)
    assert len("".join(itertools.islice(endless, 3))) == 3


def test_sample_starts_after_a_line_end_or_the_first_character():
    for characters, start in (("a\nb", "\n"), ("abc", "a")):
        vocabulary = Vocabulary(characters)
        model = build_model("gru", vocabulary, 4, 1, seed=0)
        with_prime = sample(model, vocabulary, 30, prime=start, seed=5)
        assert list(sample(model, vocabulary, 30, seed=5)) == list(with_prime)


def test_sample_rejects_at_the_call(trained):
    for arguments, message in (
        ({"length": -1}, "length: expected at least 0, got -1"),
        ({"length": 1, "temperature": -0.5}, "temperature"),
        ({"length": 1, "seed": -1}, "seed: expected at least 0, got -1"),
        ({"length": 1, "temperature": math.nan}, "temperature"),
        ({"length": 1, "top_k": 0}, "top_k: expected at least 1, got 0"),
        ({"length": 1, "top_p": 1.5}, "top_p: expected a number from 0.0 to 1.0, got 1.5"),
        ({"length": 1, "prime": "caß"}, r"'ß' \(U\+00DF\) at position 2"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(trained.model, trained.vocabulary, **arguments)


# --- files ----------------------------------------------------------------------------------------


def test_save_and_load_keep_everything(tmp_path):
    training = Training(TEXT, TINY)
    training.save(tmp_path / "m.safetensors", validation_loss=1.5, epochs=2)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.vocabulary == training.vocabulary
    assert loaded.recipe == TINY
    assert loaded.metadata["validation_loss"] == 1.5
    for name, array in training.model.state_dict().items():
        np.testing.assert_array_equal(loaded.model.state_dict()[name], array)


@pytest.mark.parametrize(
    "change",
    [
        {"characters": None},
        {"characters": ""},
        {"characters": "aab"},
        {"characters": "abcd"},
        {"characters": ["a", "b", "c"]},
        {"recipe": {"hidden": -1}},
        {"recipe": {"nonsense": 1}},
        {"recipe": [1]},
    ],
)
def test_load_rejects_metadata_that_do_not_fit(change, tmp_path):
    path = tmp_path / "m.safetensors"
    model = build_model("rnn", Vocabulary("abc"), 2, 1)
    serialization.save(model, path, {"characters": "abc", **change})
    with pytest.raises(ValueError, match=r"m\.safetensors: not a character model"):
        load_model(path)


@pytest.mark.parametrize(
    "model",
    [
        Linear(3, 3),
        RNN(3, 3),
        Sequential(RNN(3, 2)),
        Sequential(Linear(3, 3), RNN(3, 3)),
        Sequential(RNN(3, 2), Linear(2, 4)),
        Sequential(RNN(4, 2), Linear(2, 3)),
    ],
)
def test_load_rejects_other_models(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, model, Vocabulary("abc"))
    with pytest.raises(ValueError, match=r"m\.safetensors: not a character model of 3"):
        load_model(path)


def test_load_names_a_missing_or_damaged_file(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError):
        load_model(path)
    Training(TEXT, TINY).save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        load_model(path)
