"""Optimisers and clipping of gradients: PyTorch's formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .base import Layer, Parameter, RealArray, check_flag, check_number, check_size, real_array

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm", "clip_grad_value"]

Parameters = Layer | Parameter | Mapping[str, Parameter] | Iterable[Parameter]


def named_parameters(parameters: Parameters) -> dict[str, Parameter]:
    """Return distinct parameters by name; those of an iterable are named "0", "1", ..."""
    named: dict[str, Any]  # until they are checked
    if isinstance(parameters, Layer):
        named = dict(parameters.parameters())
    elif isinstance(parameters, Mapping):
        named = dict(parameters)
    elif isinstance(parameters, Iterable):
        named = {str(index): parameter for index, parameter in enumerate(parameters)}
    else:
        named = {"": parameters}
    for parameter in named.values():
        if not isinstance(parameter, Parameter):
            raise TypeError(
                "parameters: expected a Layer, a dict or an iterable of Parameter, got "
                f"{type(parameter).__name__}"
            )
    first_names = {id(parameter): name for name, parameter in reversed(named.items())}
    return {name: named[name] for name in named if first_names[id(named[name])] == name}


def _gradients(parameters: Mapping[str, Parameter]) -> list[tuple[str, Parameter, RealArray]]:
    """Return the parameters to be trained that have a gradient, all checked before any is used."""
    found = []
    for name, parameter in parameters.items():
        if parameter.grad is None or not parameter.requires_grad:
            continue
        grad = real_array(f"{name}.grad", parameter.grad, parameter.dtype)
        if grad.shape != parameter.shape:
            raise ValueError(f"{name}.grad: expected the shape {parameter.shape}, got {grad.shape}")
        parameter.grad = grad  # contiguous now, should it not have been
        found.append((name, parameter, grad))
    return found


def clip_grad_norm(
    parameters: Parameters, max_norm: float, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients by one factor so that their common norm is at most `max_norm`.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch; the norm is accumulated in
    float64. Pascanu et al. (2013), "On the difficulty of training recurrent neural networks".

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
        Those without a gradient are passed by.
    max_norm : float
    error_if_nonfinite : bool, default False
        Whether a norm that is NaN or infinite is an error. Else the gradients become NaN.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    RuntimeError
        See `error_if_nonfinite`; the gradients are unchanged then.
    """
    max_norm = check_number("max_norm", max_norm, 0.0)
    grads = [grad for _, _, grad in _gradients(named_parameters(parameters))]
    norm = math.sqrt(sum(_core.sum_of_squares(grad) for grad in grads))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"the norm of the gradients is {norm}, so they cannot be clipped")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1.0:  # NaN is passed on
        for grad in grads:
            _core.scale(grad, factor)
    return norm


def clip_grad_value(parameters: Parameters, clip_value: float) -> None:
    """Clip each element of the gradients to [-clip_value, clip_value]; NaN stays NaN.

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
        Those without a gradient are passed by.
    clip_value : float
    """
    limit = check_number("clip_value", clip_value, 0.0)
    for _, _, grad in _gradients(named_parameters(parameters)):
        _core.clip_value(grad, limit)


class _State:
    """What an optimiser remembers of one parameter."""

    __slots__ = ("buffers", "step")

    def __init__(self, step: int, buffers: dict[str, RealArray]) -> None:
        self.step = step
        self.buffers = buffers


