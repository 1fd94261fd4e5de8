"""Estimators over sequences: what they learn, what X may be, scikit-learn's tools."""

import importlib
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastrnn
from estimator_cases import SMALL, same, sentences, walks
from fastrnn.estimators import SequenceClassifier, SequenceRegressor, SequenceTagger

QUICK = {"hidden_size": 16, "lr": 0.02, "max_epochs": 30, "random_state": 0}


@pytest.fixture(autouse=True)
def _one_thread(set_num_threads):
    set_num_threads(1)


# --- what they learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"cell": "gru", "pooling": "mean"}])
def test_a_classifier_learns_labels_of_sequences(options):
    X, y = walks(240, features=1)
    classifier = SequenceClassifier(**QUICK, **options).fit(X[:200], y[:200])
    assert classifier.classes_.tolist() == ["down", "up"]
    assert classifier.score(X[200:], y[200:]) > 0.85
    probabilities = classifier.predict_proba(X[200:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    chosen = classifier.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(classifier.predict(X[200:]), chosen)


def test_probabilities_are_the_softmax_of_the_network():
    X, y = walks()
    classifier = SequenceClassifier(**SMALL).fit(X, y)
    steps = np.concatenate(X)
    x = ((X[7] - steps.mean(axis=0)) / steps.std(axis=0)).astype(np.float32)
    logits, _ = classifier.model_(x)
    powers = np.exp(logits.astype(float))
    np.testing.assert_allclose(classifier.predict_proba(X)[7], powers / powers.sum(), rtol=1e-5)


@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_a_regressor_learns_numbers_in_their_own_units(outputs):
    X, _ = walks(200, features=1)
    X = [np.diff(x, axis=0) for x in X]
    y = np.array([1000 + 100 * x.mean() for x in X])
    if outputs == 3:
        y = np.stack([y, -y, y / 7], axis=1)
    elif outputs == 1:
        y = [[value] for value in y]
    regressor = SequenceRegressor(**QUICK, pooling="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about a column as y
        regressor.fit(X[:160], y[:160])
    predicted = regressor.predict(X[160:])
    assert predicted.shape == ((40, 3) if outputs == 3 else (40,))
    assert regressor.score(X[160:], y[160:]) > 0.9
    if outputs == 3:
        assert regressor.n_outputs_ == 3


def test_a_tagger_learns_a_label_for_each_step():
    X, y = sentences(300)
    tagger = SequenceTagger(**QUICK, embedding_dim=8).fit(X[:250], y[:250])
    found = tagger.predict(X[250:])
    assert [len(tags) for tags in found] == [len(x) for x in X[250:]]
    right = [list(tags) == given for tags, given in zip(found, y[250:], strict=True)]
    assert np.mean(right) > 0.85
    assert tagger.score(X[250:], y[250:]) > 0.95
    assert tagger.score(X[250:251], [["-", *found[0][1:]]]) == 1
    for probabilities, x in zip(tagger.predict_proba(X[250:]), X[250:], strict=True):
        assert probabilities.shape == (len(x), 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_padding_counts_nowhere():
    X, y = sentences()
    tagger = SequenceTagger(**SMALL, embedding_dim=4).fit(X, y)
    assert same(tagger.predict_proba(X)[5], tagger.predict_proba([X[5]])[0])
    codes = [(np.array(tags) == "falls").astype(int) for tags in y]
    loss = tagger._trainer.evaluate(tagger._loader(X, codes))["loss"]
    found, codes = np.concatenate(tagger.predict_proba(X)), np.concatenate(codes)
    np.testing.assert_allclose(loss, -np.log(found[range(len(codes)), codes]).mean(), rtol=1e-5)


# --- what X may be --------------------------------------------------------------------------------


def test_forms_of_the_same_sequences_give_the_same_bits():
    rng = np.random.default_rng(0)
    table, y = rng.normal(size=(30, 6)), np.arange(30) % 3

    def learn(X, **options):
        return SequenceClassifier(**SMALL, **options).fit(X, y).predict_proba(X)

    for n_steps in (None, 2, 3):
        cut = table.reshape(30, n_steps or 6, -1)
        expected = learn(table, n_steps=n_steps)
        assert same(expected, learn(cut))
        assert same(expected, learn(list(cut)))
    assert same(learn(table), learn(list(table)))
    assert same(learn(table), learn(table.tolist()))
    ids = rng.integers(0, 5, (30, 4))
    assert same(learn(ids, embedding_dim=3), learn(list(ids), embedding_dim=3))
    assert same(learn(ids, embedding_dim=3), learn(ids.tolist(), embedding_dim=3))


def test_lists_of_lists_of_different_lengths():
    X = [[1.0, 2.0], [1.0, 2.0, 3.0], [4.0]] * 5
    classifier = SequenceClassifier(**SMALL).fit(X, [0, 1, 0] * 5)
    assert classifier.n_features_in_ == 1
    assert classifier.predict(X[:1]).shape == (1,)


def test_object_arrays_of_sequences():
    X, y = walks()
    boxes = np.empty(len(X), object)
    boxes[:] = X
    one = SequenceClassifier(**SMALL).fit(X, y).predict_proba(X)
    assert same(SequenceClassifier(**SMALL).fit(boxes, y).predict_proba(boxes), one)


def test_scaling_inside_makes_units_irrelevant():
    X, y = walks()
    one = SequenceClassifier(**SMALL).fit(X, y).predict_proba(X)
    scaled = [x * 1024 for x in X]
    np.testing.assert_array_equal(
        SequenceClassifier(**SMALL).fit(scaled, y).predict_proba(scaled), one
    )
    plain = SequenceClassifier(**SMALL, standardize=False).fit(X, y)
    assert not same(plain.predict_proba(X), one)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ([], ValueError, "0 sample|at least one|2D array"),
        ([np.ones((3, 2)), np.ones((0, 2))], ValueError, r"X\[1\]: expected the shape"),
        ([np.ones((3, 2)), np.ones((3, 1))], ValueError, r"X\[1\]: expected \(2,\) features"),
        ([np.ones((3, 2)), np.full((3, 2), np.nan)], ValueError, r"X\[1\] contains NaN"),
        ([np.ones((3, 2)), np.ones((3, 2, 2))], ValueError, r"X\[1\]: expected the shape"),
        ([np.ones((3, 2))] * 3, ValueError, "inconsistent numbers of samples"),
        (np.ones((2, 3, 0)), ValueError, "X: expected an array"),
        (np.full((2, 3, 1), np.inf), ValueError, "X contains infinity"),
        ([np.array(["a"]), np.array(["b"])], ValueError, "could not convert|dtype"),
    ],
)
def test_bad_sequences(X, error, words):
    with pytest.raises(error, match=words):
        SequenceClassifier(**SMALL).fit(X, [0, 1])


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ([np.array([0, 1]), np.array([0.5])], TypeError, r"X\[1\]: expected token ids"),
        (
            [np.array([0, 1]), np.array([-1])],
            ValueError,
            "X: expected token ids from 0 to 1, got -1",
        ),
        ([np.array([0, 1]), np.zeros((2, 2), int)], ValueError, r"X\[1\]: expected the shape"),
    ],
)
def test_bad_token_ids(X, error, words):
    with pytest.raises(error, match=words):
        SequenceTagger(**SMALL, embedding_dim=2).fit(X, [[0, 1], [0]])


