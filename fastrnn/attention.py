"""Attention: what a query reads from a memory, as an encoder's outputs.

All layers take queries (T_q, B, Q) and a memory (T_m, B, M) whose real steps are told by lengths
or a mask, and give contexts (T_q, B, C) and weights (T_q, B, T_m): with scores e,

    weights = softmax(e) over the real steps of the memory,  context = sum_t weights_t value_t.

Where a memory is read again and again, as by a decoder that goes step by step, `Attention.prepare`
computes once what does not depend on the query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core
from .attention_base import (
    Attention,
    Gradients,
    Memory,
    attend,
    elementwise,
    real_steps,
)
from .attention_heads import MultiHeadAttention
from .base import RealArray, check_dtype, check_flag, check_gradient, check_size, real_array
from .composite import Composite
from .layers import LAYER_CLASSES, Seed

__all__ = [
    "AdditiveAttention",
    "Attention",
    "DotAttention",
    "GeneralAttention",
    "Memory",
    "MultiHeadAttention",
    "SelfAttentivePooling",
]


class DotAttention(Attention):
    """Dot product: e = q . m. Luong, Pham & Manning (2015), equation 8, "dot".

    Parameters
    ----------
    size : int
        Of queries and memory.
    scaled : bool, default False
        Whether scores are divided by sqrt(size), as Vaswani et al. (2017) do, equation 1.
    batch_first : bool, default False
        Whether arrays are (B, T, .) instead of (T, B, .).
    dtype : {"float32", "float64"}
    """

    _plain_arguments = ("size",)

    def __init__(
        self,
        size: int,
        scaled: bool = False,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__()
        self.size = check_size("size", size)
        self.scaled = check_flag("scaled", scaled)
        self._scale = self.size**-0.5 if scaled else 1.0
        self._set_up(batch_first, dtype)

    @classmethod
    def sizes(cls, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the sizes of query, memory and context of a layer with this `config`."""
        size = check_size("size", config.get("size"))
        return size, size, size

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"size": self.size, "scaled": self.scaled, **super().config()}


