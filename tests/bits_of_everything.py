"""Hashes of the bytes of everything fastrnn computes, on a fixed set of inputs.

    python bits_of_everything.py [NUM_THREADS]

prints a JSON object {"isa": ..., "hashes": {group: {name: hash}}}. test_same_bits.py runs it once
for each instruction set and number of threads, and compares. NaNs are made one before hashing: the
sign and the payload of a NaN belong to the processor, and are not promised.
"""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import fastrnn
import variant_cases
from fastrnn import _core, layers, losses, optim
from recurrent_cases import CELLS, DTYPES, Case, infer, run


def hash_of(array):
    array = np.array(array, order="C")
    if array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan
    text = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(text + array.tobytes()).hexdigest()[:16]


# The set is small because the generic instruction set is slow, yet goes through every way of
# computing: whole batches and few rows, long and short, several groups of units for the threads to
# share, tails of every kind, layers, directions, lengths.
SHAPES = [
    {"steps": 40, "batch": 1, "input_size": 5, "hidden_size": 65},
    {"steps": 3, "batch": 2, "input_size": 65, "hidden_size": 129},
    {"steps": 6, "batch": 5, "input_size": 16, "hidden_size": 16, "num_layers": 2},
    {"steps": 3, "batch": 41, "input_size": 17, "hidden_size": 33},
    {"steps": 70, "batch": 9, "input_size": 1, "hidden_size": 1},
    {
        "steps": 5,
        "batch": 7,
        "input_size": 3,
        "hidden_size": 31,
        "num_layers": 2,
        "bidirectional": True,
        "lengths": (5, 1, 0, 3, 5, 2, 4),
    },
]


def recurrent(cell, dtype):
    for shape in SHAPES:
        case = Case(cell, dtype, **shape)
        layer, data = case.layer(), case.data()
        for name, array in run(case, layer, data).items():
            yield f"{case} {name}", array
        for name, array in run(case, layer, data, checkpoint_every=3).items():
            yield f"{case} checkpoints {name}", array
        for name, array in infer(case, layer, data).items():
            yield f"{case} inference {name}", array
        ids = np.random.default_rng(4).integers(0, case.input_size, data.x.shape[:2])
        for name, array in run(case, layer, data._replace(x=ids)).items():
            yield f"{case} tokens {name}", array
        if not case.bidirectional:
            state = data.state if len(data.state) == 2 else data.state[0]
            yield f"{case} step", layer.step(data.x[0], state)[0]


def variants(dtype):
    """Cells with options, every function, holes and resets; shapes as few as they can be."""
    drops = {"weight_dropout": 0.1, "zoneout": 0.2, "bidirectional": True}
    cases = [(name, kind, options, {}) for name, (kind, options) in variant_cases.VARIANTS.items()]
    cases += [(f"rnn {f}", "RNN", {"nonlinearity": f}, {}) for f in variant_cases.FUNCTIONS]
    for kind in ("RNN", "LSTM", "GRU"):
        cases += [(f"{kind} drops", kind, drops | {"recurrent_dropout": 0.3}, {})]
        merged = {"bidirectional": True, "merge_mode": "mul", "learned_state": True}
        flags = {"holes": True, "resets": True, "lengths": (4, 0, 3, 2, 4, 1)}
        cases += [(f"{kind} flags", kind, merged, flags)]
    for name, kind, options, how in cases:
        for batch, hidden_size in ((6, 35), (1, 70)) if not how else ((6, 35),):
            layer = variant_cases.make(kind, 9, hidden_size, dtype=dtype, seed=1, **options)
            data = variant_cases.make_data(layer, 4, batch, **how)
            label = f"{name} B{batch} H{hidden_size}"
            for what, array in variant_cases.train(layer, data).items():
                yield f"{label} {what}", array
            for what, array in variant_cases.train(layer, data, checkpoint_every=3).items():
                yield f"{label} checkpoints {what}", array
            for what, array in variant_cases.infer(layer, data).items():
                yield f"{label} inference {what}", array


