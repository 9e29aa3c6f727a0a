"""The hub's figures for Prometheus, read where they are counted whenever somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gapless.hub.hub import Hub
from gapless.servers.memo import Memos
from gapless.servers.meter import BUCKETS, OK, Meter

Counts = Callable[[], Mapping[str, int]]


class Figures(Collector):
    """Reads the figures; `connections` by door and `restarts` by plugin are asked for."""

    def __init__(
        self, hub: Hub, meter: Meter, memos: Memos, connections: Counts, restarts: Counts
    ) -> None:
        self._hub = hub
        self._meter = meter
        self._memos = memos
        self._connections = connections
        self._restarts = restarts

    def registered(self) -> CollectorRegistry:
        """Return a registry of its own with these figures."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are told by `collect`."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield all figures as they are now."""
        yield from self._requests()
        yield self._latency()
        upstream = CounterMetricFamily(
            "gapless_upstream_requests", "Requests sent upstream.", labels=("provider", "result")
        )
        for (provider, result), count in sorted(self._meter.upstream.items()):
            upstream.add_metric((provider, result), count)
        yield upstream
        points = CounterMetricFamily(
            "gapless_points", "Records answered, by where they came from.", labels=("from",)
        )
        points.add_metric(("cached",), self._meter.cached + self._memos.points)
        points.add_metric(("fetched",), self._meter.fetched)
        yield points
        yield _by(
            CounterMetricFamily,
            "gapless_series_changes",
            "Changes of stored series: fetched, fetched anew, forgotten.",
            "provider",
            self._meter.changes,
        )
        providers = self._hub.registry.all()
        yield _by(
            GaugeMetricFamily,
            "gapless_failing_series",
            "Series that fail upstream by themselves.",
            "provider",
            {one.info.name: len(self._hub.upstream(one).failures) for one in providers},
        )
        skews = {one.info.name: self._hub.upstream(one).skew.seconds for one in providers}
        yield _by(
            GaugeMetricFamily,
            "gapless_clock_skew_seconds",
            "How far upstream's clock is ahead of the hub's own.",
            "provider",
            {name: seconds for name, seconds in skews.items() if seconds is not None},
        )
        memory = self._hub.memory
        yield GaugeMetricFamily("gapless_hot_bytes", "Memory of the hot tier.", value=memory.size)
        yield GaugeMetricFamily("gapless_hot_series", "Series in the hot tier.", value=len(memory))
        yield CounterMetricFamily(
            "gapless_hot_hits",
            "Range searches answered from memory.",
            value=memory.hits + self._memos.hits,
        )
        yield CounterMetricFamily(
            "gapless_hot_misses", "Series read from the database.", value=memory.misses
        )
        yield _by(
            GaugeMetricFamily,
            "gapless_connections",
            "Open connections.",
            "door",
            self._connections(),
        )
        yield _by(
            CounterMetricFamily,
            "gapless_plugin_restarts",
            "Processes of plugins started again after a crash.",
            "plugin",
            self._restarts(),
        )
        yield CounterMetricFamily(
            "gapless_descriptor_shortages",
            "Times that the process ran out of file descriptors.",
            value=self._meter.descriptors.shortages,
        )

    def _requests(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "gapless_requests", "Requests answered.", labels=("door", "outcome")
        )
        counts = dict(self._meter.requests)
        # Answers from memos are counted where they are given.
        counts["tcp", OK] = counts.get(("tcp", OK), 0) + self._memos.hits
        for labels, count in sorted(counts.items()):
            family.add_metric(labels, count)
        yield family

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "gapless_request_seconds",
            "How long answering took. Answers from memos, which take microseconds, are in the "
            "first bucket and add nothing to the sum.",
            labels=("door",),
        )
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        for door, latency in self._meter.latency.items():
            counts = list(latency.counts)
            if door == "tcp":
                counts[0] += self._memos.hits
            totals = list(accumulate(counts))
            family.add_metric((door,), list(zip(bounds, totals, strict=True)), latency.sum)
        return family


def _by(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    about: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(name, about, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family
