"""Data-parallel training with PyTorch: several processes, several machines
=========================================================================

``accelerate`` exchanges the LSTM of a PyTorch model for fastrnn's; ``DistributedDataParallel`` does
the rest, as it always does. Each process computes its share of every batch, so the losses are those
of one process with the whole batch::

    python examples/torch_ddp.py                                     (one process; needs torch)
    python -m torch.distributed.run --nproc-per-node 2 examples/torch_ddp.py

On several machines, the same command on each; the first of them is called ``host`` here::

    python -m torch.distributed.run --nnodes 2 --nproc-per-node 1 \\
        --rdzv-id 1 --rdzv-backend c10d --rdzv-endpoint host:29500 examples/torch_ddp.py

The task: of 40 numbers two are marked; what is their sum?
"""

import argparse
import json
import os
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fastrnn.interop.torch import accelerate


class Adder(nn.Module):
    def __init__(self, hidden: int = 64):
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])[:, 0]


def make_batch(step: int, batch: int, steps: int = 40):
    """Return numbers and marks (batch, steps, 2), and sums (batch,): the same in all processes."""
    generator = torch.Generator().manual_seed(step)
    numbers = torch.rand(batch, steps, generator=generator)
    marked = torch.rand(batch, steps, generator=generator).topk(2).indices
    marks = torch.zeros(batch, steps).scatter(1, marked, 1.0)
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(1)


def train(steps: int, batch: int, accelerated: bool = True) -> list[float]:
    """Train in the process group there is, if there is one; return the loss of each step."""
    torch.manual_seed(0)
    model = Adder()
    if accelerated:
        accelerate(model)
    rank, world = 0, 1
    if distributed.is_initialized():
        model = DistributedDataParallel(model)
        rank, world = distributed.get_rank(), distributed.get_world_size()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        x, y = make_batch(step, batch)
        mine = slice(rank, None, world)  # shares of the same size, so that means can be averaged
        loss = nn.functional.mse_loss(model(x[mine]), y[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach()
        if world > 1:
            distributed.all_reduce(mean)
        losses.append(mean.item() / world)
    return losses


def main(steps: int = 200, batch: int = 64, out: str | None = None) -> list[float]:
    """Train on as many processes as torch.distributed.run has started."""
    # Processes of one machine share its cores; fastrnn takes as many threads as torch.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    losses = train(steps, batch)
    first = int(os.environ.get("RANK", "0")) == 0
    if first:
        for step in range(0, steps, max(1, steps // 8)):
            print(f"step {step:3}: loss {losses[step]:.4f}")
    if first and out is not None:
        Path(out).write_text(json.dumps(losses), encoding="utf-8")
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--out", help="a file for the losses, as JSON")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch, arguments.out)
