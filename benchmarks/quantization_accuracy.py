"""What small weights cost really trained models: validation losses in float32, bf16 and int8.

    python benchmarks/quantization_accuracy.py [TEXT] [--models FOLDER] [--epochs 10] [--json FILE]

Trains a character model of each cell on TEXT by the recipe of ``fastrnn train`` (default: the text
of examples/demo.py), or takes those that ``fastrnn train TEXT --cell NAME --out FOLDER/NAME`` left
in FOLDER, and measures nats per character of the text's last 5 %, which did not train. Then it
trains two examples: the digit reader of examples/digits_by_rows.py, an LSTM, and the translator of
examples/dates.py, LSTMs with attention; nats per test image and per character of a held-out date,
and the shares that are right. Ends with status 1 if a character model lost 0.002 nats or more with
bf16, or 0.02 or more with int8.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import dates
import demo
import digits_by_rows
import numpy as np

import fastrnn
from fastrnn import data, losses, optim
from fastrnn.text import Recipe, Training, load_model
from fastrnn.training import Evaluator

ALLOWED = {"bf16": 0.002, "int8": 0.02}  # nats that a character model may lose
PRECISIONS = ("float32", *ALLOWED)
CELLS = ("lstm", "gru", "rnn")


def quantized(model, precision):
    return model if precision == "float32" else fastrnn.quantize(model, precision)


def megabytes(model):
    """What a file of the weights takes."""
    total = 0
    for parameter in model.parameters().values():
        stored = getattr(parameter, "values", parameter.data)
        scales = getattr(parameter, "scales", None)
        total += stored.nbytes + (0 if scales is None else scales.nbytes)
    return total / 1e6


def character_model(cell, text, arguments):
    """The trained model, and a loader of what did not train."""
    if arguments.models:
        found = load_model(Path(arguments.models, cell, "model.safetensors"))
        validation = found.vocabulary.encode(data.split(text)[1])
        streams = data.Streams(validation, found.recipe.batch)
        return found.model, data.StreamLoader(streams, found.recipe.seq_len, partial=True)
    training = Training(text, Recipe(cell=cell, epochs=arguments.epochs, seed=1))
    training.fit()
    return training.model, training.validation


def characters(cell, text, arguments):
    model, loader = character_model(cell, text, arguments)
    found = {}
    for precision in PRECISIONS:
        small = quantized(model, precision)
        loss = Evaluator(small).evaluate(loader)["loss"]
        found[precision] = {"loss": loss, "megabytes": megabytes(small)}
    return f"characters, {model[0]!r}", found


def digits():
    rows, targets, test_rows, test_targets = digits_by_rows.load()
    model = digits_by_rows.make_model()
    digits_by_rows.train(model, rows, targets, epochs=30, each_row=False)
    found = {}
    for precision in PRECISIONS:
        small = quantized(model, precision)
        logits = small(test_rows)[0][-1]
        found[precision] = {
            "loss": float(losses.cross_entropy(logits, test_targets)[0]),
            "accuracy": float((logits.argmax(axis=-1) == test_targets).mean()),
            "megabytes": megabytes(small),
        }
    return f"digits by rows, {model[0]!r}", found


def translator(steps=500, batch=64, test=1000):
    """Trained as examples/dates.py does."""
    rng = np.random.default_rng(0)
    first = datetime.date(1900, 1, 1).toordinal()
    days = rng.permutation(datetime.date(2100, 1, 1).toordinal() - first) + first
    days = [datetime.date.fromordinal(int(day)) for day in days]
    model = dates.build_model()
    optimizer = optim.Adam(model, lr=3e-3)
    for step in range(1, steps + 1):
        optimizer.lr = 3e-3 * min(1.0, 2.0 * (1.0 - step / (steps + 1)))
        chosen = [days[i] for i in rng.integers(test, len(days), size=batch)]
        source, lengths, target, _ = dates.make_batch(chosen, rng)
        _, pullback = model.loss_vjp(source, target, lengths)
        model.zero_grad()
        pullback()
        optim.clip_grad_norm(model, 1.0)
        optimizer.step()
    source, lengths, target, _ = dates.make_batch(days[:test], rng)
    found = {}
    for precision in PRECISIONS:
        small = quantized(model, precision)
        logits, _ = small(source, target[:-1], lengths)
        guesses = dates.translate(small, source, lengths)
        found[precision] = {
            "loss": float(losses.cross_entropy(logits, target[1:])[0]),
            "accuracy": float(np.mean([a == str(b) for a, b in zip(guesses, days, strict=False)])),
            "megabytes": megabytes(small),
        }
    return "dates in words to ISO, EncoderDecoder of LSTMs", found


def show(name, found):
    print(name)
    for precision, each in found.items():
        change = each["loss"] - found["float32"]["loss"]
        accuracy = f", {each['accuracy']:.1%} right" if "accuracy" in each else ""
        print(
            f"  {precision:8} {each['loss']:.5f} nats ({change:+.5f}){accuracy}, "
            f"{each['megabytes']:.3f} MB",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", nargs="?", metavar="TEXT", help="a text file in UTF-8")
    parser.add_argument("--models", metavar="FOLDER", help="with lstm, gru and rnn in it")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.text:
        text = Path(arguments.text).read_text(encoding="utf-8")
    else:
        text = demo.find_text()[0]
    results = {}
    for cell in CELLS:
        name, results[cell] = characters(cell, text, arguments)
        show(name, results[cell])
    for key, example in (("digits", digits), ("dates", translator)):
        name, results[key] = example()
        show(name, results[key])
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))
    lost = [
        f"{cell}: {precision} lost {results[cell][precision]['loss'] - of['float32']['loss']:.4f}"
        for cell, of in results.items()
        for precision, most in ALLOWED.items()
        if cell in CELLS and not of[precision]["loss"] - of["float32"]["loss"] < most
    ]
    sys.exit("\n".join(lost) or 0)


if __name__ == "__main__":
    main()
