from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Reals = NDArray[np.floating[Any]]

def ctc_loss(
    logits: Reals,
    lengths: Integers,
    labels: Integers,
    starts: Integers,
    counts: Integers,
    blank: int,
    weights: NDArray[np.float64],
    zero_infinity: bool,
) -> tuple[NDArray[np.float64], Reals]: ...