def quantized(precision):
    """Layers with small weights, which give no gradients; the widest for several words a row."""
    wide = {"steps": 2, "batch": 17, "input_size": 70, "hidden_size": 200}
    for cell in CELLS:
        for shape in (*SHAPES, wide, wide | {"batch": 1}):
            case = Case(cell, "float32", **shape)
            layer, data = fastrnn.quantize(case.layer(), precision), case.data()
            for name, array in infer(case, layer, data).items():
                yield f"{case} {name}", array
            ids = np.random.default_rng(4).integers(0, case.input_size, data.x.shape[:2])
            for name, array in infer(case, layer, data._replace(x=ids)).items():
                yield f"{case} tokens {name}", array
            if not case.bidirectional:
                state = data.state if len(data.state) == 2 else data.state[0]
                yield f"{case} step", layer.step(data.x[0], state)[0]
    for label, (kind, options) in variant_cases.VARIANTS.items():
        layer = variant_cases.make(kind, 9, 35, seed=1, **options)
        data = variant_cases.make_data(layer, 4, 6, holes=True, lengths=(4, 0, 3, 2, 4, 1))
        found = variant_cases.infer(fastrnn.quantize(layer, precision), data)
        yield from ((f"{label} {name}", array) for name, array in found.items())


def some_floats(dtype):
    """Every exponent and sign with many mantissas, infinities, NaNs and denormals among them."""
    if dtype == "float32":
        return np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    rng = np.random.default_rng(5)
    patterns = rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    return np.concatenate([patterns, rng.normal(scale=20, size=200_000), np.arange(-800.0, 800.0)])


def nonlinearities(dtype):
    x = some_floats(dtype)
    for function in (_core.exp, _core.tanh, _core.sigmoid):
        name = function.__name__
        yield name, function(x)
        for size in range(1, 36):
            yield f"{name} {size}", function(x[3000 : 3000 + size])


def multiply_adds(dtype):
    """Single a * b + c, where the generic instruction set imitates an instruction that others have:
    of any numbers, of products that cancel, and of sums just beside the middle of two neighbours
    (c is odd in its last place, a * b half that place but for (2^-half)^2, which a sum rounded
    twice loses)."""
    rng = np.random.default_rng(9)
    integer, digits, half = {"float32": (np.uint32, 24, 15), "float64": (np.uint64, 53, 30)}[dtype]
    layer = layers.Linear(1, 2000, dtype=dtype)
    weight, bias = layer.parameters()["weight"], layer.parameters()["bias"]

    def patterns(*shape):
        return rng.integers(0, np.iinfo(integer).max, shape, integer, endpoint=True).view(dtype)

    x = np.array([[1.0 / 3.0], [1.0 + 2.0**-12], [2.0**-40], [1e-30]], dtype)
    w = rng.normal(size=(2000, 1)).astype(dtype)
    with np.errstate(all="ignore"):
        cancelling = -(x[0] * w[:, 0])
    beside = np.array([[1 + 2.0**-half], [-1 - 2.0**-half], [1 - 2.0**-half]], dtype)
    scale = np.ldexp(rng.choice([-1.0, 1.0], 2000), rng.integers(-100, 90, 2000))
    odd = 2.0**digits + 2 * rng.integers(0, 1000, 2000)
    for name, numbers in {
        "any": (patterns(50, 1), patterns(2000, 1), patterns(2000)),
        "cancelling": (x, w, np.nextafter(cancelling, 0)),
        "exactly_cancelling": (x, w, cancelling),
        "beside_the_middle": (beside, (scale * (1 - 2.0**-half))[:, None], scale * odd),
    }.items():
        rows, weight.data, bias.data = (array.astype(dtype) for array in numbers)
        yield name, layer(rows)


