"""Make the seeds of the fuzz targets: tiny models with every layer of the C API, and some shapes.

    python tests/fuzz/make_corpus.py    (writes tests/fuzz/corpus/)

Files are the same in each run. What fuzzing finds beyond them is not kept in the tree.
"""

import pathlib
import struct

import numpy as np

import fastrnn

QUANTIZED = {"gru": "int8", "lstm": "bf16"}
CORPUS = pathlib.Path(__file__).parent / "corpus"


def models() -> dict[str, fastrnn.Layer]:
    """Each with one to three units, so that a file is little more than its description."""
    seq = fastrnn.Sequential
    return {
        "lstm": seq(
            fastrnn.Embedding(5, 2),
            fastrnn.LSTM(2, 2, num_layers=2, learned_state=True),
            fastrnn.Linear(2, 3),
            fastrnn.Softmax(),
        ),
        "gru": seq(fastrnn.GRU(2, 3), fastrnn.LayerNorm(3), fastrnn.Linear(3, 1), fastrnn.Tanh()),
        "gru-before": fastrnn.GRU(1, 2, reset_after=False, go_backwards=True),
        "bidirectional": seq(
            fastrnn.LSTM(2, 2, bidirectional=True, merge_mode="mean"), fastrnn.LastStep()
        ),
        "rnn": seq(
            fastrnn.RNN(2, 2, nonlinearity="relu", bias=False), fastrnn.ReLU(), fastrnn.Dropout(0.5)
        ),
        "indrnn": seq(fastrnn.IndRNN(2, 2), fastrnn.Sigmoid()),
        "options": fastrnn.LSTM(
            2, 3, proj_size=1, peephole=True, layer_norm=True, clip=2.0, zoneout=(0.0, 0.2)
        ),
    }


def seed_weights(model: fastrnn.Layer) -> None:
    random = np.random.default_rng(1)
    for parameter in model.parameters().values():
        parameter.data = random.normal(size=parameter.data.shape).astype(parameter.data.dtype)


def main() -> None:
    loader, shapes = CORPUS / "loader", CORPUS / "shapes"
    for folder in (loader, shapes):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    for name, model in models().items():
        seed_weights(model)
        fastrnn.save(model, loader / name)
        if name in QUANTIZED:
            small = fastrnn.quantize(model, QUANTIZED[name])
            fastrnn.save(small, loader / f"{name}-{QUANTIZED[name]}")
    (loader / "empty-header").write_bytes(struct.pack("<Q", 2) + b"{}")
    random = np.random.default_rng(2)
    for i in range(16):
        (shapes / f"{i:02}").write_bytes(random.bytes(48))
    total = sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file())
    print(f"{total} bytes in {CORPUS}")


if __name__ == "__main__":
    main()
