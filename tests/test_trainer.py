"""The training loop: the same bits as a loop by hand, and what belongs around it."""

import csv
import json
import math

import numpy as np
import pytest

import fastrnn
from fastrnn import losses, metrics, optim
from fastrnn.data import Batch, Loader, RaggedArray, StreamLoader, Streams
from fastrnn.training import Callback, EarlyStopping, Trainer

IDS = np.random.default_rng(0).integers(0, 7, 400)


class Batches(Loader):
    """Given batches, the same in every epoch."""

    def __init__(self, batches, stateful=False):
        self.given, self.stateful = batches, stateful

    def __len__(self):
        return len(self.given)

    def batches(self, epoch=0, start=0):
        return iter(self.given[start:])

    def config(self):
        return {"batches": len(self)}


def make_model(dropout=0.0, seed=0, dtype="float64"):
    return fastrnn.Sequential(
        fastrnn.Embedding(7, 5, seed=seed, dtype=dtype),
        fastrnn.GRU(5, 6, 2, dropout=dropout, seed=seed, dtype=dtype),
        fastrnn.Dropout(dropout, seed=seed),
        fastrnn.Linear(6, 7, seed=seed, dtype=dtype),
    )


def make_streams(seq_len=5):
    return StreamLoader(Streams(IDS, 4), seq_len)


def ragged_batches(sizes=(4, 3, 4), seed=1):
    """Batches of sequences of different lengths with a target for each step."""
    rng = np.random.default_rng(seed)
    batches, first = [], 0
    for size in sizes:
        lengths = rng.integers(1, 9, size)
        T = int(lengths.max())
        ids = rng.integers(0, 7, (T, size))
        mask = np.arange(T)[:, np.newaxis] < lengths
        indices = np.arange(first, first + size)
        batches.append(Batch(ids, rng.integers(0, 7, (T, size)), lengths, mask, indices))
        first += size
    return batches


def weights_equal(a, b):
    return all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def fit(trainer, data, **options):
    return trainer.fit(data, **{"progress": False, **options})


# --- the loop -------------------------------------------------------------------------------------


