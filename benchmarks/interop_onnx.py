"""ONNX models run by fastrnn beside ONNX Runtime, in turns.

    python benchmarks/interop_onnx.py [--threads 2] [--seconds 1]

Each model is one recurrent layer, exported with its states as inputs and outputs. Prints, per model
and shape, the median times over rounds and that of ONNX Runtime's time divided by fastrnn's in the
same round, with the lowest and the highest. Before, both are compared: the largest difference.
"""

import argparse
import statistics
import time

import numpy as np
import onnxruntime

import fastrnn
from fastrnn.interop.onnx import export_model, import_model

SHAPES = [(1, 1, 256), (100, 1, 128), (100, 64, 256)]  # T, B, I = H; the first: streaming
CELLS = ("LSTM", "GRU", "RNN")


def sessions(cell, H, threads):
    """The same model for ONNX Runtime and for fastrnn."""
    content = export_model(getattr(fastrnn, cell)(H, H, seed=0)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session, import_model(content)


def once(model, inputs, repeats):
    """The median time of some calls."""
    time.sleep(0.05)  # the threads of ONNX Runtime go on spinning after its last call
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        model.run(None, inputs)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def compare(cell, shape, threads, seconds):
    """Seconds of both, for each round, and the largest difference of their outputs."""
    T, B, H = shape
    rng = np.random.default_rng(0)
    models = sessions(cell, H, threads)
    inputs = {
        info.name: rng.standard_normal((T if info.name == "x" else 1, B, H)).astype(np.float32)
        for info in models[1].inputs
    }
    outputs = [model.run(None, inputs) for model in models]
    difference = max(np.abs(a - b).max() for a, b in zip(*outputs, strict=True))
    repeats = max(1, int(2e-2 / once(models[1], inputs, 3)))
    rounds, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 7:
        rounds.append([once(model, inputs, repeats) for model in models])
    return rounds, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    arguments = parser.parse_args()
    fastrnn.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads; onnxruntime {onnxruntime.__version__}")
    print(
        f"{'model':6} {'T':>4} {'B':>3} {'H':>4}  ONNX Runtime    fastrnn  ratio (lowest, highest)"
    )
    for shape in SHAPES:
        for cell in CELLS:
            rounds, difference = compare(cell, shape, arguments.threads, arguments.seconds)
            ratios = [theirs / ours for theirs, ours in rounds]
            theirs, ours = (statistics.median(times) * 1e6 for times in zip(*rounds, strict=True))
            T, B, H = shape
            print(
                f"{cell:6} {T:4} {B:3} {H:4}  {theirs:9.1f} us {ours:7.1f} us  "
                f"{statistics.median(ratios):5.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
                f"  difference {difference:.0e}"
            )


if __name__ == "__main__":
    main()
