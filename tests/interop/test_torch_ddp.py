"""Training in several processes by PyTorch's own means, around fastrnn's layers."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, nn  # noqa: E402

from fastrnn.interop import torch as fast  # noqa: E402
from torch_cases import results  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_ddp.py"
STEPS, BATCH = 12, 16
SECONDS = 120  # a process that waits for another one for longer is killed

# Two halves of a batch are added in another order than the whole, and Adam divides small gradients
# by their size.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE), run_name="example")


@pytest.fixture(scope="module")
def expected(example):
    """The losses of torch alone, in one process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield example["train"](STEPS, BATCH, accelerated=False)
    torch.set_num_threads(before)


def assert_same_curve(got, expected):
    assert len(got) == STEPS
    torch.testing.assert_close(got, expected, rtol=TOLERANCE, atol=0)


def test_one_process(example, expected):
    assert expected[-1] < expected[0] / 2
    assert_same_curve(example["train"](STEPS, BATCH), expected)


def test_two_processes_of_torchrun(tmp_path, expected):
    out = tmp_path / "losses.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0"]
    command += [str(EXAMPLE), "--steps", str(STEPS), "--batch", str(BATCH), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    done = subprocess.run(
        command, env=environment, timeout=SECONDS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step   0: loss ") == 1  # of the first process alone
    assert_same_curve(json.loads(out.read_text(encoding="utf-8")), expected)


def loopback():
    return "lo0" if sys.platform == "darwin" else "lo"


@pytest.fixture
def loopback_only(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", loopback())


def share(rank, example, folder):
    torch.set_num_threads(1)  # what GNU OpenMP can do in a forked process, and 2 cores bear
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    losses = example["train"](STEPS, BATCH)
    Path(folder, f"{rank}.json").write_text(json.dumps(losses), encoding="utf-8")
    distributed.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking a process with threads
def test_two_forked_processes(example, expected, tmp_path, loopback_only):
    torch.set_num_threads(2)
    results(fast.LSTM(64, 64), torch.ones(20, 32, 64))  # the parent's threads are at work
    context = torch.multiprocessing.start_processes(
        share, (example, str(tmp_path)), nprocs=2, start_method="fork", join=False
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not context.join(timeout=deadline - time.monotonic()):
            assert time.monotonic() < deadline
    finally:
        for process in context.processes:
            process.kill()
    for rank in (0, 1):
        assert_same_curve(json.loads((tmp_path / f"{rank}.json").read_text()), expected)


@pytest.fixture
def group_of_one(tmp_path, loopback_only):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model[0], mesh=init_device_mesh("cpu", (1,))) and model


WRAPPERS = {"ddp": nn.parallel.DistributedDataParallel, "fully_shard": sharded}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_wrapped_before_or_after(group_of_one, wrapper, order):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.GRU(3, 4), Last(), nn.Linear(4, 2)), torch.randn(5, 2, 3)
    before = results(model, x)
    if order == "before":
        fast.accelerate(model)
        model = WRAPPERS[wrapper](model)
    else:
        model = WRAPPERS[wrapper](model)
        assert len(fast.accelerate(model).replaced) == 1
    assert sum(isinstance(module, fast.GRU) for module in model.modules()) == 1
    for got, value in zip(results(model, x), before, strict=True):
        full = got.full_tensor() if hasattr(got, "full_tensor") else got
        torch.testing.assert_close(full, value)
    if order == "after":
        assert len(fast.restore(model).replaced) == 1
        assert not any(isinstance(module, fast.GRU) for module in model.modules())


class Last(nn.Module):
    def forward(self, outputs):
        return outputs[0][-1]