def test_it_is_the_loop_one_would_write():
    ours, hand = make_model(0.3), make_model(0.3)
    loader = make_streams()
    options = {"lr": 0.01, "alpha": 0.9}
    trainer = Trainer(ours, optimizer=optim.RMSprop(ours, **options), clip_value=0.1, clip_norm=0.3)
    history = fit(trainer, loader, epochs=2)

    optimizer = optim.RMSprop(hand.parameters(), **options)
    for epoch in range(2):
        state, window_losses, norms = None, [], []
        for inputs, targets in loader.streams.windows(5):
            (logits, state), pullback = hand.vjp(inputs, state)
            loss, d_logits = losses.cross_entropy(logits, targets)
            optimizer.zero_grad()
            pullback(d_logits)
            norms.append(optim.clip_grad_norm(hand, math.inf))
            optim.clip_grad_value(hand, 0.1)
            optim.clip_grad_norm(hand, 0.3)
            optimizer.step()
            window_losses.append(loss)
        assert history[epoch]["loss"] == pytest.approx(np.mean(window_losses), rel=1e-14)
        assert history[epoch]["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-14)
        assert history[epoch]["gradient_norm_max"] == pytest.approx(max(norms), rel=1e-14)
    assert weights_equal(ours.state_dict(), hand.state_dict())
    assert trainer.step == 2 * len(loader)
    assert [record["epoch"] for record in history] == [1, 2]


def test_accumulated_batches_are_one_large_batch():
    small = ragged_batches((2, 3, 4))
    T = max(len(batch.inputs) for batch in small)

    def padded(array):
        return np.pad(array, ((0, T - len(array)), (0, 0)))

    large = Batch(
        np.concatenate([padded(batch.inputs) for batch in small], axis=1),
        np.concatenate([padded(batch.targets) for batch in small], axis=1),
        np.concatenate([batch.lengths for batch in small]),
        np.concatenate([padded(batch.mask) for batch in small], axis=1),
    )
    one, many = make_model(), make_model()
    first = Trainer(one, optimizer=optim.SGD(one, lr=0.1))
    second = Trainer(many, optimizer=optim.SGD(many, lr=0.1), accumulate=3)
    fit(first, Batches([large]))
    fit(second, Batches(small))
    assert second.step == 1
    for name, weights in one.state_dict().items():
        np.testing.assert_allclose(many.state_dict()[name], weights, rtol=1e-12, atol=1e-15)
    assert first.history["loss"] == pytest.approx(second.history["loss"], rel=1e-12)


def test_the_last_group_of_accumulated_batches_may_be_smaller():
    trainer = Trainer(make_model(), accumulate=2)
    fit(trainer, Batches(ragged_batches((2, 2, 2))), epochs=3)
    assert trainer.step == 6


def test_a_batch_in_which_nothing_counts_changes_nothing():
    batch = ragged_batches((3,))[0]
    empty = batch._replace(mask=np.zeros_like(batch.mask))
    model = make_model()
    before = model.state_dict()
    trainer = Trainer(model, optimizer=optim.SGD(model, lr=1.0))
    history = fit(trainer, Batches([empty]))
    assert weights_equal(before, model.state_dict())
    assert math.isnan(history[0]["loss"])


def test_no_batch_at_all():
    trainer = Trainer(make_model())
    history = fit(trainer, Batches([]), epochs=2)
    assert len(history) == 2
    assert trainer.step == 0


def test_evaluate_does_not_depend_on_the_batches():
    batches = ragged_batches((4, 3, 4))
    alone = []
    for batch in batches:
        for b, length in enumerate(batch.lengths):
            alone.append(
                Batch(
                    batch.inputs[:length, b : b + 1],
                    batch.targets[:length, b : b + 1],
                    batch.lengths[b : b + 1],
                )
            )
    trainer = Trainer(make_model(), metrics=["accuracy", "perplexity", "f1"])
    together, apart = trainer.evaluate(Batches(batches)), trainer.evaluate(Batches(alone))
    assert together == pytest.approx(apart, rel=1e-12)


def test_predict_gives_each_example_in_the_examples_order():
    batches = ragged_batches((4, 3, 4))
    order = np.random.default_rng(2).permutation(11)
    start = 0
    shuffled = []
    for batch in batches:
        size = len(batch.lengths)
        shuffled.append(batch._replace(indices=order[start : start + size], targets=None))
        start += size
    model = make_model()
    outputs = Trainer(model).predict(Batches(shuffled))
    for batch in shuffled:
        whole, _ = model(batch.inputs, lengths=batch.lengths)
        for b, index in enumerate(batch.indices):
            np.testing.assert_array_equal(outputs[index], whole[: batch.lengths[b], b])


def test_predict_of_empty_sequences_is_empty_whoever_is_with_them():
    model = fastrnn.GRU(3, 2, seed=0)
    empty, full = np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32)
    for data in ([empty, empty], [empty, full]):
        assert Trainer(model, "mse").predict(data)[0].shape == (0, 2)


def test_predict_of_a_ragged_array_takes_the_dtype_of_the_model():
    model = fastrnn.GRU(3, 2, seed=0)
    flat = np.random.default_rng(0).standard_normal((5, 3))
    outputs = Trainer(model, "mse").predict(RaggedArray(flat, [0, 2, 5]))
    for output, x in zip(outputs, (flat[:2], flat[2:]), strict=True):
        np.testing.assert_array_equal(output, model(x.astype(np.float32))[0], strict=True)


def test_predict_of_streams_is_whole():
    model, loader = make_model(), StreamLoader(Streams(IDS, 4), 7, partial=True)
    outputs = Trainer(model).predict(loader)
    whole, _ = model(loader.streams.inputs)
    assert len(outputs) == 4
    for b, output in enumerate(outputs):
        np.testing.assert_array_equal(output, whole[:, b])


