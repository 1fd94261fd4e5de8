"""A training's numbers as TensorBoard reads them."""

import warnings

import numpy as np
import pytest

import fastrnn
from fastrnn.data import StreamLoader, Streams

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_events_hold_the_history(tmp_path):
    ids = np.random.default_rng(0).integers(0, 7, 400)
    model = fastrnn.Sequential(fastrnn.RNN(7, 5, seed=0), fastrnn.Linear(5, 7, seed=0))
    trainer = fastrnn.Trainer(model, metrics=["accuracy"])
    loader = StreamLoader(Streams(ids, 4), 5)
    history = trainer.fit(
        loader, validation=loader, epochs=3, log=tmp_path, log_every=10, progress=False
    )
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "gradient_norm"):
        found = events.Scalars(f"epoch/{name}")
        np.testing.assert_allclose([event.value for event in found], history[name], rtol=1e-6)
        assert [event.step for event in found] == history["step"]
    assert [event.step for event in events.Scalars("step/loss")] == [10, 20, 30, 40, 50]
