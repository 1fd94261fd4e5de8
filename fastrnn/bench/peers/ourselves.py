"""fastrnn, as its users call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cases import Case
from .base import Array, Peer, Program


class Fastrnn(Peer):
    """Ours."""

    name = "fastrnn"
    modules = ("fastrnn",)
    settings = "layer(x), layer.step(x_t, state), layer.vjp(x) and its pullback"

    def version(self) -> str:
        """Return the version that is imported."""
        import fastrnn

        return fastrnn.__version__

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        import fastrnn

        fastrnn.set_num_threads(threads)
        cell = getattr(fastrnn, case.cell)
        layer = cell(case.I, case.H, case.layers, bidirectional=case.bidirectional)
        layer.load_state_dict(weights)
        layer = self.changed(layer)
        lengths = case.lengths() if case.padding else None

        state: Any = None

        def step() -> Any:
            nonlocal state
            y, state = layer.step(x[0], state)
            return y

        def training() -> Any:
            layer.zero_grad()
            (y, _), pullback = layer.vjp(x, None, lengths)
            return y, pullback(dy)[0]

        def trained(result: Any) -> dict[str, Any]:
            gradients = {name: p.grad for name, p in layer.parameters().items()}
            return {"y": result[0], "dx": result[1], **gradients}

        if case.mode == "step":
            return Program(step, lambda y: {"y": y[None]})
        if case.mode == "training":
            return Program(training, trained)
        return Program(lambda: layer(x, None, lengths)[0], lambda y: {"y": y})

    def changed(self, layer: Any) -> Any:
        """Return the layer that is measured."""
        return layer