def test_inputs_and_targets_alone_are_taken():
    rng = np.random.default_rng(3)
    x = [rng.standard_normal((length, 3)).astype(np.float32) for length in (4, 2, 5, 5, 1)]
    targets = np.array([0, 1, 1, 0, 1])
    model = fastrnn.Sequential(
        fastrnn.LSTM(3, 4, seed=0), fastrnn.MeanPooling(), fastrnn.Linear(4, 2, seed=0)
    )
    trainer = Trainer(model)
    history = fit(trainer, (x, targets), epochs=2, batch_size=2, validation=(x, targets))
    assert len(history["validation_loss"]) == 2
    outputs = trainer.predict(x)
    assert [output.shape for output in outputs] == [(2,)] * 5
    np.testing.assert_array_equal(outputs[2], model(x[2][:, np.newaxis])[0][0])


def test_arrays_beside_one_another_of_any_floats():
    rng = np.random.default_rng(4)
    x, targets = rng.standard_normal((9, 4, 3)), rng.integers(0, 2, 9)
    models = [
        fastrnn.Sequential(
            fastrnn.GRU(3, 4, seed=0), fastrnn.LastStep(), fastrnn.Linear(4, 2, seed=0)
        )
        for _ in range(2)
    ]
    one, two = (Trainer(model) for model in models)
    fit(one, (x.astype(np.float32), targets), epochs=2)
    two.fit(x, targets, epochs=2, progress=False)
    assert weights_equal(models[0].state_dict(), models[1].state_dict())
    assert one.evaluate((x, targets)) == two.evaluate(x.tolist(), targets)
    with pytest.raises(TypeError, match="targets: expected None beside a tuple of both"):
        two.fit((x, targets), targets)


def test_validation_has_the_batch_size_of_the_training():
    sizes = []

    class Look(Trainer):
        def forward(self, batch, state=None):
            sizes.append(batch.inputs.shape[1])
            return super().forward(batch, state)

    x, targets = np.zeros((9, 4, 3)), np.zeros(9, int)
    model = fastrnn.Sequential(
        fastrnn.GRU(3, 4, seed=0), fastrnn.LastStep(), fastrnn.Linear(4, 2, seed=0)
    )
    Look(model).fit(x, targets, validation=(x, targets), batch_size=4, progress=False)
    assert sizes == [4, 4, 1]


# --- schedules, averages, early stopping ----------------------------------------------------------


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_the_schedule_is_stepped_per(per):
    model, loader = make_model(), make_streams()
    trainer = Trainer(
        model,
        optimizer=optim.SGD(model, lr=1.0),
        schedule=lambda optimizer: optim.ExponentialLR(optimizer, 0.5),
        schedule_per=per,
        clip_norm=0.01,
    )
    history = fit(trainer, loader, epochs=2)
    n = len(loader)
    expected = [1.0, 0.5] if per == "epoch" else [0.5 ** (n - 1), 0.5 ** (2 * n - 1)]
    assert history["learning_rate"] == expected


def test_the_plateau_schedule_takes_the_monitored_number():
    model = make_model()
    optimizer = optim.SGD(model, lr=0.0)  # nothing improves
    schedule = optim.ReduceLROnPlateau(optimizer, patience=1, eps=0.0)
    optimizer.lr = 1e-300
    trainer = Trainer(model, optimizer=optimizer, schedule=schedule)
    fit(trainer, make_streams(), epochs=4)
    assert optimizer.lr == pytest.approx(1e-301)


def test_the_average_is_what_is_validated_and_kept():
    model, loader = make_model(), make_streams()
    twin = make_model()
    trainer = Trainer(model, optimizer=optim.SGD(model, lr=0.5), ema=0.8)
    own = Trainer(twin, optimizer=optim.SGD(twin, lr=0.5))
    average = {name: weights.copy() for name, weights in twin.state_dict().items()}

    class Follow(Callback):
        def on_step(self, trainer):
            for name, weights in trainer.model.state_dict().items():
                average[name] = 0.8 * average[name] + 0.2 * weights

    fit(own, loader, callbacks=[Follow()])
    history = fit(trainer, loader, validation=loader)
    for name, weights in model.state_dict().items():
        np.testing.assert_allclose(weights, average[name], rtol=1e-12, atol=1e-14)
    twin.load_state_dict(model.state_dict())
    expected = Trainer(twin).evaluate(loader)["loss"]
    assert history[0]["validation_loss"] == expected


