"""Layers among Python threads, forked processes, signals and imports (promise 3).

Nothing here measures time: a timeout only turns what would hang for ever into a failure.
"""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from recurrent_cases import CELLS, Case, assert_same_bits, infer, run

# Whole batches, few rows over several groups of units, and both directions with lengths.
CASES = [
    Case(steps=20, batch=33, input_size=8, hidden_size=32),
    Case(steps=20, batch=1, input_size=8, hidden_size=130),
    Case(steps=9, batch=4, hidden_size=33, num_layers=2, bidirectional=True, lengths=(9, 0, 4, 7)),
]
SHORT_OF_FOR_EVER = 600  # seconds

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are POSIX")


def run_python(program, *, sees_tests=True):
    """Run a program in a process of its own; its standard output."""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" if sees_tests else ""
    result = subprocess.run(
        [sys.executable, "-c", path + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=SHORT_OF_FOR_EVER,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# ------------------------------------------------------------------------------------ threads


def use(case, layer):
    """Inference and training; frozen weights, because adding to one gradient is not shared."""
    data = case.data()
    got = run(case, layer, data)
    return infer(case, layer, data) | {n: a for n, a in got.items() if not n.startswith("grad")}


def frozen_layer(case):
    layer = case.layer()
    for parameter in layer.parameters().values():
        parameter.requires_grad = False
    return layer


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_one_layer_in_many_threads_at_once(cell, num_threads, set_num_threads):
    set_num_threads(num_threads)
    for case in CASES:
        case = Case(**{**vars(case), "cell": cell})
        want = use(case, frozen_layer(case))
        layer = frozen_layer(case)  # not yet prepared: the threads meet there, too
        with ThreadPoolExecutor(6) as pool:
            for got in pool.map(lambda _, case=case, layer=layer: use(case, layer), range(12)):
                assert_same_bits(got, want)


@pytest.mark.parametrize("hidden_size", [3, 200])
def test_one_layer_steps_in_many_threads_at_once(hidden_size):
    """Small steps keep the interpreter lock, large ones let it go."""
    case = Case(steps=30, batch=1, hidden_size=hidden_size, num_layers=2)
    layer, data = case.layer(), case.data()
    want = infer(case, layer, data)

    def stream(_):
        outputs, state = [], data.state
        for x_t in data.x:
            y_t, state = layer.step(x_t, state)
            outputs.append(y_t)
        return {"y": np.stack(outputs), "last h": state[0], "last c": state[1]}

    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(stream, range(12)):
            assert_same_bits(got, want)


def test_number_of_threads_may_change_meanwhile(set_num_threads):
    case = CASES[0]
    layer = frozen_layer(case)
    want = use(case, layer)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(use, case, layer) for _ in range(10)]
        for i in range(60):
            set_num_threads(1 + i % 3)
        for result in results:
            assert_same_bits(result.result(), want)


def test_other_python_threads_run_during_a_call(set_num_threads):
    """A call of some tenths of a second, while the main thread counts milliseconds."""
    set_num_threads(1)
    layer = fastrnn.LSTM(1, 64, seed=1)
    x = np.zeros((100_000, 1, 1), np.float32)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (layer(x), done.set()))
    thread.start()
    ticks = 0
    while not done.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks >= 5


# --------------------------------------------------------------------------------------- fork

FORK = """
    import os, signal, sys, warnings
    import fastrnn
    from recurrent_cases import assert_same_bits, run
    from test_threads_and_processes import CASES

    warnings.simplefilter("ignore")  # Python 3.12 warns about fork in a process with threads
    fastrnn.set_num_threads({before})

    def use():
        return [run(case, case.layer(), case.data()) for case in CASES]

    want = use()

    def check():
        fastrnn.set_num_threads({after})
        for got, expected in zip(use(), want, strict=True):
            assert_same_bits(got, expected)

    def in_child(function):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that hangs is ended, and so is no success
            code = 1
            try:
                function()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status == 0, status

    in_child(check)
    in_child(lambda: in_child(check))
    check()
    in_child(check)
    print("right")
"""


