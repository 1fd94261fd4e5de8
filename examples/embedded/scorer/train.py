"""Train a model that tells from its sensors which machine is about to fail, for scorer.c.

    python train.py --out FOLDER    (seconds)

The recordings are made up: temperature in °C, vibration in mm/s and current in A, one row a minute.
Before a failure vibration creeps up while the current falls; a heavy load raises all three, and
alone means nothing.

Written to FOLDER: model.safetensors, which takes the readings as they are; readings.csv, runs that
were not trained on; expected.csv, what Python makes of them.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import fastrnn

COLUMNS = ("temperature", "vibration", "current")


def recording(rng, failing):
    """Return a run of a machine (T, 3)."""
    T = rng.integers(20, 121)
    load = np.clip(np.cumsum(rng.normal(0, 0.1, T)), -1, 1)
    wear = np.linspace(0, failing * rng.uniform(0.5, 1.5), T) ** 2
    temperature = 60 + 8 * load + rng.normal(0, 1.5, T)
    vibration = 2.5 + 0.6 * load + 0.8 * wear + rng.normal(0, 0.4, T)
    current = 12 + 2 * load - 1.2 * wear + rng.normal(0, 0.5, T)
    return np.round(np.stack([temperature, vibration, current], axis=1), 2).astype(np.float32)


def recordings(rng, count):
    """Return runs, and which of them end in a failure."""
    failing = rng.random(count) < 0.4
    return [recording(rng, each) for each in failing], failing.astype(int)


def standardise(runs):
    """Return a layer that gives each sensor's readings the mean 0 and the deviation 1."""
    readings = np.concatenate(runs)
    layer = fastrnn.Linear(3, 3)
    layer.parameters()["weight"].data = np.diag(1 / readings.std(axis=0))
    layer.parameters()["bias"].data = -readings.mean(axis=0) / readings.std(axis=0)
    return layer


def write_readings(path, runs):
    """Write a row for each minute: the run it belongs to, and the readings."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", *COLUMNS])
        for number, run in enumerate(runs):
            writer.writerows([f"M{number:03}", *map(str, row)] for row in run)


def write_scores(path, runs, model):
    """Write what scorer.c is to write: of each run the probabilities, with nine digits."""
    scores = [model(run[:, None])[0][0] for run in runs]  # each alone: same bits as in a batch
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write("id,score_0,score_1\n")
        for number, (sound, fails) in enumerate(scores):
            file.write(f"M{number:03},{sound:.9g},{fails:.9g}\n")


def main(out, quick=False, seed=0):
    """Train, write the files and return the accuracy on what was not trained on."""
    rng = np.random.default_rng(seed)
    runs, failing = recordings(rng, 300 if quick else 1500)
    first = standardise(runs)
    gru = fastrnn.GRU(3, 24, num_layers=2, seed=seed)
    body = fastrnn.Sequential(gru, fastrnn.LastStep(), fastrnn.Linear(24, 2, seed=seed))
    optimizer = fastrnn.optim.Adam(body, lr=0.01)
    trainer = fastrnn.Trainer(body, "cross_entropy", optimizer, clip_norm=1.0)
    trainer.fit(([first(run) for run in runs], failing), epochs=4 if quick else 12, progress=False)
    model = fastrnn.Sequential(first, *body, fastrnn.Softmax())
    held_out, failing = recordings(rng, 200)
    found = [model(run[:, None])[0][0].argmax() for run in held_out]
    accuracy = np.mean(found == failing)
    print(f"{len(held_out)} held-out runs, {failing.sum()} failing: {accuracy:.1%} right")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fastrnn.save(model, out / "model.safetensors", {"columns": COLUMNS})
    write_readings(out / "readings.csv", held_out)
    write_scores(out / "expected.csv", held_out, model)
    print(f"written: model.safetensors, readings.csv, expected.csv in {out}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default=".", help="folder for model and tables")
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs")
    main(**vars(parser.parse_args()))