def test_what_does_not_fit_what_was_fitted():
    X, y = walks()
    classifier = SequenceClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="X: expected 2 features of a step, got 3"):
        classifier.predict([np.ones((4, 3))])
    ids, tags = sentences()
    tagger = SequenceTagger(**SMALL, embedding_dim=4).fit(ids, tags)
    with pytest.raises(ValueError, match="X: expected token ids from 0 to 5, got 6"):
        tagger.predict([np.array([6])])
    with pytest.raises(ValueError, match=r"y\[0\]: expected the shape"):
        tagger.score(ids, [tag[1:] for tag in tags])
    with pytest.raises(ValueError, match="y: expected labels of 60 sequences, got 2"):
        tagger.score(ids, tags[:2])


@pytest.mark.parametrize("estimator", [SequenceClassifier, SequenceRegressor, SequenceTagger])
def test_before_fit(estimator):
    with pytest.raises(NotFittedError):
        estimator().predict([np.ones((2, 1))])
    with pytest.raises(NotFittedError):
        estimator().save("never.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("cell", "transformer", ValueError),
        ("hidden_size", 0, ValueError),
        ("num_layers", 1.5, TypeError),
        ("bidirectional", "no", TypeError),
        ("pooling", "first", ValueError),
        ("dropout", 2, ValueError),
        ("n_steps", 4, ValueError),
        ("embedding_dim", 0, ValueError),
        ("num_embeddings", 3, ValueError),
        ("standardize", 1, TypeError),
        ("lr", 0, ValueError),
        ("batch_size", 0, ValueError),
        ("max_epochs", 0, ValueError),
        ("optimizer", "lbfgs", ValueError),
        ("weight_decay", -1, ValueError),
        ("clip_norm", 0, ValueError),
        ("early_stopping", 1, TypeError),
        ("validation_fraction", 2, ValueError),
        ("patience", 0, ValueError),
    ],
)
def test_bad_parameters_are_named(name, value, error):
    with pytest.raises(error, match=f"^{name}: "):
        SequenceClassifier(**{name: value}).fit(np.ones((4, 3)), [0, 1, 0, 1])


# --- training -------------------------------------------------------------------------------------


