"""Measure the errors of the kernels' exp, tanh and sigmoid, for the table in docs/numerics.md.

    python tools/measure_nonlinearities.py               # float32: every 1009th number
    python tools/measure_nonlinearities.py --exhaustive  # float32: all 2^32 numbers (minutes)

An error is given in ulp: units in the last place of the exact result, which for denormal results
is the smallest denormal. 0.5 ulp is the best there is. float32 is compared with NumPy's functions
in float64, whose own errors are below 1e-8 ulp of float32; float64 with mpmath at 120 bits.
The instruction set makes no difference (tests/test_same_bits.py); FASTRNN_ISA chooses one.
"""

import argparse

import mpmath
import numpy as np

import fastrnn
from fastrnn import _core

FUNCTIONS = ("exp", "tanh", "sigmoid")
CHUNK = 1 << 22


def sigmoid(x):
    """1 / (1 + exp(-x)) in x's precision; overflow of exp gives 0, as it should."""
    return 1.0 / (1.0 + np.exp(-x))


EXACT_FLOAT64 = {"exp": np.exp, "tanh": np.tanh, "sigmoid": sigmoid}
EXACT_MPMATH = {
    "exp": mpmath.exp,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}


def float32_patterns(begin, end, stride):
    """Return the float32 numbers whose bit patterns are range(begin, end, stride)."""
    return np.arange(begin, end, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)


def float32_errors(function, x):
    """Return the errors in ulp at x, infinite where the result has the wrong class or sign.

    NaN must give NaN; what rounds to infinity must be infinite, and nothing else.
    """
    got = getattr(_core, function)(x)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        exact = EXACT_FLOAT64[function](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        _, exponent = np.frexp(exact)  # |exact| in [2^(exponent-1), 2^exponent)
        ulp = np.ldexp(1.0, np.maximum(exponent - 24, -149))
        errors = np.abs(got - exact) / ulp
    special = ~np.isfinite(rounded) | ~np.isfinite(got)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    errors[special] = np.where(same[special], 0.0, np.inf)
    errors[(np.signbit(got) != np.signbit(rounded)) & ~np.isnan(rounded)] = np.inf
    return errors


def float64_points(count, seed=0):
    """Return numbers of all scales and both signs, most of them where the functions vary."""
    rng = np.random.default_rng(seed)
    scales = np.ldexp(rng.uniform(1.0, 2.0, count), rng.integers(-1074, 10, count))
    x = np.concatenate(
        [
            scales * rng.choice([-1.0, 1.0], count),
            rng.normal(scale=2.0, size=count),
            rng.uniform(-40.0, 40.0, count),
            rng.uniform(-746.0, 710.0, count),
        ]
    )
    return x[np.abs(x) < 750.0]


def float64_error(function, x, got):
    """Return the error in ulp of one finite result."""
    with mpmath.workprec(120):
        exact = EXACT_MPMATH[function](mpmath.mpf(float(x)))
        if np.isinf(got):
            return 0.0 if exact > mpmath.mpf(2) ** 1024 * (1 - mpmath.mpf(2) ** -54) else np.inf
        exponent = max(mpmath.frexp(exact)[1] - 53, -1074) if exact else -1074
        return float(abs(mpmath.mpf(float(got)) - exact) / mpmath.mpf(2) ** exponent)


def float64_errors(function, x):
    """Return the errors in ulp at x, compared with mpmath."""
    got = getattr(_core, function)(x)
    return np.array([float64_error(function, a, b) for a, b in zip(x, got, strict=True)])


def largest(errors, x):
    """Return the largest error and where it is."""
    where = int(np.argmax(errors))
    return float(errors[where]), float(x[where])


def measure_float32(function, stride):
    """Return the largest error of every `stride`-th number, and where it is."""
    worst = (-1.0, 0.0)
    for begin in range(0, 1 << 32, CHUNK * stride):
        x = float32_patterns(begin, min(begin + CHUNK * stride, 1 << 32), stride)
        worst = max(worst, largest(float32_errors(function, x), x))
    return worst


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exhaustive", action="store_true", help="all 2^32 float32 numbers")
    parser.add_argument("--points", type=int, default=20_000, help="float64 points of each kind")
    arguments = parser.parse_args()
    stride = 1 if arguments.exhaustive else 1009

    print(f"Instruction set: {fastrnn.config()['isa']}. Errors in ulp.\n")
    print("| function | dtype | numbers tried | largest error | at x |")
    print("| --- | --- | --- | --- | --- |")
    for function in FUNCTIONS:
        error, at = measure_float32(function, stride)
        print(f"| {function} | float32 | {2**32 // stride:,} | {error:.3f} | {at!r} |", flush=True)
    x = float64_points(arguments.points)
    for function in FUNCTIONS:
        error, at = largest(float64_errors(function, x), x)
        print(f"| {function} | float64 | {x.size:,} | {error:.3f} | {at!r} |", flush=True)


if __name__ == "__main__":
    main()
