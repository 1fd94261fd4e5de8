"""What the tests of fastrnn.interop.keras share: the backend, gradients, pairs of layers."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
BACKEND = os.environ["KERAS_BACKEND"]
pytest.importorskip(BACKEND, reason=f"NOT TESTED: needs {BACKEND}, on which Keras runs here")
keras = pytest.importorskip("keras", reason="NOT TESTED: needs keras 3")
if keras.backend.backend() != BACKEND:
    pytest.skip("NOT TESTED: Keras already runs on another backend", allow_module_level=True)

from fastrnn.interop import keras as interop  # noqa: E402

__all__ = ["BACKEND", "FILTERS", "interop", "keras", "numpy_of", "value_and_gradients"]

# Of Keras on PyTorch, of its generators and of what JAX and TensorFlow import.
FILTERS = (
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:`shuffle=True` was passed:UserWarning",
    "ignore::DeprecationWarning:tensorflow.*",
    "ignore::DeprecationWarning:jax.*",
)


def numpy_of(results):
    """Outputs of a layer as a list of arrays."""
    return [keras.ops.convert_to_numpy(r) for r in keras.tree.flatten(results)]


def value_and_gradients(layer, x, cotangents, **options):
    """Results of a layer; gradients of sum(results * cotangents) for weights, x and the states."""
    state = options.pop("initial_state", None)
    weights = [w.value for w in layer.trainable_variables]
    given = [keras.ops.convert_to_tensor(a) for a in (x, *(state or ()))]

    def loss(results):
        pairs = zip(keras.tree.flatten(results), cotangents, strict=False)
        return sum(keras.ops.sum(r * keras.ops.cast(c, r.dtype)) for r, c in pairs)

    def call(x, *state):
        return layer(x, initial_state=list(state) or None, **options)

    found = globals()[f"_with_{BACKEND}"](layer, call, loss, weights, given)
    return numpy_of(found[0]), [None if g is None else np.asarray(g) for g in found[1]]


def _with_torch(layer, call, loss, weights, given):
    import torch

    given = [g.detach().requires_grad_() for g in given]
    results = call(*given)
    found = torch.autograd.grad(loss(results), [*weights, *given], allow_unused=True)
    return results, found


def _with_jax(layer, call, loss, weights, given):
    import jax

    def function(weights, given):
        pairs = zip(layer.trainable_variables, weights, strict=True)
        with keras.StatelessScope(state_mapping=list(pairs)):
            results = call(*given)
        return loss(results), results

    gradient = jax.jit(jax.grad(function, argnums=(0, 1), has_aux=True))
    (of_weights, of_given), results = gradient(weights, given)
    return results, [*of_weights, *of_given]


def _with_tensorflow(layer, call, loss, weights, given):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(given)
        results = call(*given)
        value = loss(results)
    return results, tape.gradient(value, [*layer.trainable_variables, *given])