class Optimizer:
    """Base of the optimisers.

    Parameters are updated in place from their `grad`; those without a gradient, or frozen by
    ``requires_grad = False``, are passed by. `lr` may be changed at any time, as schedules do.

    A subclass names its options, checks them in its constructor ``(parameters, **options)``, and
    defines `_buffer_names` and `_update`.

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
    lr : float
        Learning rate, at least 0.

    Raises
    ------
    ValueError
        If there is no parameter, or an option is out of its range.
    TypeError
        If something given is no `Parameter`.
    """

    _options: tuple[str, ...] = ("lr",)

    def __init__(self, parameters: Parameters, lr: float) -> None:
        self._parameters = named_parameters(parameters)
        if not self._parameters:
            raise ValueError("parameters: expected at least one, got none")
        self._states: dict[str, _State] = {}
        self.lr = lr

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = check_number("lr", value, 0.0)

    def step(self) -> None:
        """Update all parameters once.

        Raises
        ------
        TypeError, ValueError
            If a gradient has not its parameter's dtype or shape; nothing is updated then.
        """
        for name, parameter, grad in _gradients(self._parameters):
            state = self._states.get(name)
            if state is None:
                buffers = {buffer: np.zeros_like(grad) for buffer in self._buffer_names()}
                state = self._states[name] = _State(0, buffers)
            state.step += 1
            self._update(parameter._array, grad, state)
            parameter.bump()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; with `set_to_none` False, fill them with zeros in place."""
        for parameter in self._parameters.values():
            parameter.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return options and buffers as a flat dict of numbers and (copied) arrays.

        Options have their names ("lr", ...); the count of steps and the buffers of a parameter are
        "<parameter>.step" and "<parameter>.<buffer>". So it can be kept with `numpy.savez`.
        """
        state_dict: dict[str, Any] = {}
        for name in self._options:
            value = getattr(self, name)
            state_dict[name] = np.array(value) if isinstance(value, tuple) else value
        for name, state in self._states.items():
            state_dict[f"{name}.step"] = state.step
            for buffer, array in state.buffers.items():
                state_dict[f"{name}.{buffer}"] = array.copy()
        return state_dict

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; nothing is changed if it does not fit.

        Raises
        ------
        TypeError, ValueError
            If entries are missing, unexpected, or of a wrong shape or type.
        """
        entries = dict(state_dict)
        missing = [name for name in self._options if name not in entries]
        if missing:
            raise ValueError(f"state_dict: missing {', '.join(missing)}")
        options = {name: np.asarray(entries.pop(name)).tolist() for name in self._options}
        restored = type(self)(self._parameters, **options)  # checks them
        for name, parameter in self._parameters.items():
            if f"{name}.step" not in entries:
                continue
            count = check_size(f"{name}.step", np.asarray(entries.pop(f"{name}.step")).tolist())
            buffers = {}
            for buffer in restored._buffer_names():
                key = f"{name}.{buffer}"
                if key not in entries:
                    raise ValueError(f"state_dict: missing {key}")
                buffers[buffer] = _read_buffer(key, entries.pop(key), parameter)
            restored._states[name] = _State(count, buffers)
        if entries:
            raise ValueError(f"state_dict: unexpected {', '.join(map(str, entries))}")
        self.__dict__.update(restored.__dict__)

    def _buffer_names(self) -> tuple[str, ...]:
        """Return the names of the arrays, zeros at first, that each parameter needs."""
        raise NotImplementedError

    def _update(self, parameter: RealArray, grad: RealArray, state: _State) -> None:
        """Update one parameter and its state in place; `state.step` counts from 1."""
        raise NotImplementedError

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in self._options)
        return f"{type(self).__name__}({options})"


def _read_buffer(key: str, value: ArrayLike, parameter: Parameter) -> RealArray:
    array = np.asarray(value)
    if array.dtype != parameter.dtype:
        raise TypeError(f"{key}: expected an array of {parameter.dtype}, got {array.dtype}")
    if array.shape != parameter.shape:
        raise ValueError(f"{key}: expected the shape {parameter.shape}, got {array.shape}")
    return np.array(array, order="C")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as Sutskever et al. (2013) have it.

    With g = gradient + weight_decay * p and the buffer v, which starts as the first g::

        v = momentum * v + (1 - dampening) * g
        p = p - lr * (g + momentum * v if nesterov else v)

    without momentum p = p - lr * g. "On the importance of initialization and momentum in deep
    learning"; as in PyTorch the learning rate scales v when it is applied, not when it is added.

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
    lr, momentum, dampening, weight_decay : float
    nesterov : bool, default False
        Needs momentum and no dampening.

    Raises
    ------
    ValueError
        If there is no parameter, an option is out of its range, or Nesterov's has no momentum.
    """

    _options = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.momentum = check_number("momentum", momentum, 0.0)
        self.dampening = check_number("dampening", dampening, -math.inf)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)
        self.nesterov = check_flag("nesterov", nesterov)
        if self.nesterov and (self.momentum == 0.0 or self.dampening != 0.0):
            raise ValueError(
                "nesterov: expected a momentum above 0 and a dampening of 0, got "
                f"{self.momentum} and {self.dampening}"
            )

    def _buffer_names(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    def _update(self, parameter: RealArray, grad: RealArray, state: _State) -> None:
        _core.sgd_step(
            parameter,
            grad,
            state.buffers.get("momentum_buffer"),
            self.lr,
            self.momentum,
            self.dampening,
            self.weight_decay,
            self.nesterov,
            state.step == 1,
        )


class RMSprop(Optimizer):
    """Gradients divided by a running average of their magnitude.

    Tieleman and Hinton (2012), lecture 6.5 of "Neural networks for machine learning"; centered as
    in Graves (2013), "Generating sequences with recurrent neural networks". With
    g = gradient + weight_decay * p and buffers that start at zero::

        s = alpha * s + (1 - alpha) * g^2
        m = alpha * m + (1 - alpha) * g                       if centered, else m = 0
        d = g / (sqrt(s - m^2) + eps)
        v = momentum * v + d                                  if momentum > 0, else v = d
        p = p - lr * v

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
    lr, alpha, eps, weight_decay, momentum : float
    centered : bool, default False
    """

    _options = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered")

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha = check_number("alpha", alpha, 0.0)
        self.eps = check_number("eps", eps, 0.0)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)
        self.momentum = check_number("momentum", momentum, 0.0)
        self.centered = check_flag("centered", centered)

    def _buffer_names(self) -> tuple[str, ...]:
        with_momentum = ("momentum_buffer",) if self.momentum else ()
        return ("square_avg", *with_momentum, *(("grad_avg",) if self.centered else ()))

    def _update(self, parameter: RealArray, grad: RealArray, state: _State) -> None:
        _core.rmsprop_step(
            parameter,
            grad,
            state.buffers["square_avg"],
            state.buffers.get("momentum_buffer"),
            state.buffers.get("grad_avg"),
            self.lr,
            self.alpha,
            self.eps,
            self.weight_decay,
            self.momentum,
        )


