"""Held bars: which one tells the basis, and how far what is held around it reaches.

Stitching rules 9 to 11. Apart from the filling, because it only looks at what is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapless.domain.comparing import Basis, comparable
from gapless.domain.coverage import Outcome
from gapless.domain.intervals import Interval, hull, intersect, subtract, union
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.ranges import present
from gapless.providers.base import Provider, Traits
from gapless.store.base import Superseded

# Stitching rule 9: a held bar this near is compared by widening the request.
_SEAM_BARS = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """A held bar to compare: when it is, and what it says."""

    time: int
    row: Mapping[str, Any]


class HeldBars:
    """Finds held bars of one provider's series."""

    def __init__(self, holdings: Holdings, provider: Provider) -> None:
        self._holdings = holdings
        self._provider = provider

    async def same(self, entry: HotSeries, interval: Interval) -> HotSeries:
        """Return the series anew with the runs over `interval`, if it is of one generation yet."""
        loaded = await self._holdings.load(entry.state.key, interval)
        if loaded.state.generation != entry.state.generation:
            raise Superseded(f"{entry.state.key.text} has changed its basis meanwhile")
        return loaded

    async def seam(
        self, entry: HotSeries, gap: Interval, traits: Traits, basis: Basis, now: int
    ) -> Bar | None:
        """Return the nearest final bar within ten bars of the gap (stitching rule 9)."""
        reach = _SEAM_BARS * traits.bar
        before = Interval(gap.start - reach, gap.start)
        after = Interval(gap.end, gap.end + reach)
        entry = await self._holdings.load(entry.state.key, Interval(before.start, after.end))
        first = self.served_from(traits, now)
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

    async def oldest(
        self,
        entry: HotSeries,
        traits: Traits,
        basis: Basis,
        now: int,
        outside: Sequence[Interval] = (),
    ) -> Bar | None:
        """Return the oldest final bar that upstream still serves; none of those in `outside`."""
        first = self.served_from(traits, now)
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
                    if bar.time >= first and not any(
                        one.start <= bar.time < one.end for one in outside
                    ):
                        return bar
        return None

    def along(self, entry: HotSeries, gap: Interval, traits: Traits, now: int) -> Interval:
        """Return the gap together with what is held and served but cannot be compared."""
        first = self.served_from(traits, now)
        held = [
            row.interval.intersection(Interval(first, now))
            for row in entry.state.coverage
            if row.generation == entry.state.generation
            and row.outcome is Outcome.HELD
            and row.end > first
        ]
        wide = hull([gap, *(one for one in held if not one.empty)])
        wide = Interval(wide.start, _to_present(entry, wide.end, now))
        fits = traits.max_span is None or wide.length <= max(traits.max_span, gap.length)
        return wide if fits else gap

    def stretch(
        self, entry: HotSeries, bar: Bar, gaps: Sequence[Interval], traits: Traits, now: int
    ) -> Interval:
        """Return the held stretch around a bar that upstream still serves, without the gaps."""
        first = self.served_from(traits, now)
        state = entry.state
        held = union(
            row.interval
            for row in state.coverage
            if row.generation == state.generation and row.outcome is not Outcome.OUT_OF_WINDOW
        )
        for part in subtract(intersect(held, [Interval(first, now)]), gaps):
            if part.start <= bar.time < part.end:
                end = _to_present(entry, part.end, now)
                ahead = [gap.start for gap in gaps if gap.start >= part.end]
                return Interval(part.start, min([end, *ahead]))
        return Interval(bar.time, min(now, bar.time + traits.bar))

    def _final_bars(self, entry: HotSeries, interval: Interval, basis: Basis) -> Iterable[Bar]:
        """Yield the comparable bars in `interval` that are final, of today's generation."""
        state = entry.state
        for row in state.coverage:
            part = row.interval.intersection(interval)
            if part.empty or not row.final or row.generation != state.generation:
                continue
            for time, parsed in held_rows(entry, part, state.generation):
                if comparable(parsed, basis):
                    yield Bar(time, parsed)

    def served_from(self, traits: Traits, now: int) -> int:
        """Return how far back upstream serves."""
        return (
            self._provider.info.data_start if traits.look_back is None else now - traits.look_back
        )


def held_rows(
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


def _to_present(entry: HotSeries, end: int, now: int) -> int:
    """Return `end`, or the present where a tail ends there: a tail that is fetched stays one."""
    tails = (row for row in entry.state.coverage if row.reaches_present)
    return present(now) if any(row.end == end for row in tails) else end


def _distance(time: int, gap: Interval) -> int:
    return gap.start - time if time < gap.start else time - gap.end


def has_final(entry: HotSeries) -> bool:
    """Whether anything that is held could serve as a comparison."""
    state = entry.state
    return any(
        row.final and row.outcome is Outcome.HELD and row.generation == state.generation
        for row in state.coverage
    )
