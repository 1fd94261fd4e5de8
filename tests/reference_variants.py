"""The variants of recurrent layers written from their formulas: plain, independent of fastrnn.

As reference.py, for everything that the plain cells there have not: peepholes, projection, coupled
gates, other activations, clipping, zoneout, IndRNN, attention, masks of dropout; holes, resets,
learned states, merges and going backwards. The order of reading is: the functions, the cells (one
step forward), one direction (the loop over time), the network.

There is no backward pass: the gradient is taken from the forward pass by a difference in the
imaginary direction, f(a + i s v).imag / s, whose step s can be so small that the only error left is
that of rounding (Squire & Trapp 1998, "Using complex variables to estimate derivatives of real
functions"). So every function here takes complex numbers, and looks at the real part where it
branches.

Dimensions: T steps, B rows, I inputs, H units, P outputs (units or their projection), L layers, D
directions. What is computed is given by the constructor's arguments, as a dictionary `config`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

STEP = 1e-30  # of differences in the imaginary direction: its square is lost beside any number


def derivative(function, array, direction):
    """Of function(array + s * direction) at s = 0."""
    return function(array + 1j * STEP * direction).imag / STEP


# ------------------------------------------------------------------------------------- functions


def size(x):
    """|x|, analytic but at 0."""
    return np.where(x.real < 0, -x, x)


def bounded(x, limit):
    if limit is None:
        return x
    return np.where(x.real > limit, limit, np.where(x.real < -limit, -limit, x))


# ONNX, "Operators", RNN: functions of the attribute activations, and defaults of alpha and beta.
FUNCTIONS = {
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "tanh": np.tanh,
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "affine": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
    "identity": lambda x: x,
    "leaky_relu": lambda x, alpha=0.01: np.where(x.real >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha=1.0: np.where(x.real > alpha, x, 0),
    "scaled_tanh": lambda x, alpha=1.0, beta=1.0: alpha * np.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha=0.2, beta=0.5: (
        0.5 + bounded(alpha * x + beta - 0.5, 0.5)  # max(0, min(1, alpha x + beta))
    ),
    "elu": lambda x, alpha=1.0: np.where(
        x.real >= 0, x, alpha * (np.exp(np.where(x.real < 0, x, 0)) - 1)
    ),
    "softsign": lambda x: x / (1 + size(x)),
    "softplus": lambda x: np.where(x.real > 0, x, 0) + np.log(1 + np.exp(-size(x))),
}


def activate(spec, x, limit=None):
    """The function `spec`, a name or (name, alpha, beta), of x, which is bounded first."""
    name, *numbers = (spec,) if isinstance(spec, str) else spec
    return FUNCTIONS[name](bounded(x, limit), *numbers)


# ----------------------------------------------------------------------------------------- cells


class Factors(NamedTuple):
    """What training draws for one layer. None: nothing is dropped, and zoneout is its mean."""

    recurrent: np.ndarray | None = None  # (D, B, P), of h where weight_hh takes it
    keep_h: np.ndarray | None = None  # (T, B, D * H), zoneout's share of the old state
    keep_c: np.ndarray | None = None
    weights: list | None = None  # of each direction, of the weight_hh
    inputs: np.ndarray | None = None  # (T, B, .), dropout between layers


class Step(NamedTuple):
    """Of one time step: its input and what goes with it."""

    x: np.ndarray  # (B, I)
    attention: np.ndarray | float  # (B, 1)
    mask: np.ndarray | float  # of h where weight_hh takes it
    keep_h: np.ndarray | float
    keep_c: np.ndarray | float


def biases(w):
    return w.get("bias_ih", 0.0), w.get("bias_hh", 0.0)


def normalized(x, gain):
    """Ba et al. 2016, "Layer normalization", eq. 15 without the bias, PyTorch's epsilon; x as it is
    without a gain."""
    if gain is None:
        return x
    x = x - x.mean(axis=-1, keepdims=True)
    return gain * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)


def zoneout(keep, old, new):
    """Krueger et al. 2017, "Zoneout", eq. 2-3."""
    return keep * old + (1 - keep) * new


def rnn(config, w, step, state):
    """Elman 1990; PReLU: He et al. 2015, eq. 1; IndRNN: Li et al. 2018, eq. 2."""
    (h,) = state
    b_ih, b_hh = biases(w)
    recurrent = w["weight_hh"]
    past = recurrent * h if recurrent.ndim == 1 else (step.mask * h) @ recurrent.T
    now = normalized(step.x @ w["weight_ih"].T, w.get("gain_ih"))
    a = now + b_ih + normalized(past, w.get("gain_hh")) + b_hh
    if config["nonlinearity"] == "prelu":
        a = bounded(a, config["clip"])
        new = np.where(a.real > 0, a, w["slope"] * a)
    else:
        new = activate(config["nonlinearity"], a, config["clip"])
    return (zoneout(step.keep_h, h, new),)


def lstm(config, w, step, state):
    """Gers & Schmidhuber 2000 (peepholes), Greff et al. 2017 (coupled), Sak et al. 2014 (W_hr),
    Ba et al. 2016, eq. 20-22 (normalisation)."""
    h, c = state
    f_gate, f_g, f_c = config["activations"]
    clip, coupled = config["clip"], config["coupled"]
    b_ih, b_hh = biases(w)
    a = normalized(step.x @ w["weight_ih"].T, w.get("gain_ih")) + b_ih
    a = a + normalized((step.mask * h) @ w["weight_hh"].T, w.get("gain_hh")) + b_hh
    a_i, *a_f, a_g, a_o = np.split(a, 3 if coupled else 4, axis=-1)
    p_i, *p_f, p_o = np.split(w["peephole"], 2 if coupled else 3) if "peephole" in w else (0, 0, 0)
    i = activate(f_gate, a_i + p_i * c, clip)
    f = 1 - i if coupled else activate(f_gate, a_f[0] + p_f[0] * c, clip)
    new_c = bounded(f * c + i * activate(f_g, a_g, clip), config["cell_clip"])
    let_out = normalized(new_c, w.get("gain_c")) + w.get("bias_c", 0.0)
    new_h = activate(f_gate, a_o + p_o * new_c, clip) * activate(f_c, let_out)
    if "weight_hr" in w:
        return new_h @ w["weight_hr"].T, zoneout(step.keep_c, c, new_c)
    return zoneout(step.keep_h, h, new_h), zoneout(step.keep_c, c, new_c)


def gru(config, w, step, state):
    """Cho et al. 2014; with attention: Zhou et al. 2019, "Deep interest evolution network for
    click-through rate prediction", eq. 8-9, in oneDNN's form, where z keeps the old state."""
    (h,) = state
    f_gate, f_n = config["activations"]
    clip = config["clip"]
    b_ih, b_hh = biases(w)
    half = 2 * h.shape[-1]  # r and z are normalised as one, n apart

    def normal(product, name, part):
        gain = w.get(name)
        return normalized(product, None if gain is None else gain[part])

    gates, new = slice(half), slice(half, None)
    x = step.x @ w["weight_ih"].T
    x = np.concatenate([normal(x[:, part], "gain_ih", part) for part in (gates, new)], axis=-1)
    x_r, x_z, x_n = np.split(x + b_ih, 3, axis=-1)
    b_rz, b_n = (b_hh[gates], b_hh[new]) if "bias_hh" in w else (0.0, 0.0)
    past = normal((step.mask * h) @ w["weight_hh"][gates].T, "gain_hh", gates) + b_rz
    h_r, h_z = np.split(past, 2, axis=-1)
    r = activate(f_gate, x_r + h_r, clip)
    z = (1 - step.attention) * activate(f_gate, x_z + h_z, clip)
    w_n = w["weight_hh"][new].T
    if config["reset_after"]:
        n = x_n + r * (normal((step.mask * h) @ w_n, "gain_hh", new) + b_n)
    else:
        n = x_n + normal((r * step.mask * h) @ w_n, "gain_hh", new) + b_n
    n = activate(f_n, n, clip)
    return (zoneout(step.keep_h, h, (1 - z) * n + z * h),)


