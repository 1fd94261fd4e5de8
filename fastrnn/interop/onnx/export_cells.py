"""One step of recurrent cells as nodes of a graph: for what ONNX's RNN, GRU and LSTM have not.

The formulas are those of `fastrnn.RNN`, `GRU`, `LSTM` and their kin; the operator Scan runs them
over time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...base import RealArray
from ...recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from ...recurrent_options import Activation, CellOptions, check_activation
from .export_graph import Graph, Names

Function = Callable[[Graph, str, float, float], str]
EVERYTHING = slice(None)
EPSILON = CellOptions._field_defaults["epsilon"]


def _affine(g: Graph, x: str, alpha: float, beta: float) -> str:
    return g.node("Add", g.node("Mul", x, g.number(alpha)), g.number(beta))


def _negative(g: Graph, x: str, below: str) -> str:
    """Return x, but `below` where it is negative."""
    return g.node("Where", g.node("Less", x, g.number(0.0)), below, x)


def _elu(g: Graph, x: str, alpha: float, beta: float) -> str:
    exp = g.node("Exp", g.node("Min", x, g.number(0.0)))
    return _negative(g, x, _affine(g, exp, alpha, -alpha))


def _softplus(g: Graph, x: str, alpha: float, beta: float) -> str:
    exp = g.node("Exp", g.node("Neg", g.node("Abs", x)))
    log = g.node("Log", g.node("Add", exp, g.number(1.0)))
    return g.node("Add", g.node("Relu", x), log)


# ONNX's definitions of the activations of its RNN operator. From operators that ONNX Runtime has in
# float32 and float64 both, unlike LeakyRelu and its neighbours.
FUNCTIONS: dict[str, Function] = {
    "sigmoid": lambda g, x, alpha, beta: g.node("Sigmoid", x),
    "tanh": lambda g, x, alpha, beta: g.node("Tanh", x),
    "relu": lambda g, x, alpha, beta: g.node("Relu", x),
    "affine": _affine,
    "leaky_relu": lambda g, x, alpha, beta: _negative(g, x, g.node("Mul", x, g.number(alpha))),
    "thresholded_relu": lambda g, x, alpha, beta: g.where(g.node("Greater", x, g.number(alpha)), x),
    "scaled_tanh": lambda g, x, alpha, beta: g.node(
        "Mul", g.node("Tanh", g.node("Mul", x, g.number(beta))), g.number(alpha)
    ),
    "hard_sigmoid": lambda g, x, alpha, beta: g.node(
        "Clip", _affine(g, x, alpha, beta), g.number(0.0), g.number(1.0)
    ),
    "elu": _elu,
    "softsign": lambda g, x, alpha, beta: g.node(
        "Div", x, g.node("Add", g.node("Abs", x), g.number(1.0))
    ),
    "softplus": _softplus,
}


class Cell:
    """A cell of one layer in one direction; adds nodes to a graph.

    `projected` gives what follows from the inputs alone, which is computed for all steps at once;
    `step` takes one step of that and the states (B, .), and gives the new states, h first.
    """

    def __init__(self, graph: Graph, layer: Any, index: int, suffix: str, name: str) -> None:
        self.graph, self.layer, self._name = graph, layer, name
        ending = f"_l{index}{suffix}"
        self._arrays: dict[str, RealArray] = {
            name.removesuffix(ending): parameter.data
            for name, parameter in layer.parameters().items()
            if name.endswith(ending)
        }
        config = layer.config()
        functions = config["activations"] if "activations" in config else [config["nonlinearity"]]
        self.functions = [check_activation("", f, prelu=True) for f in functions]
        self.clip, self.cell_clip = config.get("clip"), config.get("cell_clip")
        zoneout = config.get("zoneout", 0.0)
        self.keep = zoneout if isinstance(zoneout, list) else [zoneout, zoneout]

    def projected(self, x: str) -> Names:
        """Return W_ih x + b of all steps."""
        return [self.biased(self.product(x, "ih"), "bias_ih", "bias_hh")]

    def step(self, items: Names, states: Names) -> Names:
        """Return the states after a step."""
        raise NotImplementedError

    # --- what cells are made of ---------------------------------------------------------------

    def array(self, name: str, rows: slice = EVERYTHING, transposed: bool = False) -> str:
        """Return the name of (some rows of) one of the cell's parameters."""
        part = self._arrays[name][rows]
        full = f"{self._name}.{name}" + (f".{rows.start}" if rows.start else "")
        return self.graph.constant(full, part.T if transposed else part)

    def has(self, name: str) -> bool:
        """Return whether there is a parameter of that name."""
        return name in self._arrays

    def product(self, x: str, weight: str, rows: slice = EVERYTHING) -> str:
        """Return the product with weight_ih or weight_hh, normalised if the layer does that."""
        y = self.graph.node("MatMul", x, self.array(f"weight_{weight}", rows, transposed=True))
        if not self.has(f"gain_{weight}"):
            return y
        return self._normalized(y, self.array(f"gain_{weight}", rows))

    def biased(self, x: str, *names: str, rows: slice = EVERYTHING) -> str:
        """Return x and biases, if there are any."""
        if not self.has(names[0]):
            return x
        total = sum(self._arrays[name][rows] for name in names)
        full = f"{self._name}.{'_'.join(names)}.{rows.start or 0}"
        return self.graph.node("Add", x, self.graph.constant(full, total))

    def _normalized(self, x: str, *arrays: str) -> str:
        return self.graph.node("LayerNormalization", x, *arrays, axis=-1, epsilon=EPSILON)

    def bounded(self, x: str, limit: float | None) -> str:
        """Return x, between -limit and limit."""
        if limit is None:
            return x
        return self.graph.node("Clip", x, self.graph.number(-limit), self.graph.number(limit))

    def activated(self, function: Activation, x: str) -> str:
        """Return a function of x, which is bounded first."""
        bounded, (name, alpha, beta) = self.bounded(x, self.clip), function
        return FUNCTIONS[name](self.graph, bounded, alpha, beta)

    def mixed(self, share: str | float, old: str, new: str) -> str:
        """Return share * old + (1 - share) * new, of zoneout or of a gate."""
        g = self.graph
        if share == 0.0:
            return new
        part = share if isinstance(share, str) else g.number(share)
        rest = g.node("Sub", g.number(1.0), part)
        return g.node("Add", g.node("Mul", part, old), g.node("Mul", rest, new))


