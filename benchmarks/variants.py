"""Time of each variant of a cell beside the plain cell's: inference and training, in turns.

    python benchmarks/variants.py [--seconds 0.3]

Prints, per variant and shape, the median over rounds of its time divided by that of the plain cell
in the same round, with the lowest and the highest.
"""

import argparse
import statistics
import time

import numpy as np

import fastrnn

VARIANTS = {
    "LSTM": {
        "peephole": {"peephole": True},
        "proj_size H/2": None,  # with the shape
        "coupled": {"coupled": True},
        "clip": {"clip": 3.0},
        "cell_clip": {"cell_clip": 3.0},
        "hard_sigmoid": {"activations": ("hard_sigmoid", "tanh", "tanh")},
        "softsign": {"activations": ("sigmoid", "softsign", "softsign")},
        "zoneout": {"zoneout": 0.1},
        "recurrent_dropout": {"recurrent_dropout": 0.2},
        "weight_dropout": {"weight_dropout": 0.2},
        "layer_norm": {"layer_norm": True},
        "sum of directions": {"bidirectional": True, "merge_mode": "sum"},
    },
    "GRU": {
        "clip": {"clip": 3.0},
        "hard_sigmoid": {"activations": ("hard_sigmoid", "tanh")},
        "zoneout": {"zoneout": 0.1},
        "layer_norm": {"layer_norm": True},
        "reset before, clip": {"reset_after": False, "clip": 3.0},
    },
    "RNN": {
        "leaky_relu": {"nonlinearity": "leaky_relu"},
        "identity": {"nonlinearity": "identity"},
        "prelu": {"nonlinearity": "prelu"},
        "softplus": {"nonlinearity": "softplus"},
        "layer_norm": {"layer_norm": True},
    },
}
SHAPES = [(100, 1, 128), (50, 32, 64), (50, 32, 128), (50, 32, 256)]  # T, B, I = H


def plain(options):
    """The options of the cell that a variant is compared with."""
    shared = ("reset_after", "bidirectional")
    return {name: options[name] for name in shared if name in options}


def once(layer, x, training):
    begin = time.perf_counter()
    if training:
        (y, _), pullback = layer.vjp(x)
        layer.zero_grad()
        pullback(y)
    else:
        layer(x)
    return time.perf_counter() - begin


def compare(cell, options, shape, training, seconds):
    T, B, H = shape
    x = np.random.default_rng(0).standard_normal((T, B, H)).astype(np.float32)
    make = getattr(fastrnn, cell)
    layers = [make(H, H, seed=1, **plain(options)), make(H, H, seed=1, **options)]
    for layer in layers:
        once(layer, x, training)
    ratios, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 7:
        first, second = (min(once(layer, x, training) for _ in range(3)) for layer in layers)
        ratios.append(second / first)
    return statistics.median(ratios), min(ratios), max(ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="per comparison")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    fastrnn.set_num_threads(arguments.threads)
    shapes = "".join(f"{f'T {T} B {B} H {H}':>22}" for T, B, H in SHAPES)
    print(f"{'times the plain cell':<32}{shapes}")
    for cell, variants in VARIANTS.items():
        for name, options in variants.items():
            for training in (False, True):
                if "dropout" in name and not training:
                    continue
                figures = []
                for shape in SHAPES:
                    chosen = {"proj_size": shape[2] // 2} if options is None else options
                    figures.append(compare(cell, chosen, shape, training, arguments.seconds))
                cells = "".join(f"{m:9.2f} ({a:.2f}-{b:.2f})" for m, a, b in figures)
                print(f"{cell + ' ' + name:<24}{'train' if training else 'infer':<8}{cells}")


if __name__ == "__main__":
    main()
