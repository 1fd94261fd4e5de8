"""Padding and packing beside PyTorch's, and a character model on the recipe's streams."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import rnn  # noqa: E402

from fastrnn import data, text  # noqa: E402
from fastrnn.data import StreamLoader  # noqa: E402
from fastrnn.training import Callback  # noqa: E402

LENGTHS = [3, 5, 1, 4]  # all different: PyTorch's sort is not stable


def make_sequences(dtype="float32", shape=(2,)):
    rng = np.random.default_rng(0)
    return [rng.integers(-9, 9, (length, *shape)).astype(dtype) for length in LENGTHS]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_padding_and_packing(dtype, shape, batch_first):
    sequences = make_sequences(dtype, shape)
    tensors = [torch.from_numpy(sequence) for sequence in sequences]
    padded = data.pad_sequence(sequences, batch_first, 7)
    expected = rnn.pad_sequence(tensors, batch_first, 7)
    np.testing.assert_array_equal(padded, expected.numpy())
    packed = data.pack_padded_sequence(padded, LENGTHS, batch_first, enforce_sorted=False)
    expected = rnn.pack_padded_sequence(expected, LENGTHS, batch_first, enforce_sorted=False)
    for got, tensor in zip(packed, expected, strict=True):
        np.testing.assert_array_equal(got, tensor.numpy())
        assert got.dtype == tensor.numpy().dtype
    got = data.pad_packed_sequence(packed, batch_first, 1, total_length=6)
    expected = rnn.pad_packed_sequence(expected, batch_first, 1, total_length=6)
    for array, tensor in zip(got, expected, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())


def test_a_packed_sequence_goes_into_torch_as_it_is():
    packed = data.pack_sequence(make_sequences(), enforce_sorted=False)
    theirs = rnn.PackedSequence(*map(torch.from_numpy, packed))
    layer = torch.nn.GRU(2, 3)
    output, lengths = rnn.pad_packed_sequence(layer(theirs)[0])
    assert lengths.tolist() == LENGTHS
    assert output.shape == (5, 4, 3)


@pytest.mark.parametrize("batch_first", [False, True])
def test_batches_of_a_loader_are_padded_as_torch_pads_them(batch_first):
    rng = np.random.default_rng(0)
    sequences = [rng.random((n, 3), np.float32) for n in rng.integers(1, 50, 100)]
    labels = [rng.integers(0, 9, len(sequence)) for sequence in sequences]
    loader = data.SequenceLoader(
        sequences, labels, batch_size=8, shuffle=True, batch_first=batch_first, target_padding=-100
    )
    for batch in loader:
        for got, source, value in (
            (batch.inputs, sequences, 0.0),
            (batch.targets, labels, -100),
        ):
            tensors = [torch.from_numpy(source[n]) for n in batch.indices]
            expected = rnn.pad_sequence(tensors, batch_first, value)
            np.testing.assert_array_equal(got, expected.numpy())
        np.testing.assert_array_equal(batch.mask, batch.targets != -100)


@pytest.fixture
def one_thread(set_num_threads):
    """So small a model is fastest on one thread, here and there."""
    before = torch.get_num_threads()
    set_num_threads(1)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_in_torch(ids, recipe, weights):
    """The recipe written out with PyTorch: training and validation losses of each epoch."""
    V = weights["1.weight"].shape[0]
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[recipe.cell]
    model = torch.nn.ModuleList(
        [layer(V, recipe.hidden, recipe.layers), torch.nn.Linear(recipe.hidden, V)]
    ).to(torch.float32)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    optimizer = torch.optim.RMSprop(model.parameters(), lr=recipe.lr, alpha=0.95)
    loss_of = torch.nn.CrossEntropyLoss()

    def forward(x, state):
        y, state = model[0](torch.nn.functional.one_hot(x, V).to(torch.float32), state)
        return model[1](y), state

    def detached(state):
        if state is None or isinstance(state, torch.Tensor):
            return state if state is None else state.detach()
        return tuple(part.detach() for part in state)

    cut = int(len(ids) * 0.95)
    parts = []
    for part in (torch.from_numpy(ids[:cut]), torch.from_numpy(ids[cut:])):
        n = (len(part) - 1) // recipe.batch
        parts.append(part[: n * recipe.batch].view(recipe.batch, n).t())
        parts.append(part[1 : n * recipe.batch + 1].view(recipe.batch, n).t())
    x_train, y_train, x_validation, y_validation = parts
    found = []
    for epoch in range(1, recipe.epochs + 1):
        state, losses = None, []
        for t in range(0, len(x_train) - recipe.seq_len + 1, recipe.seq_len):
            logits, state = forward(x_train[t : t + recipe.seq_len], detached(state))
            loss = loss_of(logits.flatten(0, 1), y_train[t : t + recipe.seq_len].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(model.parameters(), recipe.clip)
            optimizer.step()
            losses.append(loss.item())
        if epoch >= 10:
            for group in optimizer.param_groups:
                group["lr"] *= 0.97
        with torch.inference_mode():
            logits, _ = forward(x_validation, None)
            validation = loss_of(logits.flatten(0, 1), y_validation.flatten()).item()
        found.append((losses, validation))
    return found


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_follows_the_recipe_in_torch(cell, one_thread):
    """Twelve epochs from the same weights: each loss of each window, and each validation loss."""
    content = "".join(chr(97 + n * n % 7) for n in range(900)) + "the cat sat on the mat. " * 10
    recipe = text.Recipe(cell, hidden=8, layers=2, seq_len=9, batch=5, epochs=12, clip=0.01)
    ours = text.Training(content, recipe)
    ids = ours.vocabulary.encode(content)
    theirs = recipe_in_torch(ids, recipe, ours.model.state_dict())
    found = []

    class Note(Callback):
        def on_step(self, trainer):
            found.append(trainer.last["loss"])

    history = ours.fit(callbacks=[Note()], progress=False)
    assert found == pytest.approx([loss for losses, _ in theirs for loss in losses], abs=1e-5)
    validations = [validation for _, validation in theirs]
    assert history["validation_loss"] == pytest.approx(validations, abs=1e-5)
    whole = StreamLoader(ours.validation.streams, 10**6, partial=True)
    measured = ours.trainer.evaluate(whole)["loss"]
    assert measured == pytest.approx(validations[-1], abs=1e-5)