CELLS = {"RNN": rnn, "IndRNN": rnn, "LSTM": lstm, "GRU": gru, "AUGRU": gru}


# --------------------------------------------------------------------------------- one direction


def run_direction(cell, steps, first, fresh, real, borders, reverse, backwards):
    """The outputs (T, B, P), c of all steps for an LSTM, and the last state.

    real (T, B): the steps that there are. borders (T, B): nothing is carried from t - 1 to t or
    back; the state starts anew as `fresh`. Who goes from the last step to the first (reverse, or
    backwards: all is turned around already) meets a border only with the next real step.
    """
    T, B = real.shape
    state, outputs, cells = first, [None] * T, [None] * T
    anew = np.zeros(B, bool)  # for who meets borders late: what comes next

    def choose(condition, a, b):
        return tuple(np.where(condition[:, None], p, q) for p, q in zip(a, b, strict=True))

    for t in reversed(range(T)) if reverse else range(T):
        if backwards:
            anew = anew | borders[t]
        state = choose(anew & real[t] if reverse or backwards else borders[t], fresh, state)
        new = cell(steps[t], state)
        state = choose(real[t], new, state)
        outputs[t] = np.where(real[t][:, None], new[0], 0)
        cells[t] = np.where(real[t][:, None], new[-1], 0)
        anew = anew & ~real[t]
        if reverse:
            anew = anew | borders[t]
    return outputs, cells, state