class Adam(Optimizer):
    """Adaptive moments: Kingma and Ba (2015), "Adam: a method for stochastic optimization".

    With g = gradient + weight_decay * p, the number t of the step and buffers that start at
    zero::

        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g^2
        p = p - lr * (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + eps)

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
    lr : float
    betas : (float, float)
        beta1 and beta2, at least 0 and below 1.
    eps, weight_decay : float

    Raises
    ------
    ValueError, TypeError
        If there is no parameter, or an option is out of its range or of another type.
    """

    _options = ("lr", "betas", "eps", "weight_decay")
    _decoupled = False

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas: expected two numbers, got {betas!r}")
        below_one = math.nextafter(1.0, 0.0)
        self.betas = (
            check_number("betas[0]", betas[0], 0.0, below_one),
            check_number("betas[1]", betas[1], 0.0, below_one),
        )
        self.eps = check_number("eps", eps, 0.0)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)

    def _buffer_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _update(self, parameter: RealArray, grad: RealArray, state: _State) -> None:
        _core.adam_step(
            parameter,
            grad,
            state.buffers["exp_avg"],
            state.buffers["exp_avg_sq"],
            self.lr,
            *self.betas,
            self.eps,
            self.weight_decay,
            self._decoupled,
            state.step,
        )


class AdamW(Adam):
    """Adam with the decay apart: Loshchilov and Hutter (2019), "Decoupled weight decay ...".

    As `Adam`, but with g = gradient, and p = p - lr * weight_decay * p before each step.

    Parameters
    ----------
    parameters : Layer, dict of Parameter, or iterable of Parameter
    lr : float
    betas : (float, float)
        beta1 and beta2, at least 0 and below 1.
    eps, weight_decay : float
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
