"""Storing what came bit by bit: commits are small, and others have their turn between them.

For what is compared with nothing that is held, and so needs not be believed as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from gapless.clock import Clock
from gapless.computing import computed
from gapless.domain.blocks import EMPTY
from gapless.domain.coverage import Coverage, changed, unchanged, written
from gapless.domain.intervals import Interval, subtract
from gapless.domain.spans import Spans
from gapless.hub.holdings import Holdings
from gapless.hub.judging import Came, known
from gapless.hub.leases import Lease
from gapless.hub.look import needed
from gapless.hub.news import facts_of
from gapless.hub.series import Series
from gapless.providers.base import Provider
from gapless.store.base import Change, Replacement, SeriesState, Superseded

# So many records are stored in one commit, over so many intervals that are known already.
_AT_ONCE, _KNOWN_AT_ONCE = 16_000, 100


@dataclass(slots=True)
class Asked:
    """What was known when a request was made, which must still be so where it is stored (rule 7).

    `commits` are those by which parts of its answer were stored.
    """

    rows: Spans[Coverage]
    due_before: int
    commits: set[int] = field(default_factory=set)

    @classmethod
    def by(cls, state: SeriesState) -> Asked:
        """Return what a state of the series has."""
        return cls(state.coverage, state.due_before)

    def wrote(self, state: SeriesState) -> None:
        """Note that a part of the answer led to this state."""
        self.commits.add(state.version)
        self.due_before = state.due_before


class Stepwise:
    """Stores answers of one provider step by step, and takes them back."""

    def __init__(self, holdings: Holdings, provider: Provider, clock: Clock) -> None:
        self._holdings = holdings
        self._provider = provider
        self._clock = clock

    async def store(self, lease: Lease, asked: Asked, came: Came) -> Series:
        """Store an answer to what was asked under a lease; return the series as it is then.

        Raises `Superseded` where the series was written to since, by others than by this answer;
        what was stored until then stays.
        """
        key = lease.key
        known_there = asked.rows.over(came.interval)
        cuts = [row.end for row in known_there[_KNOWN_AT_ONCE - 1 :: _KNOWN_AT_ONCE]]
        parts, count = came.parts(_AT_ONCE, cuts), len(came.brought.run)
        entry = None
        while (part := await computed(count, partial(next, parts, None))) is not None:
            about = needed(self._provider, part.interval)
            rows = (await self._holdings.directory(key, about)).state.coverage
            brought, planned = part.brought, written(rows, part.interval)
            if not unchanged(written(asked.rows, part.interval), planned, asked.commits):
                raise Superseded(f"{key.text} was written to since this was asked for")
            fresh = changed(known(part.interval, brought.run, part), rows, (), part.sent)
            change = Change(
                key,
                (Replacement(part.interval, brought.run, tuple(fresh), planned),),
                answered=(part.interval,),
                meta=brought.meta,
                at=self._clock.now_ms(),
                planned_due=asked.due_before,
                news=facts_of([part]),
            )
            entry = await self._holdings.apply(change, lease)
            asked.wrote(entry.state)
            lease.answered.append(part.interval)
            lease.fetched.append(part.interval)
        # Even of nothing there is one part.
        assert entry is not None
        return entry

    async def withdraw(self, lease: Lease, part: Interval) -> Series:
        """Forget what was stored of a part under a lease: it was not all there is."""
        nothing = Replacement(part, EMPTY, ())
        change = Change(lease.key, (nothing,), at=self._clock.now_ms())
        await self._holdings.apply(change, lease)
        lease.answered[:] = subtract(lease.answered, [part])
        lease.fetched[:] = subtract(lease.fetched, [part])
        return await self._holdings.directory(lease.key, needed(self._provider, lease.interval))
