"""Layers with small weights beside float32, and beside the int8 layers of others, in turns.

    python benchmarks/quantized.py [--threads 1 2] [--seconds 2] [--cells LSTM GRU] [--json FILE]

Times one step of a stream, and calls over whole sequences: fastrnn in float32, bf16 and int8; ONNX
Runtime's LSTM in float32 and what its quantize_dynamic makes of it (DynamicQuantizeLSTM; it has no
GRU in int8); PyTorch's quantize_dynamic. Prints medians in microseconds with quartiles, the largest
difference from fastrnn's float32 output over the largest output, and how many times as fast bf16
and int8 are as our float32, and int8 as the faster int8 of the others. How it is timed:
fastrnn/bench/measure.py.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn.bench.cases import Case
from fastrnn.bench.measure import difference, interleave
from fastrnn.bench.peers import Peer, UnsupportedError
from fastrnn.bench.peers.onnx_runtimes import OnnxRuntime
from fastrnn.bench.peers.ourselves import Fastrnn
from fastrnn.bench.peers.pytorch import TorchInt8
from fastrnn.bench.worker import arrays_of

SHAPES = [  # T, B, I, H
    (1, 1, 128, 256),
    (1, 1, 512, 512),
    (1, 1, 1024, 1024),
    (100, 1, 128, 256),
    (100, 1, 512, 512),
    (100, 1, 1024, 1024),
    (50, 8, 128, 256),
    (100, 64, 256, 256),
    (50, 128, 512, 512),
    (25, 256, 1024, 1024),
]


class Small(Fastrnn):
    """fastrnn with small weights."""

    def __init__(self, precision):
        self.precision = precision

    def changed(self, layer):
        return fastrnn.quantize(layer, self.precision)


def has_vnni():
    """Whether sums of int8 products are exact in ONNX Runtime. Elsewhere they saturate at 16 bits,
    and weights need 7 bits (its quantization guide): else the outputs are off by a quarter."""
    info = Path("/proc/cpuinfo")
    return not info.exists() or "vnni" in info.read_text()


class OnnxRuntimeInt8(OnnxRuntime):
    """ONNX Runtime's dynamic quantisation."""

    def prepare(self, case, *arguments):
        if case.cell != "LSTM":
            raise UnsupportedError("LSTM only")
        return super().prepare(case, *arguments)

    def changed(self, model):
        from onnxruntime import quantization

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            source.write_bytes(model)
            quantization.quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["LSTM"],
                weight_type=quantization.QuantType.QInt8,
                reduce_range=not has_vnni(),
            )
            content = target.read_bytes()
        if b"DynamicQuantizeLSTM" not in content:
            raise UnsupportedError("not quantised")
        return content


PROGRAMS: dict[str, Peer] = {
    "float32": Fastrnn(),
    "bf16": Small("bf16"),
    "bf16_dot": Small("bf16_dot"),
    "int8": Small("int8"),
    "ort float32": OnnxRuntime(),
    "ort int8": OnnxRuntimeInt8(),
    "torch int8": TorchInt8(),
}


def measure(case, names, threads, seconds):
    """What was measured of each program by name, and how far its output is from ours in float32."""
    weights, x, dy = arrays_of(case)
    programs, expected, errors = {}, None, {}
    with contextlib.ExitStack() as stack:
        for name in names:
            try:
                program = PROGRAMS[name].prepare(case, weights, x, dy, threads)
            except UnsupportedError:
                continue
            stack.callback(program.close)
            y = [np.array(program.arrays(program.run())["y"]) for _ in range(2)][-1]
            expected = y if expected is None else expected
            errors[name] = difference(y, expected)
            if not errors[name] <= (1e-4 if "float32" in name else 0.1):
                raise SystemExit(f"{case.name()}: {name} differs by {errors[name]:.2g}")
            programs[name] = program
        times, failures = interleave(programs, seconds)
    for name, problem in failures.items():
        raise SystemExit(f"{case.name()}: {name}: {problem}")
    return {name: {**t.summary(), "error": errors[name]} for name, t in times.items()}


def ratios(found):
    """How many times as fast: by what is compared."""
    seconds = {name: each["median"] for name, each in found.items()}
    others = [seconds[name] for name in ("ort int8", "torch int8") if name in seconds]
    pairs = {f"{n} / float32": (seconds["float32"], seconds.get(n)) for n in ("bf16", "int8")}
    if others:
        pairs["int8 / theirs"] = min(others), seconds.get("int8")
    return {name: theirs / ours for name, (theirs, ours) in pairs.items() if ours}


def row(found):
    cells = []
    for name, each in found.items():
        us = [each[key] * 1e6 for key in ("median", "q1", "q3")]
        text = "{:.1f} ({:.1f}-{:.1f})".format(*us) if us[0] < 1000 else "{:.0f} ({:.0f}-{:.0f})"
        error = "" if name == "float32" else f" [{each['error']:.0e}]"
        cells.append(f"{name} {text.format(*us)}{error}")
    return ", ".join(cells)


def run(arguments):
    """Measure on one number of threads, and print."""
    (threads,) = arguments.threads
    config = fastrnn.config()
    print(f"{threads} threads, {config['isa']}; us (quartiles) [difference]", flush=True)
    results = {}
    for cell in arguments.cells:
        for shape in SHAPES[: arguments.shapes]:
            case = Case(cell, "step" if shape[0] == 1 else "inference", *shape)
            found = measure(case, arguments.programs, threads, arguments.seconds)
            results[f"{case.name()} x{threads}"] = found
            fast = "  ".join(f"{name} {ratio:.2f} x" for name, ratio in ratios(found).items())
            print(f"{case.name()}: {fast}\n    {row(found)}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[1, 2])
    add("--seconds", type=float, default=2.0, help="for each case")
    add("--cells", nargs="+", default=["LSTM", "GRU"])
    add("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="NAME")
    add("--shapes", type=int, default=len(SHAPES), help="only the first so many")
    add("--json", help="file for all that was measured")
    arguments = parser.parse_args()
    if len(arguments.threads) > 1:  # libraries take a number of threads once: a process for each
        results = {}
        for threads in arguments.threads:
            with tempfile.NamedTemporaryFile() as file:
                own = ["--threads", str(threads), "--json", file.name]
                same = ["--seconds", str(arguments.seconds), "--shapes", str(arguments.shapes)]
                lists = ["--cells", *arguments.cells, "--programs", *arguments.programs]
                command = [sys.executable, __file__, *own, *same, *lists]
                subprocess.run(command, check=True)
                results |= json.loads(Path(file.name).read_text())
    else:
        results = run(arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