class RnnCell(Cell):
    """h' = f(W x + b + U h); f may be PReLU, with a slope for each unit."""

    def past(self, h: str) -> str:
        """Return the product with the state."""
        return self.product(h, "hh")

    def step(self, items: Names, states: Names) -> Names:
        """Return [h]."""
        (x,), (h,) = items, states
        a = self.graph.node("Add", x, self.past(h))
        if self.has("slope"):
            a = self.bounded(a, self.clip)
            new = _negative(self.graph, a, self.graph.node("Mul", a, self.array("slope")))
        else:
            new = self.activated(self.functions[0], a)
        return [self.mixed(self.keep[0], h, new)]


class IndRnnCell(RnnCell):
    """h' = f(W x + b + u * h)."""

    def past(self, h: str) -> str:
        """Return each unit's own past."""
        return self.graph.node("Mul", h, self.array("weight_hh"))


class LstmCell(Cell):
    """The LSTM with peepholes, coupled gates, projection, normalisation, bounds and zoneout."""

    def step(self, items: Names, states: Names) -> Names:
        """Return [h, c]."""
        g, (x,), (h, c) = self.graph, items, states
        gate, input_function, output_function = self.functions
        a = g.node("Add", x, self.product(h, "hh"))
        coupled = self.layer.coupled
        a_i, *a_f, a_g, a_o = g.parts(a, 3 if coupled else 4, axis=-1)
        i = self.activated(gate, self._peeping(a_i, c, 0))
        if coupled:
            f = g.node("Sub", g.number(1.0), i)
        else:
            f = self.activated(gate, self._peeping(a_f[0], c, 1))
        new = g.node("Mul", i, self.activated(input_function, a_g))
        new_c = self.bounded(g.node("Add", g.node("Mul", f, c), new), self.cell_clip)
        o = self.activated(gate, self._peeping(a_o, new_c, 1 if coupled else 2))
        let_out = new_c
        if self.has("gain_c"):
            let_out = self._normalized(new_c, self.array("gain_c"), self.array("bias_c"))
        name, alpha, beta = output_function  # of which the bound `clip` is none
        new_h = g.node("Mul", o, FUNCTIONS[name](g, let_out, alpha, beta))
        if self.has("weight_hr"):
            new_h = g.node("MatMul", new_h, self.array("weight_hr", transposed=True))
        return [self.mixed(self.keep[0], h, new_h), self.mixed(self.keep[1], c, new_c)]

    def _peeping(self, a: str, c: str, hole: int) -> str:
        if not self.has("peephole"):
            return a
        H = self.layer.hidden_size
        through = self.array("peephole", slice(hole * H, (hole + 1) * H))
        return self.graph.node("Add", a, self.graph.node("Mul", through, c))


class GruCell(Cell):
    """The GRU, reset before or after the product; r and z are normalised as one, n apart."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        H = self.layer.hidden_size
        self._gates, self._new = slice(0, 2 * H), slice(2 * H, 3 * H)

    def projected(self, x: str) -> Names:
        """Return W_ih x + b of all steps: of r and z, and of n."""
        parts = [(rows, self.product(x, "ih", rows)) for rows in (self._gates, self._new)]
        return [self.biased(product, "bias_ih", rows=rows) for rows, product in parts]

    def step(self, items: Names, states: Names) -> Names:
        """Return [h]; a third item is what the attention leaves of z."""
        g, (x_gates, x_new, *rest), (h,) = self.graph, items, states
        gate, function = self.functions
        a = g.node("Add", x_gates, self._past(h, self._gates))
        r, z = g.parts(self.activated(gate, a), 2, axis=-1)
        if self.layer.reset_after:
            past = g.node("Mul", r, self._past(h, self._new))
        else:
            past = self._past(g.node("Mul", r, h), self._new)
        n = self.activated(function, g.node("Add", x_new, past))
        if rest:
            z = g.node("Mul", rest[0], z)
        return [self.mixed(self.keep[0], h, self.mixed(z, h, n))]

    def _past(self, h: str, rows: slice) -> str:
        return self.biased(self.product(h, "hh", rows), "bias_hh", rows=rows)


CELLS: dict[type, type[Cell]] = {
    RNN: RnnCell,
    IndRNN: IndRnnCell,
    LSTM: LstmCell,
    GRU: GruCell,
    AUGRU: GruCell,
}
