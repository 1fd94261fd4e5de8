"""What the estimators that give labels share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import labels
from .sequence_base import SequenceEstimator

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LabelEstimator"]


class LabelEstimator(SequenceEstimator):
    """Base of the estimators whose y are labels, of sequences or of steps."""

    classes_: NDArray[Any]

    def partial_fit(self, X: Any, y: Any, classes: ArrayLike | None = None) -> Self:
        """Train one epoch more, on other examples if you like.

        Parameters
        ----------
        X, y
            As of `fit`. Scales and token ids stay those of the first call.
        classes : array_like, optional
            All labels there will be; needed at the first call, if `fit` was not called before.

        Returns
        -------
        The estimator itself.

        Raises
        ------
        ValueError, TypeError
            As `fit`; also for labels outside `classes`.
        """
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("classes: expected all labels at the first call of partial_fit")
        known = None if classes is None else np.unique(np.asarray(classes))
        if not first and known is not None and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes: expected {self.classes_} as before, got {known}")
        self._learn(X, y, first, epochs=1, classes=known)
        return self

    def _codes(
        self, y: NDArray[Any], first: bool, classes: NDArray[Any] | None
    ) -> NDArray[np.int64]:
        """Return labels as class numbers; at the `first` sight the classes are set."""
        if first:
            self.classes_ = np.unique(y) if classes is None else classes
        return labels.encode(y, self.classes_)

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "classes": labels.as_json(self.classes_)}

    def _restore_targets(self, metadata: Mapping[str, Any]) -> int:
        self.classes_ = labels.from_json(metadata["classes"])
        return len(self.classes_)
