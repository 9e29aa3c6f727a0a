"""Filling a gap: fetch it, compare a held bar where the provider revises, replace it.

The rules of stitching 6 and 9 to 13. Everything here works on one series under one lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from gapless.clock import Clock
from gapless.domain.blocks import Run, encode
from gapless.domain.comparing import (
    Basis,
    BasisChange,
    Comparison,
    Restatement,
    Same,
    comparable,
    compare,
    rescale,
)
from gapless.domain.coverage import Coverage, Mark, Outcome
from gapless.domain.intervals import Interval, intersect, subtract, union
from gapless.domain.series import SeriesKey
from gapless.errors import UpstreamUnavailable
from gapless.hub.flights import Filled
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.ranges import present
from gapless.hub.upstream import Tally, Upstream
from gapless.providers.base import Fetched, Provisional, Record, Traits
from gapless.store.base import Change, Replacement, Superseded

_log = structlog.get_logger("gapless.filling")

# Stitching rule 9: a held bar this near is compared by widening the request.
_SEAM_BARS = 10
# How often a fetch in chunks begins anew because upstream changed its basis between two of them.
_MOST_RESTARTS = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """A held bar to compare: when it is, and what it says."""

    time: int
    row: Mapping[str, Any]


@dataclass(slots=True)
class Collected:
    """What was fetched so far, for disjoint intervals: records, what may change, what it is."""

    intervals: list[Interval] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    provisional: list[Provisional] = field(default_factory=list)
    meta: Mapping[str, Any] | None = None

    def add(self, interval: Interval, fetched: Fetched) -> None:
        """Take the part of an answer that lies in `interval`, which is new."""
        self.intervals.append(interval)
        self.records.extend(r for r in fetched.records if interval.start <= r.time < interval.end)
        for span in fetched.provisional:
            start, end = max(span.start, interval.start), min(span.end, interval.end)
            if start < end:
                self.provisional.append(Provisional(start, end, span.refresh_after))
        if fetched.meta is not None:
            self.meta = fetched.meta

    def replacement(self, interval: Interval, now: int) -> Replacement:
        """Return what is stored for `interval`: its records and what is known by them."""
        times = [r for r in self.records if interval.start <= r.time < interval.end]
        run = Run.of((record.time, encode(record.row)) for record in sorted(times, key=_time))
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
        return Replacement(interval, run, tuple(coverage))


class Filler:
    """Fills gaps of one provider's series."""

    def __init__(self, holdings: Holdings, upstream: Upstream, clock: Clock) -> None:
        self._holdings = holdings
        self._upstream = upstream
        self._provider = upstream.provider
        self._clock = clock

    async def fill(self, key: SeriesKey, gap: Interval, tally: Tally) -> Filled:
        """Fetch a gap and store it; raise what upstream or the store raised, storing nothing.

        Raises `Superseded` where the series moved on meanwhile: then plan again.
        """
        now = self._clock.now_ms()
        entry = await self._holdings.load(key)
        traits = self._provider.traits(key)
        basis = self._provider.info.basis
        if not self._provider.info.revises or basis is None:
            collected = await self._collect(key, gap, entry, traits, tally)
            return await self._commit(entry, collected, [gap], now)
        seam = await self._seam(entry, gap, traits, basis, now)
        if seam is not None:
            return await self._fill_with_seam(entry, gap, seam, basis, tally, now)
        oldest = await self._oldest(entry, traits, basis, now, outside=gap)
        if oldest is not None:
            return await self._fill_with_probe(entry, gap, oldest, basis, tally, now)
        # Nothing is held that could be compared. What is held of the present is fetched along,
        # so that all of it is of one basis.
        wide = self._along(entry, gap, traits, now)
        collected = await self._collect(key, wide, entry, traits, tally)
        held = any(
            block.generation == entry.state.generation and not wide.contains(block.interval)
            for block in entry.state.blocks
        )
        return await self._commit(
            entry, collected, [wide], now, compared=True, unheld=not held and wide == gap
        )

    async def verify(self, key: SeriesKey, oldest: Bar, tally: Tally) -> Filled:
        """Probe the oldest held bar and act on what it says (stitching rules 10 and 11)."""
        now = self._clock.now_ms()
        entry = await self._holdings.load(key)
        basis = self._provider.info.basis
        assert basis is not None
        collected = Collected()
        verdict = await self._probe(entry, oldest, basis, collected, tally)
        return await self._conclude(entry, [], collected, oldest, verdict, basis, tally, now)

    async def rescale(self, key: SeriesKey, intervals: Sequence[Interval]) -> Filled:
        """Put records that upstream no longer serves on today's basis (stitching rule 12)."""
        basis = self._provider.info.basis
        assert basis is not None
        entry = await self._holdings.load(key, _hull(intervals))
        state = entry.state
        replacements: list[Replacement] = []
        for row in state.coverage:
            if row.generation == state.generation or row.outcome is Outcome.OUT_OF_WINDOW:
                continue
            ratio = state.ratio_since(row.generation)
            for part in intersect([row.interval], intervals):
                run = Run.of(
                    (time, encode(rescale(parsed, basis, ratio)))
                    for time, parsed in _held_rows(entry, part, row.generation)
                )
                coverage = Coverage(
                    *part, row.outcome, row.fetched_at, None, state.generation, Mark.RESCALED
                )
                replacements.append(Replacement(part, run, (coverage,)))
        _log.info("records that upstream no longer serves are rescaled", series=key.text)
        await self._holdings.apply(
            Change(key, state.generation, tuple(replacements), at=self._clock.now_ms())
        )
        return Filled()

    async def oldest(self, key: SeriesKey, now: int) -> Bar | None:
        """Return the bar on which every later change of basis shows; `None`: there is none."""
        basis = self._provider.info.basis
        if not self._provider.info.revises or basis is None:
            return None
        entry = await self._holdings.load(key)
        return await self._oldest(entry, self._provider.traits(key), basis, now)

    # Fetching and comparing

    async def _fill_with_seam(
        self, entry: HotSeries, gap: Interval, seam: Bar, basis: Basis, tally: Tally, now: int
    ) -> Filled:
        """Fetch the gap widened by a held bar beside it; one request where one would do."""
        traits = self._provider.traits(entry.state.key)
        after = min(now, seam.time + traits.bar)
        wide = Interval(min(gap.start, seam.time), max(gap.end, after))
        collected = await self._collect(entry.state.key, wide, entry, traits, tally)
        verdict = self._verdict(seam, collected.records, basis)
        if isinstance(verdict, BasisChange):
            return await self._commit(entry, collected, [gap], now, verdict)
        return await self._conclude(
            entry,
            [gap],
            collected,
            seam,
            verdict,
            basis,
            tally,
            now,
            backwards=seam.time < gap.start,
        )

    async def _fill_with_probe(
        self, entry: HotSeries, gap: Interval, oldest: Bar, basis: Basis, tally: Tally, now: int
    ) -> Filled:
        """Fetch the gap, then probe: a change between the two requests shows on the later one."""
        key = entry.state.key
        collected = await self._collect(key, gap, entry, self._provider.traits(key), tally)
        verdict = await self._probe(entry, oldest, basis, collected, tally)
        return await self._conclude(entry, [gap], collected, oldest, verdict, basis, tally, now)

    async def _conclude(
        self,
        entry: HotSeries,
        gaps: Sequence[Interval],
        collected: Collected,
        bar: Bar,
        verdict: Comparison,
        basis: Basis,
        tally: Tally,
        now: int,
        backwards: bool = False,
    ) -> Filled:
        """Store what was fetched as the comparison allows."""
        match verdict:
            case Same():
                return await self._commit(entry, collected, gaps, now, compared=True)
            case BasisChange():
                # The gap may have been fetched just before the change: it is not kept.
                return await self._commit(entry, Collected(), [], now, verdict)
            case Restatement():
                return await self._restate(
                    entry, gaps, collected, bar, basis, tally, now, backwards
                )

    async def _restate(
        self,
        entry: HotSeries,
        gaps: Sequence[Interval],
        collected: Collected,
        bar: Bar,
        basis: Basis,
        tally: Tally,
        now: int,
        backwards: bool,
    ) -> Filled:
        """Fetch held bars anew away from the gap, doubling, until they agree (rule 11).

        Backwards from a bar before the gap; forwards from one behind it, or from the oldest.
        """
        key = entry.state.key
        traits = self._provider.traits(key)
        stretch = self._stretch(entry, bar, gaps, traits, now)
        _log.info("a held bar was restated", series=key.text, time_ms=bar.time)
        seam = Interval(bar.time, min(bar.time + traits.bar, stretch.end))
        restated = [seam]
        edge = seam.start if backwards else seam.end
        step = 2 * traits.bar
        settled = False
        while not settled:
            piece = (
                Interval(max(stretch.start, edge - step), edge)
                if backwards
                else Interval(edge, min(stretch.end, edge + step))
            )
            if piece.empty:
                break
            fetched = await self._collect(key, piece, entry, traits, tally, "restatement")
            entry = await self._same(entry, piece)
            fresh = {record.time: _mapping(record.row) for record in fetched.records}
            bars = [
                Bar(time, row)
                for time, row in _held_rows(entry, piece, entry.state.generation)
                if comparable(row, basis)
            ]
            for held in bars if backwards else reversed(bars):
                verdict = compare(
                    held.row, fresh.get(held.time), basis, self._provider.info.tolerance
                )
                if isinstance(verdict, BasisChange):
                    return await self._commit(entry, Collected(), [], now, verdict)
                # The bar farthest from the gap tells whether the restatement ends within.
                settled = isinstance(verdict, Same)
                break
            collected.intervals.append(piece)
            collected.records.extend(fetched.records)
            collected.provisional.extend(fetched.provisional)
            restated.append(piece)
            edge = piece.start if backwards else piece.end
            step *= 2
        if not settled:
            # All that was held here is restated; another held bar must vouch for the basis.
            other = await self._oldest(entry, traits, basis, now, outside=_hull([*gaps, *restated]))
            if other is not None:
                verdict = await self._probe(entry, other, basis, Collected(), tally)
                if isinstance(verdict, BasisChange):
                    return await self._commit(entry, Collected(), [], now, verdict)
        return await self._commit(entry, collected, union(gaps, restated), now, compared=True)

    async def _probe(
        self, entry: HotSeries, bar: Bar, basis: Basis, collected: Collected, tally: Tally
    ) -> Comparison:
        """Fetch one held bar anew into `collected` and compare it."""
        key = entry.state.key
        traits = self._provider.traits(key)
        there = Interval(bar.time, min(self._clock.now_ms(), bar.time + traits.bar))
        fetched = await self._ask(key, there, entry, "probe", tally)
        for part in subtract([there], collected.intervals):
            collected.add(part, fetched)
        return self._verdict(bar, fetched.records, basis)

    def _verdict(self, bar: Bar, records: Iterable[Record], basis: Basis) -> Comparison:
        fresh = next((record for record in records if record.time == bar.time), None)
        return compare(
            bar.row,
            None if fresh is None else _mapping(fresh.row),
            basis,
            self._provider.info.tolerance,
        )

    async def _ask(
        self, key: SeriesKey, interval: Interval, entry: HotSeries, purpose: str, tally: Tally
    ) -> Fetched:
        return await self._upstream.ask(key, interval, entry.state.meta, purpose, tally)

    async def _collect(
        self,
        key: SeriesKey,
        interval: Interval,
        entry: HotSeries,
        traits: Traits,
        tally: Tally,
        purpose: str = "gap",
    ) -> Collected:
        """Fetch an interval, in chunks where one request cannot span it.

        Chunks overlap by one final bar, which must agree, or all begins anew: the chunks of one
        plan are of one basis (stitching rule 13).
        """
        span = traits.max_span
        if span is None or interval.length <= span:
            collected = Collected()
            collected.add(interval, await self._ask(key, interval, entry, purpose, tally))
            return collected
        for _ in range(_MOST_RESTARTS + 1):
            chunks = await self._chunks(key, interval, entry, span, tally, purpose)
            if chunks is not None:
                return chunks
        raise UpstreamUnavailable(
            f"{self._provider.info.name} changed {key.text} again and again while it was fetched "
            "in parts; nothing was stored, try again later"
        )

    async def _chunks(
        self,
        key: SeriesKey,
        interval: Interval,
        entry: HotSeries,
        span: int,
        tally: Tally,
        purpose: str,
    ) -> Collected | None:
        """Fetch an interval in chunks; `None` where two of them do not fit."""
        basis = self._provider.info.basis if self._provider.info.revises else None
        traits = self._provider.traits(key)
        collected = Collected()
        anchor: Bar | None = None
        at = interval.start
        while at < interval.end:
            overlaps = anchor is not None and anchor.time >= at - span // 2
            start = anchor.time if anchor is not None and overlaps else at
            end = min(interval.end, start + span)
            fetched = await self._ask(key, Interval(start, end), entry, purpose, tally)
            if anchor is not None and basis is not None:
                records: Sequence[Record] = fetched.records
                if not overlaps:
                    there = Interval(anchor.time, anchor.time + traits.bar)
                    records = (await self._ask(key, there, entry, "probe", tally)).records
                if not isinstance(self._verdict(anchor, records, basis), Same):
                    return None
            collected.add(Interval(at, end), fetched)
            anchor = _last_final(fetched, basis) or anchor
            at = end
        return collected

    # What is held

    async def _same(self, entry: HotSeries, interval: Interval) -> HotSeries:
        """Return the series anew with the runs over `interval`, if it is of one generation yet."""
        loaded = await self._holdings.load(entry.state.key, interval)
        if loaded.state.generation != entry.state.generation:
            raise Superseded(f"{entry.state.key.text} has changed its basis meanwhile")
        return loaded

    async def _seam(
        self, entry: HotSeries, gap: Interval, traits: Traits, basis: Basis, now: int
    ) -> Bar | None:
        """Return the nearest final bar within ten bars of the gap (stitching rule 9)."""
        reach = _SEAM_BARS * traits.bar
        before = Interval(gap.start - reach, gap.start)
        after = Interval(gap.end, gap.end + reach)
        entry = await self._holdings.load(entry.state.key, Interval(before.start, after.end))
        first = self._served_from(traits, now)
        near = [
            bar
            for bars in (
                reversed(list(self._final_bars(entry, before, basis))),
                self._final_bars(entry, after, basis),
            )
            for bar in bars
            if bar.time >= first
        ]
        span = traits.max_span
        fits = [
            bar
            for bar in near
            if span is None
            or max(gap.end, bar.time + traits.bar) - min(gap.start, bar.time) <= span
            or gap.length > span
        ]
        return min(fits, key=lambda bar: _distance(bar.time, gap), default=None)

    async def _oldest(
        self,
        entry: HotSeries,
        traits: Traits,
        basis: Basis,
        now: int,
        outside: Interval | None = None,
    ) -> Bar | None:
        """Return the oldest final bar that upstream still serves."""
        first = self._served_from(traits, now)
        for row in entry.state.coverage:
            if (
                row.generation != entry.state.generation
                or not row.final
                or row.outcome is not Outcome.HELD
                or row.end <= first
            ):
                continue
            for block in entry.state.blocks:
                if not block.interval.overlaps(row.interval):
                    continue
                entry = await self._holdings.load(entry.state.key, block.interval)
                inside = block.interval.intersection(row.interval)
                for bar in self._final_bars(entry, inside, basis):
                    if bar.time >= first and not (
                        outside is not None and outside.start <= bar.time < outside.end
                    ):
                        return bar
        return None

    def _final_bars(self, entry: HotSeries, interval: Interval, basis: Basis) -> Iterable[Bar]:
        """Yield the comparable bars in `interval` that are final, of today's generation."""
        state = entry.state
        for row in state.coverage:
            part = row.interval.intersection(interval)
            if part.empty or not row.final or row.generation != state.generation:
                continue
            for time, parsed in _held_rows(entry, part, state.generation):
                if comparable(parsed, basis):
                    yield Bar(time, parsed)

    def _served_from(self, traits: Traits, now: int) -> int:
        return (
            self._provider.info.data_start if traits.look_back is None else now - traits.look_back
        )

    def _along(self, entry: HotSeries, gap: Interval, traits: Traits, now: int) -> Interval:
        """Return the gap together with what is held and served but cannot be compared."""
        first = self._served_from(traits, now)
        held = [
            row.interval.intersection(Interval(first, now))
            for row in entry.state.coverage
            if row.generation == entry.state.generation
            and row.outcome is Outcome.HELD
            and row.end > first
        ]
        wide = _hull([gap, *(one for one in held if not one.empty)])
        wide = Interval(wide.start, _to_present(entry, wide.end, now))
        fits = traits.max_span is None or wide.length <= max(traits.max_span, gap.length)
        return wide if fits else gap

    def _stretch(
        self, entry: HotSeries, bar: Bar, gaps: Sequence[Interval], traits: Traits, now: int
    ) -> Interval:
        """Return the held stretch around a bar that upstream still serves, without the gaps."""
        first = self._served_from(traits, now)
        state = entry.state
        held = union(
            row.interval
            for row in state.coverage
            if row.generation == state.generation and row.outcome is not Outcome.OUT_OF_WINDOW
        )
        for part in subtract(intersect(held, [Interval(first, now)]), gaps):
            if part.start <= bar.time < part.end:
                return Interval(part.start, _to_present(entry, part.end, now))
        return Interval(bar.time, min(now, bar.time + traits.bar))

    # Storing

    async def _commit(
        self,
        entry: HotSeries,
        collected: Collected,
        intervals: Sequence[Interval],
        now: int,
        change: BasisChange | None = None,
        *,
        compared: bool = False,
        unheld: bool = False,
    ) -> Filled:
        """Store the fetched intervals in one transaction (stitching rule 6)."""
        state = entry.state
        fills = any(
            interval.start <= record.time < interval.end
            for record in collected.records
            for interval in intervals
        )
        anew = compared or change is not None
        held = any(block.generation == state.generation for block in state.blocks)
        if change is not None:
            _log.info(
                "upstream serves another basis",
                series=state.key.text,
                generation=state.generation + 1,
                price=change.ratio.price,
                adjusted=change.ratio.adjusted,
            )
        await self._holdings.apply(
            Change(
                key=state.key,
                generation=state.generation,
                replacements=tuple(collected.replacement(interval, now) for interval in intervals),
                unheld=unheld,
                basis_change=None if change is None else change.ratio,
                compared_at=now if anew and (held or fills) else None,
                meta=collected.meta,
                at=now,
            )
        )
        return Filled(tuple(intervals), change is not None)


