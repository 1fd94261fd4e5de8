"""PyTorch: as it is, compiled, and with weights quantised to int8."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ..cases import Case
from .base import Array, Peer, Program, UnsupportedError


class Torch(Peer):
    """torch.nn's own layers."""

    name = "torch"
    modules = ("torch",)
    settings = "inference_mode; padded batches packed and unpacked within the call"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(threads)
        layer = getattr(torch.nn, case.cell)(
            case.I, case.H, case.layers, bidirectional=case.bidirectional
        )
        layer.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        layer = self.changed(torch, layer.eval() if case.mode != "training" else layer)
        call = self.compiled(torch, _padded(torch, layer, case) if case.padding else layer)
        inputs = torch.from_numpy(x)
        if case.mode == "training":
            return _training(layer, call, inputs.requires_grad_(), torch.from_numpy(dy))
        state: Any = None

        def step() -> Any:
            nonlocal state
            with torch.inference_mode():
                y, state = call(inputs, state)
                return y

        def inference() -> Any:
            with torch.inference_mode():
                return call(inputs)[0]

        run = step if case.mode == "step" else inference
        return Program(run, lambda y: {"y": y.numpy()})

    def changed(self, torch: Any, layer: Any) -> Any:
        """Return the layer that is measured."""
        return layer

    def compiled(self, torch: Any, call: Any) -> Any:
        """Return what is called."""
        return call


class TorchCompile(Torch):
    """torch.compile over the layer."""

    name = "torch.compile"
    slow_start = True
    settings = "torch.compile with its defaults, fixed shapes; first calls not timed"

    def compiled(self, torch: Any, call: Any) -> Any:
        """Return what is called."""
        dynamo: Any = importlib.import_module("torch._dynamo")
        dynamo.reset()  # else it stops compiling after some cases

        def function(*arguments: Any) -> Any:
            return call(*arguments)

        return torch.compile(function, dynamic=False)


class TorchInt8(Torch):
    """Dynamic quantisation."""

    name = "torch int8"
    tolerance = 0.1
    exact = False
    settings = "quantize_dynamic, weights in int8: other results, tolerance 0.1"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        if case.mode == "training":
            raise UnsupportedError("inference only")
        if case.cell == "RNN":
            raise UnsupportedError("LSTM and GRU only")
        return super().prepare(case, weights, x, dy, threads)

    def changed(self, torch: Any, layer: Any) -> Any:
        """Return the layer that is measured."""
        wrapped = torch.nn.Sequential(layer)
        kinds = {torch.nn.LSTM, torch.nn.GRU}
        return torch.ao.quantization.quantize_dynamic(wrapped, kinds, dtype=torch.qint8)[0]


def _padded(torch: Any, layer: Any, case: Case) -> Callable[..., Any]:
    rnn = torch.nn.utils.rnn
    lengths = torch.tensor(case.lengths())

    def call(inputs: Any) -> Any:
        packed = rnn.pack_padded_sequence(inputs, lengths)
        y, state = layer(packed)
        return rnn.pad_packed_sequence(y, total_length=case.T)[0], state

    return call


def _training(layer: Any, call: Any, inputs: Any, gradient: Any) -> Program:
    def run() -> Any:
        layer.zero_grad(set_to_none=True)
        inputs.grad = None
        y = call(inputs)[0]
        y.backward(gradient)
        return y

    def arrays(y: Any) -> dict[str, Any]:
        gradients = {name: p.grad.numpy() for name, p in layer.named_parameters()}
        return {"y": y.detach().numpy(), "dx": inputs.grad.numpy(), **gradients}

    return Program(run, arrays)
