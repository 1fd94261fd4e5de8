"""Initial weights, with the names of ``torch.nn.init``; each function fills a `Parameter` in place.

    >>> layer = fastrnn.LSTM(10, 20, seed=0)
    >>> weight = fastrnn.init.xavier_uniform_(layer.parameters()["weight_ih_l0"], seed=1)
    >>> layer = fastrnn.init.recurrent_orthogonal_(layer, seed=2)
    >>> layer = fastrnn.init.forget_bias_(layer, 1.0)

Functions of one parameter return it. `seed` is an int or a ``numpy.random.Generator``; None draws
another one each time. Values are drawn in float64 and rounded to the parameter's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from .base import Parameter, RealArray, check_number
from .recurrent import LSTM, RNN, Recurrent

__all__ = [
    "constant_",
    "eye_",
    "forget_bias_",
    "irnn_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "recurrent_orthogonal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Seed = int | np.random.Generator | None
AnyRecurrent = TypeVar("AnyRecurrent", bound=Recurrent)


def uniform_(
    parameter: Parameter, a: float = 0.0, b: float = 1.0, *, seed: Seed = None
) -> Parameter:
    """Draw from the uniform distribution over [a, b).

    Parameters
    ----------
    parameter : Parameter, of any shape
    a, b : float
        Lowest value, and the one above all.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.
    """
    a = check_number("a", a, -np.inf)
    b = check_number("b", b, a)
    return _fill(parameter, np.random.default_rng(seed).uniform(a, b, parameter.shape))


def normal_(
    parameter: Parameter, mean: float = 0.0, std: float = 1.0, *, seed: Seed = None
) -> Parameter:
    """Draw from the normal distribution N(mean, std^2).

    Parameters
    ----------
    parameter : Parameter, of any shape
    mean, std : float
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.
    """
    mean = check_number("mean", mean, -np.inf)
    std = check_number("std", std, 0.0)
    return _fill(parameter, np.random.default_rng(seed).normal(mean, std, parameter.shape))


def constant_(parameter: Parameter, val: float) -> Parameter:
    """Fill with one value.

    Parameters
    ----------
    parameter : Parameter, of any shape
    val : float

    Returns
    -------
    Parameter
        The one given, filled.
    """
    return _fill(parameter, np.full(parameter.shape, check_number("val", val, -np.inf)))


def zeros_(parameter: Parameter) -> Parameter:
    """Fill with zeros.

    Parameters
    ----------
    parameter : Parameter, of any shape

    Returns
    -------
    Parameter
        The one given, filled.
    """
    return constant_(parameter, 0.0)


def ones_(parameter: Parameter) -> Parameter:
    """Fill with ones.

    Parameters
    ----------
    parameter : Parameter, of any shape

    Returns
    -------
    Parameter
        The one given, filled.
    """
    return constant_(parameter, 1.0)


def eye_(parameter: Parameter) -> Parameter:
    """Ones on the diagonal, zeros elsewhere; of a matrix of any shape.

    Parameters
    ----------
    parameter : Parameter, shape (rows, columns)

    Returns
    -------
    Parameter
        The one given, filled.

    Raises
    ------
    ValueError
        If it is no matrix.
    """
    return _fill(parameter, np.eye(*_check_matrix(parameter)))


def xavier_uniform_(parameter: Parameter, gain: float = 1.0, *, seed: Seed = None) -> Parameter:
    """Draw a matrix from U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)).

    Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", eq. 16. fan_out are the rows, fan_in the columns.

    Parameters
    ----------
    parameter : Parameter, shape (rows, columns)
    gain : float, default 1.0
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.

    Raises
    ------
    ValueError
        If it is no matrix.
    """
    bound = math.sqrt(3.0) * _xavier_std(parameter, gain)
    return uniform_(parameter, -bound, bound, seed=seed)


def xavier_normal_(parameter: Parameter, gain: float = 1.0, *, seed: Seed = None) -> Parameter:
    """Draw a matrix from N(0, std^2) with std = gain sqrt(2 / (fan_in + fan_out)).

    Glorot & Bengio (2010), as `xavier_uniform_`.

    Parameters
    ----------
    parameter : Parameter, shape (rows, columns)
    gain : float, default 1.0
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.

    Raises
    ------
    ValueError
        If it is no matrix.
    """
    return normal_(parameter, 0.0, _xavier_std(parameter, gain), seed=seed)


def kaiming_uniform_(parameter: Parameter, a: float = 0.0, *, seed: Seed = None) -> Parameter:
    """Draw a matrix from U(-b, b) with b = sqrt(6 / ((1 + a^2) fan_in)).

    He et al. (2015), "Delving deep into rectifiers", eq. 10 and 15, for rectifiers with the slope
    `a` below zero. (PyTorch's ``mode="fan_in", nonlinearity="leaky_relu"``.)

    Parameters
    ----------
    parameter : Parameter, shape (rows, columns)
    a : float, default 0.0
        Slope below zero of the rectifiers that follow.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.

    Raises
    ------
    ValueError
        If it is no matrix.
    """
    _, fan_in = _check_matrix(parameter)
    a = check_number("a", a, -np.inf)
    bound = math.sqrt(6.0 / ((1.0 + a * a) * fan_in))
    return uniform_(parameter, -bound, bound, seed=seed)


def orthogonal_(parameter: Parameter, gain: float = 1.0, *, seed: Seed = None) -> Parameter:
    """Draw a matrix with orthonormal rows, or columns if it has more rows, times `gain`.

    Saxe, McClelland & Ganguli (2014), "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks": evenly from all such matrices.

    Parameters
    ----------
    parameter : Parameter, shape (rows, columns)
    gain : float, default 1.0
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Parameter
        The one given, filled.

    Raises
    ------
    ValueError
        If it is no matrix.
    """
    rows, columns = _check_matrix(parameter)
    gain = check_number("gain", gain, -np.inf)
    return _fill(parameter, gain * _orthogonal(rows, columns, np.random.default_rng(seed)))


def recurrent_orthogonal_(
    layer: AnyRecurrent, gain: float = 1.0, *, seed: Seed = None
) -> AnyRecurrent:
    """Make each gate's recurrent weights an orthogonal matrix of its own, times `gain`.

    In every layer and direction of a recurrent layer, which is returned; the other weights stay.
    Orthogonal weights keep the norm of what passes through them from step to step (Saxe et al.
    2014; Arjovsky, Shah & Bengio 2016).

    Parameters
    ----------
    layer : RNN, LSTM or GRU
    gain : float, default 1.0
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    RNN, LSTM or GRU
        The layer given.
    """
    _check_recurrent(layer, Recurrent)
    gain, rng = check_number("gain", gain, -np.inf), np.random.default_rng(seed)
    for weight in _named(layer, "weight_hh"):
        rows, columns = _check_matrix(weight)
        gates = range(rows // layer.hidden_size)
        blocks = [_orthogonal(layer.hidden_size, columns, rng) for _ in gates]
        _fill(weight, gain * np.concatenate(blocks))
    return layer


def irnn_(layer: RNN, scale: float = 1.0, std: float = 0.001, *, seed: Seed = None) -> RNN:
    """Make an RNN of rectifiers an IRNN: recurrent weights scale * identity, biases zero.

    Le, Jaitly & Hinton (2015), "A simple way to initialize recurrent networks of rectified linear
    units", section 3. Input weights are drawn from N(0, std^2), 0.001 in that paper.

    Parameters
    ----------
    layer : RNN
        Of nonlinearity "relu".
    scale : float, default 1.0
        On the diagonals of the recurrent weights.
    std : float, default 0.001
        Of the input weights.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    RNN
        The layer given.

    Raises
    ------
    ValueError
        If its nonlinearity is not "relu".
    """
    _check_recurrent(layer, RNN)
    if layer.nonlinearity != "relu":
        raise ValueError(f"layer: expected the nonlinearity 'relu', got {layer.nonlinearity!r}")
    scale, std = check_number("scale", scale, -np.inf), check_number("std", std, 0.0)
    rng = np.random.default_rng(seed)
    for weight in _named(layer, "weight_hh"):
        _fill(weight, scale * np.eye(*_check_matrix(weight)))
    for weight in _named(layer, "weight_ih"):
        normal_(weight, 0.0, std, seed=rng)
    for bias in _named(layer, "bias"):
        zeros_(bias)
    return layer


def forget_bias_(layer: LSTM, value: float = 1.0) -> LSTM:
    """Set the biases of all forget gates of an LSTM, so that it begins by remembering.

    Gers, Schmidhuber & Cummins (2000), "Learning to forget"; Jozefowicz, Zaremba & Sutskever
    (2015), "An empirical exploration of recurrent network architectures", find 1 good. `value`
    goes to bias_ih and zero to bias_hh, as the two are added; the other gates' stay. Where the
    gates are coupled, f = 1 - i, -value goes to i.

    Parameters
    ----------
    layer : LSTM
    value : float, default 1.0

    Returns
    -------
    LSTM
        The layer given.

    Raises
    ------
    ValueError
        If it has no biases.
    """
    _check_recurrent(layer, LSTM)
    if not layer.bias:
        raise ValueError("layer: expected an LSTM with biases, got one without")
    value = check_number("value", value, -np.inf)
    first = 0 if layer.coupled else layer.hidden_size  # gates are in the order i, f, g, o
    rows = slice(first, first + layer.hidden_size)
    for prefix, number in (("bias_ih", -value if layer.coupled else value), ("bias_hh", 0.0)):
        for bias in _named(layer, prefix):
            values = bias.data.copy()
            values[rows] = number
            _fill(bias, values)
    return layer


def _fill(parameter: Parameter, values: RealArray) -> Parameter:
    parameter.data = values
    return parameter


def _check_matrix(parameter: Parameter) -> tuple[int, int]:
    if len(parameter.shape) != 2:
        raise ValueError(f"parameter: expected a matrix, got the shape {parameter.shape}")
    rows, columns = parameter.shape
    return rows, columns


def _check_recurrent(layer: Recurrent, kind: type[Recurrent]) -> None:
    if not isinstance(layer, kind):
        name = "RNN, LSTM or GRU" if kind is Recurrent else kind.__name__
        raise TypeError(f"layer: expected an {name}, got {type(layer).__name__}")


def _named(layer: Recurrent, prefix: str) -> Iterator[Parameter]:
    return (p for name, p in layer.parameters().items() if name.startswith(prefix))


def _xavier_std(parameter: Parameter, gain: float) -> float:
    return check_number("gain", gain, -np.inf) * math.sqrt(2.0 / sum(_check_matrix(parameter)))


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> RealArray:
    """Return a random matrix with orthonormal rows or columns, whichever are fewer."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # else not evenly distributed (Mezzadri 2007)
    return q if rows >= columns else q.T
