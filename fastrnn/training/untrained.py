"""What a step that is left out must put back: `Untrained`."""

from __future__ import annotations

from ..base import Layer, RealArray

__all__ = ["Untrained"]


class Untrained:
    """The weights that no optimiser trains, but the forward pass may move: running statistics."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, RealArray]] = {}  # version and copy

    def keep(self, model: Layer) -> None:
        """Copy those that changed since the last time; so frozen weights are copied once."""
        for name, parameter in model.parameters().items():
            version, _ = self._kept.get(name, (-1, None))
            if not parameter.requires_grad and version != parameter.version:
                self._kept[name] = parameter.version, parameter.data.copy()

    def put_back(self, model: Layer) -> None:
        """Undo what changed them since `keep`."""
        for name, parameter in model.parameters().items():
            if not parameter.requires_grad and parameter.version != self._kept[name][0]:
                parameter.data = self._kept[name][1]