@posix
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (3, 3), (1, 2), (3, 1)])
def test_fork_after_use(before, after):
    """Children, their children, and the parent afterwards compute right, and none hangs."""
    assert "right" in run_python(FORK.format(before=before, after=after))


@posix
def test_fork_while_another_thread_computes():
    program = """
        import os, signal, threading, warnings
        import fastrnn
        from recurrent_cases import assert_same_bits, run
        from test_threads_and_processes import CASES

        warnings.simplefilter("ignore")
        fastrnn.set_num_threads(2)
        case = CASES[0]
        want = run(case, case.layer(), case.data())
        stop = threading.Event()

        def work():
            while not stop.is_set():
                run(case, case.layer(), case.data())

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                code = 1
                try:
                    assert_same_bits(run(case, case.layer(), case.data()), want)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        thread.join()
        print("right")
    """
    assert "right" in run_python(program)


@posix
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_pool(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
            import multiprocessing, sys, warnings
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import fastrnn
            from bits_of_everything import hashes_of

            if __name__ == "__main__":
                warnings.simplefilter("ignore")
                fastrnn.set_num_threads(2)
                group = "gru-float32"
                want = hashes_of(group)
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    assert pool.map(hashes_of, [group] * 4) == [want] * 4
                print("right")
        """)
    )
    result = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=SHORT_OF_FOR_EVER
    )
    assert result.stdout.strip() == "right", result.stderr


# ------------------------------------------------------------------------------------- Ctrl-C

# Sends this process a Ctrl-C once it is inside a call of compiled code: the main thread's Python
# frame stands still while the processor time grows. Processor time alone counts, also for ending a
# call that goes on regardless, so it does not matter what else the machine does. A process that was
# started in the background ignores Ctrl-C, and hands that down.
CTRL_C_INSIDE_A_CALL = """
    import os, resource, signal, sys, threading, time

    signal.signal(signal.SIGINT, signal.default_int_handler)

    def ctrl_c_inside_a_call(seconds=0.2, main=threading.get_ident()):
        place, since = None, 0.0
        while True:
            time.sleep(0.005)
            frame, now = sys._current_frames()[main], time.process_time()
            if (frame, frame.f_lasti) != place:
                place, since = (frame, frame.f_lasti), now
            elif now - since > seconds:
                most = int(now) + 20
                resource.setrlimit(resource.RLIMIT_CPU, (most, most))
                return os.kill(os.getpid(), signal.SIGINT)
"""
# Much work each; pages of the arrays that are not reached cost nothing.
LONG_CALLS = {
    "inference": "layer(x)",
    "inference_of_a_batch": "layer(np.broadcast_to(np.float32(0.1), (4000, 256, 1)))",
    "inference_of_tokens": "layer(np.zeros((100_000, 1), np.uint8))",
    "inference_of_both_directions": "layer(x)",
    "inference_of_a_stack": "fastrnn.LSTM(1, 64, 3)(np.zeros((4_000_000, 1, 1), np.float32))",
    "inference_of_a_stack_of_many_rows": "fastrnn.GRU(1, 64, 3)(np.zeros((40_000, 100, 1), 'f4'))",
    "training": "layer.vjp(x[:50_000])",
}
INTERRUPTED = """
    import numpy as np
    import fastrnn

    fastrnn.set_num_threads({num_threads})
    layer = fastrnn.LSTM(1, 1024, bidirectional={bidirectional}, seed=1)
    x = np.broadcast_to(np.float32(0.1), (100_000, 1, 1))
    layer.vjp(x[:3])  # packs the weights
    want = layer(x[:3])[0]
    threading.Thread(target=ctrl_c_inside_a_call, daemon=True).start()
    try:
        {call}
    except KeyboardInterrupt:
        assert np.array_equal(layer(x[:3])[0], want)  # of use as before
        print("interrupted")
    else:
        print("finished")
"""


def run_interrupted(program):
    """Run a program that sends itself a Ctrl-C; what it said."""
    return run_python(textwrap.dedent(CTRL_C_INSIDE_A_CALL) + textwrap.dedent(program)).strip()


@posix
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("call", LONG_CALLS)
def test_ctrl_c_ends_a_long_call(call, num_threads):
    program = INTERRUPTED.format(
        call=LONG_CALLS[call],
        num_threads=num_threads,
        bidirectional=call == "inference_of_both_directions",
    )
    assert run_interrupted(program) == "interrupted"


CTC_INTERRUPTED = """
    import numpy as np
    from fastrnn import decoding, losses

    threading.Thread(target=ctrl_c_inside_a_call, daemon=True).start()
    try:
        {call}
    except KeyboardInterrupt:
        assert losses.ctc_loss(np.zeros((2, 1, 2)), [[1]], reduction="sum")[0] > 0
        print("interrupted")
    else:
        print("finished")
"""


@posix
@pytest.mark.parametrize(
    "call",
    [
        "losses.ctc_loss(np.zeros((2000, 5000, 2)), np.ones((5000, 500), int))",
        "decoding.ctc_prefix_beam_search(np.zeros((100_000, 1, 50)), beam_width=1000)",
    ],
)
def test_ctrl_c_ends_a_long_ctc_call(call):
    assert run_interrupted(CTC_INTERRUPTED.format(call=call)) == "interrupted"


@posix
def test_signal_handler_may_use_layers(set_num_threads):
    """A handler runs in the middle of a long call, in its thread, and may call layers itself."""
    set_num_threads(1)
    case = Case(steps=100_000, batch=1, input_size=2, hidden_size=64)
    layer, data = case.layer(), case.data()
    small = Case("gru", batch=5, hidden_size=40)
    want, want_small = infer(case, layer, data), run(small, small.layer(), small.data())
    in_handler = []

    def handle(*_):
        in_handler.append(run(small, small.layer(), small.data()))

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        for _ in range(3):
            assert_same_bits(infer(case, layer, data), want)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert in_handler
    for got in in_handler:
        assert_same_bits(got, want_small)


@posix
def test_ctrl_c_during_pullback_leaves_gradients_whole():
    """Interrupted inside: nothing was added. Or just after it: all was."""
    program = """
        import numpy as np
        import fastrnn

        layer = fastrnn.LSTM(1, 512, num_layers=2, seed=1)
        x = np.full((400, 1, 1), 0.1, np.float32)
        (y, state), pullback = layer.vjp(x)
        pullback(y)
        want = {name: p.grad for name, p in layer.parameters().items()}
        threading.Thread(target=ctrl_c_inside_a_call, args=(0.05,), daemon=True).start()
        try:
            while True:
                layer.zero_grad()
                pullback(y)
        except KeyboardInterrupt:
            grads = {name: p.grad for name, p in layer.parameters().items()}
            none = all(g is None or not g.any() for g in grads.values())
            assert none or all(np.array_equal(grads[name], want[name]) for name in want)
            layer.zero_grad()
            pullback(y)
            assert all(np.array_equal(p.grad, want[n]) for n, p in layer.parameters().items())
            print("interrupted")
    """
    assert run_interrupted(program) == "interrupted"


# ------------------------------------------------------------------------------------- import


def test_import_brings_only_numpy():
    """What is heavy or optional is imported by who uses it."""
    program = """
        import sys
        import fastrnn
        loaded = {name.partition(".")[0] for name in sys.modules}
        heavy = {"torch", "scipy", "safetensors", "tqdm", "tensorflow", "keras", "onnx", "jax"}
        heavy |= {"pandas", "sklearn", "matplotlib", "multiprocessing", "mpmath", "hypothesis"}
        print(sorted(loaded & heavy))
    """
    assert run_python(program, sees_tests=False).strip() == "[]"
