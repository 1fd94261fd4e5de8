"""Layers made of named parts: `Composite`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Layer
from .layers import Linear, Seed, build_layer, describe_layer, described_shapes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Composite"]

Shapes = Iterator[tuple[str, tuple[int, ...]]]


class Composite(Layer):
    """Base of layers that are made of others, their parts, each under a name.

    The parameters are the layer's own and, after them, those of its parts, prefixed with the
    part's name: "output.weight". Parts are of two kinds. Those named in ``_given`` come as
    arguments of the constructor and are saved with their own configuration; those of `_linears`
    follow from the layer's configuration and are made by the constructor.
    """

    _given: tuple[str, ...] = ()
    _parts: dict[str, Layer]

    def __init__(self) -> None:
        super().__init__()
        self._parts = {}

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the arguments of the Linear layers that a layer with this `config` makes."""
        return {}

    def _add_linears(self, dtype: np.dtype[Any], seed: Seed) -> None:
        rng = np.random.default_rng(seed)
        for name, arguments in self._linears(self.config()).items():
            self._parts[name] = Linear(**arguments, dtype=dtype, seed=rng)

    def _add_given(self, **parts: Layer | None) -> None:
        """Take the parts that are not None; TypeError for what is no layer or of another dtype."""
        first, wanted = "", None
        for name, part in parts.items():
            if part is None:
                continue
            if not isinstance(part, Layer):
                raise TypeError(f"{name}: expected a Layer, got {type(part).__name__}")
            dtype = getattr(part, "dtype", None)
            if wanted is None:
                first, wanted = name, dtype
            elif dtype is not None and dtype != wanted:
                raise TypeError(f"{name}: expected {wanted} as {first} has, got {dtype}")
            self._parts[name] = part

    def children(self) -> dict[str, Layer]:
        """Return the parts by name."""
        return dict(self._parts)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed); parts as class and config."""
        parts = {name: self._parts.get(name) for name in self._given}
        return {n: None if part is None else describe_layer(part) for n, part in parts.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from what `config` returned; its weights are drawn anew."""
        given = [name for name in cls._given if config.get(name) is not None]
        return cls(**{**config, **{name: build_layer(config[name]) for name in given}})

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Shapes:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        for part in cls._given:
            if config.get(part) is not None:
                for name, shape in described_shapes(config[part]):
                    yield f"{part}.{name}", shape
        for part, arguments in cls._linears(config).items():
            for name, shape in Linear.parameter_shapes(arguments):
                yield f"{part}.{name}", shape

    def __repr__(self) -> str:
        if not self._given:
            return super().__repr__()
        lines = [f"({name}): {self._parts[name]!r}" for name in self._given if name in self._parts]
        options = {name: value for name, value in self.config().items() if name not in self._given}
        lines += [f"{name}={value!r}" for name, value in options.items()]
        return f"{type(self).__name__}(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"