class Scripted(Callback):
    """Puts a number in each epoch's record, and keeps the weights of each."""

    def __init__(self, values):
        self.values, self.weights = list(values), []

    def on_epoch(self, trainer):
        trainer.history[-1]["score"] = self.values[len(trainer.history) - 1]
        self.weights.append(trainer.model.state_dict())


def test_early_stopping_ends_and_restores_the_best():
    scores = [3.0, 2.0, 2.5, 2.0, 1.0]
    script = Scripted(scores)
    trainer = Trainer(make_model())
    history = fit(
        trainer, make_streams(), epochs=5, callbacks=[script], monitor="score", patience=2
    )
    assert len(history) == 4  # two epochs without improvement after the second
    assert weights_equal(trainer.model.state_dict(), script.weights[1])


def test_early_stopping_by_a_metric_looks_for_the_larger():
    trainer = Trainer(make_model(), metrics=["accuracy"])
    seen = []

    class Look(Callback):
        def on_epoch(self, trainer):
            seen.append(trainer.history[-1]["validation_accuracy"])

    stopping = EarlyStopping("validation_accuracy", "max", 1)
    fit(trainer, make_streams(), validation=make_streams(), epochs=30, callbacks=[Look(), stopping])
    assert stopping.best == max(seen)
    assert trainer._mode("validation_accuracy") == "max"
    assert trainer._mode("loss") == "min"


def test_a_patience_of_zero_ends_at_the_first_epoch_without_improvement():
    script = Scripted([3.0, 2.0, 2.5])
    history = fit(
        Trainer(make_model()),
        make_streams(),
        epochs=3,
        callbacks=[script],
        monitor="score",
        patience=0,
    )
    assert len(history) == 3


def test_min_delta():
    script = Scripted([3.0, 2.9, 2.8, 2.0])
    trainer = Trainer(make_model())
    stopping = EarlyStopping("score", "min", 2, min_delta=0.5)
    history = fit(trainer, make_streams(), epochs=4, callbacks=[script, stopping])
    assert len(history) == 3
    assert stopping.best_epoch == 1


def test_what_is_not_in_the_records_cannot_be_monitored():
    trainer = Trainer(make_model())
    with pytest.raises(ValueError, match=r"monitor: expected one of loss, .*'validation_loss'"):
        fit(trainer, make_streams(), patience=1, monitor="validation_loss")


def test_time_limit_ends_within_an_epoch():
    trainer = Trainer(make_model())
    fit(trainer, make_streams(), epochs=5, time_limit=0.0)
    assert trainer.step == 1
    assert trainer.epoch == 0


# --- numbers that are not finite ------------------------------------------------------------------


