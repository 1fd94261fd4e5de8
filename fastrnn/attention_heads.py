"""Attention with several heads: `MultiHeadAttention`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _core
from .attention_base import Attention, Gradients
from .base import Parameter, RealArray, check_flag, check_number, check_size, check_unchanged
from .layers import Seed

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Attention):
    """Scaled dot products in several heads: Vaswani et al. (2017), section 3.2.2.

    The memory gives both keys and values. With W_q, W_k, W_v and their biases, the E values of
    each are N heads of E / N, e = q . k / sqrt(E / N) in each head, and the heads' contexts, side
    by side, go through W_o. Names and weights are those of ``torch.nn.MultiheadAttention``, whose
    state_dict `load_state_dict` takes.

    Parameters
    ----------
    embed_dim : int
        Size E of queries and contexts.
    num_heads : int
        Number N of heads; it divides E.
    dropout : float, default 0.0
        Probability of dropping a weight, in `vjp` only.
    bias : bool, default True
        Whether there are the four biases.
    kdim : int, optional
        Size of the memory (`kdim` and `vdim` of PyTorch); E by default.
    batch_first : bool, default False
        Whether arrays are (B, T, .) instead of (T, B, .).
    average_attn_weights : bool, default True
        Whether the weights returned are the mean over the heads; else they are
        (T_q, B, N, T_m), with `batch_first` (B, T_q, N, T_m).
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn as PyTorch does (Glorot & Bengio 2010, uniform), and of
        dropout.

    Raises
    ------
    ValueError, TypeError
        If embed_dim is no multiple of num_heads, or an option is out of its range.

    Notes
    -----
    Parameters: "in_proj_weight" (3 E, E), rows for query, key and value, or if `kdim` is not E
    "q_proj_weight", "k_proj_weight" and "v_proj_weight"; "in_proj_bias" (3 E,);
    "out_proj.weight" and "out_proj.bias".
    """

    _plain_arguments = ("embed_dim", "num_heads")

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        batch_first: bool = False,
        *,
        average_attn_weights: bool = True,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.embed_dim = check_size("embed_dim", embed_dim)
        self.num_heads = check_size("num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of {embed_dim}, got {num_heads}")
        self.dropout = check_number("dropout", dropout, 0.0, 1.0)
        self.bias = check_flag("bias", bias)
        self.kdim = check_size("kdim", embed_dim if kdim is None else kdim)
        self.average_attn_weights = check_flag("average_attn_weights", average_attn_weights)
        self._scale = (self.embed_dim // self.num_heads) ** -0.5
        self._set_up(batch_first, dtype)
        self._rng = np.random.default_rng(seed)
        for name, shape in self._own_shapes(self.config()):
            bound = 0.0 if len(shape) == 1 else math.sqrt(6.0 / sum(shape))
            initial = self._rng.uniform(-bound, bound, shape)
            self._parameters[name] = Parameter(initial.astype(self.dtype))
        self._add_linears(self.dtype, self._rng)
        if self.bias:
            self.out_proj.bias.data = np.zeros(self.embed_dim)

    @classmethod
    def sizes(cls, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the sizes of query, memory and context of a layer with this `config`."""
        E = check_size("embed_dim", config.get("embed_dim"))
        kdim = config.get("kdim")
        return E, E if kdim is None else check_size("kdim", kdim), E

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.bias,
            "kdim": self.kdim,
            **super().config(),
            "average_attn_weights": self.average_attn_weights,
        }

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses: the arguments that are no defaults."""
        same = self.kdim == self.embed_dim
        return (
            super()
            .extra_repr()
            .replace(f", kdim={self.kdim}", "" if same else f", kdim={self.kdim}")
        )

    @classmethod
    def _own_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        E, M, _ = cls.sizes(config)
        if M == E:
            yield "in_proj_weight", (3 * E, E)
        else:
            yield "q_proj_weight", (E, E)
            yield "k_proj_weight", (E, M)
            yield "v_proj_weight", (E, M)
        if check_flag("bias", config.get("bias", True)):
            yield "in_proj_bias", (3 * E,)

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        yield from cls._own_shapes(config)
        yield from super().parameter_shapes(config)

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        E = cls.sizes(config)[0]
        bias = config.get("bias", True)
        return {"out_proj": {"in_features": E, "out_features": E, "bias": bias}}

    @property
    def out_proj(self) -> Any:
        """The Linear layer after the heads."""
        return self._parts["out_proj"]

    def _project(
        self, which: int, x: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        """Return the heads (B, N, T, E / N) of queries, keys or values (which: 0, 1, 2)."""
        E = self.embed_dim
        rows = slice(which * E, which * E + E)
        bias = self._parameters.get("in_proj_bias")
        weight = self._parameters.get("in_proj_weight")
        if weight is not None:
            y, back = _affine_vjp(x, weight, rows, bias, rows)
        else:
            weight = self._parameters["qkv"[which] + "_proj_weight"]
            y, back = _affine_vjp(x, weight, slice(None), bias, rows)
        return self._heads(y), lambda d_heads: back(self._side_by_side(d_heads))

    def _heads(self, x: RealArray) -> RealArray:
        split = x.reshape(*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads)
        heads: RealArray = self._turn(split).swapaxes(1, 2)
        return heads

    def _side_by_side(self, heads: RealArray) -> RealArray:
        split = self._turn(heads.swapaxes(1, 2))
        joined: RealArray = split.reshape(*split.shape[:2], self.embed_dim)
        return joined

    def _project_memory(
        self, memory: RealArray
    ) -> tuple[tuple[RealArray, RealArray], Callable[[Gradients], RealArray]]:
        keys, back_to_keys = self._project(1, memory)
        values, back_to_values = self._project(2, memory)

        def pullback(gradients: Gradients) -> RealArray:
            dmemory = back_to_keys(gradients[0])
            dmemory += back_to_values(gradients[1])
            return dmemory

        return (keys, values), pullback

    def _project_query(
        self, query: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        return self._project(0, query)

    def _project_context(
        self, context: RealArray
    ) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
        y, back = self.out_proj.vjp(self._side_by_side(context))
        return y, lambda dcontext: self._heads(back(dcontext))

    def _show(self, weights: RealArray) -> RealArray:
        if self.average_attn_weights:
            return self._turn(weights.mean(axis=1))
        return self._turn(weights.swapaxes(1, 2))

    def _unshow(self, dweights: RealArray) -> RealArray:
        turned = self._turn(dweights)
        if self.average_attn_weights:
            each: RealArray = turned[:, None] / self.dtype.type(self.num_heads)
            return each
        return turned.swapaxes(1, 2)


def _affine_vjp(
    x: RealArray, weight: Parameter, rows: slice, bias: Parameter | None, entries: slice
) -> tuple[RealArray, Callable[[RealArray], RealArray]]:
    """Return x W^T + b for some rows of a weight and some entries of a bias; and the pullback."""
    flat, version = x.reshape(-1, x.shape[-1]), weight.version
    offset = None if bias is None else bias._array[entries]
    y = _core.linear_forward(flat, weight._array[rows], offset)

    def pullback(dy: RealArray) -> RealArray:
        check_unchanged(weight, version)
        dx = _core.linear_backward(
            flat,
            weight._array[rows],
            np.ascontiguousarray(dy).reshape(-1, dy.shape[-1]),
            weight.ensure_grad()[rows] if weight.requires_grad else None,
            bias.ensure_grad()[entries] if bias is not None and bias.requires_grad else None,
            True,
        )
        assert dx is not None  # it was asked for
        return dx.reshape(x.shape)

    return y.reshape(*x.shape[:-1], y.shape[-1]), pullback
