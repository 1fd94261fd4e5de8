"""How far back do gradients reach?
================================

Vanilla networks and gated ones, with and without clipping.
A random gradient of length one is given at the last of 100 steps, and the norm of dL/dh_t is
followed back to the first. The networks are as they are before training, with these choices:

- RNN: tanh, recurrent matrix = gain x a random orthogonal matrix, whose spectral radius is the
  gain. Below 1 gradients vanish; well above 1 they explode, though tanh holds them back (Bengio,
  Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013).
- LSTM with a forget bias of 0: about half of the cell is forgotten at each step, and gradients
  vanish as well. With "chrono" biases, b_f = log(uniform(1, T - 1)) and b_i = -b_f, units remember
  for 1 to T steps (Gers et al. 2000 for a bias; Tallec & Ollivier 2018 for these).
- GRU: the same on the bias of z, which here is what keeps the state.

"Clipped": the gradient that is carried from one step to the one before has a norm of at most 1.
"""

import argparse
import math

import numpy as np

import fastrnn
from fastrnn import inspect

INPUT, HIDDEN, BATCH = 16, 64, 8


def vanilla(gain: float) -> fastrnn.RNN:
    layer = fastrnn.RNN(INPUT, HIDDEN, seed=1)
    random = np.random.default_rng(1).standard_normal((HIDDEN, HIDDEN))
    layer.parameters()["weight_hh_l0"].data = gain * np.linalg.qr(random)[0]
    return layer


def gated(kind: str, steps: int, chrono: bool) -> fastrnn.LSTM | fastrnn.GRU:
    layer = (fastrnn.LSTM if kind == "LSTM" else fastrnn.GRU)(INPUT, HIDDEN, seed=1)
    bias = np.zeros((4 if kind == "LSTM" else 3, HIDDEN))
    if chrono:
        bias[1] = np.log(np.random.default_rng(1).uniform(1, steps - 1, HIDDEN))  # f, or z
        if kind == "LSTM":
            bias[0] = -bias[1]
    layer.parameters()["bias_ih_l0"].data = bias.reshape(-1)
    layer.parameters()["bias_hh_l0"].data = np.zeros(bias.size)
    return layer


def measure(steps: int) -> dict[str, dict[str, inspect.GradientFlow]]:
    layers = {
        "RNN, gain 0.8": vanilla(0.8),
        "RNN, gain 2": vanilla(2.0),
        "LSTM, forget bias 0": gated("LSTM", steps, chrono=False),
        "LSTM, chrono": gated("LSTM", steps, chrono=True),
        "GRU, bias 0": gated("GRU", steps, chrono=False),
        "GRU, chrono": gated("GRU", steps, chrono=True),
    }
    x = 0.3 * np.random.default_rng(0).standard_normal((steps, BATCH, INPUT)).astype("float32")
    return {
        title: {
            name: inspect.gradient_flow(layer, x, clip_norm=limit) for name, layer in layers.items()
        }
        for title, limit in (("no clipping", None), ("clipped: norm at most 1", 1.0))
    }


def main(steps: int = 100, out: str | None = "gradient_flow.png") -> dict[str, dict[str, float]]:
    """Print and return how much of the norm is left at the first step, by panel and network."""
    flows = measure(steps)
    reach = {title: _reach(panel) for title, panel in flows.items()}
    if out is not None:
        inspect.plot_gradient_flow(flows).savefig(out)
        print(f"Wrote {out}.")
    print(
        f"Norm of dL/dh_t (or dL/dc_t) {steps - 1} steps before the last, over the first there is:"
    )
    for title, panel in reach.items():
        print(f"{title}:")
        for name, value in panel.items():
            print(f"  {name:26} {value:10.3g}   (a factor of {_factor(value, steps)} for a step)")
    return reach


def _reach(panel: dict[str, inspect.GradientFlow]) -> dict[str, float]:
    """What an LSTM hands on is h, through a matrix, and c, through the forget gate alone."""
    found = {}
    for name, flow in panel.items():
        norms = flow.by_distance()["l0"]
        found[name] = float(norms[-1] / norms[0])
        if flow.c:
            norms = flow.by_distance("c")["l0"]
            found[f"{name}: dL/dc"] = float(norms[-1] / norms[1])  # 0 at the last step
    return found


def _factor(value: float, steps: int) -> str:
    return f"{math.exp(math.log(value) / (steps - 1)):.3f}" if value > 0 else "0"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="(default: 100)")
    parser.add_argument("--out", default="gradient_flow.png", help="default: gradient_flow.png")
    main(**vars(parser.parse_args()))
