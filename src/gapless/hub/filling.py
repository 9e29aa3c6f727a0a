"""Filling: fetch a gap, or what is not fresh, look what it says of the rest, replace it.

The rules of stitching 6, 7, 9 and 11. Everything here works on one series under one lease.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from gapless.clock import Clock
from gapless.domain.blocks import Run
from gapless.domain.comparing import Basis, pairs
from gapless.domain.coverage import Coverage, Outcome, written
from gapless.domain.intervals import Interval, intersect
from gapless.domain.planning import Reach
from gapless.errors import UpstreamRejected, UpstreamUnavailable
from gapless.hub.ageing import Ageings
from gapless.hub.beside import Beside, Sight, beside, edges, finals, held_run
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.leases import Filled, Lease, Leases
from gapless.hub.ranges import present, reach
from gapless.hub.upstream import Brought, Upstream
from gapless.providers.base import Traits
from gapless.store.base import Change, Replacement

_log = structlog.get_logger("gapless.filling")

# A request for years in steps of seconds is a slip of the hand, and would take days.
_MOST_CHUNKS = 10_000


@dataclass(slots=True)
class _Filling:
    """One filling: its lease, the series as it is held by now, and what was achieved so far.

    `core` is what must be had; the lease may hold more, which is taken along.
    """

    lease: Lease
    core: Interval
    entry: HotSeries
    traits: Traits
    reach: Reach
    restated: bool = False

    @property
    def purpose(self) -> str:
        """Whether it is for a gap, or a check of what is held: for logs, metrics and tests."""
        held = (row.interval for row in self.entry.state.coverage)
        return "check" if intersect([self.core], held) == [self.core] else "gap"


class Filler:
    """Fills gaps of one provider's series, and fetches again what is not fresh."""

    def __init__(
        self,
        holdings: Holdings,
        leases: Leases,
        upstream: Upstream,
        clock: Clock,
        ageings: Ageings,
    ) -> None:
        self._holdings = holdings
        self._leases = leases
        self._upstream = upstream
        self._provider = upstream.provider
        self._clock = clock
        self._ageings = ageings

    async def fill(self, lease: Lease, core: Interval) -> Filled:
        """Fetch all that a lease holds and store it; raise what upstream or the store raised.

        A lease that reaches the present ends where the request saw it. That may have waited
        since, and what is fetched now is known up to now: a tail stays one (stitching rule 3).
        Each request is stored as it comes, so that what came before a failure stays. Where one
        of them shows that upstream has changed the past, it ends: the request plans again.
        """
        key, now = lease.key, self._clock.now_ms()
        if lease.reaches_present and self._provider.info.data_end is None:
            end = max(lease.interval.end, present(now))
            await self._leases.widen(lease, Interval(lease.interval.start, end))
            core = Interval(core.start, end) if core.end >= lease.interval.start else core
        traits = self._provider.traits(key)
        entry = await self._holdings.load(key)
        filling = _Filling(lease, core, entry, traits, reach(self._provider, key, now))
        wide = lease.interval
        try:
            await self._all(filling, wide)
        except UpstreamUnavailable as error:
            if lease.fetched or core == wide:
                raise
            self._ageings.narrower(key)
            # Too much at once for upstream: what is needed goes alone, and less along from now on.
            _log.info("upstream failed at a wide request", series=key.text, error=error.message)
            await self._all(filling, core)
            return Filled(filling.restated, error.again())
        return Filled(filling.restated)

    async def _all(self, filling: _Filling, wide: Interval) -> None:
        for piece in self._pieces(filling, wide):
            await self._piece(filling, piece)
            if filling.restated:
                return

    def _pieces(self, filling: _Filling, wide: Interval) -> Iterator[Interval]:
        """Cut an interval into what one request spans, beginning where something is held.

        Each piece but the first has the one before it to be compared with (stitching rule 13).
        """
        span = filling.traits.max_span
        if span is None or wide.length <= span:
            yield wide
            return
        step = max(span - 11 * filling.traits.bar, span // 2, 1)
        count = -(-wide.length // step)
        if count > _MOST_CHUNKS:
            raise UpstreamRejected(
                f"{self._provider.info.name} gives {span / 1000:g} s of "
                f"{filling.lease.key.text} at once, so that this range would take {count:,} "
                f"requests; {_MOST_CHUNKS:,} are the most; ask for less"
            )
        rows = filling.entry.state.coverage
        pieces = (
            Interval(at, min(wide.end, at + step)) for at in range(wide.start, wide.end, step)
        )
        if not any(row.end == wide.start for row in rows) and any(
            row.start == wide.end for row in rows
        ):
            yield from reversed(list(pieces))
        else:
            yield from pieces

    async def _piece(self, filling: _Filling, piece: Interval) -> None:
        """Fetch a piece once, with held bars beside it, and store it (stitching rule 11)."""
        filling.entry = await self._holdings.load(filling.lease.key)
        if not self._provider.info.revises:
            brought, sent = await self._ask(filling, piece, filling.purpose)
            await self._store(filling, [(piece, brought, sent)])
            return
        now = self._clock.now_ms()
        around = await self._beside(filling, piece, now)
        await self._leases.widen(filling.lease, around.wide)
        asked = [(around.wide, *await self._ask(filling, around.wide, filling.purpose))]
        if around.bar is not None:
            await self._leases.widen(filling.lease, around.bar)
            asked.append((around.bar, *await self._ask(filling, around.bar, "seam")))
        await self._store(filling, asked)

    async def _beside(self, filling: _Filling, piece: Interval, now: int) -> Beside:
        basis = self._provider.info.basis
        if basis is None:
            return Beside(piece)
        key = filling.lease.key
        for instant in edges(filling.entry, piece):
            filling.entry = await self._holdings.load(key, instant)
        ageing = self._ageings.of(self._provider, filling.entry, now)
        span = self._ageings.span(key, filling.traits)
        assert ageing is not None
        sight = Sight(filling.reach, filling.traits.bar, span, basis, ageing, now)
        return beside(filling.entry, piece, sight)

    async def _ask(
        self, filling: _Filling, interval: Interval, purpose: str
    ) -> tuple[Brought, int]:
        """Fetch once; return what came and when it was asked for."""
        sent = self._clock.now_ms()
        meta, lease = filling.entry.state.meta, filling.lease
        return await self._upstream.ask(lease.key, interval, meta, purpose, lease.tally), sent

    async def _store(
        self, filling: _Filling, asked: Sequence[tuple[Interval, Brought, int]]
    ) -> None:
        """Store what came in one transaction (stitching rule 6)."""
        key, state = filling.lease.key, filling.entry.state
        restated, changed = await self._judged(filling, asked)
        if restated:
            filling.restated = True
            _log.info("upstream serves another past", series=key.text)
        change = Change(
            key=key,
            replacements=tuple(
                Replacement(
                    interval,
                    brought.run,
                    tuple(_known(interval, brought, sent)),
                    written(state.coverage, interval),
                )
                for interval, brought, sent in asked
            ),
            revises=self._provider.info.revises,
            # All that was stored before this was planned may stand on another basis.
            due_before=state.version + 1 if restated else 0,
            restates=restated or changed,
            meta=next((one.meta for _, one, _ in asked if one.meta is not None), None),
            at=self._clock.now_ms(),
        )
        filling.entry = await self._holdings.apply(change, filling.lease)
        filling.lease.fetched += [interval for interval, _, _ in asked]

    async def _judged(
        self, filling: _Filling, asked: Sequence[tuple[Interval, Brought, int]]
    ) -> tuple[bool, bool]:
        """Whether a final price that is held is another one in what came (stitching rule 11).

        Once of what is fresh: then all that was stored before is due. Once of whatever is held.
        Where no bar is served that could tell, what is fresh and no longer served is taken to be
        of another basis.
        """
        basis = self._provider.info.basis
        ageing = self._ageings.of(self._provider, filling.entry, self._clock.now_ms())
        if basis is None or ageing is None:
            return False, False
        compared = changed = False
        for interval, brought, _ in asked:
            final = finals(filling.entry, [interval])
            if not final:
                continue
            entry = await self._holdings.load(filling.lease.key, interval)
            held = held_run(entry, interval)
            fresh = finals(filling.entry, [interval], ageing)
            if _differ(basis, held, brought.run, fresh):
                return True, True
            changed = changed or _differ(basis, held, brought.run, final)
            compared = compared or any(len(held.cut(one)) for one in fresh)
        beyond = Interval(filling.reach.data_start, filling.reach.served_from)
        return not compared and bool(finals(filling.entry, [beyond], ageing)), changed


def _differ(basis: Basis, held: Run, came: Run, within: Sequence[Interval]) -> bool:
    """Whether the price of a held record is another one in what came."""
    return any(
        copy is not None and basis.whole(mine) and basis.whole(copy) and basis.differ(mine, copy)
        for mine, copy in pairs(held, came, within)
    )


def _known(interval: Interval, brought: Brought, sent: int) -> Iterator[Coverage]:
    """Yield what is known of an interval by what came: final, but for what may still change."""
    at = interval.start
    for span in brought.provisional:
        if at < span.start:
            yield _row(at, span.start, brought.run, sent, None)
        yield _row(span.start, span.end, brought.run, sent, span.refresh_after)
        at = span.end
    if at < interval.end:
        yield _row(at, interval.end, brought.run, sent, None)


def _row(start: int, end: int, run: Run, sent: int, refresh_after: int | None) -> Coverage:
    i, j = run.bounds(Interval(start, end))
    outcome = Outcome.HELD if j > i else Outcome.EMPTY
    return Coverage(start, end, outcome, sent, refresh_after)
