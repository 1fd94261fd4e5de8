"""PyTorch's modules beside themselves accelerated, in turns: the time of calls through the module.

    python benchmarks/interop_torch.py [--threads 2] [--seconds 1] [--only streaming]

Training is a forward pass and all gradients, that of the input included; the rest runs in inference
mode. Prints, per case, the median times with quartiles and PyTorch's median divided by fastrnn's;
before, the outputs are compared. At the end: the median of the ratios of each group.
"""

import argparse
import copy
import statistics

import torch
from pairs import in_turns, show, show_head
from torch import nn

from fastrnn.bench.peers.base import Program
from fastrnn.interop.torch import accelerate

# Cell, T, B, I, H, layers, directions.
TRAINING = [
    (200, 1, 64, 256, 1, 1),
    (100, 16, 256, 256, 1, 2),
    (35, 20, 650, 650, 2, 1),
    (50, 32, 64, 128, 1, 1),
    (100, 32, 16, 64, 1, 1),
    (64, 50, 65, 128, 2, 1),
    (100, 64, 128, 256, 2, 1),
    (50, 128, 512, 512, 1, 1),
]
BATCH_1 = [
    (1, 1, 64, 64, 1, 1),
    (1, 1, 128, 256, 1, 1),
    (1, 1, 512, 512, 1, 1),
    (1, 1, 1024, 1024, 1, 1),
    (100, 1, 64, 128, 1, 1),
    (100, 1, 128, 256, 1, 1),
    (100, 1, 512, 512, 1, 1),
    (100, 1, 1024, 1024, 1, 1),
    (1000, 1, 40, 64, 2, 1),
]
STEPS = [(1, 1, H, H, 1, 1) for H in (64, 256, 512)]
GROUPS = {
    "gru-training": [("GRU", *shape) for shape in TRAINING],
    "lstm-training": [("LSTM", *shape) for shape in TRAINING],
    "lstm-batch-1": [("LSTM", *shape) for shape in BATCH_1],
    "streaming": [(cell, *shape) for cell in ("LSTMCell", "GRUCell", "RNNCell") for shape in STEPS],
}


def modules(cell, inputs, hidden, layers, directions):
    """The same module twice, the second accelerated."""
    torch.manual_seed(0)
    options = (layers,) if not cell.endswith("Cell") else ()
    named = {"bidirectional": True} if directions == 2 else {}
    module = getattr(nn, cell)(inputs, hidden, *options, **named)
    fast = copy.deepcopy(module)
    accelerate(fast)
    return {"torch": module, "fastrnn": fast}


def training(module, x):
    x = x.clone().requires_grad_()
    dy = torch.randn_like(module(x)[0])

    def run():
        module.zero_grad(set_to_none=True)
        x.grad = None
        y = module(x)[0]
        y.backward(dy)
        return y

    return Program(run, lambda y: {"y": y})


def inference(module, x):
    def run():
        return module(x)[0]

    return Program(run, lambda y: {"y": y})


def streaming(module, x):
    """One step after another, each from the state that the last has left."""
    pair = isinstance(module, nn.LSTMCell)
    zeros = torch.zeros(1, module.hidden_size)
    state = (zeros, zeros) if pair else zeros

    def run():
        nonlocal state
        state = module(x, state)
        return state

    return Program(run, lambda state: {"y": state[0] if pair else state})


def compare(group, case, seconds):
    """Time both; return their summaries and the largest difference of the outputs."""
    cell, T, B, inputs, hidden, layers, directions = case
    x = torch.randn(T, B, inputs, generator=torch.Generator().manual_seed(1))
    prepare = training if "training" in group else inference
    if group == "streaming":
        prepare, x = streaming, x[0]
    with torch.inference_mode("training" not in group):
        programs = {
            name: prepare(module, x)
            for name, module in modules(cell, inputs, hidden, layers, directions).items()
        }
        first = [program.arrays(program.run())["y"] for program in programs.values()]
        difference = (first[0] - first[1]).abs().max().item()
        summaries = in_turns(programs, seconds)
    return summaries, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case")
    parser.add_argument("--only", choices=GROUPS, action="append", help="some of the groups")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)  # fastrnn follows
    print(f"torch {torch.__version__}, {arguments.threads} threads; microseconds a call")
    show_head("torch")
    for group in arguments.only or GROUPS:
        print(group)
        ratios = [show(case, *compare(group, case, arguments.seconds)) for case in GROUPS[group]]
        print(f"  median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
