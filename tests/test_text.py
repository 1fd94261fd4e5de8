"""Character models: vocabulary, recipe, training, sampling, files."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import GRU, LSTM, RNN, Linear, Sequential, serialization
from fastrnn.text import Recipe, Training, Vocabulary, build_model, load_model, sample, save_model
from fastrnn.training import Callback

WORDS = "the cat sat on the mat; the dog sat on the log.\n"
TEXT = WORDS * 40
TINY = Recipe(hidden=5, layers=1, seq_len=7, batch=3, epochs=2)


def fit(training, **options):
    return training.fit(progress=False, **options)


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
        ({"patience": -1}, "patience: expected at least 0, got -1"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of rmsprop, adam, adamw, sgd, got"),
        ({"schedule": "later"}, "schedule: expected one of late, constant, exponential, cosine"),
        ({"clip_norm": -1.0}, "clip_norm"),
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
    for part, loader in ((ids[:cut], training.train), (ids[cut:], training.validation)):
        T, streams = (len(part) - 1) // 3, loader.streams
        np.testing.assert_array_equal(streams.inputs, part[: 3 * T].reshape(3, T).T)
        np.testing.assert_array_equal(streams.targets, part[1 : 3 * T + 1].reshape(3, T).T)
    assert (training.train.partial, training.validation.partial) == (False, True)
    assert len(fit(training)) == TINY.epochs
    assert training.trainer.step == TINY.epochs * (len(training.train.streams) // 7)


def test_training_lowers_the_loss_and_repeats_with_its_seed():
    losses = []
    for _ in range(2):
        training = Training(TEXT, TINY)
        before = training.validate()
        assert fit(training)[-1]["validation_loss"] == training.validate()
        losses.append(training.validate())
    assert losses[0] < before - 0.2
    assert losses[0] == losses[1]


def rates(**options):
    """The learning rate of each window, by epochs."""
    recipe = Recipe(hidden=1, layers=1, seq_len=40, batch=1, lr=0.1, **options)
    training, found = Training(WORDS * 4, recipe), []

    class Note(Callback):
        def on_step(self, trainer):
            found.append(trainer.last["learning_rate"])

    fit(training, callbacks=[Note()])
    return np.array(found).reshape(-1, len(training.train))


def test_learning_rate_falls_from_the_tenth_epoch_on():
    expected = [0.1] * 10 + [0.1 * 0.97, 0.1 * 0.97 * 0.97, 0.1 * 0.97 * 0.97 * 0.97]
    assert list(rates(epochs=13)[:, 0]) == expected  # the bits of multiplying in a loop


def test_schedules():
    epochs = np.arange(20)
    assert (rates(epochs=20, schedule="constant") == 0.1).all()
    expected = 0.1 * 0.97**epochs
    np.testing.assert_allclose(rates(epochs=20, schedule="exponential")[:, 0], expected)
    expected = 0.05 * (1 + np.cos(np.pi * epochs / 20))
    np.testing.assert_allclose(rates(epochs=20, schedule="cosine")[:, 0], expected)
    each = rates(epochs=20, schedule="warmup").ravel()
    peak = each.argmax()
    assert peak == len(each) // 20 > 0
    assert each[peak] == 0.1
    assert (np.diff(each)[:peak] > 0).all()
    assert (np.diff(each)[peak:] < 0).all()
    assert each[-1] < 0.001


def test_the_plateau_schedule_halves_the_rate_where_nothing_improves():
    recipe = Recipe(hidden=1, layers=1, seq_len=40, batch=1, epochs=6, lr=1e-7, schedule="plateau")
    history = fit(Training(WORDS * 4, recipe))
    assert history["learning_rate"] == [1e-7] * 3 + [5e-8] * 2 + [2.5e-8]


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw", "sgd"])
def test_optimizers(name):
    training = Training(TEXT, dataclasses.replace(TINY, optimizer=name))
    assert type(training.trainer.optimizer).__name__.lower() == name
    assert training.trainer.optimizer.lr == TINY.lr


def test_patience_ends_with_the_best_weights():
    """Of a text whose end is another: what is learnt of the first part only harms."""
    content = "ab" * 300 + "ba" * 5 + "bbaa" * 10
    recipe = Recipe(hidden=4, layers=1, seq_len=10, batch=2, epochs=50, lr=0.03, patience=2)
    training = Training(content, recipe)
    history = fit(training)
    best = int(np.argmin(history["validation_loss"]))
    assert len(history) == best + 1 + 2 < 50
    assert training.validate() == history["validation_loss"][best]


def test_gradients_are_clipped_as_the_recipe_says():
    for limits in ({"clip": 0.0}, {"clip": 0.5}, {"clip_norm": 0.25}):
        trainer = Training(TEXT, dataclasses.replace(TINY, **limits)).trainer
        assert trainer.clip_value == (limits.get("clip", 5.0) or None)
        assert trainer.clip_norm == limits.get("clip_norm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 6}, "hidden: expected 5 as in this checkpoint, got 6"),
        ({"batch": 4}, "batch: expected 3 as in this checkpoint, got 4"),
        ({"lr": 0.1}, "lr: expected 0.002 as in this checkpoint, got 0.1"),
        ({"schedule": "cosine"}, "schedule: expected late as in"),
        ({"text": TEXT.replace("cat", "dog")}, "text: expected the one that this checkpoint"),
    ],
)
def test_another_training_does_not_go_on(change, message, tmp_path):
    fit(Training(TEXT, TINY), checkpoint=tmp_path)
    content = change.pop("text", TEXT)
    other = Training(content, dataclasses.replace(TINY, **change))
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors: {message}"):
        fit(other, checkpoint=tmp_path, resume=True)


def test_more_epochs_and_patience_go_on_with_the_same_bits(tmp_path):
    fit(Training(TEXT, TINY), checkpoint=tmp_path)
    more = dataclasses.replace(TINY, epochs=4, patience=9)
    resumed, whole = Training(TEXT, more), Training(TEXT, more)
    assert len(fit(resumed, checkpoint=tmp_path, resume=True)) == 4
    fit(whole)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], array)


def test_epochs_are_fixed_where_the_schedule_is_made_for_them(tmp_path):
    recipe = dataclasses.replace(TINY, schedule="warmup")
    fit(Training(TEXT, recipe), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="epochs: expected 2 as in this checkpoint, got 3"):
        fit(
            Training(TEXT, dataclasses.replace(recipe, epochs=3)),
            checkpoint=tmp_path,
            resume=True,
        )


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
    assert len(training.train) >= 1
    assert math.isfinite(training.validate())
    with pytest.raises(ValueError, match=message):
        Training("a" * (enough - 1), recipe)


# --- sampling -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    recipe = Recipe(hidden=24, layers=1, seq_len=12, batch=4, lr=0.02, epochs=12)
    training = Training(TEXT, recipe)
    fit(training)
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
