"""How much memory the layers keep and use: what is promised in docs/design.md, "Memory"."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastrnn import _core
from recurrent_cases import CELLS, DTYPES, Case

KEPT = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 5, "gru": 4, "gru_original": 3}  # H per row and step


def kept_values(case, checkpoint_every=0):
    """What the layers of a forward pass of training keep, beside their outputs."""
    layer, data = case.layer(), case.data()
    call = layer._batched(data.x, None, data.lengths)
    tapes = layer._forward(call, checkpoint_every, True)[3]
    return sum(tape.core.cache_bytes for tape in tapes) / np.dtype(case.dtype).itemsize


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_training_keeps_gates_of_real_steps(cell, dtype):
    case = Case(cell, dtype, steps=9, batch=3, hidden_size=7)
    assert kept_values(case) == KEPT[cell] * 7 * 9 * 3
    case = Case(cell, dtype, steps=9, batch=3, hidden_size=7, lengths=(9, 0, 2))
    assert kept_values(case) == KEPT[cell] * 7 * 11
    case = Case(cell, dtype, steps=9, batch=3, hidden_size=7, num_layers=2, bidirectional=True)
    assert kept_values(case) == KEPT[cell] * 7 * 9 * 3 * 4


@pytest.mark.parametrize("every", [1, 4, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_training_with_checkpoints_keeps_cell_states(cell, every):
    case = Case(cell, steps=9, batch=3, hidden_size=7)
    windows = {1: 9, 4: 3, 9: 1}[every]
    assert kept_values(case, every) == (7 * 3 * windows if cell == "lstm" else 0)


def scratch_bytes(case, checkpoint_every=None, training=True):
    """The scratch that a call takes, in a thread that has none yet."""

    def use():
        layer, data = case.layer(), case.data()
        if training:
            (y, _), pullback = layer.vjp(data.x, checkpoint_every=checkpoint_every)
            pullback(y)
        else:
            layer(data.x)
        return _core.scratch_bytes()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(use).result()


# Scratch has a part that no row or step adds to, 8 bytes a step to number them, and pieces of whole
# cache lines. These cases have more rows than that first part covers.
STEP = 8
LINES = 64 * 64
POINTERS = 20 * 8  # of a row


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_scratch_does_not_grow_with_steps(cell, training, set_num_threads):
    set_num_threads(1)
    few, many = (
        scratch_bytes(Case(cell, steps=steps, batch=64, hidden_size=32), None, training)
        for steps in (50, 250)
    )
    assert 0 < few <= many <= few + 200 * STEP + LINES


@pytest.mark.parametrize("cell", CELLS)
def test_scratch_of_inference_is_some_states_per_row(cell, set_num_threads):
    set_num_threads(1)
    H = 64
    few, many = (
        scratch_bytes(Case(cell, steps=4, batch=batch, hidden_size=H), training=False)
        for batch in (1200, 2400)
    )
    assert 0 < few <= many <= few + 1200 * (6 * H * 4 + POINTERS) + LINES


@pytest.mark.parametrize("cell", CELLS)
def test_scratch_of_checkpointed_training_is_a_window(cell, set_num_threads):
    set_num_threads(1)
    B, H = 64, 32
    plain, few, many = (
        scratch_bytes(Case(cell, steps=250, batch=B, hidden_size=H), every)
        for every in (None, 50, 100)
    )
    window = 50 * B * KEPT[cell] * H * 4
    assert plain <= few
    assert few + window <= many + LINES
    assert many <= few + window + LINES


PEAK = """
    import numpy as np
    import fastrnn

    def status(name):  # MiB; the peak in getrusage may be that of the process before it
        lines = dict(line.split(":") for line in open("/proc/self/status"))
        return int(lines[name].split()[0]) / 1024

    T, B, H, every = {T}, {B}, {H}, {every}
    fastrnn.set_num_threads(1)
    layer = fastrnn.LSTM(1, H, seed=1)
    x, dy = np.ones((T, B, 1), np.float32), np.ones((T, B, H), np.float32)
    (y, _), pullback = layer.vjp(x[:9], checkpoint_every=every)
    pullback(dy[:9])
    layer(x[:9])
    before = status("VmRSS")
    if {training}:
        (y, _), pullback = layer.vjp(x, checkpoint_every=every)
        pullback(dy)
    else:
        y, _ = layer(x)
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("training", "every", "outputs"), [(False, None, 1), (True, None, 6), (True, 60, 1.15)]
)
def test_peak_of_a_large_case(training, every, outputs):
    """In units of the output y, 31 MiB here: inference y alone, training y and 5 times as much,
    with checkpoints y, 1/60 for c, and gates of 60 steps of 4000. Some MiB are the rest."""
    program = PEAK.format(T=4000, B=32, H=64, every=every, training=training)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    used, y = float(result.stdout), 4000 * 32 * 64 * 4 / 2**20
    assert 0.9 * y < used < outputs * y + 12
