"""Graphs that PyTorch exports, run by fastrnn: the same numbers as the modules that they are of."""

import io
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose models these are")
torch = pytest.importorskip("torch", reason="NOT TESTED: needs torch, which exports the models")

from torch import nn  # noqa: E402

from fastrnn.interop.onnx import import_model  # noqa: E402

TOLERANCE = 1e-5


class Tagger(nn.Module):
    """Ids to scores of each step."""

    def __init__(self, cell, batch_first, layers=2, bidirectional=True):
        super().__init__()
        self.table = nn.Embedding(20, 6)
        self.rnn = cell(
            6, 5, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first
        )
        self.last = nn.Linear(10 if bidirectional else 5, 4)

    def forward(self, ids):
        y, _ = self.rnn(self.table(ids))
        return torch.log_softmax(self.last(y), -1)


class Ragged(nn.Module):
    """A packed batch."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = cell(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(10)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        y, last = self.rnn(packed)
        y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        return (self.norm(y), *(last if isinstance(last, tuple) else (last,)))


class Stream(nn.Module):
    """One step, its state an input and an output."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, num_layers=2)
        self.last = nn.Linear(5, 4)

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(x, (h, c))
        return torch.sigmoid(self.last(torch.relu(y[-1]))), h, c


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.LSTMCell(6, 5), nn.GRUCell(5, 4), nn.RNNCell(4, 3)

    def forward(self, x, h, c):
        h, c = self.one(x, (h, c))
        return self.three(self.two(h)), h, c


class Convolved(nn.Module):
    """Convolution and normalisation below, pooling and activations above."""

    def __init__(self):
        super().__init__()
        self.below = nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU())
        self.rnn = nn.RNN(8, 5, nonlinearity="relu")
        functions = [nn.GELU(), nn.ELU(), nn.Softplus(), nn.SELU(), nn.Hardtanh(), nn.SiLU()]
        functions += [nn.LeakyReLU(0.1), nn.Hardsigmoid(), nn.PReLU(), nn.Dropout(), nn.Softsign()]
        self.above = nn.Sequential(*functions, nn.Linear(5, 4), nn.Softmax(-1))

    def forward(self, x):
        y, _ = self.rnn(self.below(x.transpose(1, 2)).permute(2, 0, 1))
        return self.above(y.max(0)[0] + y.mean(0))


class Attentive(nn.Module):
    """Attention over the outputs, with a mask."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.score = nn.Linear(8, 1)

    def forward(self, x, mask):
        y, h = self.rnn(x)
        mixed, _ = self.attention(y, y, y, key_padding_mask=mask)
        scores = self.score(torch.tanh(mixed)).squeeze(-1).masked_fill(mask, -1e9)
        weights = torch.softmax(scores, 1)
        best = torch.topk(scores, 2)
        first, second = torch.cat([h[0], y[:, 0]], 1).split(8, 1)
        return (weights.unsqueeze(-1) * y).sum(1), *best, first * second, y.argmax(-1)


class OneHot(nn.Module):
    """A classifier of the last step, of one-hot ids."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(7, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, ids):
        y, _ = self.rnn(nn.functional.one_hot(ids, 7).float())
        return torch.where(ids[:, -1:] > 3, self.last(y[:, -1]), -self.last(y[:, 0]))


def normal(*shape):
    return torch.randn(*shape)


def ids(*shape):
    return torch.randint(0, 7, shape)


FREE = {0: "B", 1: "T"}
CASES = {
    "tagger_lstm": (lambda: Tagger(nn.LSTM, True), [(ids(3, 7),), (ids(2, 5),)], [FREE]),
    "tagger_gru": (lambda: Tagger(nn.GRU, False), [(ids(7, 3),), (ids(5, 2),)], [FREE]),
    "tagger_rnn": (lambda: Tagger(nn.RNN, True, 3, False), [(ids(3, 7),), (ids(1, 2),)], [FREE]),
    "ragged_lstm": (
        lambda: Ragged(nn.LSTM),
        [(normal(3, 7, 6), torch.tensor([7, 2, 5])), (normal(2, 6, 6), torch.tensor([3, 6]))],
        [FREE, {0: "B"}],
    ),
    "ragged_gru": (
        lambda: Ragged(nn.GRU),
        [(normal(3, 7, 6), torch.tensor([7, 2, 5])), (normal(1, 4, 6), torch.tensor([4]))],
        [FREE, {0: "B"}],
    ),
    "stream": (Stream, [(normal(1, 2, 6), normal(2, 2, 5), normal(2, 2, 5))] * 2, []),
    "cells": (Cells, [(normal(2, 6), normal(2, 5), normal(2, 5))], []),
    "convolved": (Convolved, [(normal(2, 9, 6),)], []),
    "attentive": (Attentive, [(normal(2, 9, 6), torch.arange(18).reshape(2, 9) % 5 == 4)], []),
    "one_hot": (OneHot, [(ids(3, 7),), (ids(2, 4),)], [FREE]),
}


def exported(module, inputs, free, version):
    names = [f"x{i}" for i in range(len(inputs))]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and what it traces
        torch.onnx.export(
            module,
            inputs,
            file,
            dynamo=False,
            input_names=names,
            dynamic_axes=dict(zip(names, free, strict=False)),
            opset_version=version,
        )
    return file.getvalue()


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parametrize("name", CASES)
def test_exported_modules(name, version):
    torch.manual_seed(0)
    make, inputs, free = CASES[name]
    if name == "attentive":
        version = max(version, 13)  # which the exporter needs for it
    module = make().eval()
    model = import_model(exported(module, inputs[0], free, version))
    for given in inputs:
        with torch.no_grad():
            want = module(*given)
        got = model.run(None, {f"x{i}": tensor.numpy() for i, tensor in enumerate(given)})
        want = [want] if torch.is_tensor(want) else want
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert one.dtype == other.numpy().dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)
