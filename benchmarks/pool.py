"""A pool of streams under load, beside PyTorch and ONNX Runtime driven one session at a time.

    python benchmarks/pool.py [--model GRU|LSTM] [--part PART] [--seconds 2]

The model: one recurrent layer, GRU 40 -> 128 or LSTM 80 -> 256, float32. Every session sends 100
steps a second, one at a time.

latency     Sessions in ten groups, of which one is due each millisecond: so arrivals are spread
            evenly, and each session comes every 10 ms. What is measured, for each group, is the
            time from the moment at which it was *due* (not that at which the driver got round to
            submitting it) to that at which the driver, a thread of Python, has its answer. The
            driver is part of what is measured, and shares the cores with the pool. A number of
            sessions is sustained where the 99.9th percentile, the median of some repetitions,
            stays below 10 ms; the largest is sought by halving. Cores: what the process used;
            stolen: what the host gave to others. The first row is the machine's own noise: how
            late a thread that only sleeps is woken.
required    The same for the number of sessions that is asked for, each repetition a row.
throughput  Steps a second where some groups of sessions are always pending; beside it the offline
            kernel, fastrnn's layer over whole sequences on the same threads; in turns.
others      Steps a second of torch.nn.GRU / LSTM (batch 1, no_grad) and of ONNX Runtime, one
            session after the other, each with its state: in one process, and in as many as there
            are threads. Divided by 100, that is the number of streams which they could serve at
            the most, at no regard to latency.

Prints Markdown. Times are medians over repetitions, with the lowest and the highest.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import statistics
import time

import numpy as np

import fastrnn

MODELS = {"GRU": (40, 128, 5000), "LSTM": (80, 256, 1200)}  # inputs, units, required streams
RATE = 100  # steps a second of each session
GROUPS = 10  # one is due each millisecond
LIMIT = 10  # ms


def layer(name):
    inputs, units, _ = MODELS[name]
    return getattr(fastrnn, name)(inputs, units, seed=0)


def head(*names):
    print(f"| {' | '.join(names)} |\n| --- " + "| ---: " * (len(names) - 1) + "|")


def row(*values):
    print(f"| {' | '.join(map(str, values))} |", flush=True)


def spread(values, form=".2f"):
    """The median, with the lowest and the highest."""
    low, high = format(min(values), form), format(max(values), form)
    return f"{statistics.median(values):{form}} ({low}, {high})"


def percentiles(latencies):
    return np.percentile(np.sort(latencies), (50, 99, 99.9), method="higher")


# --- latency --------------------------------------------------------------------------------------


class Load:
    """Sessions of a pool that send a step each 10 ms."""

    def __init__(self, name, streams, threads):
        inputs = MODELS[name][0]
        self.pool = fastrnn.StreamPool(layer(name), streams, num_threads=threads)
        ahead_of_the_pool()
        ids = np.array([self.pool.open() for _ in range(streams)], np.uint64)
        self.groups = np.array_split(ids, GROUPS)
        rng = np.random.default_rng(0)
        self.x = [rng.standard_normal((len(g), inputs)).astype(np.float32) for g in self.groups]

    def run(self, seconds):
        """Return the latencies of all groups that were due, in seconds.

        One thread: it waits for the oldest answer until the next group is due.
        """
        answers, latencies = collections.deque(), []
        tick = 1 / RATE / GROUPS
        begin, ticks, i = time.perf_counter() + tick, int(seconds / tick), 0
        while i < ticks or answers:
            wait = begin + i * tick - time.perf_counter() if i < ticks else 1
            if wait <= 0:
                group = i % GROUPS
                answer = self.pool.submit_many(self.groups[group], self.x[group])
                answers.append((begin + i * tick, answer))
                i += 1
            elif not answers:
                time.sleep(wait)
            else:
                due, answer = answers[0]
                with contextlib.suppress(TimeoutError):
                    answer.result(wait)
                    latencies.append(time.perf_counter() - due)
                    answers.popleft()
            if len(answers) > 1000:  # a second behind
                ticks = i
        return latencies


def ahead_of_the_pool():
    """With --realtime: the driver, which is short, before the threads of the pool."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))


def stolen():
    """Jiffies that other guests of the host took from this machine, and all."""
    with open("/proc/stat") as file:
        values = [int(v) for v in file.readline().split()[1:]]
    return np.array([values[7], sum(values)])


def try_streams(name, streams, threads, seconds):
    """Return percentiles of the latency in ms, sessions of a pass, cores used, % stolen."""
    load = Load(name, streams, threads)
    with load.pool:
        load.run(0.3)
        before, steal, cpu = load.pool.stats(), stolen(), time.process_time()
        begin = time.perf_counter()
        result = percentiles(load.run(seconds)) * 1e3
        cpu = (time.process_time() - cpu) / (time.perf_counter() - begin)
        after, steal = load.pool.stats(), stolen() - steal
    rows = (after["steps"] - before["steps"]) / (after["batches"] - before["batches"])
    return [*result, rows, cpu, 100 * steal[0] / steal[1]]


def alone(seconds):
    """How late a thread wakes that asks for each millisecond, while nothing else is done."""
    late, steal, due = [], stolen(), time.perf_counter()
    while len(late) < 1000 * seconds:
        due += 1e-3
        time.sleep(max(due - time.perf_counter(), 0))
        late.append(time.perf_counter() - due)
    steal = stolen() - steal
    return [*(percentiles(late) * 1e3), 0, 0, 100 * steal[0] / steal[1]]


def show(streams, rounds):
    """Print a row; return the median of the 99.9th percentile."""
    p50, p99, p999, rows, cores, steal = zip(*rounds, strict=True)
    times = map(spread, (p50, p99, p999))
    row(
        streams,
        *times,
        f"{statistics.median(rows):.0f}",
        spread(cores),
        f"{spread(steal, '.0f')} %",
    )
    return statistics.median(p999)


