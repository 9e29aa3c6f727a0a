"""The one door to what the hub holds: the store seen through the memory tier.

Whatever reads or changes what is stored goes through here, so that each change of a series is
seen in memory at once, and is announced once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from gapless.domain.blocks import Run
from gapless.domain.intervals import ALWAYS, Interval, hull
from gapless.domain.series import SeriesKey
from gapless.hub.leases import Lease, Leases, LocalLeases
from gapless.hub.memory import Memory
from gapless.hub.series import Series
from gapless.store.base import (
    Change,
    EntityFilter,
    Figures,
    Removal,
    SeriesSummary,
    Snapshot,
    Store,
    StoredEntity,
)

T = TypeVar("T")
U = TypeVar("U")
_log = structlog.get_logger("gapless.holdings")

NOTHING = Interval(ALWAYS.end, ALWAYS.end)
"""Of which nothing is known but the latest of a series."""


@dataclass(frozen=True, slots=True)
class SeriesChanged:
    """A series has changed, and is now as a commit left it.

    Numbers of commits are never used twice. `gone`: nothing is stored of it any more.
    """

    key: SeriesKey
    commit: int
    gone: bool = False


class Holdings:
    """Reads that remember, and changes that are seen at once and told.

    Each of `listeners` is told of each change of a series, in the order of the commits, when it
    is stored and seen in memory. It must not wait, and what it raises is logged.
    """

    def __init__(self, store: Store, memory: Memory, leases: Leases) -> None:
        self.memory = memory
        self.listeners: list[Callable[[SeriesChanged], None]] = []
        self._store = store
        self._leases = leases
        # Changes under way, also those whose callers have gone.
        self._changing: set[asyncio.Task[object]] = set()

    # Reading

    async def load(
        self, key: SeriesKey, interval: Interval, *others: Interval, about: Interval | None = None
    ) -> Series:
        """Return a series over some intervals, with its runs there; and `about` that, without."""
        intervals = (interval, *others)
        needed = intervals if about is None else (*intervals, about)
        series = self.memory.get(key)
        if series is None or not all(map(series.state.knows, needed)):
            if about is None:
                series = await self._read(key, self._store.read(key, hull(intervals)))
            else:
                series = await self._read(key, self._store.directory(key, hull(needed)))
        runs = dict(series.runs)
        lacking: list[int] = []
        for one in intervals:
            for block in series.state.blocks.over(one):
                if block.number is None or block.number in runs:
                    continue
                run = self.memory.run(block.number)
                if run is None:
                    lacking.append(block.number)
                else:
                    runs[block.number] = run
        if lacking:
            found = await self._store.runs(lacking)
            if len(found) < len(lacking):
                # The series was changed meanwhile. One read shows it and its runs as they are,
                # however fast it changes.
                self.memory.drop(key)
                return await self._read(key, self._store.read(key, hull(intervals), hull(needed)))
            runs.update(self.memory.add_runs(found))
        return Series(series.state, series.validity, runs)

    async def directory(
        self, key: SeriesKey, interval: Interval = NOTHING, *, runs: bool = False
    ) -> Series:
        """Return a series over an interval, with none of its runs to be relied on.

        `runs`: where it has to be read, they are worth to be read with it.
        """
        series = self.memory.get(key)
        if series is not None and series.state.knows(interval):
            return series
        read = self._store.read if runs else self._store.directory
        return await self._read(key, read(key, interval))

    async def anew(self, key: SeriesKey, interval: Interval) -> Series:
        """Return a series as the store has it, for what memory shows proved to be overtaken."""
        self.memory.drop(key)
        return await self.directory(key, interval)

    async def count(self, series: Series, interval: Interval) -> int | None:
        """Count the records in an interval; `None`: the series has changed since.

        Blocks that lie within it are not read for that; those at its edges are, if they must be.
        """
        count = 0
        edges: list[int] = []
        for block in series.state.blocks.over(interval):
            if interval.start <= block.first and block.last < interval.end:
                count += block.count
            elif block.number is not None:
                edges.append(block.number)
        runs = {number: hot.run for number in edges if (hot := self.memory.run(number))}
        lacking = [number for number in edges if number not in runs]
        if lacking:
            runs.update(await self._store.runs(lacking))
            if len(runs) < len(edges):
                self.memory.drop(series.state.key)
                return None
        for i, j in (run.bounds(interval) for run in runs.values()):
            count += j - i
        return count

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        """Return runs by block number, past the memory tier; a block that is gone is left out."""
        return await self._store.runs(numbers)

    async def warm(self) -> SeriesKey | None:
        """Prepare what the first read would otherwise pay for; return any series there is."""
        return await self._store.warm()

    async def entities(
        self, wanted: EntityFilter, limit: int, offset: int = 0, max_bytes: int | None = None
    ) -> Sequence[StoredEntity]:
        """Return stored entities ordered by id, blocks included; see `Store.entities`."""
        return await self._store.entities(wanted, limit, offset, max_bytes)

    async def summaries(
        self, provider: str | None, after: SeriesKey | None, limit: int
    ) -> Sequence[SeriesSummary]:
        """Return a page of what is stored, in figures; see `Store.summaries`."""
        return await self._store.summaries(provider, after, limit)

    async def figures(self) -> Figures:
        """Count what is stored."""
        return await self._store.figures()

    # Changing

    async def apply(self, change: Change, lease: Lease | None = None) -> Series:
        """Make a change in the store, then in memory; see `Store.apply`.

        It writes only within its lease; one that writes no records needs none. Raises
        `Superseded` as well where what it was to write was forgotten meanwhile.
        """
        if lease is not None:
            lease.check(one.interval for one in change.replacements)
        elif change.replacements:
            raise AssertionError(f"{change.key.text}: no lease on what is written")

        def seen(snapshot: Snapshot) -> Series:
            entry = self.memory.changed(snapshot)
            self._announce(SeriesChanged(change.key, snapshot.state.version))
            if snapshot.actions is not None:
                self.memory.changed(snapshot.actions)
                actions = snapshot.actions.state
                self._announce(SeriesChanged(actions.key, actions.version))
            # What is known of the ticker has changed: by it the others may be due.
            for sibling in snapshot.siblings:
                self.memory.drop(sibling)
            return entry

        return await self._changed(change.key, self._store.apply(change), seen)

    async def delete(self, key: SeriesKey, interval: Interval | None = None) -> Removal:
        """Forget a range of a series (`None`: all of it), and what is being fetched of it."""
        self._leases.revoke(key, interval)
        return await self._forgotten(key, partial(self._store.delete, key, interval))

    async def prune(self, before: int) -> tuple[int, int]:
        """Forget what was fetched before that instant; return (series touched, records gone)."""
        series = records = 0
        for key in await self._store.aged(before):
            removal = await self._forgotten(key, partial(self._store.prune, key, before))
            series += removal.commit is not None
            records += removal.records
        return series, records

    async def save_entities(self, entities: Iterable[StoredEntity]) -> None:
        """Store entities as they are; see `Store.save_entities`. They change no series."""
        await self._store.save_entities(entities)

    async def settle(self) -> None:
        """Wait for the changes under way, whose callers may have gone."""
        if self._changing:
            await asyncio.wait(self._changing)

    async def _read(self, key: SeriesKey, work: Awaitable[Snapshot]) -> Series:
        """Read a series of the store; where it was changed meanwhile it is current no more."""
        self.memory.misses += 1
        reading = self.memory.begin_read(key)
        try:
            snapshot = await work
        except BaseException:
            self.memory.give_up(reading)
            raise
        return self.memory.end_read(reading, snapshot)

    async def _forgotten(self, key: SeriesKey, step: Callable[[], Awaitable[Removal]]) -> Removal:
        """Forget step by step, so that others have their turn; what is done stays done."""

        def seen(removal: Removal) -> Removal:
            if removal.commit is not None:
                self.memory.drop(key)
                self._announce(SeriesChanged(key, removal.commit, removal.series))
            return removal

        records, commit = 0, None
        while True:
            done = await self._changed(key, step(), seen)
            records += done.records
            commit = commit if done.commit is None else done.commit
            if not done.more:
                return Removal(records, commit, done.series)

    async def _changed(self, key: SeriesKey, work: Awaitable[T], seen: Callable[[T], U]) -> U:
        """Have the store changed and tell what came of it, whether or not the caller waits.

        What the database does cannot be called back, so nobody's going away may hide it.
        """

        async def to_its_end() -> U:
            try:
                came = await work
            except BaseException:
                # Whether it was made is not known for certain; the store tells at the next read.
                self.memory.drop(key)
                raise
            return seen(came)

        task = asyncio.get_running_loop().create_task(to_its_end(), name=f"change {key.text}")
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        # A failure is the caller's; where that has gone, it is nobody's.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def _announce(self, change: SeriesChanged) -> None:
        for listener in self.listeners:
            try:
                listener(change)
            except Exception:
                # The change is made; what one cannot take is no reason that the others miss it.
                _log.exception("a listener failed", series=change.key.text, commit=change.commit)


def alone(store: Store) -> Holdings:
    """Return the door to a store that no hub has: nothing is kept in memory, nobody else asks."""
    return Holdings(store, Memory(0), LocalLeases())
