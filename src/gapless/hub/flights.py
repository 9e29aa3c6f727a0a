"""Leases on gaps: each is fetched by one task at a time, however many requests wait for it.

Stitching rule 7: requests wait for tasks, never tasks for requests; a request that goes away
ends nobody's fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from gapless.domain.intervals import Interval, subtract
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.upstream import Tally


@dataclass(frozen=True, slots=True)
class Filled:
    """What a task achieved: the intervals it fetched anew, and whether the basis had changed."""

    intervals: tuple[Interval, ...] = ()
    basis_changed: bool = False


@dataclass(slots=True, eq=False)
class Flight:
    """A task on its way, the interval it holds, and what it cost."""

    interval: Interval
    task: asyncio.Task[Filled]
    tally: Tally
    reaches_present: bool


Start = Callable[[Interval, Tally], Awaitable[Filled]]


class Flights:
    """The tasks under way, by series."""

    def __init__(self) -> None:
        self._flights: dict[SeriesKey, list[Flight]] = {}

    def of(self, key: SeriesKey) -> Sequence[Flight]:
        """Return the series' tasks under way."""
        return tuple(self._flights.get(key, ()))

    def overlapping(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Flight]:
        """Return the tasks that hold a part of the gaps."""
        wanted = list(gaps)
        return [
            flight
            for flight in self._flights.get(key, ())
            if any(flight.interval.overlaps(gap) for gap in wanted)
        ]

    def unleased(self, key: SeriesKey, gaps: Iterable[Interval]) -> list[Interval]:
        """Return the parts of the gaps that no task holds.

        What begins where a task reaches the present is not among them: the tail which that task
        brings will cover it (stitching rule 3), so the request plans again after it instead.
        """
        flights = self._flights.get(key, ())
        free = subtract(gaps, (flight.interval for flight in flights))
        ends = {flight.interval.end for flight in flights if flight.reaches_present}
        return [gap for gap in free if gap.start not in ends]

    def launch(
        self,
        key: SeriesKey,
        interval: Interval,
        start: Start,
        reaches_present: bool = False,
        caller: Caller = ANYBODY,
    ) -> Flight:
        """Start a task that holds `interval` of the series until it ends, on a caller's behalf."""
        tally = Tally([caller])

        async def fly() -> Filled:
            try:
                return await start(interval, tally)
            finally:
                flights = self._flights[key]
                flights.remove(flight)
                if not flights:
                    del self._flights[key]

        task = asyncio.get_running_loop().create_task(fly(), name=f"fill {key.text}")
        # A failure belongs to those who wait; without any it was logged where it happened.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        flight = Flight(interval, task, tally, reaches_present)
        self._flights.setdefault(key, []).append(flight)
        return flight

    async def wait(self, flights: Sequence[Flight]) -> list[Filled | GaplessError]:
        """Wait for tasks without owning them; return each one's outcome in order."""
        await asyncio.wait([flight.task for flight in flights])
        return [_outcome(flight.task) for flight in flights]

    async def drain(self, timeout: float) -> None:
        """Let the tasks under way end, for at most `timeout` seconds, then cancel what is left."""
        tasks = [flight.task for flights in self._flights.values() for flight in flights]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=timeout)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


def _outcome(task: asyncio.Task[Filled]) -> Filled | GaplessError:
    if task.cancelled():
        return GaplessError("the hub is stopping; ask again")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, GaplessError):
        return error
    raise error
