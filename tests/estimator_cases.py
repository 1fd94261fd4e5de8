"""Small data and small estimators for the tests of fastrnn.estimators."""

import numpy as np

from fastrnn.estimators import (
    CharLanguageModel,
    SequenceClassifier,
    SequenceRegressor,
    SequenceTagger,
    TimeSeriesForecaster,
)

SMALL = {"hidden_size": 8, "max_epochs": 2, "random_state": 3}


def walks(count=40, features=2, seed=0):
    """Return random walks of different lengths, and whether each ends above its start."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(rng.integers(3, 12), features)).cumsum(axis=0) for _ in range(count)]
    return X, np.array(["up" if x[-1, 0] > x[0, 0] else "down" for x in X])


def sentences(count=60, seed=0):
    """Return sequences of token ids, and for each token whether the one before it is larger."""
    rng = np.random.default_rng(seed)
    X = [rng.integers(0, 6, rng.integers(2, 9)) for _ in range(count)]
    return X, [["falls" if d < 0 else "-" for d in np.diff(x, prepend=0)] for x in X]


def waves(count=160, columns=1, seed=0):
    """Return noisy waves (count, columns)."""
    rng = np.random.default_rng(seed)
    t = np.arange(count)[:, None] / np.arange(3, 3 + columns)
    return 5 + np.sin(t) + 0.1 * rng.normal(size=t.shape)


TEXT = "to be, or not to be: that is the question. " * 12


def fitted():
    """Return one of each estimator, fitted, with what shows that another is the same."""
    X, labels = walks()
    ids, tags = sentences()
    numbers = np.array([[x[:, 0].mean(), x[:, 1].max()] for x in X])
    y, exogenous = waves()[:, 0], waves(columns=2, seed=1)
    small = {**SMALL, "window": 8, "horizon": 3}
    ahead = exogenous[:3]
    return [
        (SequenceClassifier(**SMALL).fit(X, labels), lambda e: e.predict_proba(X)),
        (
            SequenceClassifier(**SMALL, n_steps=2, bidirectional=True).fit(
                numbers.repeat(2, axis=1), np.arange(len(X)) % 3
            ),
            lambda e: e.predict_proba(numbers.repeat(2, axis=1)),
        ),
        (SequenceRegressor(**SMALL, num_layers=2).fit(X, numbers), lambda e: e.predict(X)),
        (SequenceTagger(**SMALL, embedding_dim=4).fit(ids, tags), lambda e: e.predict_proba(ids)),
        (
            TimeSeriesForecaster(**small, difference=1).fit(y, exogenous),
            lambda e: [e.predict(X=ahead), *e.predict_interval(2, ahead, level=0.8)],
        ),
        (
            CharLanguageModel(**SMALL, dropout=0.1).fit(TEXT),
            lambda e: [e.score(TEXT), e.sample(20, seed=1)],
        ),
    ]


def same(one, other):
    """Return whether two results, arrays or lists of them, are the same bits."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)
