"""What makes a recurrent cell other than the plain one, as the core takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .base import check_number

__all__ = [
    "Activation",
    "CellOptions",
    "as_config",
    "as_json",
    "check_activation",
    "check_limit",
    "check_zoneout",
]

Activation = tuple[str, float, float]  # its name, alpha and beta
Function = str | Sequence[Any]  # an activation as given: its name, or (name, alpha, beta)

# With the defaults of ONNX's operators for alpha and beta, as far as a function has them.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
}
ONNX_NAMES = {name.title().replace("_", ""): name for name in ACTIVATIONS}
TANH = ("tanh", 0.0, 0.0)
SIGMOID = ("sigmoid", 0.0, 0.0)
IDENTITY = ("affine", 1.0, 0.0)
PRELU = ("prelu", 0.0, 0.0)


def check_activation(name: str, value: Any, prelu: bool = False) -> Activation:
    """Return the argument `name`, a function's name or (name, alpha) or (name, alpha, beta).

    Names are ONNX's ("LeakyRelu") or PyTorch's ("leaky_relu"), and "identity"; "prelu" if allowed.
    """
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    full = parts[0] if parts and isinstance(parts[0], str) else ""
    full = ONNX_NAMES.get(full, full)
    if parts == ("identity",):
        return IDENTITY
    if parts == ("prelu",) and prelu:
        return PRELU
    if full not in ACTIVATIONS:
        known = [*ACTIVATIONS, "identity", *["prelu"] * prelu]
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    numbers = list(ACTIVATIONS[full])
    if len(parts) > 1 + len(numbers):
        raise ValueError(
            f"{name}: expected at most {len(numbers)} numbers after {full!r}, got {value!r}"
        )
    for i, part in enumerate(parts[1:]):
        number = check_number(f"{name}: {'alpha' if i == 0 else 'beta'}", part, -math.inf)
        if not math.isfinite(number):
            raise ValueError(f"{name}: expected finite numbers after {full!r}, got {value!r}")
        numbers[i] = number
    alpha, beta = (*numbers, 0.0, 0.0)[:2]
    return full, alpha, beta


def check_activations(value: Sequence[Function], names: tuple[str, ...]) -> list[Activation]:
    """Return the argument `activations`, one for each of `names`."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(names):
        raise ValueError(
            f"activations: expected {len(names)}, of {', '.join(names)}, got {value!r}"
        )
    return [check_activation(f"activations ({n})", v) for n, v in zip(names, value, strict=True)]


def as_config(activation: Activation) -> str | list[Any]:
    """Return the activation as JSON takes it and `check_activation` reads it, in its short form."""
    if activation == IDENTITY:
        return "identity"
    if activation == PRELU:
        return "prelu"
    name, *numbers = activation
    defaults = list(ACTIVATIONS[name])
    return name if numbers[: len(defaults)] == defaults else [name, *numbers[: len(defaults)]]


def as_json(value: Any) -> Any:
    """Return an argument as JSON takes it: no tuples, no scalars of NumPy, None for no limit."""
    if isinstance(value, (tuple, list)):
        return [as_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value == math.inf else value


def check_limit(name: str, value: Any) -> float:
    """Return the bound `name`, above 0; infinity for None."""
    if value is None:
        return math.inf
    limit = check_number(name, value, 0.0)
    if limit == 0.0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return limit


def check_zoneout(value: Any, pair: bool) -> tuple[float, float]:
    """Return the argument `zoneout`, a probability, as those of h and c."""
    if isinstance(value, (tuple, list)):
        if not pair or len(value) != 2:
            expected = "a number or (of h, of c)" if pair else "a number"
            raise ValueError(f"zoneout: expected {expected}, got {value!r}")
        h, c = value
    else:
        h = c = value
    return check_number("zoneout", h, 0.0, 1.0), check_number("zoneout", c, 0.0, 1.0)


class CellOptions(NamedTuple):
    """As `_core.pack_cell` takes them: see CellOptions in src/kernels/kernels.h.

    Infinite clips: none. keep_h, keep_c: probabilities of zoneout. epsilon: of layer normalisation.
    """

    f: Activation
    g: Activation
    h: Activation
    clip: float = math.inf
    cell_clip: float = math.inf
    keep_h: float = 0.0
    keep_c: float = 0.0
    epsilon: float = 1e-5
