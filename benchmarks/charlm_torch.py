"""The character model of `fastrnn train` in PyTorch, for benchmarks/charlm.py to run beside it.

The same recipe: 95 % of the text trains, in `batch` parallel streams, through windows whose state
is carried (truncated backpropagation through time); RMSprop with alpha 0.95, gradients clipped by
value, the learning rate times 0.97 after each epoch from the tenth on; the rest validates.
The last line is JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Model(nn.Module):
    """A recurrent stack over one-hot characters, and a linear layer."""

    def __init__(self, cell, classes, hidden, layers):
        super().__init__()
        self.classes = classes
        self.rnn = CELLS[cell](classes, hidden, layers)
        self.out = nn.Linear(hidden, classes)

    def forward(self, ids, state):
        y, state = self.rnn(F.one_hot(ids, self.classes).float(), state)
        return self.out(y).flatten(0, 1), state


def in_streams(ids, batch):
    """Return inputs and targets, (steps, batch): column b reads the b-th part."""
    steps = (len(ids) - 1) // batch
    parts = [ids[shift : shift + steps * batch].reshape(batch, steps).T for shift in (0, 1)]
    return [part.contiguous() for part in parts]


def detached(state):
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def train_epoch(model, optimizer, x, y, seq_len, clip):
    state = None
    for t in range(0, len(x) - seq_len + 1, seq_len):
        logits, state = model(x[t : t + seq_len], state)
        state = detached(state)
        loss = F.cross_entropy(logits, y[t : t + seq_len].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        loss.item()


@torch.inference_mode()
def evaluate(model, x, y, seq_len):
    state, total = None, 0.0
    for t in range(0, len(x), seq_len):
        logits, state = model(x[t : t + seq_len], state)
        total += F.cross_entropy(logits, y[t : t + seq_len].flatten(), reduction="sum").item()
    return total / y.numel()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("--cell", default="lstm", choices=CELLS)
    for name, default in {"hidden": 128, "layers": 2, "seq-len": 50, "batch": 50}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"epochs": 10, "threads": 2, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    text = args.text.read_text(encoding="utf-8")
    vocabulary = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([vocabulary[character] for character in text])
    cut = int(len(ids) * 0.95)
    training, validation = in_streams(ids[:cut], args.batch), in_streams(ids[cut:], args.batch)
    model = Model(args.cell, len(vocabulary), args.hidden, args.layers)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=args.lr, alpha=0.95)
    seconds = []
    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        train_epoch(model, optimizer, *training, args.seq_len, args.clip)
        seconds.append(time.perf_counter() - start)
        if epoch >= 10:
            optimizer.param_groups[0]["lr"] *= 0.97
        loss = evaluate(model, *validation, args.seq_len)
    print(json.dumps({"validation_loss": loss, "seconds_per_epoch": statistics.median(seconds)}))


if __name__ == "__main__":
    main()
