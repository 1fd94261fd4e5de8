"""Estimators with scikit-learn's API: sequences, time series and texts.

They keep scikit-learn's conventions: `clone`, `Pipeline`, `GridSearchCV` and joblib take them, and
so does pickle. `save` and `load` do without pickle.
"""

from .backtest import Backtest, seasonal_naive
from .classifier import SequenceClassifier
from .forecaster import TimeSeriesForecaster
from .language_model import CharLanguageModel
from .regressor import SequenceRegressor
from .tagger import SequenceTagger

__all__ = [
    "Backtest",
    "CharLanguageModel",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceTagger",
    "TimeSeriesForecaster",
    "seasonal_naive",
]
