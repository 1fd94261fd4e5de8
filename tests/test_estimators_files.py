"""Fitted estimators travel: pickle, and files without pickle."""

import copy
import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

import fastrnn
from estimator_cases import SMALL, TEXT, fitted, same, walks
from fastrnn.estimators import (
    CharLanguageModel,
    SequenceClassifier,
    SequenceRegressor,
    TimeSeriesForecaster,
)


@pytest.fixture(autouse=True)
def _one_thread(set_num_threads):
    set_num_threads(1)


@pytest.fixture(scope="module")
def cases():
    return fitted()


def test_pickled_estimators_give_the_same_bits(cases):
    for estimator, results in cases:
        expected = results(estimator)
        for other in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
            assert same(results(other), expected), estimator


def test_pickled_estimators_train_on_with_the_same_bits():
    X, y = walks()
    one = SequenceClassifier(**SMALL, num_layers=2, dropout=0.3).fit(X, y)
    other = pickle.loads(pickle.dumps(one))
    assert same(one.partial_fit(X, y).predict_proba(X), other.partial_fit(X, y).predict_proba(X))


def test_a_pickle_holds_weights_and_the_optimizer_and_no_packed_weights(cases):
    for estimator, results in cases:
        results(estimator)  # packs the weights
        numbers = 4 * estimator.model_.num_parameters()
        assert len(pickle.dumps(estimator)) < 3 * numbers + 30_000


def test_saved_estimators_give_the_same_bits(cases, tmp_path):
    for number, (estimator, results) in enumerate(cases):
        path = tmp_path / f"{number}.safetensors"
        estimator.save(path)
        other = type(estimator).load(path)
        assert same(results(other), results(estimator))
        assert other.get_params() == estimator.get_params()
        assert other.history_.records == estimator.history_.records
        fastrnn.load(path)  # the network alone


def test_a_loaded_estimator_goes_on(cases, tmp_path):
    classifier, forecaster = cases[0][0], cases[4][0]
    classifier.save(tmp_path / "a.safetensors")
    X, y = walks()
    other = SequenceClassifier.load(tmp_path / "a.safetensors").partial_fit(X, y)
    assert other.n_iter_ == classifier.n_iter_ + 1
    forecaster.save(tmp_path / "b.safetensors")
    loaded = TimeSeriesForecaster.load(tmp_path / "b.safetensors")
    new, inputs, ahead = np.arange(5.0), np.ones((5, 2)), np.ones((3, 2))
    expected = copy.deepcopy(forecaster).update(new, inputs).predict_interval(3, ahead, level=0.8)
    assert same(loaded.update(new, inputs).predict_interval(3, ahead, level=0.8), expected)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False]),
        np.array([3, 1], np.int8),
        np.array([1.0, 2.0]),
        np.array(["ü", "a longer one"]),
        np.array(["x", "y"], object),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_all_kinds(labels, tmp_path):
    X, _ = walks(8)
    classifier = SequenceClassifier(**SMALL).fit(X, labels.repeat(4))
    classifier.save(tmp_path / "x.safetensors")
    loaded = SequenceClassifier.load(tmp_path / "x.safetensors")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert same(loaded.predict(X), classifier.predict(X))


def test_what_cannot_be_saved(tmp_path):
    X, y = walks(8)
    estimator = SequenceClassifier(
        hidden_size=2, max_epochs=1, random_state=np.random.RandomState(0)
    )
    with pytest.raises(TypeError, match="RandomState"):
        estimator.fit(X, y).save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_text_model_is_one_of_fastrnn_text(cases, tmp_path):
    writer = cases[-1][0]
    writer.save(tmp_path / "x.safetensors")
    model = fastrnn.text.load_model(tmp_path / "x.safetensors")
    assert model.vocabulary.characters == "".join(sorted(set(TEXT)))


def edited(path, change):
    """Save an estimator's file again with a change of its metadata."""
    with safetensors.safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["fastrnn"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(description["metadata"])
    content = safetensors.numpy.save(arrays, {"fastrnn": json.dumps(description)})
    path.write_bytes(content)


def put(*keys, value):
    def change(metadata):
        for key in keys[:-1]:
            metadata = metadata[key]
        metadata[keys[-1]] = value

    return change


HOSTILE = [
    (0, put("estimator", value="SequenceRegressor")),
    (0, put("params", "hidden", value=3)),
    (0, put("params", "cell", value="os.system")),
    (0, put("params", "lr", value="high")),
    (0, put("kind", value="other")),
    (0, put("features", value=10**12)),
    (0, put("features", value=3)),
    (0, put("scaling", value=[[0, 0], [0, 1]])),
    (0, put("scaling", value=[[0], [1]])),
    (0, put("classes", "dtype", value="O,O")),
    (0, put("classes", "dtype", value="M8[s]")),
    (0, put("classes", "items", value=["a", "a"])),
    (0, put("classes", "items", value=["a", "b", "c"])),
    (0, put("classes", "items", value=[["a"], ["b"]])),
    (0, put("history", value=[1])),
    (1, put("params", "n_steps", value=3)),
    (2, put("outputs", value=1)),
    (2, put("flat", value="yes")),
    (3, put("ids", value=7)),
    (4, put("values", value=[[1.0]])),
    (4, put("values", value="text")),
    (4, put("inputs", value=None)),
    (4, put("scores", value=[[[-1.0]]] * 3)),
    (4, put("scores", value=[[[1.0]]])),
    (4, put("observations", value=1)),
    (4, put("calendar", value={"kind": "range"})),
    (4, put("params", "difference", value=10**9)),
    (5, put("characters", value="abc")),
    (5, put("characters", value=7)),
]


@pytest.mark.parametrize(("number", "change"), HOSTILE)
def test_files_are_not_trusted(number, change, cases, tmp_path):
    path = tmp_path / "x.safetensors"
    estimator = cases[number][0]
    estimator.save(path)
    edited(path, change)
    with pytest.raises(ValueError, match=r"x\.safetensors: "):
        type(estimator).load(path)


def test_files_of_others(cases, tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(OSError, match=r"x\.safetensors"):
        SequenceClassifier.load(path)
    path.write_bytes(pickle.dumps("anything"))
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        SequenceClassifier.load(path)
    fastrnn.save(fastrnn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="not a SequenceClassifier"):
        SequenceClassifier.load(path)
    cases[2][0].save(path)
    with pytest.raises(ValueError, match="it is a SequenceRegressor"):
        CharLanguageModel.load(path)
    assert isinstance(SequenceRegressor.load(path), SequenceRegressor)
