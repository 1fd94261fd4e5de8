"""Models with small weights: `quantize`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

from .base import FLOAT32, Layer
from .precision import check_precision
from .recurrent_base import Recurrent

__all__ = ["quantize"]

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def quantize(model: AnyLayer, precision: str) -> AnyLayer:
    """Return the model with the matrices of its recurrent layers in fewer bits, for inference.

    A step at batch 1 reads every weight once, and that takes most of its time where the weights
    exceed the cache: half the bytes take about half the time. ``weight_ih``, ``weight_hh`` and, of
    a projection, ``weight_hr`` become small; biases and other vectors, and all layers that are not
    recurrent, stay float32. The gates are computed in float32 in any case.

    Parameters
    ----------
    model : Layer
        A recurrent layer, or what is made of some: `Sequential`, `Residual`, `EncoderDecoder`, ...
        It is left as it is.
    precision : {"bf16", "int8", "bf16_dot"}
        - "bf16": weights rounded to bfloat16, a float32 number's upper half (8 bits of mantissa);
          arithmetic in float32. The results are, bit for bit, those of the float32 layer with
          rounded weights, and so the same on every processor.
        - "int8": each row j of a matrix as integers, ``q_jk = round(w_jk / s_j)`` with
          ``s_j = max_k abs(w_jk) / 127``; each step's input and state, a, likewise while the layer
          runs, with one scale a vector: ``W a = s_j s_a sum_k q_jk q_k``, where the sum is exact.
          So these results, too, are the same on every processor. This is the dynamic quantisation
          of PyTorch (`quantize_dynamic`) and ONNX Runtime (`DynamicQuantizeLSTM`), with a scale for
          each row where those, by default, have one for a matrix.
        - "bf16_dot": as "bf16", but inputs and states are rounded to bfloat16 too, where the
          processor has an instruction for such products. Its order of summation is the
          processor's: these results are not the same everywhere.

    Returns
    -------
    Layer
        Of the same classes, with the same calls. Its recurrent layers have ``precision``, no
        gradients (`vjp` is a ValueError), and `parameters` that are read-only: the float32 numbers
        that the small ones stand for. `save` writes the small ones.

    Raises
    ------
    ValueError
        For an unknown precision, a model without recurrent layers or with one that is quantised in
        another precision, and for weights that are not finite where it is "int8".
    TypeError
        If the model is no Layer, or a recurrent layer is float64.

    Examples
    --------
    >>> model = fastrnn.Sequential(fastrnn.GRU(16, 64, seed=0), fastrnn.Linear(64, 5, seed=1))
    >>> small = fastrnn.quantize(model, "int8")
    >>> small
    Sequential(
      (0): GRU(16, 64, precision='int8')
      (1): Linear(in_features=64, out_features=5)
    )
    >>> x = np.ones((10, 4, 16), np.float32)
    >>> bool(np.abs(small(x)[0] - model(x)[0]).max() < 0.01)
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a Layer, got {type(model).__name__}")
    check_precision(precision)
    _check(model, precision)
    small = copy.deepcopy(model)
    small.zero_grad()
    for _, layer in _recurrent_layers(small):
        if layer.precision != precision:
            layer._quantize(precision)
    return small


def _check(model: Layer, precision: str) -> None:
    """Raise what is wrong with the model's recurrent layers."""
    found = list(_recurrent_layers(model))
    if not found:
        raise ValueError(f"model: expected a recurrent layer, got {type(model).__name__}")
    for name, layer in found:
        if layer.dtype != FLOAT32:
            raise TypeError(f"{name}: expected a float32 layer, got {layer.dtype}")
        if layer.precision not in ("float32", precision):
            raise ValueError(
                f"{name}: expected a float32 layer, got one already quantized to {layer.precision}"
            )


def _recurrent_layers(layer: Layer, name: str = "model") -> Iterator[tuple[str, Recurrent]]:
    """Yield the recurrent layers that a model is made of, named as its parameters are."""
    if isinstance(layer, Recurrent):
        yield name, layer
    for child, inner in layer.children().items():
        yield from _recurrent_layers(inner, f"{name}.{child}")
