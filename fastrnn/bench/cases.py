"""What is measured: a `Case` is one cell, mode and shape; `SETS` names lists of them.

Imports nothing but the standard library, so that anything may share these definitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

__all__ = ["CELLS", "CLIENTS", "GATES", "GRID", "MODES", "QUICK", "SETS", "Case"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CELLS = tuple(GATES)
MODES = ("inference", "step", "training")
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Case:
    """One benchmark: float32, zero initial states, PyTorch's conventions (GRU: reset after).

    Parameters
    ----------
    cell : {"LSTM", "GRU", "RNN"}
    mode : {"inference", "step", "training"}
        A call over the whole sequence; one step of a stream, whose state comes from the step
        before (T is 1); a forward pass and all gradients (input, weights, biases).
    T, B, I, H : int
        Time steps, batch rows, input size, hidden size.
    layers : int
    bidirectional : bool
    padding : float, 0 to 0.5
        The share of (T, B) that is padding; see `lengths`.
    client : str
        Who runs this shape, where somebody is known to.
    """

    cell: str
    mode: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    layers: int = 1
    bidirectional: bool = False
    padding: float = 0.0
    client: str = ""

    def __post_init__(self) -> None:
        if self.cell not in GATES:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {self.cell!r}")
        if self.mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        for name in ("T", "B", "I", "H", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.padding <= 0.5:
            raise ValueError(f"padding: expected a number from 0 to 0.5, got {self.padding}")
        if self.mode == "step" and (self.T != 1 or self.bidirectional or self.padding):
            raise ValueError("mode: a step has T = 1, one direction and no padding")

    def name(self) -> str:
        """Return a name that tells all but the client: ``LSTM inference T100 B64 I256 H256``."""
        name = f"{self.cell} {self.mode} T{self.T} B{self.B} I{self.I} H{self.H}"
        if self.layers > 1:
            name += f" L{self.layers}"
        if self.bidirectional:
            name += " bi"
        if self.padding:
            name += f" pad{100 * self.padding:.0f}%"
        return name

    @property
    def gates(self) -> int:
        """Blocks of H rows in a weight: 4, 3 or 1."""
        return GATES[self.cell]

    @property
    def directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def lengths(self) -> list[int]:
        """Return the steps of each row, longest first: evenly from T down to (1 - 2 padding) T."""
        last = max(self.B - 1, 1)
        return [max(1, round(self.T * (1 - 2 * self.padding * b / last))) for b in range(self.B)]

    def rows(self) -> int:
        """Return the number of (time step, batch row) pairs that are no padding."""
        return sum(self.lengths())

    def input_sizes(self) -> list[int]:
        """Return the input size of each layer."""
        return [self.I] + [self.directions * self.H] * (self.layers - 1)

    def flops(self) -> int:
        """Return 2 rows (I + H) G H summed over layers and directions; for training 3 times that.

        A multiply-add counts as two; gates count nothing. Training has three products of the
        same size: the forward one, the gradient of the data and that of the weights.
        """
        forward = sum(
            2 * self.rows() * (size + self.H) * self.gates * self.H * self.directions
            for size in self.input_sizes()
        )
        return 3 * forward if self.mode == "training" else forward

    def recurrent_bytes(self) -> int:
        """Return the float32 bytes of ``weight_hh`` of one layer and direction."""
        return FLOAT_BYTES * self.gates * self.H * self.H

    def weight_bytes(self) -> int:
        """Return the float32 bytes of all weight matrices (biases left out)."""
        columns = sum(size + self.H for size in self.input_sizes())
        return FLOAT_BYTES * self.gates * self.H * columns * self.directions

    def streamed_bytes(self) -> int:
        """Return the weight bytes a call reads: recurrent ones each step, the others once.

        Training reads the recurrent ones twice a step (once transposed).
        """
        if self.mode == "step":
            return self.weight_bytes()
        passes = 2 if self.mode == "training" else 1
        steps = self.layers * self.directions * self.recurrent_bytes() * self.T * passes
        once = self.weight_bytes() - self.layers * self.directions * self.recurrent_bytes()
        return steps + once * passes


Shape = tuple[int, ...]  # T, B, I, H and, where not 1, layers


def _case(cell: str, mode: str, shape: Shape, client: str = "") -> Case:
    T, B, I, H, layers = (*shape, 1)[:5]  # noqa: E741
    return Case(cell, mode, T, B, I, H, layers, client=client)


def _cases(cells: Iterable[str], mode: str, shapes: Iterable[Shape]) -> Iterator[Case]:
    for cell in cells:
        for shape in shapes:
            yield _case(cell, mode, shape)


def _grid() -> Iterator[Case]:
    steps: list[Shape] = [(1, 1, 64, 64), (1, 1, 128, 256), (1, 1, 512, 512), (1, 1, 1024, 1024)]
    single: list[Shape] = [
        (100, 1, 64, 64),
        (100, 1, 64, 128),
        (100, 1, 128, 256),
        (100, 1, 512, 512),
        (100, 1, 1024, 1024),
        (1000, 1, 40, 64, 2),
        (1000, 1, 128, 256),
    ]
    small: list[Shape] = [
        (100, 1, 16, 16),
        (100, 1, 32, 32),
        (100, 16, 32, 32),
        (200, 64, 32, 32),
        (100, 64, 16, 16),
        (100, 64, 64, 64),
    ]
    few: list[Shape] = [(50, B, 128, 256) for B in (2, 4, 8, 16)]
    few += [(50, B, 512, 512) for B in (2, 4, 8, 16)]
    many: list[Shape] = [
        (50, 32, 128, 128),
        (100, 64, 256, 256),
        (50, 64, 512, 512, 2),
        (50, 128, 512, 512),
        (25, 256, 1024, 1024),
    ]
    training: list[Shape] = [
        (200, 1, 64, 256),
        (100, 4, 64, 64),
        (35, 20, 650, 650, 2),
        (50, 32, 64, 128),
        (100, 32, 16, 64),
        (64, 50, 65, 128, 2),
        (100, 64, 128, 256, 2),
        (50, 128, 512, 512),
    ]
    yield from _cases(CELLS, "step", steps)
    yield from _cases(CELLS, "inference", [*steps, *single, *small, *few, *many])
    yield from _cases(CELLS, "training", training)
    for cell in CELLS:
        yield Case(cell, "inference", 100, 16, 256, 256, 2, bidirectional=True)
        yield Case(cell, "training", 100, 16, 256, 256, bidirectional=True)
        yield Case(cell, "inference", 100, 64, 256, 256, padding=0.5)
        yield Case(cell, "training", 100, 64, 128, 256, 2, padding=0.5)


def _clients() -> Iterator[Case]:
    def lstm(client: str, mode: str, *shape: int) -> Case:
        return _case("LSTM", mode, shape, client)

    def gru(client: str, mode: str, *shape: int) -> Case:
        return _case("GRU", mode, shape, client)

    def both_ways(case: Case, padding: float = 0.0) -> Case:
        return replace(case, bidirectional=True, padding=padding)

    yield lstm("silero-vad, stream", "step", 1, 1, 128, 128)
    yield lstm("silero-vad, block", "inference", 512, 1, 128, 128)
    yield gru("RNNoise; DeepFilterNet3, decoder", "step", 1, 1, 256, 256, 3)
    yield gru("RNNoise, training", "training", 2000, 128, 256, 384, 3)
    yield gru("DeepFilterNet3, encoder", "step", 1, 1, 256, 256, 2)
    yield lstm("guitar amplifier (Proteus)", "step", 1, 1, 1, 40)
    yield lstm("guitar amplifier (NAM)", "step", 1, 1, 1, 3)
    yield both_ways(lstm("kraken, first layer", "inference", 200, 1, 960, 200))
    yield both_ways(lstm("kraken, upper layers", "inference", 200, 1, 400, 200, 2))
    yield both_ways(lstm("pyannote segmentation", "inference", 589, 32, 60, 128, 2))
    yield lstm("Resemblyzer", "inference", 160, 1, 40, 256, 3)
    yield both_ways(lstm("stanza tokenizer", "inference", 100, 32, 32, 64), padding=0.5)
    yield both_ways(lstm("stanza tagger", "inference", 25, 250, 125, 200, 2), padding=0.5)
    yield lstm("stanza character model", "inference", 250, 100, 100, 1024)
    yield lstm("DeepAR sampling", "step", 1, 3200, 60, 40, 2)
    yield lstm("recurrent PPO, acting", "step", 1, 8, 64, 256)
    yield lstm("recurrent PPO, training", "training", 128, 8, 64, 256)
    yield lstm("hydrology", "training", 365, 256, 15, 20)
    yield lstm("basecalling", "inference", 1600, 64, 384, 384, 5)


def _quick() -> Iterator[Case]:
    yield from _cases(CELLS, "step", [(1, 1, 128, 256)])
    yield from _cases(CELLS, "inference", [(100, 1, 128, 256)])
    yield from _cases(("LSTM", "GRU"), "inference", [(50, 8, 128, 256)])
    yield from _cases(("LSTM",), "inference", [(100, 64, 256, 256), (200, 64, 32, 32)])
    yield from _cases(("LSTM", "GRU"), "training", [(50, 32, 64, 128)])


CLIENTS = tuple(_clients())
GRID = (*_grid(), *CLIENTS)
QUICK = tuple(_quick())
SETS = {"quick": QUICK, "grid": GRID, "clients": CLIENTS}
