"""What is counted and timed: for Prometheus, and the last minute for the page."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
WINDOW = 60  # seconds
PER_OCTAVE = 4  # buckets of the window for each doubling: 19 % wide
LEAST = 1e-5  # seconds: the first bucket's end

STEPS = -1  # beside the buckets, which count from 0

Counts = dict[int, int]
PoolStats = Callable[[], Iterable[tuple[str, dict[str, Any]]]]


class Metrics:
    """The collectors of one server, in a registry of their own.

    Labels take few values: routes are templates, models those that are served.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"namespace": "fastrnn", "registry": self.registry}
        self.requests = Histogram(
            "request_seconds",
            "Time to answer an HTTP request",
            ("route", "model", "status"),
            buckets=SECONDS,
            **make,
        )
        self.messages = Histogram(
            "stream_message_seconds",
            "Time from a stream's message to its answer",
            ("model", "what"),
            buckets=SECONDS,
            **make,
        )
        self.steps = Counter("steps", "Steps computed for clients", ("model",), **make)
        self.rejected = Counter("rejected", "What was turned away", ("reason",), **make)
        self.reloads = Counter("reloads", "Changed model files", ("model", "result"), **make)
        self.errors = Counter("internal_errors", "Errors of the server itself", **make)
        self.at_work = Gauge("at_work", "Requests and streams that the end waits for", **make)
        self.bytes_held = Gauge("held_bytes", "Requests and answers in memory", **make)
        self._recent: dict[str, _Window] = {}
        self._of_messages: dict[tuple[str, str], tuple[Histogram, Counter, _Window]] = {}
        self._batches: deque[list[int]] = deque(maxlen=WINDOW + 1)
        self._pools: PoolStats = tuple

    def watch(self, pools: PoolStats) -> None:
        """Report what `pools` returns at each scrape: names of models and stats of their pools."""
        self._pools = pools
        self.registry.register(_Pools(pools))

    def request(self, route: str, model: str, status: int, seconds: float, steps: int = 0) -> None:
        """Count one answered HTTP request; steps of whole sequences."""
        self.requests.labels(route, model, str(status)).observe(seconds)
        if steps:
            self.steps.labels(model).inc(steps)
            self._window("infer").add(seconds, steps)

    def message(self, model: str, seconds: float, steps: int, what: str = "stream") -> None:
        """Count one answered message: of a "stream", or what another kind of route calls it."""
        found = self._of_messages.get((model, what))
        if found is None:  # labels() takes longer than all the rest
            found = self.messages.labels(model, what), self.steps.labels(model), self._window(what)
            self._of_messages[model, what] = found
        latency, counter, window = found
        latency.observe(seconds)
        counter.inc(steps)
        window.add(seconds, steps)

    def reject(self, reason: str) -> None:
        """Count what was turned away: "unauthorized", "too_large", "busy", "quota", ..."""
        self.rejected.labels(reason).inc()

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)

    def recent(self) -> dict[str, dict[str, Any]]:
        """Return what `_Window.summary` says of the last minute: of "infer", "stream", ..."""
        return {what: window.summary() for what, window in self._recent.items()}

    def sample(self) -> None:
        """Note what pools have done so far: to be called once a second."""
        sizes = [stats["batch_sizes"] for _, stats in self._pools()]
        self._batches.append([sum(column) for column in zip_longest(*sizes, fillvalue=0)])

    def recent_batches(self) -> list[int]:
        """Return how many passes of the last minute 1, 2, 3-4, 5-8, ... sessions shared."""
        if not self._batches:
            return []
        pairs = zip_longest(self._batches[-1], self._batches[0], fillvalue=0)
        return [now - then for now, then in pairs]

    def _window(self, what: str) -> _Window:
        return self._recent.setdefault(what, _Window())


class _Window:
    """Latencies of the last minute: counts by logarithm, for each second; and steps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[int, Counts] = {}

    def add(self, seconds: float, steps: int) -> None:
        now = int(self._clock())
        counts = self._seconds.get(now)
        if counts is None:
            counts = self._seconds[now] = {}
            for old in [second for second in self._seconds if second <= now - WINDOW]:
                del self._seconds[old]
        counts[STEPS] = counts.get(STEPS, 0) + steps
        bucket = max(0, math.ceil(PER_OCTAVE * math.log2(max(seconds, LEAST) / LEAST)))
        counts[bucket] = counts.get(bucket, 0) + 1

    def summary(self) -> dict[str, Any]:
        """Return the numbers of answers and steps, and percentiles of latency in milliseconds."""
        oldest = int(self._clock()) - WINDOW
        counts: Counts = {}
        for second, buckets in self._seconds.items():
            if second > oldest:
                for bucket, count in buckets.items():
                    counts[bucket] = counts.get(bucket, 0) + count
        steps = counts.pop(STEPS, 0)
        total = sum(counts.values())
        percentiles = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}
        return {"count": total, "steps": steps} | {
            name: _percentile(counts, total, part) for name, part in percentiles.items()
        }


def _percentile(counts: dict[int, int], total: int, part: float) -> float | None:
    """Return the end of the bucket that a part of all lies in, in milliseconds."""
    below = 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= part * total:
            return float(f"{1000 * LEAST * 2 ** (bucket / PER_OCTAVE):.4g}")
    return None


class _Pools(Collector):
    """Sessions, queues and batches, asked for when Prometheus asks."""

    def __init__(self, pools: PoolStats) -> None:
        self._stats = pools

    def describe(self) -> list[Metric]:
        """Return nothing: names are known only when collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        sessions = GaugeMetricFamily("fastrnn_sessions", "Open sessions", labels=["model"])
        pending = GaugeMetricFamily("fastrnn_pending_steps", "Steps that wait", labels=["model"])
        steps = CounterMetricFamily("fastrnn_pool_steps", "Steps of streams", labels=["model"])
        sizes = HistogramMetricFamily(
            "fastrnn_batch_size", "Sessions that shared a step", labels=["model"]
        )
        for model, stats in self._stats():
            sessions.add_metric([model], stats["sessions"])
            pending.add_metric([model], stats["pending_steps"])
            steps.add_metric([model], stats["steps"])
            buckets, count = [], 0
            for power, batches in enumerate(stats["batch_sizes"]):
                count += batches
                buckets.append((str(float(2**power)), count))
            buckets.append(("+Inf", count))
            sizes.add_metric([model], buckets, sum_value=stats["steps"])
        yield from (sessions, pending, steps, sizes)