def test_the_same_random_state_gives_the_same_bits(set_num_threads):
    X, y = walks()
    options = {**SMALL, "dropout": 0.2, "num_layers": 2, "early_stopping": True}

    def learn(**more):
        return SequenceClassifier(**{**options, **more}).fit(X, y).predict_proba(X)

    one = learn()
    set_num_threads(2)
    assert same(one, learn())
    assert same(one, learn(random_state=np.random.RandomState(3)))
    assert not same(one, learn(random_state=4))


def test_fit_starts_anew_and_partial_fit_goes_on():
    X, y = walks()
    classifier = SequenceClassifier(**SMALL).fit(X, y)
    one = classifier.predict_proba(X)
    assert classifier.n_iter_ == len(classifier.history_["loss"]) == 2
    classifier.partial_fit(X[::-1], y[::-1])
    assert classifier.n_iter_ == 3
    assert not same(classifier.predict_proba(X), one)
    assert same(classifier.fit(X, y).predict_proba(X), one)


def test_partial_fit_alone_learns():
    X, y = walks(150, features=1)
    classifier = SequenceClassifier(**QUICK)
    with pytest.raises(ValueError, match="classes: "):
        classifier.partial_fit(X, y)
    for _ in range(15):
        classifier.partial_fit(X, y, classes=["up", "down", "never"])
    assert classifier.classes_.tolist() == ["down", "never", "up"]
    assert classifier.score(X, y) > 0.85
    with pytest.raises(ValueError, match="classes: expected"):
        classifier.partial_fit(X, y, classes=["up"])
    with pytest.raises(ValueError, match="y: expected labels among"):
        classifier.partial_fit(X[:2], ["up", "sideways"])
    numbers = [x[-1, 0] for x in X]
    regressor = SequenceRegressor(**QUICK)
    losses = [regressor.partial_fit(X, numbers).history_["loss"][-1] for _ in range(8)]
    assert losses[-1] < losses[0] / 2


def test_early_stopping_takes_the_best_weights():
    X, y = walks(60, features=1)
    noise = np.random.default_rng(1).permutation(y)  # nothing to learn: it soon becomes worse
    options = {**QUICK, "max_epochs": 40, "patience": 2, "early_stopping": True}
    classifier = SequenceClassifier(**options).fit(X, noise)
    losses = classifier.history_["validation_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    shorter = SequenceClassifier(**{**options, "max_epochs": best + 1}).fit(X, noise)
    assert same(classifier.predict_proba(X), shorter.predict_proba(X))


# --- scikit-learn's tools -------------------------------------------------------------------------


def test_kinds():
    assert is_classifier(SequenceClassifier())
    assert is_regressor(SequenceRegressor())


def test_clone_and_parameters():
    classifier = SequenceClassifier(hidden_size=5).set_params(lr=0.5)
    copied = clone(classifier)
    assert copied.get_params() == classifier.get_params()
    assert copied.get_params()["hidden_size"] == 5
    with pytest.raises(ValueError, match="Invalid parameter"):
        classifier.set_params(hidden=3)


def test_pipeline_over_tables():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)) * [1, 1, 100, 10]
    y = X[:, 3] > 0
    pipeline = make_pipeline(StandardScaler(), SequenceClassifier(**QUICK))
    assert pipeline.fit(X, y).score(X, y) > 0.9


def test_grid_search_over_lists_in_two_processes():
    X, y = walks(60, features=1)
    search = GridSearchCV(
        SequenceClassifier(**SMALL), {"cell": ["rnn", "gru"], "lr": [1e-3, 1e-2]}, cv=2, n_jobs=2
    )
    search.fit(X, y)
    alone = GridSearchCV(search.estimator, search.param_grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    assert same(search.predict_proba(X), alone.predict_proba(X))


def test_cross_validation_of_a_tagger():
    X, y = sentences(90)
    scores = cross_val_score(
        SequenceTagger(**{**QUICK, "max_epochs": 15}, embedding_dim=8), X, y, cv=3
    )
    assert scores.shape == (3,)
    assert scores.min() > 0.8


def test_a_table_of_pandas_keeps_its_names():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(20, 3)), columns=["a", "b", "c"])
    y = pd.Series(["x", "y"] * 10)
    classifier = SequenceClassifier(**SMALL).fit(X, y)
    assert classifier.feature_names_in_.tolist() == ["a", "b", "c"]
    assert set(classifier.predict(X)) <= {"x", "y"}
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(X[["b", "a", "c"]])


def test_the_network_is_a_plain_model():
    X, y = walks()
    classifier = SequenceClassifier(**SMALL).fit(X, y)
    assert isinstance(classifier.model_, fastrnn.Sequential)
    assert all(p.grad is None for p in classifier.model_.parameters().values())


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "fastrnn.estimators._sklearn")
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[estimators\]'"):
        importlib.import_module("fastrnn.estimators._sklearn")
