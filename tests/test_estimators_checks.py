"""scikit-learn's own checks of the estimators that take tables: fixed windows."""

import warnings

import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

from fastrnn.estimators import SequenceClassifier, SequenceRegressor

# Checks that an estimator is known to fail, with the reason: none.
EXPECTED_FAILURES: dict[type, dict[str, str]] = {SequenceClassifier: {}, SequenceRegressor: {}}
# Checks that scikit-learn skips by itself, with the reason.
SKIPPED = {"check_array_api_input": "only for the array API, which SCIPY_ARRAY_API switches on"}

SMALL = {"cell": "rnn", "hidden_size": 16, "lr": 0.02, "batch_size": 16, "random_state": 0}


@pytest.mark.parametrize(
    "estimator",
    [SequenceClassifier(max_epochs=10, **SMALL), SequenceRegressor(max_epochs=30, **SMALL)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_what_scikit_learn_checks(estimator, set_num_threads):
    set_num_threads(1)
    expected = EXPECTED_FAILURES[type(estimator)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40

    def names(status):
        return {result["check_name"] for result in results if result["status"] == status}

    problems = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert problems.keys() == expected.keys(), problems
    assert names("skipped") <= SKIPPED.keys()
    # The lists are minimal: nothing that passes is on one.
    assert names("passed").isdisjoint(expected.keys() | SKIPPED.keys())
