"""Estimators with scikit-learn's API: sequences, time series and texts."""

from .classifier import SequenceClassifier
from .regressor import SequenceRegressor
from .tagger import SequenceTagger

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"]