def other_layers(dtype):
    rng = np.random.default_rng(6)
    for rows, inputs, outputs in [(1, 1, 1), (7, 33, 65), (130, 17, 16), (300, 5, 3)]:
        layer = layers.Linear(inputs, outputs, dtype=dtype, seed=1)
        x = rng.normal(size=(rows, inputs)).astype(dtype)
        y, pullback = layer.vjp(x)
        dx = pullback(rng.normal(size=y.shape).astype(dtype))
        yield from [(f"linear {x.shape} y", y), (f"linear {x.shape} dx", dx)]
        for name, parameter in layer.parameters().items():
            yield f"linear {x.shape} grad {name}", parameter.grad
    for rows, width in [(1, 1), (7, 16), (130, 15), (300, 43), (261, 300)]:
        layer = layers.LayerNorm(width, dtype=dtype)
        for parameter in layer.parameters().values():
            parameter.data = rng.normal(size=width)
        x = rng.normal(3, 2, size=(rows, width)).astype(dtype)
        y, pullback = layer.vjp(x)
        dx = pullback(rng.normal(size=y.shape).astype(dtype))
        yield from [(f"layer_norm {x.shape} y", y), (f"layer_norm {x.shape} dx", dx)]
        for name, parameter in layer.parameters().items():
            yield f"layer_norm {x.shape} grad {name}", parameter.grad
    for width in (1, 17):
        layer = layers.Embedding(11, width, dtype=dtype, seed=1)
        y, pullback = layer.vjp(rng.integers(0, 11, 200))
        pullback(rng.normal(size=y.shape).astype(dtype))
        yield from [(f"embedding {width} y", y)]
        yield f"embedding {width} grad", layer.parameters()["weight"].grad


def loss_functions(dtype):
    rng = np.random.default_rng(7)
    for rows, classes in [(1, 1), (5, 3), (70, 65), (300, 17)]:
        logits = (5 * rng.normal(size=(rows, classes))).astype(dtype)
        targets = rng.integers(0, classes, rows)
        targets[rows // 2] = -100
        for reduction in ("mean", "sum", "none"):
            loss, gradient = losses.cross_entropy(logits, targets, reduction=reduction)
            yield f"cross_entropy {logits.shape} {reduction}", loss
            yield f"cross_entropy {logits.shape} {reduction} gradient", gradient
        loss, gradient = losses.mse(logits, logits[::-1].copy())
        yield from [(f"mse {logits.shape}", loss), (f"mse {logits.shape} gradient", gradient)]


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "sgd_momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "sgd_nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, alpha=0.95),
    "rmsprop_all": lambda p: optim.RMSprop(p, momentum=0.5, centered=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
}


def optimizers(dtype):
    for name, make in OPTIMIZERS.items():
        rng = np.random.default_rng(8)
        parameters = {}
        for size in (1, 7, 33, 100_003):  # the last for threads to share
            parameters[str(size)] = fastrnn.base.Parameter(rng.normal(size=size).astype(dtype))
        optimizer = make(parameters)
        for _ in range(4):
            for parameter in parameters.values():
                parameter.grad = rng.normal(size=parameter.shape).astype(dtype)
            yield f"{name} norm", optim.clip_grad_norm(parameters, 5.0)
            optim.clip_grad_value(parameters, 0.01)
            optimizer.step()
        for size, parameter in parameters.items():
            yield f"{name} {size}", parameter.data


OTHERS = (variants, nonlinearities, multiply_adds, other_layers, loss_functions, optimizers)
GROUPS = {
    **{
        f"{cell}-{dtype}": lambda cell=cell, dtype=dtype: recurrent(cell, dtype)
        for cell in CELLS
        for dtype in DTYPES
    },
    **{precision: lambda p=precision: quantized(p) for precision in ("bf16", "int8")},
    **{
        f"{function.__name__}-{dtype}": lambda function=function, dtype=dtype: function(dtype)
        for function in OTHERS
        for dtype in DTYPES
    },
}


def hashes_of(group):
    return {name: hash_of(array) for name, array in GROUPS[group]()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fastrnn.set_num_threads(int(sys.argv[1]))
    everything = {group: hashes_of(group) for group in GROUPS}
    print(json.dumps({"isa": fastrnn.config()["isa"], "hashes": everything}))
