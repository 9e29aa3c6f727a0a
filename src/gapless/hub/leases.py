"""Leases: each part of a series is fetched by one task at a time, however many requests wait.

Stitching rule 7: a task writes only what it holds a lease on; requests wait for tasks, never
tasks for requests; a request that goes away ends nobody's fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gapless.domain.intervals import Interval, covers, hull, subtract, union
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.upstream import Tally
from gapless.providers.base import BadValues
from gapless.store.base import Superseded


class LeaseTaken(Superseded):
    """Another task holds a part of what one would have needed: plan again when it has ended."""

    def __init__(self, message: str, by: Sequence[Lease]) -> None:
        super().__init__(message)
        self.by = tuple(by)


@dataclass(frozen=True, slots=True)
class Filled:
    """How a task ended: whether what it brought made due what was stored before (rule 11).

    `by_name`: only by an action that it names, and by no price. `behind`: it gave way, for these
    held what it needed.
    """

    restated: bool = False
    by_name: bool = False
    behind: tuple[Lease, ...] = ()


@dataclass(slots=True, eq=False)
class Lease:
    """The right of one task to fetch and write parts of a series, until it ends.

    `intervals` are disjoint, in order. `reaches_present`: what it brings ends with a tail.
    `answered`: what upstream has answered for so far; `fetched`: what of that is stored.
    `bad_values`: where there were values that were no numbers. `revoked`: what it was to write was
    forgotten meanwhile, so that it writes no more.
    """

    key: SeriesKey
    intervals: list[Interval]
    tally: Tally
    reaches_present: bool
    task: asyncio.Task[Filled] = field(init=False)
    answered: list[Interval] = field(default_factory=list)
    fetched: list[Interval] = field(default_factory=list)
    bad_values: list[BadValues] = field(default_factory=list)
    revoked: bool = False

    @property
    def interval(self) -> Interval:
        """From where to where it reaches."""
        return hull(self.intervals)

    def overlaps(self, intervals: Iterable[Interval]) -> bool:
        """Whether it holds a part of these."""
        return any(one.overlaps(other) for other in intervals for one in self.intervals)

    def check(self, intervals: Iterable[Interval]) -> None:
        """Raise `Superseded` unless these may be written under it."""
        if self.revoked:
            raise Superseded(f"{self.key.text} was forgotten while it was fetched")
        for interval in intervals:
            if not covers(self.intervals, interval):
                raise AssertionError(f"{self.key.text}: no lease on {interval}")


Start = Callable[[Lease], Awaitable[Filled]]


class Leases(Protocol):
    """Who fetches what, among all that share a store."""

    def of(self, key: SeriesKey) -> Sequence[Lease]:
        """Return the leases on a series."""
        ...

    def overlapping(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Lease]:
        """Return the leases that hold a part of the gaps."""
        ...

    def unleased(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Interval]:
        """Return the parts of the gaps that no lease holds.

        What begins where a lease reaches the present is not among them: the tail which that task
        brings will cover it (stitching rule 3), so the request plans again after it instead.
        """
        ...

    def launch(
        self,
        key: SeriesKey,
        interval: Interval,
        start: Start,
        reaches_present: bool = False,
        caller: Caller = ANYBODY,
    ) -> Lease:
        """Start a task that holds `interval` of the series until it ends, on a caller's behalf."""
        ...

    async def widen(self, lease: Lease, interval: Interval) -> None:
        """Let a lease hold `interval` as well; raise `LeaseTaken` where another one does."""
        ...

    def revoke(self, key: SeriesKey, interval: Interval | None = None) -> None:
        """Let nothing be written any more under leases over `interval` (`None`: any)."""
        ...

    async def wait(
        self, leases: Sequence[Lease], timeout: float | None = None
    ) -> list[Filled | GaplessError | None]:
        """Wait for tasks without owning them; return each one's outcome in order.

        `None` is the outcome of one that has not ended within `timeout` seconds, and goes on.
        """
        ...

    async def drain(self, timeout: float) -> None:
        """Let the tasks under way end, for at most `timeout` seconds, then cancel what is left."""
        ...


class LocalLeases:
    """The leases of a hub that has its store to itself."""

    def __init__(self) -> None:
        self._leases: dict[SeriesKey, list[Lease]] = {}

    def of(self, key: SeriesKey) -> Sequence[Lease]:
        """Return the leases on a series."""
        return tuple(self._leases.get(key, ()))

    def overlapping(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Lease]:
        """Return the leases that hold a part of the gaps."""
        wanted = list(gaps)
        return [lease for lease in self._leases.get(key, ()) if lease.overlaps(wanted)]

    def unleased(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Interval]:
        """Return the parts of the gaps that no lease holds; see `Leases.unleased`."""
        leases = self._leases.get(key, ())
        free = subtract(gaps, (interval for lease in leases for interval in lease.intervals))
        ends = {lease.interval.end for lease in leases if lease.reaches_present}
        return [gap for gap in free if gap.start not in ends]

    def launch(
        self,
        key: SeriesKey,
        interval: Interval,
        start: Start,
        reaches_present: bool = False,
        caller: Caller = ANYBODY,
    ) -> Lease:
        """Start a task that holds `interval` of the series until it ends, on a caller's behalf."""
        lease = Lease(key, [interval], Tally([caller]), reaches_present)

        async def work() -> Filled:
            try:
                return await start(lease)
            finally:
                leases = self._leases[key]
                leases.remove(lease)
                if not leases:
                    del self._leases[key]

        lease.task = asyncio.get_running_loop().create_task(work(), name=f"fill {key.text}")
        # A failure belongs to those who wait; without any it was logged where it happened.
        lease.task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._leases.setdefault(key, []).append(lease)
        return lease

    async def widen(self, lease: Lease, interval: Interval) -> None:
        """Let a lease hold `interval` as well; raise `LeaseTaken` where another one does."""
        others = [one for one in self.overlapping(lease.key, [interval]) if one is not lease]
        if others:
            raise LeaseTaken(f"{lease.key.text}: another task has {interval}", others)
        lease.intervals = union([*lease.intervals, interval])

    def revoke(self, key: SeriesKey, interval: Interval | None = None) -> None:
        """Let nothing be written any more under leases over `interval` (`None`: any)."""
        for lease in self._leases.get(key, ()):
            if interval is None or lease.overlaps([interval]):
                lease.revoked = True

    async def wait(
        self, leases: Sequence[Lease], timeout: float | None = None
    ) -> list[Filled | GaplessError | None]:
        """Wait for tasks without owning them; see `Leases.wait`."""
        await asyncio.wait([lease.task for lease in leases], timeout=timeout)
        return [_outcome(lease.task) for lease in leases]

    async def drain(self, timeout: float) -> None:
        """Let the tasks under way end, for at most `timeout` seconds, then cancel what is left."""
        tasks = [lease.task for leases in self._leases.values() for lease in leases]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=timeout)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


def _outcome(task: asyncio.Task[Filled]) -> Filled | GaplessError | None:
    if not task.done():
        return None
    if task.cancelled():
        return GaplessError("the hub is stopping; ask again")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, GaplessError):
        return error
    raise error
