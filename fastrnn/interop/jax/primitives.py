"""A recurrent layer as operations of JAX: compiled, differentiated, and mapped over a batch.

Four primitives (https://docs.jax.dev/en/latest/jax-primitives.html), as what `jax.custom_vjp` can
say is not enough: it forbids forward mode, and `vmap` inside `grad` would take the gradient of the
weights row by row, where the sum over the batch is what the kernels compute.

    layer     operands -> y, h_n, c_n
    training  operands -> y, h_n, c_n, cache
    tangent   operands, y, cache, tangents -> tangents of y, h_n, c_n; its transpose is backward
    backward  operands, y, cache, gradients of y, h_n, c_n -> gradients of the operands

The derivative of the first two is `tangent`; those of `tangent` and of `backward` are taken of the
layer in plain JAX (`scan.run`), which also computes `tangent` in forward mode, and everything on
devices other than the CPU. Parameters are `kind` (of `scan.KINDS`), `batch_first`, `engine` ("ffi"
or "callback") and `wanted`, a flag for each operand but lengths; operands are as in `scan`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import ffi
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import native, scan, shards
from .scan import KINDS, WEIGHTS, is_absent

__all__ = ["run"]

Array = Any
Arrays = Sequence[Any]
LENGTHS = 3  # its place among the operands


def run(kind: str, batch_first: bool, engine: str, *operands: Array) -> Arrays:
    """Return y, h_n and c_n (absent but for an LSTM) of a layer."""
    operands = shards.vary_alike(*operands)
    return layer_p.bind(*operands, kind=kind, batch_first=batch_first, engine=engine)


def _primitive(name: str) -> Any:
    primitive = Primitive(f"fastrnn_{name}")
    primitive.multiple_results = True

    @primitive.def_impl
    def run(*operands: Array, **params: Any) -> Any:
        with jax.disable_jit(False):  # which has nothing to step through here
            return _compiled(primitive, tuple(sorted(params.items())))(*operands)

    return primitive


@functools.cache
def _compiled(primitive: Any, params: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


layer_p, training_p = _primitive("layer"), _primitive("layer_training")
tangent_p, backward_p = _primitive("layer_tangent"), _primitive("layer_backward")


# ---------------------------------------------------------------------------------- shapes


def _sizes(batch_first: bool, operands: Arrays) -> tuple[int, int, int, int, int]:
    """T, B, D, H of the layer's operands, and P, which is the size of h."""
    x, w_hh, w_hr = operands[0], operands[5], operands[8]
    T, B = x.shape[1::-1] if batch_first else x.shape[:2]
    P = w_hh.shape[1]
    return T, B, (len(operands) - 4) // WEIGHTS, (P if is_absent(w_hr) else w_hr.shape[1]), P


@layer_p.def_abstract_eval
def _layer_shapes(*operands: Any, kind: str, batch_first: bool, engine: str) -> list[Any]:
    T, B, D, H, P = _sizes(batch_first, operands)
    y = (B, T, D * P) if batch_first else (T, B, D * P)
    shapes = [y, (D, B, P), (D, B, H) if kind == "lstm" else (0,)]
    return [shards.shaped(operands, shape) for shape in shapes]


@training_p.def_abstract_eval
def _training_shapes(*operands: Any, kind: str, batch_first: bool, engine: str) -> list[Any]:
    count = 0
    if engine == "ffi":
        T, B, D, H, _ = _sizes(batch_first, operands)
        count = D * T * B * native.cache_blocks(kind, not is_absent(operands[8])) * H
    y, h_n, c_n = _layer_shapes(*operands, kind=kind, batch_first=batch_first, engine=engine)
    return [y, h_n, c_n, shards.shaped(operands, (count,))]


@tangent_p.def_abstract_eval
def _tangent_shapes(
    *operands: Any, kind: str, batch_first: bool, engine: str, wanted: tuple[bool, ...]
) -> list[Any]:
    given = operands[: len(wanted) + 1]
    shapes = _layer_shapes(*given, kind=kind, batch_first=batch_first, engine=engine)
    return [shards.shaped(operands, a.shape) for a in shapes]


@backward_p.def_abstract_eval
def _backward_shapes(
    *operands: Any, kind: str, batch_first: bool, engine: str, wanted: tuple[bool, ...]
) -> list[Any]:
    given = _without_lengths(operands[: len(wanted) + 1])
    return [
        shards.shaped(operands, a.shape if wish else (0,))
        for a, wish in zip(given, wanted, strict=True)
    ]


def _without_lengths(operands: Arrays) -> list[Any]:
    return [*operands[:LENGTHS], *operands[LENGTHS + 1 :]]


# ------------------------------------------------------------------- the same in plain JAX


def _layer_in_jax(*operands: Array, kind: str, batch_first: bool, engine: str) -> Arrays:
    return scan.run(kind, batch_first, *operands)


