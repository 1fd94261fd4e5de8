"""Models for the tests of fastrnn.interop.torch: here, so that other processes can import them."""

import torch
from torch import nn
from torch.utils.data import Dataset

NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
LAYERS = NAMES[:3]
CELLS = NAMES[3:]


class LastOutput(nn.LSTM):
    """A user's class with its own forward and attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)[0][-1]


class ScaledCell(nn.GRUCell):
    """A user's class with a parameter more."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.full((), 0.5, dtype=self.weight_ih.dtype))

    def forward(self, x, h=None):
        return self.scale * super().forward(x, h)


class Tagger(nn.Module):
    """Nested, with one module used twice under two names and a tied weight."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        options = {"dtype": dtype}
        self.embedding = nn.Embedding(11, 6, **options)
        self.encoder = nn.ModuleDict({"both": nn.LSTM(6, 3, bidirectional=True, **options)})
        self.again = nn.GRU(6, 6, **options)
        self.same = self.again
        self.last = LastOutput(6, 5, **options)
        self.cell = ScaledCell(5, 6, **options)
        self.head = nn.Linear(6, 11, **options)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        y = self.encoder["both"](self.embedding(tokens))[0]
        y = self.same(self.again(y)[0])[0]
        return self.head(self.cell(self.last(y)))


class Encoded(Dataset):
    """Runs a model in the worker that loads the data."""

    def __init__(self, model, data):
        self.model = model
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        with torch.no_grad():
            return self.model(self.data[i])


def double(name, *args, **kwargs):
    """Make one of torch.nn's modules with float64 weights, the same at each call."""
    torch.manual_seed(7)
    return getattr(nn, name)(*args, **kwargs, dtype=torch.float64)


def flat(value):
    """List the tensors in nested tuples, packed sequences included."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [] if value is None else [tensor for part in value for tensor in flat(part)]


def results(model, *args):
    """Return the outputs and all gradients of a sum of them with fixed, uneven weights."""
    model.zero_grad()
    outputs = [y for y in flat(model(*args)) if y.dtype.is_floating_point]
    terms = [(y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)) for y in outputs]
    sum(term.sum() for term in terms).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [y.detach() for y in outputs] + [grad.clone() for grad in grads]