def spoiled(batches, index, value=np.nan):
    """Return inputs (T, B, 3) of which one batch holds a NaN."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(batches):
        x = rng.standard_normal((4, 2, 3))
        if number == index:
            x[1, 1, 0] = value
        found.append(Batch(x, rng.integers(0, 2, (4, 2))))
    return Batches(found)


def make_numbers_model():
    return fastrnn.Sequential(
        fastrnn.RNN(3, 4, nonlinearity="relu", seed=0, dtype="float64"),
        fastrnn.Linear(4, 2, seed=0, dtype="float64"),
    )


def test_a_loss_that_is_not_finite_raises_and_leaves_the_weights():
    model = make_numbers_model()
    seen = {}

    class Keep(Callback):
        def on_step(self, trainer):
            seen.update(trainer.model.state_dict())

    trainer = Trainer(model)
    with pytest.raises(
        FloatingPointError,
        match=r"step 3 \(epoch 1, batch 3\): the loss is nan; "
        r"the inputs hold .* largest norm of a gradient so far was \d.*, of \d\.",
    ):
        fit(trainer, spoiled(5, 2), callbacks=[Keep()])
    assert weights_equal(model.state_dict(), seen)


def test_steps_that_are_not_finite_are_left_out_if_asked():
    model, twin = make_numbers_model(), make_numbers_model()
    trainer = Trainer(model, on_nonfinite="skip")
    history = fit(trainer, spoiled(5, 2))
    assert history[0]["skipped"] == 1
    good = spoiled(5, 2)
    del good.given[2]
    fit(Trainer(twin), good)
    assert weights_equal(model.state_dict(), twin.state_dict())


def test_the_layer_is_named_where_numbers_overflow():
    model = make_numbers_model()
    model[0].parameters()["weight_ih_l0"].data = np.full((4, 3), 1e308)
    batch = Batch(np.full((4, 2, 3), 1e3), np.zeros((4, 2), int))
    with pytest.raises(FloatingPointError, match=r"layer 0, RNN, gives numbers that are not"):
        fit(Trainer(model), Batches([batch]))


def test_gradients_that_are_not_finite_are_named():
    model = make_numbers_model()

    def loss(outputs, targets, mask=None):
        return 1.0, np.full_like(outputs, np.inf)

    batch = Batch(np.ones((4, 2, 3)), np.zeros((4, 2), int))
    with pytest.raises(FloatingPointError, match=r"norm of the gradients is .*gradients of .*1\.b"):
        fit(Trainer(model, loss), Batches([batch]))


def test_weights_that_are_not_finite_are_never_kept(tmp_path):
    model = make_numbers_model()
    trainer = Trainer(model, optimizer=optim.SGD(model, lr=0.1))
    loader = spoiled(3, -1)
    fit(trainer, loader, checkpoint=tmp_path)
    good = (tmp_path / "checkpoint.safetensors").read_bytes()

    class Spoil(Callback):
        def on_epoch(self, trainer):
            trainer.model.parameters()["1.bias"].data = [np.inf, 0.0]

    with pytest.raises(FloatingPointError, match=r"1\.bias holds numbers that are not finite"):
        fit(trainer, loader, checkpoint=tmp_path, callbacks=[Spoil()])
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == good


def test_a_carried_state_that_is_not_finite_is_dropped_with_its_step():
    batches = spoiled(5, 2)
    batches.stateful = True
    trainer = Trainer(make_numbers_model(), on_nonfinite="skip")
    history = fit(trainer, batches)
    assert history[0]["skipped"] == 1


# --- logs and history -----------------------------------------------------------------------------


def test_logs_hold_the_history(tmp_path):
    trainer = Trainer(make_model(), metrics=["accuracy"])
    loader = make_streams()
    history = fit(trainer, loader, validation=loader, epochs=2, log=tmp_path, log_every=10)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == list(history)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line for line in lines if "epoch" in line] == list(history)
    steps = [line["step"] for line in lines if "epoch" not in line]
    assert steps == list(range(10, 2 * len(loader) + 1, 10))
    assert lines[0].keys() == {"step", "loss", "gradient_norm", "learning_rate"}


def test_numbers_that_are_not_finite_are_null_in_logs(tmp_path):
    trainer = Trainer(make_model())
    fit(trainer, Batches([]), log=tmp_path)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] is None


def test_history_by_name_and_by_number():
    trainer = Trainer(make_model(), metrics=["accuracy"])
    history = fit(trainer, make_streams(), epochs=3)
    assert history["loss"] == [record["loss"] for record in history]
    assert history[-1]["epoch"] == 3
    assert "3 epochs; last: loss=" in repr(history)
    with pytest.raises(KeyError, match="accuracy"):
        history["accurracy"]


def test_history_plots_its_numbers():
    trainer = Trainer(make_model(), metrics=["accuracy"])
    history = fit(trainer, make_streams(), validation=make_streams(), epochs=3)
    figure = history.plot()
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()}
    assert list(panels) == ["loss", "accuracy", "gradient norm"]
    drawn = {line.get_label(): line.get_ydata() for line in panels["loss"].lines}
    assert list(drawn["training"]) == history["loss"]
    assert list(drawn["validation"]) == history["validation_loss"]
    with pytest.raises(ValueError, match="names: expected some of"):
        history.plot(["speed"])


def test_progress_without_a_terminal_is_a_line_for_each_epoch(capsys):
    trainer = Trainer(make_model(), metrics=["accuracy"])
    trainer.fit(make_streams(), validation=make_streams(), epochs=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert ", accuracy 0." in lines[1]
    assert lines[1].count("(validation ") == 2
    assert lines[1].endswith("steps/s")


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"loss": "hinge"}, ValueError, "loss: expected one of cross_entropy, mse, got 'hinge'"),
        ({"optimizer": "lbfgs"}, ValueError, "optimizer: expected one of sgd"),
        ({"optimizer": 3}, TypeError, "optimizer: expected a name or an Optimizer, got 3"),
        ({"metrics": ["speed"]}, ValueError, "metrics: expected names of accuracy"),
        ({"metrics": ["f1", metrics.F1("micro")]}, ValueError, "each name once, got f1, f1"),
        ({"schedule_per": "day"}, ValueError, "schedule_per: expected one of epoch, step"),
        ({"schedule": 3}, TypeError, "schedule: expected a schedule or a function, got 3"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm: expected at least 0"),
        ({"accumulate": 0}, ValueError, "accumulate: expected at least 1, got 0"),
        ({"ema": 1.5}, ValueError, "ema: expected a number from 0.0 to 1.0, got 1.5"),
        ({"on_nonfinite": "ignore"}, ValueError, "on_nonfinite: expected one of raise, skip"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Trainer(make_model(), **options)


def test_a_schedule_of_another_optimizer():
    model = make_model()
    schedule = optim.StepLR(optim.SGD(model), 1)
    with pytest.raises(ValueError, match="schedule: expected one of the trainer's optimizer"):
        Trainer(model, optimizer=optim.SGD(model), schedule=schedule)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": -1}, ValueError, "epochs: expected at least 0"),
        ({"resume": True}, ValueError, "checkpoint: expected a folder with resume"),
        ({"checkpoint_every": 3}, ValueError, "checkpoint: expected a folder with resume"),
        ({"log_every": 3}, ValueError, "log: expected a folder with log_every"),
        ({"time_limit": -1.0}, ValueError, "time_limit: expected at least 0"),
        ({"callbacks": [print]}, TypeError, "callbacks: expected Callback objects"),
        ({"batch_size": 3}, TypeError, "batch_size"),
        ({"validation": 0.2}, TypeError, "validation: data: expected a Loader .*, got float"),
    ],
)
def test_bad_arguments_of_fit(options, error, message):
    with pytest.raises(error, match=message):
        fit(Trainer(make_model()), make_streams(), **options)


def test_batches_without_targets():
    batch = ragged_batches((2,))[0]._replace(targets=None)
    with pytest.raises(ValueError, match="data: expected batches with targets"):
        fit(Trainer(make_model()), Batches([batch]))


def test_a_model_that_is_none():
    with pytest.raises(TypeError, match="model: expected a Layer, got int"):
        Trainer(3)


def test_status_outside_of_fit():
    with pytest.raises(RuntimeError, match="while fit runs"):
        Trainer(make_model()).status()


# --- what had gone wrong --------------------------------------------------------------------------

X = np.random.default_rng(4).standard_normal((40, 6, 3)).astype(np.float32)
CLASSES = (X.sum(axis=(1, 2)) > 0).astype(int)


def make_classifier(batch_first=False):
    return fastrnn.Sequential(
        fastrnn.GRU(3, 4, batch_first=batch_first, seed=0),
        fastrnn.LastStep(batch_first=batch_first),
        fastrnn.Linear(4, 2, seed=0),
    )


def test_a_time_limit_of_zero_is_shown(capsys):
    Trainer(make_classifier()).fit((X, CLASSES), batch_size=40, time_limit=0.0)
    assert "epoch 1/1" in capsys.readouterr().err


def test_with_an_average_the_best_weights_are_what_is_measured_after():
    model = make_classifier()
    trainer = Trainer(model, optimizer=optim.SGD(model, lr=5.0), ema=0.9)
    script = Scripted([1.0, 2.0, 3.0])
    fit(trainer, (X, CLASSES), epochs=3, callbacks=[script], monitor="score", restore_best=True)
    assert trainer.evaluate((X, CLASSES)) == Trainer(model).evaluate((X, CLASSES))


def test_an_average_begins_with_the_weights_that_training_begins_with():
    model, other = make_model(), make_model(seed=1)
    trainer = Trainer(model, ema=1.0)
    model.load_state_dict(other.state_dict())
    assert trainer.evaluate(make_streams()) == Trainer(other).evaluate(make_streams())
    fit(trainer, make_streams())
    assert weights_equal(model.state_dict(), other.state_dict())


def test_an_optimizer_over_some_parameters_sees_fresh_gradients():
    norms = []
    for trained in ("3.", ""):
        model = make_model()
        some = {k: v for k, v in model.parameters().items() if k.startswith(trained)}
        trainer = Trainer(model, optimizer=optim.SGD(some, lr=0.0))
        norms.append(fit(trainer, make_streams())["gradient_norm"])
    assert norms[0] == norms[1]


def test_an_optimizer_of_another_model():
    with pytest.raises(ValueError, match="optimizer: expected one of the model's parameters"):
        Trainer(make_model(), optimizer=optim.SGD(make_model()))


class Twice(fastrnn.Layer):
    """The same layer twice, under two names."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def children(self):
        return {"first": self.layer, "second": self.layer}

    def vjp(self, x):
        y, back = self.layer.vjp(x)
        z, back_again = self.layer.vjp(y)
        return z, lambda dz: back(back_again(dz))


