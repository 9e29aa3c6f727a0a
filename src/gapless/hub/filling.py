"""Filling a gap: fetch it, compare a held bar where the provider revises, replace it.

The rules of stitching 6 and 9 to 13. Everything here works on one series under one lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

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
    rescale,
)
from gapless.domain.coverage import Coverage, Mark, Outcome, unvouched, written
from gapless.domain.intervals import Interval, hull, intersect, subtract, union
from gapless.domain.series import SeriesKey
from gapless.hub.bars import Bar, HeldBars, held_rows
from gapless.hub.collecting import Collected, Collector
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.leases import Filled, Lease, Leases
from gapless.hub.ranges import present
from gapless.hub.upstream import Upstream
from gapless.store.base import Change, Replacement, Superseded

_log = structlog.get_logger("gapless.filling")

# Stretches apart from one another that are fetched anew for one gap; more would keep its caller
# waiting for what nobody asked for.
_MOST_STRETCHES = 8


class Filler:
    """Fills gaps of one provider's series."""

    def __init__(
        self, holdings: Holdings, leases: Leases, upstream: Upstream, clock: Clock
    ) -> None:
        self._holdings = holdings
        self._leases = leases
        self._provider = upstream.provider
        self._collector = Collector(upstream)
        self._bars = HeldBars(holdings, upstream.provider)
        self._clock = clock

    async def fill(self, lease: Lease) -> Filled:
        """Fetch a gap and store it; raise what upstream or the store raised, storing nothing.

        A lease that reaches the present ends where the request saw it. That may have waited
        since, and what is fetched now is known up to now: a tail stays one (stitching rule 3).
        Raises `Superseded` where the series moved on meanwhile: then plan again.
        """
        key, gap = lease.key, lease.interval
        now = self._clock.now_ms()
        if lease.reaches_present and self._provider.info.data_end is None:
            gap = Interval(gap.start, max(gap.end, present(now)))
            await self._leases.widen(lease, gap)
        entry = await self._holdings.load(key)
        traits = self._provider.traits(key)
        basis = self._provider.info.basis
        if not self._provider.info.revises or basis is None:
            collected = await self._collector.collect(lease, gap, entry, traits)
            return await self._commit(lease, entry, collected, [gap], now)
        seam = await self._bars.seam(entry, gap, traits, basis, now)
        if seam is not None:
            return await self._fill_with_seam(lease, entry, gap, seam, basis, now)
        oldest = await self._bars.oldest(entry, traits, basis, now, outside=[gap])
        if oldest is not None:
            return await self._fill_with_probe(lease, entry, gap, oldest, basis, now)
        # Nothing is held that could be compared. What is held of the present is fetched along,
        # so that all of it is of one basis.
        wide = self._bars.along(entry, gap, traits, now)
        await self._leases.widen(lease, wide)
        collected = await self._collector.collect(lease, wide, entry, traits)
        held = any(
            block.generation == entry.state.generation and not wide.contains(block.interval)
            for block in entry.state.blocks
        )
        return await self._commit(
            lease,
            entry,
            collected,
            [wide],
            now,
            compared=True,
            unheld=not held and wide == gap,
            unverified_until=self._bars.served_from(traits, now) if held else None,
        )

    async def verify(self, lease: Lease, oldest: Bar) -> Filled:
        """Probe the oldest held bar and act on what it says (stitching rules 10 and 11)."""
        now = self._clock.now_ms()
        entry = await self._holdings.load(lease.key)
        basis = self._provider.info.basis
        assert basis is not None
        collected = Collected()
        verdict = await self._probe(lease, entry, oldest, basis, collected)
        return await self._conclude(lease, entry, [], collected, oldest, verdict, basis, now)

    async def rescale(self, lease: Lease, intervals: Sequence[Interval]) -> Filled:
        """Put records that upstream no longer serves on today's basis (stitching rule 12)."""
        key = lease.key
        basis = self._provider.info.basis
        assert basis is not None
        for interval in intervals:
            await self._leases.widen(lease, interval)
        entry = await self._holdings.load(key, hull(intervals))
        state = entry.state
        replacements: list[Replacement] = []
        for row in state.coverage:
            if row.generation == state.generation or row.outcome is Outcome.OUT_OF_WINDOW:
                continue
            ratio = state.ratio_since(row.generation)
            for part in intersect([row.interval], intervals):
                run = Run.of(
                    (time, encode(rescale(parsed, basis, ratio)))
                    for time, parsed in held_rows(entry, part, row.generation)
                )
                # What nothing could vouch for may lack an earlier ratio: it stays so.
                mark = row.mark if row.mark is Mark.UNVERIFIED else Mark.RESCALED
                coverage = Coverage(
                    *part, row.outcome, row.fetched_at, None, state.generation, mark
                )
                planned = written(state.coverage, part)
                replacements.append(Replacement(part, run, (coverage,), planned))
        _log.info("records that upstream no longer serves are rescaled", series=key.text)
        await self._holdings.apply(
            Change(key, state.generation, tuple(replacements), at=self._clock.now_ms()), lease
        )
        return Filled()

    async def disown(self, key: SeriesKey) -> bool:
        """Mark what is held and not served any more as vouched for by nothing (rule 12).

        Returns whether there was anything that is not marked yet.
        """
        now = self._clock.now_ms()
        state = (await self._holdings.load(key)).state
        until = self._bars.served_from(self._provider.traits(key), now)
        if not unvouched(state.coverage, state.generation, until):
            return False
        with suppress(Superseded):
            change = Change(key, state.generation, (), at=now, unverified_until=until)
            await self._holdings.apply(change)
        return True

    async def oldest(self, key: SeriesKey, now: int) -> Bar | None:
        """Return the bar on which every later change of basis shows; `None`: there is none."""
        basis = self._provider.info.basis
        if not self._provider.info.revises or basis is None:
            return None
        entry = await self._holdings.load(key)
        return await self._bars.oldest(entry, self._provider.traits(key), basis, now)

    # Fetching and comparing

    async def _fill_with_seam(
        self,
        lease: Lease,
        entry: HotSeries,
        gap: Interval,
        seam: Bar,
        basis: Basis,
        now: int,
    ) -> Filled:
        """Fetch the gap widened by a held bar beside it; one request where one would do."""
        traits = self._provider.traits(entry.state.key)
        after = min(now, seam.time + traits.bar)
        wide = Interval(min(gap.start, seam.time), max(gap.end, after))
        collected = await self._collector.collect(lease, wide, entry, traits)
        verdict = self._collector.verdict(seam, collected.at(seam.time), basis)
        if isinstance(verdict, BasisChange):
            return await self._commit(lease, entry, collected, [gap], now, verdict)
        return await self._conclude(
            lease,
            entry,
            [gap],
            collected,
            seam,
            verdict,
            basis,
            now,
            backwards=seam.time < gap.start,
        )

    async def _fill_with_probe(
        self,
        lease: Lease,
        entry: HotSeries,
        gap: Interval,
        oldest: Bar,
        basis: Basis,
        now: int,
    ) -> Filled:
        """Fetch the gap, then probe: a change between the two requests shows on the later one."""
        traits = self._provider.traits(lease.key)
        collected = await self._collector.collect(lease, gap, entry, traits)
        verdict = await self._probe(lease, entry, oldest, basis, collected)
        return await self._conclude(lease, entry, [gap], collected, oldest, verdict, basis, now)

    async def _conclude(
        self,
        lease: Lease,
        entry: HotSeries,
        gaps: Sequence[Interval],
        collected: Collected,
        bar: Bar,
        verdict: Comparison,
        basis: Basis,
        now: int,
        backwards: bool = False,
    ) -> Filled:
        """Store what was fetched as the comparison allows."""
        match verdict:
            case Same():
                return await self._commit(lease, entry, collected, gaps, now, compared=True)
            case BasisChange():
                # The gap may have been fetched just before the change: it is not kept.
                return await self._commit(lease, entry, Collected(), [], now, verdict)
            case Restatement():
                return await self._restate(
                    lease, entry, gaps, collected, bar, basis, now, backwards
                )

    async def _restate(
        self,
        lease: Lease,
        entry: HotSeries,
        gaps: Sequence[Interval],
        collected: Collected,
        bar: Bar,
        basis: Basis,
        now: int,
        backwards: bool,
    ) -> Filled:
        """Fetch held bars anew away from the gap, doubling, until they agree (rule 11).

        Backwards from a bar before the gap; forwards from one behind it, or from the oldest. Where
        all that is held in one stretch was restated, another held bar must vouch for the basis;
        one that was restated as well has a stretch of its own.
        """
        key = entry.state.key
        traits = self._provider.traits(key)
        restated: list[Interval] = []
        for _ in range(_MOST_STRETCHES):
            _log.info("a held bar was restated", series=key.text, time_ms=bar.time)
            stretch = self._bars.stretch(entry, bar, gaps, traits, now)
            seam = Interval(bar.time, min(bar.time + traits.bar, stretch.end))
            await self._leases.widen(lease, seam)
            entry, pieces, verdict = await self._until_same(
                lease, entry, stretch, seam, collected, basis, backwards
            )
            restated += [seam, *pieces]
            if isinstance(verdict, Restatement):
                other = await self._bars.oldest(
                    entry, traits, basis, now, outside=union([*gaps, *restated])
                )
                if other is None:
                    break
                bar, backwards = other, False
                verdict = await self._probe(lease, entry, bar, basis, collected)
            if isinstance(verdict, BasisChange):
                return await self._commit(lease, entry, Collected(), [], now, verdict)
            if isinstance(verdict, Same):
                break
        else:
            # What was fetched of it is kept; the rest is found out when it is next compared.
            last = Interval(bar.time, min(bar.time + traits.bar, now))
            await self._leases.widen(lease, last)
            restated.append(last)
        return await self._commit(
            lease, entry, collected, union(gaps, restated), now, compared=True
        )

    async def _until_same(
        self,
        lease: Lease,
        entry: HotSeries,
        stretch: Interval,
        seam: Interval,
        collected: Collected,
        basis: Basis,
        backwards: bool,
    ) -> tuple[HotSeries, list[Interval], Comparison]:
        """Fetch a stretch anew from a restated bar on, into `collected`, until bars agree.

        Returns the series as it is held by then, what was fetched, and how the bar farthest from
        the first compares: a `Restatement` where all of it was restated.
        """
        traits = self._provider.traits(lease.key)
        pieces: list[Interval] = []
        edge = seam.start if backwards else seam.end
        step = 2 * traits.bar
        verdict: Comparison = Restatement()
        while isinstance(verdict, Restatement):
            piece = (
                Interval(max(stretch.start, edge - step), edge)
                if backwards
                else Interval(edge, min(stretch.end, edge + step))
            )
            if piece.empty:
                break
            await self._leases.widen(lease, piece)
            entry = await self._bars.same(entry, piece)
            fetched = await self._collector.collect(lease, piece, entry, traits, "restatement")
            bars = [
                Bar(time, row)
                for time, row in held_rows(entry, piece, entry.state.generation)
                if comparable(row, basis)
            ]
            if bars:
                # The bar farthest from the gap tells whether the restatement ends within.
                held = bars[0] if backwards else bars[-1]
                verdict = self._collector.verdict(held, fetched.at(held.time), basis)
            collected.take(fetched)
            pieces.append(piece)
            edge = piece.start if backwards else piece.end
            step *= 2
        return entry, pieces, verdict

    async def _probe(
        self, lease: Lease, entry: HotSeries, bar: Bar, basis: Basis, collected: Collected
    ) -> Comparison:
        """Fetch one held bar anew into `collected` and compare it."""
        traits = self._provider.traits(lease.key)
        there = Interval(bar.time, min(self._clock.now_ms(), bar.time + traits.bar))
        brought = await self._collector.ask(lease, there, entry, "probe")
        for part in subtract([there], collected.intervals):
            collected.add(part, brought, entry.state.coverage)
        return self._collector.verdict(bar, brought.run.at(bar.time), basis)

    # Storing

    async def _commit(
        self,
        lease: Lease,
        entry: HotSeries,
        collected: Collected,
        intervals: Sequence[Interval],
        now: int,
        change: BasisChange | None = None,
        *,
        compared: bool = False,
        unheld: bool = False,
        unverified_until: int | None = None,
    ) -> Filled:
        """Store the fetched intervals in one transaction (stitching rule 6)."""
        state = entry.state
        replacements = tuple(collected.replacement(interval, now) for interval in intervals)
        fills = any(len(replacement.run) for replacement in replacements)
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
                replacements=replacements,
                unheld=unheld,
                basis_change=None if change is None else change.ratio,
                compared_at=now if anew and (held or fills) else None,
                meta=collected.meta,
                at=now,
                unverified_until=unverified_until,
            ),
            lease,
        )
        return Filled(tuple(intervals), change is not None)
