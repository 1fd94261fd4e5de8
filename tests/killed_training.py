"""A training that goes on where it was killed: `python killed_training.py FOLDER [SECONDS]`.

Everything that a checkpoint must keep takes part: shuffled batches, dropout, momenta, a schedule by
steps, an average of the weights, accumulation, early stopping. With SECONDS each step takes that
much longer, so that there is time to kill it. The result goes to FOLDER/result.npz.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import optim
from fastrnn.data import SequenceLoader
from fastrnn.training import Callback, Trainer

TIMES = ("seconds", "items_per_second")


class Slow(Callback):
    def __init__(self, seconds):
        self.seconds = seconds

    def on_step(self, trainer):
        time.sleep(self.seconds)


def make_data():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 200)
    x = [rng.standard_normal((length, 3)).astype(np.float32) for length in lengths]
    return x, np.array([int(each.sum() > 0) for each in x])


def main(folder, seconds):
    x, targets = make_data()
    model = fastrnn.Sequential(
        fastrnn.GRU(3, 8, 2, dropout=0.3, seed=1),
        fastrnn.Dropout(0.2, seed=2),
        fastrnn.MaxPooling(),
        fastrnn.Linear(8, 2, seed=3),
    )
    trainer = Trainer(
        model,
        optimizer=optim.AdamW(model, lr=0.01),
        metrics=["accuracy"],
        schedule=lambda optimizer: optim.CosineAnnealingLR(optimizer, 300),
        schedule_per="step",
        clip_norm=0.5,
        accumulate=2,
        ema=0.9,
    )
    loader = SequenceLoader(x[:150], targets[:150], batch_size=8, shuffle=True, seed=4)
    held_out = SequenceLoader(x[150:], targets[150:])
    print("ready", flush=True)
    options = {"checkpoint": folder, "checkpoint_every": 1, "log_every": 1, "resume": True}
    history = trainer.fit(
        loader,
        validation=held_out,
        epochs=35,
        patience=30,
        progress=False,
        callbacks=[Slow(seconds)] if seconds else [],
        **options,
    )
    records = [{k: v for k, v in record.items() if k not in TIMES} for record in history]
    weights = {f"weights {name}": array for name, array in model.state_dict().items()}
    np.savez(Path(folder) / "result.npz", history=np.array(json.dumps(records)), **weights)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
