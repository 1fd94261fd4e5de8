"""Keras's LSTM and GRU with fastrnn beside plain Keras, on the backend KERAS_BACKEND names.

Three ways of use of a model of one layer and a Dense(1): the layer alone, without gradients (on
JAX jitted), `predict_on_batch` and `train_on_batch` of a compiled model. Both models take turns of
some calls, those of the first moments not counted: the threads of the other library may still be
busy, and fastrnn, which then leaves them a core for a while, is not to be measured in that while.
Medians, and the spread from the first to the third quarter, in milliseconds; the last
columns are the ratio of the medians and that of the shortest times.

    KERAS_BACKEND=torch python benchmarks/interop_keras.py
    KERAS_BACKEND=jax python benchmarks/interop_keras.py --mask
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

from fastrnn.interop import keras as interop

BACKEND = keras.backend.backend()
Call = Callable[[], Any]
TURN = 6  # calls of a turn
WARM = 0.5  # seconds of a turn before these


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="T")
    parser.add_argument("--batch", type=int, default=32, help="B")
    parser.add_argument("--inputs", type=int, default=64, help="I")
    parser.add_argument("--units", type=int, default=128, help="H")
    parser.add_argument("--layers", nargs="+", default=["LSTM", "GRU"])
    parser.add_argument("--sequences", action="store_true", help="return_sequences=True")
    parser.add_argument("--mask", action="store_true", help="a quarter of the steps masked")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    arguments = parser.parse_args()
    print(
        f"Keras {keras.__version__} on {BACKEND}, T {arguments.steps} B {arguments.batch} "
        f"I {arguments.inputs} H {arguments.units}, ms"
    )
    print(f"{'':24}{'Keras':>22}{'fastrnn':>22}{'times':>8}{'best':>8}")
    for kind in arguments.layers:
        pairs = zip(cases(kind, arguments, False), cases(kind, arguments, True), strict=True)
        for (name, plain), (_, fast) in pairs:
            theirs, ours = timed([plain, fast], arguments.repeats)
            ratio = statistics.median(theirs) / statistics.median(ours)
            best = min(theirs) / min(ours)
            row = f"{kind + ' ' + name:24}{described(theirs):>22}{described(ours):>22}"
            print(f"{row}{ratio:8.2f}{best:8.2f}")


def cases(kind: str, arguments: argparse.Namespace, fast: bool) -> list[tuple[str, Call]]:
    """Return what is timed, by name."""
    T, B, inputs = arguments.steps, arguments.batch, arguments.inputs
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, inputs)).astype("float32")
    y = rng.normal(size=(B, *[T] * arguments.sequences, 1)).astype("float32")
    if arguments.mask:
        x[rng.random((B, T)) < 0.25] = 0.0
    keras.utils.set_random_seed(0)
    layer = getattr(keras.layers, kind)(arguments.units, return_sequences=arguments.sequences)
    parts = [keras.Input((T, inputs)), layer, keras.layers.Dense(1)]
    if arguments.mask:
        parts.insert(1, keras.layers.Masking())
    model = keras.Sequential(parts)
    model.compile("adam", "mse")
    if fast:
        report = interop.accelerate(model)
        assert not report.left, report
    return [
        ("layer", layer_alone(layer, x, (x != 0).any(axis=2) if arguments.mask else None)),
        ("predict_on_batch", lambda: model.predict_on_batch(x)),
        ("train_on_batch", lambda: model.train_on_batch(x, y)),
    ]


def layer_alone(layer: Any, x: Any, mask: Any) -> Call:
    """Return the layer's forward pass as the backend runs it best."""
    x = keras.ops.convert_to_tensor(x)
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    if BACKEND == "jax":
        import jax

        values = [[v.value for v in layer.trainable_variables]]
        values.append([v.value for v in layer.non_trainable_variables])
        function = jax.jit(lambda values, x: layer.stateless_call(*values, x, mask=mask)[0])
        return lambda: function(values, x).block_until_ready()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda: layer(x, mask=mask))
    import torch

    def call() -> None:
        with torch.no_grad():
            layer(x, mask=mask)

    return call


def timed(calls: list[Call], repeats: int) -> list[list[float]]:
    """Return milliseconds of each call, the calls taking turns."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for times, call in zip(found, calls, strict=True):
            end = time.perf_counter() + WARM
            while time.perf_counter() < end:
                call()
            for _ in range(TURN):
                begin = time.perf_counter()
                call()
                times.append(1e3 * (time.perf_counter() - begin))
    return [times[TURN:] for times in found]  # the first turn is of warming up


def described(times: list[float]) -> str:
    """Return the median, and the first and the third quartile."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
