from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]

def not_finite(logits: Reals) -> int: ...
def most_likely(logits: Reals, temperature: float, k: int, p: float) -> NDArray[np.bool_]: ...
def expand(
    logits: Reals, scores: Doubles, offsets: Integers, width: int, eos: int
) -> tuple[Integers, Integers, Doubles, Integers, Doubles]: ...
def keep_best(
    scores: Doubles,
    places: Integers,
    rows: Integers,
    offsets: Integers,
    candidates: Doubles,
    step: int,
    length: int,
) -> None: ...
def ctc_prefix_beam_search(
    logits: Reals, lengths: Integers, blank: int, width: int, n_best: int
) -> tuple[Integers, Integers, Doubles]: ...
