"""Arrays inside `jax.shard_map`, which knows along which axes of the mesh an array varies.

JAX 0.10 keeps that in the array's type as `manual_axis_type`, JAX before it as `vma`; see
https://docs.jax.dev/en/latest/notebooks/shard_map.html. Elsewhere nothing varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

__all__ = ["shaped", "vary_alike"]

Array = Any


def shaped(like: Sequence[Array], shape: tuple[int, ...]) -> Any:
    """Return an abstract array of the first one's type, which varies as it does."""
    aval: Any = getattr(like[0], "aval", like[0])
    if not _axes(aval):
        return jax.core.ShapedArray(shape, aval.dtype)
    whole = aval.sharding.update(spec=PartitionSpec(*[None] * len(shape)))
    return aval.update(shape=shape, sharding=whole)


def vary_alike(*arrays: Array) -> tuple[Array, ...]:
    """Return the same arrays, each varying along all axes that any does.

    An operation asks for that, so that the gradient of an array which all devices share is found
    to be the sum over the devices.
    """
    axes: frozenset[str] = frozenset().union(*map(_axes, arrays))
    return tuple(_vary(array, tuple(sorted(axes - _axes(array)))) for array in arrays)


def _axes(array: Array) -> frozenset[str]:
    aval = getattr(array, "aval", array)
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset(kind.varying if kind else getattr(aval, "vma", None) or ())


def _vary(array: Array, axes: tuple[str, ...]) -> Array:
    if not axes:
        return array
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, axes, to="varying")
    return jax.lax.pvary(array, axes)