def _held_rows(
    entry: HotSeries, interval: Interval, generation: int
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield (time, record) of what is held in `interval` in one generation; runs are in memory."""
    for block in entry.state.blocks:
        if block.generation != generation or not block.interval.overlaps(interval):
            continue
        assert block.number is not None
        run = entry.runs[block.number].run
        i, j = run.bounds(interval)
        for at in range(i, j):
            yield run.times[at], run.row(at)


def _last_final(fetched: Fetched, basis: Basis | None) -> Bar | None:
    """Return the last bar of an answer that is final and can be compared."""
    if basis is None:
        return None
    for record in reversed(fetched.records):
        if any(span.start <= record.time < span.end for span in fetched.provisional):
            continue
        row = _mapping(record.row)
        if comparable(row, basis):
            return Bar(record.time, row)
    return None


def _mapping(row: Any) -> Mapping[str, Any]:
    """Return a record as a mapping, whether it is one or a struct."""
    if isinstance(row, Mapping):
        return row
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _row(start: int, end: int, run: Run, now: int, refresh_after: int | None) -> Coverage:
    i, j = run.bounds(Interval(start, end))
    outcome = Outcome.HELD if j > i else Outcome.EMPTY
    return Coverage(start, end, outcome, now, refresh_after)


def _to_present(entry: HotSeries, end: int, now: int) -> int:
    """Return `end`, or the present where a tail ends there: a tail that is fetched stays one."""
    tails = (row for row in entry.state.coverage if row.reaches_present)
    return present(now) if any(row.end == end for row in tails) else end


def _distance(time: int, gap: Interval) -> int:
    return gap.start - time if time < gap.start else time - gap.end


def _hull(intervals: Sequence[Interval]) -> Interval:
    return Interval(
        min(interval.start for interval in intervals), max(interval.end for interval in intervals)
    )


def _time(record: Record) -> int:
    return record.time