def test_tied_weights_count_once():
    x, y = np.ones((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32)
    batches = Batches([Batch(x, y)])
    gradients = []
    for accumulate in (1, 2):
        model = Twice(fastrnn.Linear(4, 4, seed=0))
        trainer = Trainer(model, "mse", accumulate=accumulate)
        history = fit(trainer, batches)
        gradients.append(model.layer.weight.grad)
        squares = sum(float((p.grad**2).sum()) for p in model.layer.parameters().values())
        assert history[0]["gradient_norm"] == pytest.approx(math.sqrt(squares), rel=1e-6)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5)


def normalized_model():
    return fastrnn.Sequential(
        fastrnn.BatchNorm(3, dtype="float64"),
        fastrnn.RNN(3, 4, seed=0, dtype="float64"),
        fastrnn.Linear(4, 2, seed=0, dtype="float64"),
    )


def test_a_step_that_is_left_out_leaves_running_statistics_as_they_were():
    model, twin = normalized_model(), normalized_model()
    fit(Trainer(model, on_nonfinite="skip"), spoiled(5, 2))
    good = spoiled(5, 2)
    del good.given[2]
    fit(Trainer(twin), good)
    assert weights_equal(model.state_dict(), twin.state_dict())


def test_the_batch_that_was_not_finite_is_looked_at():
    with pytest.raises(FloatingPointError, match="the inputs hold numbers that are not finite"):
        fit(Trainer(make_numbers_model(), accumulate=3), spoiled(3, 1))


