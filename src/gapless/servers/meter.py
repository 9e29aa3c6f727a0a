"""What the doors count: requests by outcome, how long they took, records, requests upstream.

Plain numbers, because they are counted where answers are made; whoever shows them reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from gapless.hub.answers import Answer
from gapless.hub.holdings import SeriesChanged
from gapless.hub.upstream import UpstreamCall
from gapless.servers.descriptors import Descriptors

# Upper bounds of the latency buckets in seconds; a last bucket takes what is longer.
BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
OK: Final = "ok"


class Latency:
    """A histogram: counts by bucket, and the sum of what was observed in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Meter:
    """Counts since the hub was started.

    `requests` are by door and outcome: `ok`, or an error's code. `upstream` is by provider and
    result: `ok`, or an error's reason. `changes` are of stored series, by provider.
    `descriptors` tells how often there were none.
    """

    def __init__(self, descriptors: Descriptors | None = None) -> None:
        self.descriptors = descriptors or Descriptors()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.latency = {"tcp": Latency(), "http": Latency()}
        self.upstream: Counter[tuple[str, str]] = Counter()
        self.changes: Counter[str] = Counter()
        self.cached = 0
        self.fetched = 0

    def request(self, door: str, outcome: str, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests[door, outcome] += 1
        self.latency[door].observe(seconds)

    def points(self, cached: int, fetched: int) -> None:
        """Count the records of an answer."""
        self.cached += cached
        self.fetched += fetched

    def answer(self, answer: Answer) -> None:
        """Count the records of a stitched answer."""
        brought = answer.brought
        self.points(answer.count - brought, brought)

    def changed(self, change: SeriesChanged) -> None:
        """Count a change of a stored series."""
        self.changes[change.key.provider] += 1

    def asked(self, asked: UpstreamCall) -> None:
        """Count a request that went upstream."""
        error = asked.error
        result = OK if error is None else error.reason or error.code
        self.upstream[asked.key.provider, result] += 1