def _training_in_jax(*operands: Array, **params: Any) -> Arrays:
    cache = _training_shapes(*operands, **params)[-1]
    return (*_layer_in_jax(*operands, **params), jnp.zeros(cache.shape, cache.dtype))


def _of_wanted(
    given: Arrays, kind: str, batch_first: bool, wanted: Sequence[bool]
) -> tuple[Callable[..., Arrays], list[Array]]:
    """Return the layer as a function of the wanted operands, and these."""
    places = [i for i in range(len(given)) if i != LENGTHS]
    places = [i for i, wish in zip(places, wanted, strict=True) if wish]

    def function(*chosen: Array) -> Arrays:
        operands = list(given)
        for i, operand in zip(places, chosen, strict=True):
            operands[i] = operand
        return scan.run(kind, batch_first, *operands)

    return function, [given[i] for i in places]


def _tangent_in_jax(
    *operands: Array, kind: str, batch_first: bool, engine: str, wanted: tuple[bool, ...]
) -> Arrays:
    given, tangents = operands[: len(wanted) + 1], operands[len(wanted) + 3 :]
    function, chosen = _of_wanted(given, kind, batch_first, wanted)
    return tuple(jax.jvp(function, chosen, list(tangents))[1])


def _backward_in_jax(
    *operands: Array, kind: str, batch_first: bool, engine: str, wanted: tuple[bool, ...]
) -> Arrays:
    given, gradients = operands[: len(wanted) + 1], operands[len(wanted) + 3 :]
    function, chosen = _of_wanted(given, kind, batch_first, wanted)
    outputs, pullback = jax.vjp(function, *chosen)
    found = iter(
        pullback(
            tuple(
                jnp.zeros(y.shape, y.dtype) if is_absent(d_y) else d_y
                for y, d_y in zip(outputs, gradients, strict=True)
            )
        )
    )
    none = jnp.zeros((0,), given[0].dtype)
    return [next(found) if wish else none for wish in wanted]


# -------------------------------------------------------------------------------- lowering


def _by_ffi(target: str, ctx: Any, *operands: Any, params: dict[str, int]) -> Any:
    numbers = {name: np.int64(value) for name, value in params.items()}
    return ffi.ffi_lowering(target)(ctx, *operands, **numbers)


def _lower_forward(ctx: Any, *operands: Any, kind: str, batch_first: bool, engine: str) -> Any:
    if engine == "ffi":
        params = {"kind": KINDS.index(kind), "batch_first": batch_first}
        return _by_ffi(native.FORWARD, ctx, *operands, params=params)
    return _by_callback(ctx, functools.partial(native.forward_on_host, kind, batch_first), operands)


def _lower_backward(
    ctx: Any,
    *operands: Any,
    kind: str,
    batch_first: bool,
    engine: str,
    wanted: tuple[bool, ...],
) -> Any:
    if engine == "ffi":
        params = {"kind": KINDS.index(kind), "batch_first": batch_first}
        return _by_ffi(native.BACKWARD, ctx, *operands, params=params)
    call = functools.partial(
        native.backward_on_host, kind, batch_first, tuple(wanted), len(wanted) + 1
    )
    return _by_callback(ctx, call, operands)


def _by_callback(ctx: Any, call: Callable[..., Any], operands: Any) -> Any:
    results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_out]

    def function(*operands: Array) -> Any:
        found = jax.pure_callback(call, tuple(results[:count]), *operands)
        return (*found, *(jnp.zeros(a.shape, a.dtype) for a in results[count:]))

    count = 3 if ctx.primitive is training_p else len(results)  # there the cache is empty
    return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)


for primitive, fallback, lowering in (
    (layer_p, _layer_in_jax, _lower_forward),
    (training_p, _training_in_jax, _lower_forward),
    (tangent_p, _tangent_in_jax, None),
    (backward_p, _backward_in_jax, _lower_backward),
):
    mlir.register_lowering(primitive, mlir.lower_fun(fallback, multiple_results=True))
    if lowering is not None:
        mlir.register_lowering(primitive, lowering, platform="cpu")


# ------------------------------------------------------------------------------ derivatives


def _forward_jvp(primals: Arrays, tangents: Arrays, **params: Any) -> tuple[Arrays, Arrays]:
    outputs = training_p.bind(*primals, **params)
    y, *_, cache = outputs
    given = _without_lengths(tangents)
    wanted = tuple(type(t) is not ad.Zero for t in given)
    if not any(wanted):
        return outputs, [ad.Zero(shards.shaped([a], a.shape)) for a in outputs]
    found = tangent_p.bind(
        *primals, y, cache, *(t for t in given if type(t) is not ad.Zero), wanted=wanted, **params
    )
    return outputs, [*found, ad.Zero(shards.shaped([cache], cache.shape))]


def _layer_jvp(primals: Arrays, tangents: Arrays, **params: Any) -> tuple[Arrays, Arrays]:
    outputs, found = _forward_jvp(primals, tangents, **params)
    return outputs[:3], found[:3]


