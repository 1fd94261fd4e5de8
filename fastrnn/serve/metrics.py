"""What is counted and timed: for Prometheus, and the last minute for the page."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
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
            ("model",),
            buckets=SECONDS,
            **make,
        )
        self.steps = Counter("steps", "Steps computed for clients", ("model",), **make)
        self.rejected = Counter("rejected", "What was turned away", ("reason",), **make)
        self.reloads = Counter("reloads", "Changed model files", ("model", "result"), **make)
        self.errors = Counter("internal_errors", "Errors of the server itself", **make)
        self._recent: dict[str, _Window] = {}
        self._batches: dict[str, deque[list[int]]] = {}
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
            self._window(model).add(seconds)

    def message(self, model: str, seconds: float, steps: int) -> None:
        """Count one answered message of a stream."""
        self.messages.labels(model).observe(seconds)
        self.steps.labels(model).inc(steps)
        self._window(model).add(seconds)

    def reject(self, reason: str) -> None:
        """Count what was turned away: "unauthorized", "too_large", "busy", "quota", ..."""
        self.rejected.labels(reason).inc()

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)

    def recent(self, model: str) -> dict[str, Any]:
        """Return what `_Window.summary` says of a model's last minute."""
        return self._recent.get(model, _Window()).summary()

    def sample(self) -> None:
        """Note what pools have done so far: to be called once a second."""
        for model, stats in self._pools():
            samples = self._batches.setdefault(model, deque(maxlen=WINDOW + 1))
            samples.append(stats["batch_sizes"])

    def recent_batches(self, model: str) -> list[int]:
        """Return the numbers of steps of the last minute by how many sessions shared them.

        The first entry is of those of one session, the next of 2, then 3 to 4, 5 to 8, ...
        """
        samples = self._batches.get(model)
        if not samples:
            return []
        first, last = samples[0], samples[-1]
        before = [*first, *[0] * (len(last) - len(first))]
        return [now - then for now, then in zip(last, before, strict=True)]

    def _window(self, model: str) -> _Window:
        return self._recent.setdefault(model, _Window())


class _Window:
    """Latencies of the last minute: counts by logarithm, for each second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[int, dict[int, int]] = {}

    def add(self, seconds: float) -> None:
        now = int(self._clock())
        counts = self._seconds.get(now)
        if counts is None:
            counts = self._seconds[now] = {}
            for old in [second for second in self._seconds if second <= now - WINDOW]:
                del self._seconds[old]
        bucket = max(0, math.ceil(PER_OCTAVE * math.log2(max(seconds, LEAST) / LEAST)))
        counts[bucket] = counts.get(bucket, 0) + 1

    def summary(self) -> dict[str, Any]:
        """Return the number of answers and percentiles of their latency in milliseconds."""
        oldest = int(self._clock()) - WINDOW
        counts: dict[int, int] = {}
        for second, buckets in self._seconds.items():
            if second > oldest:
                for bucket, count in buckets.items():
                    counts[bucket] = counts.get(bucket, 0) + count
        total = sum(counts.values())
        percentiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        return {"answers": total} | {
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