def repeated(outputs, real, inside, borders):
    """Masked steps repeat the output before them, zeros before the first and after a reset."""
    last, repeats = np.zeros_like(outputs[:1])[0] if len(outputs) else None, []
    for t, y in enumerate(outputs):
        last = np.where(borders[t][:, None], 0, last)
        last = np.where(real[t][:, None], y, last)
        repeats.append(np.where(inside[t][:, None], last, 0))
    return np.array(repeats) if repeats else outputs


def turned_around(array, lengths):
    array = array.copy()
    for b, length in enumerate(lengths):
        array[:length, b] = array[:length, b][::-1]
    return array


def turned_borders(resets, lengths):
    """What lies between t - 1 and t lies, from the end, between length - 1 - t and length - t."""
    turned = np.zeros_like(resets)
    for b, length in enumerate(lengths):
        for t in range(1, length):
            turned[length - t, b] = resets[t, b]
    return turned


# ----------------------------------------------------------------------------------- the network

MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class Outputs(NamedTuple):
    y: np.ndarray  # (T, B, D * P), or (T, B, P) if merged
    state: tuple  # of (L * D, B, P) and, for an LSTM, (L * D, B, H)
    cells: np.ndarray  # (T, B, D * H): c of the last layer, for an LSTM


def run(
    kind,
    config,
    parameters,
    x,
    state=None,
    lengths=None,
    mask=None,
    resets=None,
    attention=None,
    factors=None,
):
    """Run a network of the class named `kind`; arrays are time-major, states tuples.

    factors: for each layer what was drawn, or None in inference.
    """
    T, B = x.shape[:2]
    D, L = 1 + config.get("bidirectional", False), config.get("num_layers", 1)
    H = config["hidden_size"]
    P = config.get("proj_size") or H
    widths = (P, H) if kind == "LSTM" else (P,)
    zeros = tuple(np.zeros((L * D, width)) for width in widths)
    fresh = tuple(parameters.get(n, z) for n, z in zip(("h_0", "c_0"), zeros, strict=False))
    if state is None:
        state = tuple(np.repeat(s[:, None], B, axis=1) for s in fresh)
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    inside = np.arange(T)[:, None] < lengths
    real = inside if mask is None else inside & mask
    borders = np.zeros((T, B), bool) if resets is None else inside & resets
    if config.get("go_backwards"):
        x, real = turned_around(x, lengths), turned_around(real, lengths)
        borders = turned_borders(borders, lengths)
    kept = config.get("zoneout", 0.0)
    kept = tuple(kept) if isinstance(kept, (tuple, list)) else (kept, kept)

    last = tuple(np.array(s, complex) for s in state)
    for layer in range(L):
        drawn = Factors() if factors is None else factors[layer]
        if drawn.inputs is not None:
            x = x * drawn.inputs
        y, cells = [], []
        for d in range(D):
            w = weights_of(parameters, f"_l{layer}" + "_reverse" * d)
            if drawn.weights is not None:
                w["weight_hh"] = w["weight_hh"] * drawn.weights[d]
            units = slice(d * H, (d + 1) * H)
            steps = [
                Step(
                    x[t],
                    0.0 if attention is None else attention[t][:, None],
                    1.0 if drawn.recurrent is None else drawn.recurrent[d],
                    kept[0] if drawn.keep_h is None else drawn.keep_h[t][:, units],
                    kept[1] if drawn.keep_c is None else drawn.keep_c[t][:, units],
                )
                for t in range(T)
            ]
            k = layer * D + d
            outputs, cell_states, end = run_direction(
                lambda step, s, w=w: CELLS[kind](config, w, step, s),
                steps,
                tuple(s[k] for s in state),
                tuple(f[k] for f in fresh),
                real,
                borders,
                reverse=d == 1,
                backwards=bool(config.get("go_backwards")),
            )
            for s, value in zip(last, end, strict=True):
                s[k] = value
            y.append(np.array(outputs).reshape(T, B, P))
            cells.append(np.array(cell_states).reshape(T, B, widths[-1]))
        x = y[0] if D == 1 else MERGES[config.get("merge_mode", "concat")](*y)
    cells = np.concatenate(cells, axis=-1)
    if mask is not None and D == 1:
        x, cells = (repeated(a, real, inside, borders) for a in (x, cells))
    return Outputs(x, last, cells)


def weights_of(parameters, suffix):
    return {n.removesuffix(suffix): a for n, a in parameters.items() if n.endswith(suffix)}