def _tangent_transpose(gradients: Arrays, *operands: Any, **params: Any) -> list[Any]:
    wanted = params["wanted"]
    count = len(wanted) + 3
    none = jnp.zeros((0,), operands[0].dtype)
    if all(type(d) is ad.Zero for d in gradients):
        return [None] * count + [
            ad.Zero(t.aval) if ad.is_undefined_primal(t) else None for t in operands[count:]
        ]
    given = [none if type(d) is ad.Zero else d for d in gradients]
    found = backward_p.bind(*operands[:count], *given, **params)
    chosen = [d for d, wish in zip(found, wanted, strict=True) if wish]
    return [None] * count + [
        d if ad.is_undefined_primal(t) else None
        for d, t in zip(chosen, operands[count:], strict=True)
    ]


def _jvp_in_jax(function: Callable[..., Arrays]) -> Callable[..., tuple[Arrays, Arrays]]:
    """Return the derivative of a formula in JAX, where y and the cache play no part."""

    def jvp(primals: Arrays, tangents: Arrays, **params: Any) -> tuple[Arrays, Arrays]:
        filled = [ad.instantiate_zeros(t) for t in tangents]
        return jax.jvp(functools.partial(function, **params), list(primals), filled)

    return jvp


ad.primitive_jvps[layer_p] = _layer_jvp
ad.primitive_jvps[training_p] = _forward_jvp
ad.primitive_jvps[tangent_p] = _jvp_in_jax(_tangent_in_jax)
ad.primitive_jvps[backward_p] = _jvp_in_jax(_backward_in_jax)
ad.primitive_transposes[tangent_p] = _tangent_transpose


# ---------------------------------------------------------------------------------- batches


def _layer_batch(operands: Arrays, axes: Sequence[int | None], **params: Any) -> Any:
    """More rows of one batch, where the weights are shared."""
    if any(axis is not None for axis in axes[LENGTHS + 1 :]):
        return _one_by_one(layer_p, operands, axes, **params)
    size = next(a.shape[i] for a, i in zip(operands, axes, strict=True) if i is not None)
    x, h0, c0, lengths = (_to_front(a, i, size) for a, i in zip(operands[:4], axes, strict=False))
    each = x.shape[1 if params["batch_first"] else 2]  # rows; not -1, as sizes may be 0
    rows = size * each
    single = x.shape[2] == 1 and not params["batch_first"]
    if single:  # (N, T, 1, I) is (N, T, I) with batch_first: nothing moves
        params = {**params, "batch_first": True}
        x = x[:, :, 0]
    elif params["batch_first"]:
        x = x.reshape(rows, *x.shape[2:])
    else:
        x = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], rows, x.shape[3])
    states = [s if is_absent(s) else _join_rows(s) for s in (h0, c0)]
    lengths = lengths if is_absent(lengths) else lengths.reshape(-1)
    y, h_n, c_n = layer_p.bind(x, *states, lengths, *operands[LENGTHS + 1 :], **params)
    ends = [
        s if is_absent(s) else s.reshape(s.shape[0], size, each, s.shape[2]) for s in (h_n, c_n)
    ]
    end_axes = [None if is_absent(s) else 1 for s in ends]
    if single:
        return (y[:, :, None], *ends), (0, *end_axes)
    if params["batch_first"]:
        return (y.reshape(size, each, *y.shape[1:]), *ends), (0, *end_axes)
    return (y.reshape(y.shape[0], size, each, y.shape[2]), *ends), (1, *end_axes)


def _to_front(operand: Array, axis: int | None, size: int) -> Array:
    if axis is not None:
        return jnp.moveaxis(operand, axis, 0)
    if is_absent(operand):
        return operand
    return jnp.broadcast_to(operand, (size, *operand.shape))


def _join_rows(state: Array) -> Array:
    """(N, D, B, P) -> (D, N B, P)."""
    return jnp.moveaxis(state, 0, 1).reshape(state.shape[1], -1, state.shape[3])


def _one_by_one(primitive: Any, operands: Arrays, axes: Sequence[int | None], **params: Any) -> Any:
    mapped = {
        i: jnp.moveaxis(a, axis, 0)
        for i, (a, axis) in enumerate(zip(operands, axes, strict=True))
        if axis is not None
    }

    def one(own: dict[int, Array]) -> Any:
        given = (own.get(i, operand) for i, operand in enumerate(operands))
        return primitive.bind(*given, **params)

    results = jax.lax.map(one, mapped)
    return results, [0] * len(results)


def _tangent_batch(operands: Arrays, axes: Sequence[int | None], **params: Any) -> Any:
    function = functools.partial(_tangent_in_jax, **params)
    return jax.vmap(function, in_axes=tuple(axes))(*operands), (0, 0, 0)


batching.primitive_batchers[layer_p] = _layer_batch
batching.primitive_batchers[training_p] = functools.partial(_one_by_one, training_p)
batching.primitive_batchers[backward_p] = functools.partial(_one_by_one, backward_p)
batching.primitive_batchers[tangent_p] = _tangent_batch