def test_a_model_with_the_batch_first_gets_it_first():
    time_first, batch_first = make_classifier(), make_classifier(batch_first=True)
    a, b = Trainer(time_first), Trainer(batch_first)
    assert fit(a, (X, CLASSES))["loss"] == fit(b, (X, CLASSES))["loss"]
    np.testing.assert_array_equal(a.predict(X), b.predict(X))
    for model, layout in ((time_first, True), (batch_first, False)):
        loader = fastrnn.data.SequenceLoader(X, CLASSES, batch_first=layout)
        with pytest.raises(ValueError, match=f"expected a loader with batch_first={not layout}"):
            fit(Trainer(model), loader)


class Constant(metrics.Metric):
    name = "constant"

    def measure(self, outputs, targets, mask):
        return np.ones(1)

    def result(self, sums):
        return np.float32(0.5)


def test_numbers_of_numpy_can_be_kept(tmp_path):
    def loss(outputs, targets, mask=None):
        value, d_outputs = losses.cross_entropy(outputs, targets)
        return np.float32(value), d_outputs

    class Note(Callback):
        def on_epoch(self, trainer):
            trainer.history[-1]["note"] = np.float32(1.5)

    trainer = Trainer(make_classifier(), loss, metrics=[Constant()])
    fit(trainer, (X, CLASSES), checkpoint=tmp_path, log_every=1, callbacks=[Note()])
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["note"] == 1.5
    assert type(trainer.history[0]["loss"]) is type(trainer.history[0]["constant"]) is float


