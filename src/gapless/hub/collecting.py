"""Collecting an interval from upstream: one request, or chunks that are held to one basis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gapless.domain.blocks import Run
from gapless.domain.comparing import Basis, Comparison, Same, comparable, compare
from gapless.domain.coverage import Coverage, Outcome, Written, clipped, written
from gapless.domain.intervals import Interval, subtract
from gapless.errors import UpstreamRejected, UpstreamUnavailable
from gapless.hub.bars import Bar
from gapless.hub.hot import HotSeries
from gapless.hub.leases import Lease
from gapless.hub.upstream import Brought, Upstream
from gapless.providers.base import Provisional, Traits
from gapless.store.base import Replacement

# How often a fetch in chunks begins anew because upstream changed its basis between two of them.
_MOST_RESTARTS = 2
# A request for years in steps of seconds is a slip of the hand, and would take days.
_MOST_CHUNKS = 10_000


@dataclass(slots=True)
class Collected:
    """What was fetched so far: a run for each of disjoint intervals, and what may still change.

    `planned` is what was known of them when each was asked for, by the commits that wrote it.
    """

    intervals: list[Interval] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    planned: list[Written] = field(default_factory=list)
    provisional: list[Provisional] = field(default_factory=list)
    meta: Mapping[str, Any] | None = None

    def add(self, interval: Interval, brought: Brought, known: Sequence[Coverage]) -> None:
        """Take the part of an answer that lies in `interval`, which is new.

        `known` is the coverage of the series when it was asked for.
        """
        self.intervals.append(interval)
        self.runs.append(brought.run.cut(interval))
        self.planned += written(known, interval)
        for span in brought.provisional:
            start, end = max(span.start, interval.start), min(span.end, interval.end)
            if start < end:
                self.provisional.append(Provisional(start, end, span.refresh_after))
        if brought.meta is not None:
            self.meta = brought.meta

    def take(self, other: Collected) -> None:
        """Take what `other` has of intervals that are not collected yet."""
        for part in subtract(other.intervals, self.intervals):
            brought = Brought(other.run(part), tuple(other.provisional), other.meta)
            self.add(part, brought, ())
            self.planned += clipped(other.planned, part)

    def run(self, interval: Interval) -> Run:
        """Return the records of `interval`."""
        pairs = sorted(zip(self.intervals, self.runs, strict=True), key=lambda pair: pair[0])
        return Run.concat([run.cut(interval) for _, run in pairs])

    def at(self, time: int) -> Mapping[str, Any] | None:
        """Return the record of this instant; `None`: there is none."""
        return next((row for run in self.runs if (row := run.at(time)) is not None), None)

    def replacement(self, interval: Interval, now: int) -> Replacement:
        """Return what is stored for `interval`: its records and what is known by them."""
        run = self.run(interval)
        coverage: list[Coverage] = []
        provisional = sorted(
            span for span in self.provisional if span.start < interval.end > interval.start
        )
        at = interval.start
        for span in provisional:
            start, end = max(span.start, interval.start), min(span.end, interval.end)
            if start >= end:
                continue
            if at < start:
                coverage.append(_row(at, start, run, now, None))
            coverage.append(_row(start, end, run, now, span.refresh_after))
            at = end
        if at < interval.end:
            coverage.append(_row(at, interval.end, run, now, None))
        return Replacement(interval, run, tuple(coverage), clipped(self.planned, interval))


class Collector:
    """Asks one provider for intervals of its series."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._provider = upstream.provider

    async def ask(
        self, lease: Lease, interval: Interval, entry: HotSeries, purpose: str
    ) -> Brought:
        """Fetch once; `purpose` (gap, probe, restatement) is for logs, metrics and tests."""
        meta = entry.state.meta
        return await self._upstream.ask(lease.key, interval, meta, purpose, lease.tally)

    def verdict(self, bar: Bar, fresh: Mapping[str, Any] | None, basis: Basis) -> Comparison:
        """Compare a held bar with its fresh copy, if there is one (stitching rule 11)."""
        return compare(bar.row, fresh, basis, self._provider.info.tolerance)

    async def collect(
        self,
        lease: Lease,
        interval: Interval,
        entry: HotSeries,
        traits: Traits,
        purpose: str = "gap",
    ) -> Collected:
        """Fetch an interval, in chunks where one request cannot span it.

        Chunks overlap by one final bar, which must agree, or all begins anew: the chunks of one
        plan are of one basis (stitching rule 13).
        """
        span = traits.max_span
        if span is None or interval.length <= span:
            collected = Collected()
            brought = await self.ask(lease, interval, entry, purpose)
            collected.add(interval, brought, entry.state.coverage)
            return collected
        needed = -(-interval.length // span)
        if needed > _MOST_CHUNKS:
            raise UpstreamRejected(
                f"{self._provider.info.name} gives {span / 1000:g} s of {lease.key.text} at once, "
                f"so that this range would take {needed:,} requests; {_MOST_CHUNKS:,} are the "
                "most; ask for less"
            )
        for _ in range(_MOST_RESTARTS + 1):
            chunks = await self._chunks(lease, interval, entry, span, purpose)
            if chunks is not None:
                return chunks
        raise UpstreamUnavailable(
            f"{self._provider.info.name} changed {lease.key.text} again and again while it was "
            "fetched in parts; nothing was stored, try again later"
        )

    async def _chunks(
        self,
        lease: Lease,
        interval: Interval,
        entry: HotSeries,
        span: int,
        purpose: str,
    ) -> Collected | None:
        """Fetch an interval in chunks; `None` where two of them do not fit."""
        basis = self._provider.info.basis if self._provider.info.revises else None
        traits = self._provider.traits(lease.key)
        collected = Collected()
        anchor: Bar | None = None
        at = interval.start
        while at < interval.end:
            overlaps = anchor is not None and anchor.time >= at - span // 2
            start = anchor.time if anchor is not None and overlaps else at
            end = min(interval.end, start + span)
            brought = await self.ask(lease, Interval(start, end), entry, purpose)
            if anchor is not None and basis is not None:
                again = brought
                if not overlaps:
                    there = Interval(anchor.time, anchor.time + traits.bar)
                    again = await self.ask(lease, there, entry, "probe")
                if not isinstance(self.verdict(anchor, again.run.at(anchor.time), basis), Same):
                    return None
            collected.add(Interval(at, end), brought, entry.state.coverage)
            anchor = _last_final(brought, basis) or anchor
            at = end
        return collected


def _last_final(brought: Brought, basis: Basis | None) -> Bar | None:
    """Return the last bar of an answer that is final and can be compared."""
    if basis is None:
        return None
    run = brought.run
    for i in reversed(range(len(run))):
        time = run.times[i]
        if any(span.start <= time < span.end for span in brought.provisional):
            continue
        row = run.row(i)
        if comparable(row, basis):
            return Bar(time, row)
    return None


def _row(start: int, end: int, run: Run, now: int, refresh_after: int | None) -> Coverage:
    i, j = run.bounds(Interval(start, end))
    outcome = Outcome.HELD if j > i else Outcome.EMPTY
    return Coverage(start, end, outcome, now, refresh_after)
