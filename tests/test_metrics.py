"""Metrics against scikit-learn, over batches and with masks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fastrnn import losses, metrics


def classes_case(rng, C=4, shape=(6, 5)):
    logits = rng.standard_normal((*shape, C))
    return logits, rng.integers(0, C, shape), rng.random(shape) < 0.7


@given(st.integers(0, 2**31))
def test_metrics_of_classes_are_scikit_learns(seed):
    logits, targets, mask = classes_case(np.random.default_rng(seed))
    if not mask.any():
        mask[0, 0] = True
    guess, truth = logits[mask].argmax(-1), targets[mask]
    assert metrics.Accuracy()(logits, targets, mask) == reference.accuracy_score(truth, guess)
    macro = reference.f1_score(truth, guess, average="macro", zero_division=0.0)
    assert metrics.F1()(logits, targets, mask) == pytest.approx(macro, rel=1e-12)
    micro = reference.f1_score(truth, guess, average="micro")
    assert metrics.F1("micro")(logits, targets, mask) == pytest.approx(micro, rel=1e-12)
    top = reference.top_k_accuracy_score(truth, logits[mask], k=2, labels=range(4))
    assert metrics.TopKAccuracy(2)(logits, targets, mask) == pytest.approx(top, rel=1e-12)
    mean = losses.cross_entropy(logits, targets, mask=mask)[0]
    assert metrics.Perplexity()(logits, targets, mask) == pytest.approx(math.exp(mean), rel=1e-12)


def test_binary_f1():
    logits, targets, _ = classes_case(np.random.default_rng(0), C=2)
    expected = reference.f1_score(targets.ravel(), logits.argmax(-1).ravel())
    assert metrics.F1("binary")(logits, targets) == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**31), st.sampled_from([(7,), (6, 5), (6, 5, 2)]))
def test_metrics_of_values_are_scikit_learns(seed, shape):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, *shape))
    assert metrics.MeanAbsoluteError()(a, b) == pytest.approx(
        reference.mean_absolute_error(b.ravel(), a.ravel())
    )
    assert metrics.MeanSquaredError()(a, b) == pytest.approx(
        reference.mean_squared_error(b.ravel(), a.ravel())
    )
    assert metrics.RootMeanSquaredError()(a, b) == pytest.approx(
        math.sqrt(reference.mean_squared_error(b.ravel(), a.ravel()))
    )


@pytest.mark.parametrize("name", metrics.METRICS)
def test_sums_of_parts_are_those_of_the_whole_and_padding_never_counts(name):
    rng = np.random.default_rng(1)
    metric = metrics.METRICS[name]()
    outputs, targets, mask = classes_case(rng)
    if isinstance(metric, metrics._Error):
        outputs, targets = rng.standard_normal((2, 6, 5))
    parts = sum(
        metric.measure(outputs[:, part], targets[:, part], mask[:, part])
        for part in (slice(0, 2), slice(2, 5))
    )
    assert metric.result(parts) == pytest.approx(metric(outputs, targets, mask), rel=1e-12)
    spoiled = np.where(mask[..., np.newaxis] if outputs.ndim == 3 else mask, outputs, 1e6)
    assert metric(spoiled, targets, mask) == metric(outputs, targets, mask)


def test_ignored_targets_do_not_count():
    logits, targets, mask = classes_case(np.random.default_rng(2))
    ignored = np.where(mask, targets, losses.IGNORE_INDEX)
    for metric in (metrics.Accuracy(), metrics.F1(), metrics.Perplexity()):
        assert metric(logits, ignored) == metric(logits, targets, mask)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_of_nothing_they_are_nan(name):
    metric = metrics.METRICS[name]()
    outputs = np.zeros((0, 3)) if not isinstance(metric, metrics._Error) else np.zeros(0)
    targets = np.zeros(0, int) if outputs.ndim == 2 else np.zeros(0)
    assert math.isnan(metric(outputs, targets))


def test_a_perplexity_beyond_floats_is_infinite():
    logits = np.array([[0.0, -2000.0]])
    assert metrics.Perplexity()(logits, np.array([1])) == math.inf


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.F1("weighted"), "average: expected 'macro', 'micro' or 'binary'"),
        (
            lambda: metrics.Accuracy()(np.zeros((2, 3)), np.zeros(3, int)),
            "targets: expected classes",
        ),
        (lambda: metrics.Accuracy()(np.zeros((2, 3)), np.zeros(2)), "targets: expected classes"),
        (lambda: metrics.MeanSquaredError()(np.zeros(2), np.zeros(3)), "targets: expected the out"),
        (lambda: metrics.TopKAccuracy(0), "k: expected at least 1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