class GeneralAttention(Attention):
    """Bilinear form: e = (W q) . m. Luong, Pham & Manning (2015), equation 8, "general".

    Parameters
    ----------
    query_size, memory_size : int
    batch_first : bool, default False
        Whether arrays are (B, T, .) instead of (T, B, .).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn as `Linear` does.

    Attributes
    ----------
    query_layer : Linear
        Its weight (M, Q) is W, the paper's W_a transposed: the parameter "query_layer.weight".
    """

    _plain_arguments: ClassVar[tuple[str, ...]] = ("query_size", "memory_size")

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.query_size = check_size("query_size", query_size)
        self.memory_size = check_size("memory_size", memory_size)
        self._set_up(batch_first, dtype)
        self._add_linears(self.dtype, seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        sizes = {"query_size": self.query_size, "memory_size": self.memory_size}
        return {**sizes, **super().config()}

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        Q, M, _ = cls.sizes(config)
        return {"query_layer": {"in_features": Q, "out_features": M, "bias": False}}

    @property
    def query_layer(self) -> Any:
        """The Linear layer whose weight is W."""
        return self._parts["query_layer"]

    def _project_query(
        self, query: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        q, back = self.query_layer.vjp(query)
        return self._turn(q), lambda dq: back(self._turn(dq))


class AdditiveAttention(GeneralAttention):
    """One hidden layer: e = v . tanh(W q + U m + b).

    Bahdanau, Cho & Bengio (2015), section 3.1 and appendix A.1.2, who leave out the biases.
    The hidden layer takes B * T_q * T_m * A values in memory, which `vjp` keeps.

    Parameters
    ----------
    query_size, memory_size : int
    attention_size : int
        Size A of the hidden layer.
    bias : bool, default True
        Whether there is a b.
    batch_first : bool, default False
        Whether arrays are (B, T, .) instead of (T, B, .).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn as `Linear` does.

    Attributes
    ----------
    query_layer, memory_layer, attention_v : Linear
        With the weights W (A, Q), U (A, M) with the bias b (A,), and v (1, A): the parameters
        "query_layer.weight", "memory_layer.weight", "memory_layer.bias", "attention_v.weight".
    """

    _plain_arguments = ("query_size", "memory_size", "attention_size")

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int,
        bias: bool = True,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self.attention_size = check_size("attention_size", attention_size)
        self.bias = check_flag("bias", bias)
        super().__init__(query_size, memory_size, batch_first, dtype=dtype, seed=seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {**super().config(), "attention_size": self.attention_size, "bias": self.bias}

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        Q, M, _ = cls.sizes(config)
        A = check_size("attention_size", config.get("attention_size"))
        bias = config.get("bias", True)
        return {
            "query_layer": {"in_features": Q, "out_features": A, "bias": False},
            "memory_layer": {"in_features": M, "out_features": A, "bias": bias},
            "attention_v": {"in_features": A, "out_features": 1, "bias": False},
        }

    @property
    def memory_layer(self) -> Any:
        """The Linear layer whose weight is U."""
        return self._parts["memory_layer"]

    @property
    def attention_v(self) -> Any:
        """The Linear layer whose weight is v."""
        return self._parts["attention_v"]

    def _project_memory(
        self, memory: RealArray
    ) -> tuple[tuple[RealArray, RealArray], Callable[[Gradients], RealArray]]:
        keys, back = self.memory_layer.vjp(memory)

        def pullback(gradients: Gradients) -> RealArray:
            dmemory: RealArray = back(self._turn(gradients[0]))
            dmemory += self._turn(gradients[1])
            return dmemory

        return (self._turn(keys), self._turn(memory)), pullback

    def _scores(
        self, q: RealArray, keys: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], Gradients]]:
        hidden = elementwise(_core.tanh, q[:, :, None] + keys[:, None])
        scores, back = self.attention_v.vjp(hidden)

        def pullback(dscores: RealArray) -> Gradients:
            d = back(dscores[..., None])
            d *= 1 - hidden * hidden
            return d.sum(axis=2), d.sum(axis=1)

        return scores[..., 0], pullback


class SelfAttentivePooling(Composite):
    """A sequence as r weighted sums of its own steps.

    A = softmax(W_2 tanh(W_1 x^T)) over the steps, y = A x: Lin et al. (2017), "A structured
    self-attentive sentence embedding", equations 5 to 7.

    Parameters
    ----------
    in_features : int
        Size F of a step.
    attention_size : int
        Size of the hidden layer, d_a in the paper.
    hops : int, default 1
        Number r of sums.
    batch_first : bool, default False
        Whether x is (B, T, F) instead of (T, B, F).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn as `Linear` does.

    Attributes
    ----------
    hidden_layer, hop_layer : Linear
        Without biases, as in the paper, with the weights W_1 (attention_size, F) and
        W_2 (r, attention_size).
    """

    _plain_arguments = ("in_features", "attention_size")

    def __init__(
        self,
        in_features: int,
        attention_size: int,
        hops: int = 1,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.attention_size = check_size("attention_size", attention_size)
        self.hops = check_size("hops", hops)
        self.batch_first = check_flag("batch_first", batch_first)
        self.dtype = check_dtype(dtype)
        self._add_linears(self.dtype, seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {
            "in_features": self.in_features,
            "attention_size": self.attention_size,
            "hops": self.hops,
            "batch_first": self.batch_first,
            "dtype": self.dtype.name,
        }

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        F = check_size("in_features", config.get("in_features"))
        A = check_size("attention_size", config.get("attention_size"))
        r = check_size("hops", config.get("hops", 1))
        return {
            "hidden_layer": {"in_features": F, "out_features": A, "bias": False},
            "hop_layer": {"in_features": A, "out_features": r, "bias": False},
        }

    def __call__(
        self, x: ArrayLike, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> tuple[RealArray, RealArray]:
        """Pool sequences.

        Parameters
        ----------
        x : array_like, shape (T, B, F)
            (B, T, F) with `batch_first`.
        lengths, mask
            The real steps, as of `Attention`.

        Returns
        -------
        y : ndarray, shape (B, r * F)
            Zeros for a row without a real step.
        weights : ndarray, shape (B, r, T)

        Raises
        ------
        ValueError, TypeError
            If a shape or a dtype does not fit.
        """
        return self.vjp(x, lengths, mask)[0]

    def vjp(
        self, x: ArrayLike, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> tuple[tuple[RealArray, RealArray], Callable[..., RealArray]]:
        """Pool sequences for training; arguments as of a call, as its ValueError and TypeError.

        Returns (y, weights) and ``pullback(dy, dweights=None) -> dx``. The gradient `dweights` is
        for a penalty on hops that look at the same steps (the paper's equation 8).
        """
        array = real_array("x", x, self.dtype)
        if array.ndim != 3 or array.shape[-1] != self.in_features:
            axes = "B, T" if self.batch_first else "T, B"
            expected = f"({axes}, {self.in_features})"
            raise ValueError(f"x: expected the shape {expected}, got {array.shape}")
        rows = np.ascontiguousarray(array if self.batch_first else array.swapaxes(0, 1))
        real = real_steps(rows.shape[:2], lengths, mask, self.batch_first)
        if real is not None:
            rows = np.where(real[..., None], rows, self.dtype.type(0))
        z, back_to_rows = self._parts["hidden_layer"].vjp(rows)
        hidden = elementwise(_core.tanh, z)
        scores, back_to_hidden = self._parts["hop_layer"].vjp(hidden)
        (sums, weights), back = attend(scores.swapaxes(1, 2), rows, real, None)
        y = sums.reshape(len(rows), self.hops * self.in_features)

        def pullback(dy: ArrayLike, dweights: ArrayLike | None = None) -> RealArray:
            d_sums = check_gradient(dy, y.shape, self.dtype).reshape(sums.shape)
            d_weights = None
            if dweights is not None:
                d_weights = check_gradient(dweights, weights.shape, self.dtype, "dweights")
            d_scores, d_rows = back(d_sums, d_weights)
            d_hidden = back_to_hidden(d_scores.swapaxes(1, 2)) * (1 - hidden * hidden)
            d_rows += back_to_rows(d_hidden)
            return d_rows if self.batch_first else d_rows.swapaxes(0, 1)

        return (y, weights), pullback


LAYER_CLASSES.update(
    (kind.__name__, kind)
    for kind in (
        DotAttention,
        GeneralAttention,
        AdditiveAttention,
        MultiHeadAttention,
        SelfAttentivePooling,
    )
)
