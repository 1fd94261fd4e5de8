"""Recurrent layers over the grid of `fastrnn bench`: time, memory and share of the limit."""

import statistics
import time

from .work import CASES, THREADS, names, use_threads, work_of


class _Timed:
    """Time of a call (asv takes the median of what it repeats)."""

    param_names = ("case", "threads")
    repeat = (3, 20, 1.0)
    warmup_time = 0.1
    sample_time = 0.02
    timeout = 300

    def setup(self, name, threads):
        use_threads(threads)
        self.work = work_of(CASES[name])
        self.work()

    def time_call(self, name, threads):
        self.work()


class Inference(_Timed):
    params = (names("inference"), THREADS)


class Step(_Timed):
    params = (names("step"), THREADS)


class Training(_Timed):
    params = (names("training"), THREADS)


class Memory:
    """Peak of the whole process, interpreter, inputs and outputs included."""

    param_names = ("case",)
    params = (names("inference", "training"),)
    timeout = 300

    def setup(self, name):
        use_threads(1)
        self.work = work_of(CASES[name])

    def peakmem_call(self, name):
        self.work()


class Limit:
    """Share of the limit that `fastrnn.bench.limits` gives the case on this machine, 0 to 1."""

    param_names = ("case", "threads")
    params = (list(CASES), THREADS)
    unit = "of the limit"
    timeout = 300

    def setup_cache(self):
        """Measure the machine once for each commit; None where the commit cannot."""
        machines = {}
        for threads in THREADS:
            try:
                from fastrnn.bench import limits

                use_threads(threads)
                machines[threads] = limits.measure(threads).as_dict()
            except (ImportError, NotImplementedError):
                machines[threads] = None
        return machines

    def setup(self, machines, name, threads):
        if machines[threads] is None:
            raise NotImplementedError(f"the machine was not measured with {threads} threads")
        use_threads(threads)
        self.work = work_of(CASES[name])
        self.work()

    def track_fraction_of_limit(self, machines, name, threads):
        from fastrnn.bench import limits

        limit = limits.case_seconds(CASES[name], limits.Machine.from_dict(machines[threads]))
        return limit / _median_seconds(self.work)


def _median_seconds(work, budget=0.5, least=3):
    """Return the median time of a call over `budget` seconds, of batches that a clock can tell."""
    start = time.perf_counter()
    work()
    calls = max(1, int(1e-3 / (time.perf_counter() - start)))
    times = []
    end = time.perf_counter() + budget
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)