def test_a_loss_that_returns_something_else():
    with pytest.raises(TypeError, match=r"loss: expected it to return \(value, d_outputs\), got 1"):
        fit(Trainer(make_classifier(), lambda outputs, targets: 1.0), (X, CLASSES))


def test_a_table_takes_numbers_that_come_later(tmp_path):
    trainer = Trainer(make_classifier())
    fit(trainer, (X, CLASSES), log=tmp_path)
    fit(trainer, (X, CLASSES), log=tmp_path, validation=(X, CLASSES), epochs=2)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["validation_loss"] == ""
    for row, record in zip(rows, trainer.history, strict=True):
        assert {k: float(v) for k, v in row.items() if v} == pytest.approx(record)


@pytest.mark.parametrize("torn", [b'{"step": 1, "lo', b"\xff\xfe\x00", b"[" * 100_000])
def test_a_log_that_is_torn(tmp_path, torn):
    trainer = Trainer(make_classifier())
    fit(trainer, (X, CLASSES), log=tmp_path)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(torn)
    fit(trainer, (X, CLASSES), log=tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_all_callbacks_are_closed_whatever_one_does():
    closed = []

    class Closes(Callback):
        def close(self):
            closed.append(self)
            raise RuntimeError("no")

    trainer = Trainer(make_classifier())
    with pytest.raises(RuntimeError, match="no"):
        fit(trainer, (X, CLASSES), callbacks=[Closes(), Closes()])
    assert len(closed) == 2
    with pytest.raises(RuntimeError, match="while fit runs"):
        trainer.status()


def test_early_stopping_has_its_patience_in_every_fit():
    trainer, stopping = Trainer(make_model()), EarlyStopping("score", "min", 1)
    script = Scripted([1.0, 2.0, 3.0, 4.0])
    for epochs in (2, 3):
        fit(trainer, make_streams(), epochs=5, callbacks=[script, stopping])
        assert trainer.epoch == epochs


def test_callbacks_and_data_that_are_none():
    trainer = Trainer(make_classifier())
    with pytest.raises(TypeError, match="callbacks: expected a list of Callback objects"):
        fit(trainer, (X, CLASSES), callbacks=Callback())
    with pytest.raises(TypeError, match="restore_best: expected True or False"):
        fit(trainer, (X, CLASSES), restore_best="yes")
    with pytest.raises(ValueError, match="inputs: expected at least one sequence"):
        fit(trainer, (X[:0], CLASSES[:0]))


def test_the_plot_of_what_is_not_always_there():
    pytest.importorskip("matplotlib")
    history = fastrnn.training.History(
        [
            {"epoch": 1, "loss": 2.0, "gradient_norm": math.nan, "learning_rate": 1.0},
            {"epoch": 2, "loss": 1.0, "gradient_norm": 1.0, "learning_rate": 1.0}
            | {"validation_loss": 1.5},
        ]
    )
    markers = [line.get_marker() for line in history.plot("loss").axes[0].lines]
    assert markers == ["None", "o"]  # a line of one point is none
    history.records[0]["loss"] = math.nan
    assert history.plot("loss").axes[0].lines[0].get_marker() == "o"
    assert len(history.plot([]).axes) == 2