def required(name, threads, seconds, repetitions):
    """The required number of streams, each repetition a row, those with least stolen first."""
    streams = MODELS[name][2]
    rounds = [try_streams(name, streams, threads, seconds) for _ in range(repetitions)]
    head("streams", "p50 ms", "p99 ms", "p99.9 ms", "cores", "stolen")
    for *times, _, cores, steal in sorted(rounds, key=lambda values: values[-1]):
        row(streams, *(f"{t:.2f}" for t in times), f"{cores:.2f}", f"{steal:.1f} %")
    print()


def latency(name, threads, seconds, repetitions):
    """Look for the largest number of streams that is sustained, from the required one on."""
    head("streams", "p50 ms", "p99 ms", "p99.9 ms", "sessions of a pass", "cores", "stolen")
    show("none", [alone(seconds) for _ in range(repetitions)])
    wanted = streams = MODELS[name][2]
    low, high = 0, None
    while high is None or high - low > wanted // 8:
        rounds = [try_streams(name, streams, threads, seconds) for _ in range(repetitions)]
        good = show(streams, rounds) < LIMIT
        low, high = (streams, high) if good else (low, streams)
        streams = low * 5 // 4 if high is None else (low + high) // 2
    print(f"\n{name}: {low} streams at {RATE} steps/s sustained, {wanted} required\n")


# --- throughput -----------------------------------------------------------------------------------


def pool_rate(load, seconds):
    """Steps a second with all groups pending, each submitted again when it is done."""
    before, begin = load.pool.stats()["steps"], time.perf_counter()
    pending = [load.pool.submit_many(g, x) for g, x in zip(load.groups, load.x, strict=True)]
    i = 0
    while time.perf_counter() - begin < seconds:
        pending[i].result()
        pending[i] = load.pool.submit_many(load.groups[i], load.x[i])
        i = (i + 1) % GROUPS
    rate = (load.pool.stats()["steps"] - before) / (time.perf_counter() - begin)
    for answer in pending:
        answer.result()
    return rate


def offline_rate(model, x, seconds):
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        model(x)
        steps += x.shape[0] * x.shape[1]
    return steps / (time.perf_counter() - begin)


def throughput(name, threads, seconds, repetitions):
    """Both in turns: what a pool does, and what the layer does offline."""
    fastrnn.set_num_threads(threads)
    model = layer(name)
    load = Load(name, MODELS[name][2], threads)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 50, MODELS[name][0])).astype(np.float32)
    rounds = []
    with load.pool:
        for _ in range(repetitions + 1):
            rounds.append((pool_rate(load, seconds), offline_rate(model, x, seconds)))
    ours, offline = zip(*rounds[1:], strict=True)
    head("", "steps/s")
    row("pool", spread(ours, ",.0f"))
    row("offline kernel", spread(offline, ",.0f"))
    row("pool : offline", spread([a / b for a, b in zip(ours, offline, strict=True)]))
    print()


# --- others ---------------------------------------------------------------------------------------


def torch_step(name, sessions):
    """A function that does a step of a session with PyTorch."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    inputs, units, _ = MODELS[name]
    model = getattr(torch.nn, name)(inputs, units, batch_first=True)
    zeros = torch.zeros(1, 1, units)
    states = [(zeros, zeros) if name == "LSTM" else zeros for _ in range(sessions)]
    x = torch.randn(1, 1, inputs)

    def step(session):
        _, states[session] = model(x, states[session])

    return step


def onnx_step(name, sessions):
    """The same with ONNX Runtime."""
    import onnxruntime

    from fastrnn.interop.onnx import export_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = export_model(layer(name)).SerializeToString()
    model = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    x, *state_inputs = (info.name for info in model.get_inputs())
    outputs = [info.name for info in model.get_outputs()]
    inputs, units, _ = MODELS[name]
    states = [[np.zeros((1, 1, units), np.float32) for _ in state_inputs] for _ in range(sessions)]
    values = np.random.default_rng(0).standard_normal((1, 1, inputs)).astype(np.float32)

    def step(session):
        feed = {x: values, **dict(zip(state_inputs, states[session], strict=True))}
        _, *states[session] = model.run(outputs, feed)

    return step


def one_at_a_time(make, name, seconds):
    sessions = MODELS[name][2]
    step = make(name, sessions)
    for session in range(200):
        step(session)
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for _ in range(100):
            step(steps % sessions)
            steps += 1
    return steps / (time.perf_counter() - begin)


def others(name, threads, seconds, repetitions):
    head("", "processes", "steps/s", "streams at 100 steps/s")
    context = multiprocessing.get_context("spawn")
    for what, make in (("PyTorch", torch_step), ("ONNX Runtime", onnx_step)):
        for processes in sorted({1, threads}):
            with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
                rates = []
                for _ in range(repetitions):
                    job = (one_at_a_time, make, name, seconds)
                    jobs = [pool.submit(*job) for _ in range(processes)]
                    rates.append(sum(job.result() for job in jobs))
            row(what, processes, spread(rates, ",.0f"), f"{statistics.median(rates) / RATE:,.0f}")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=MODELS, action="append")
    parts = {"required": required, "latency": latency, "throughput": throughput, "others": others}
    parser.add_argument("--part", choices=parts, action="append")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--realtime", action="store_true", help="before all other processes (root)")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    for name in arguments.model or MODELS:
        inputs, units, _ = MODELS[name]
        print(f"{name} {inputs} -> {units}, {arguments.threads} threads\n")
        for part in arguments.part or parts:
            parts[part](name, arguments.threads, arguments.seconds, arguments.repetitions)


if __name__ == "__main__":
    main()
