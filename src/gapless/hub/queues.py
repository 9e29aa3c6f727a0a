"""Queues: of the requests that have a series fetched, one has its turn after the other.

Stitching rule 7: where held bars are compared, tasks of several requests beside one another would
have nothing to compare with, fetch the same, or take from each other what they compare with. Who
waits is not woken by each task that ends, but when all it lacks was answered, or by its turn: else
a thousand small gaps would have everybody plan a thousand times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gapless.domain.intervals import Interval, subtract
from gapless.domain.series import SeriesKey
from gapless.hub.course import Course
from gapless.hub.leases import Lease, Leases


@dataclass(slots=True, eq=False)
class _Place:
    """The place of a request in a queue: what it lacks yet, and the tasks that concern it."""

    course: Course
    wanted: Sequence[Interval]
    left: list[Interval]
    woken: asyncio.Future[None]
    ended: list[Lease] = field(default_factory=list)

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Queues:
    """Whose turn it is with each series, and who waits for it in which order."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._waiting: dict[SeriesKey, deque[_Place]] = {}
        self._turns: dict[SeriesKey, Course] = {}

    def enter(self, key: SeriesKey, course: Course) -> bool:
        """Return whether a request has its turn; where nobody has or waits for it, it gets it."""
        if self._turns.get(key) is course:
            return True
        if key in self._turns or key in self._waiting or self._leases.of(key):
            return False
        self._turns[key] = course
        return True

    async def stand(
        self, key: SeriesKey, course: Course, wanted: Sequence[Interval], patience: float | None
    ) -> Sequence[Lease] | None:
        """Wait until a request's turn comes, or what it wants was answered or failed.

        Returns the tasks that ended meanwhile and held a part of it, or made all due that was
        stored before; `None`: `patience` seconds have passed.
        """
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = _Place(course, wanted, list(wanted), woken)
        self._waiting.setdefault(key, deque()).append(place)
        for lease in self._leases.of(key):
            self._join(lease, place)
        try:
            async with asyncio.timeout(patience):
                await woken
        except TimeoutError:
            return None
        finally:
            self._remove(key, place)
        return place.ended

    def leave(self, key: SeriesKey, course: Course) -> None:
        """End a request's turn, if it has it."""
        if self._turns.get(key) is course:
            del self._turns[key]
            self._next(key)

    def follow(self, lease: Lease) -> None:
        """Note that a task has begun; what it brings may be all that others wait for."""
        for place in self._waiting.get(lease.key, ()):
            self._join(lease, place)
        lease.task.add_done_callback(lambda _: self._ended(lease))

    def _join(self, lease: Lease, place: _Place) -> None:
        if lease.overlaps(place.left):
            lease.tally.join(place.course.caller)

    def _ended(self, lease: Lease) -> None:
        done = lease.task
        failed = done.cancelled() or done.exception() is not None
        restated = not failed and done.result().restated
        for place in list(self._waiting.get(lease.key, ())):
            concerned = lease.overlaps(place.wanted)
            if concerned or restated:
                place.ended.append(lease)
            if concerned:
                place.left = subtract(place.left, lease.answered)
                if failed or not place.left:
                    self._remove(lease.key, place)
                    place.wake()
        self._next(lease.key)

    def _next(self, key: SeriesKey) -> None:
        waiting = self._waiting.get(key)
        if not waiting or key in self._turns or self._leases.of(key):
            return
        place = waiting[0]
        self._remove(key, place)
        self._turns[key] = place.course
        place.wake()

    def _remove(self, key: SeriesKey, place: _Place) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[key]
