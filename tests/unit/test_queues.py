"""Queues: one request at a time has a series fetched, and nobody is woken for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gapless.domain.intervals import Interval
from gapless.errors import UpstreamUnavailable
from gapless.hub.callers import Caller
from gapless.hub.course import Course
from gapless.hub.leases import Filled, Lease, LocalLeases
from gapless.hub.queues import Queues
from support.series import KEY


class Street:
    """A queue with its tasks; each ends when it is told to."""

    def __init__(self) -> None:
        self.leases = LocalLeases()
        self.queues = Queues(self.leases)
        self.ends: dict[Lease, asyncio.Future[Filled]] = {}

    def fetch(self, start: int, end: int) -> Lease:
        """Start a task that holds `[start, end)`."""
        outcome: asyncio.Future[Filled] = asyncio.get_running_loop().create_future()

        async def work(lease: Lease) -> Filled:
            return await outcome

        lease = self.leases.launch(KEY, Interval(start, end), work)
        self.ends[lease] = outcome
        self.queues.follow(lease)
        return lease

    async def end(self, lease: Lease, filled: Filled | None = None) -> None:
        """End a task that has brought all that it holds."""
        lease.answered += lease.intervals
        self.ends[lease].set_result(filled or Filled())
        await self.leases.wait([lease])
        await asyncio.sleep(0)

    def stand(
        self, start: int, end: int, course: Course, patience: float | None = None
    ) -> Standing:
        """Have a request wait that lacks `[start, end)`."""
        wanted = [Interval(start, end)]
        return asyncio.ensure_future(self.queues.stand(KEY, course, wanted, patience))


Standing = asyncio.Future[Sequence[Lease] | None]


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_has_its_turn_at_once_and_keeps_it() -> None:
    """The others wait until it leaves; of another series nobody has it."""
    street, first, second = Street(), Course(), Course()
    assert street.queues.enter(KEY, first)
    assert street.queues.enter(KEY, first)
    assert not street.queues.enter(KEY, second)
    waiting = street.stand(0, 10, second)
    await settled()
    assert not waiting.done()
    street.queues.leave(KEY, second)
    await settled()
    assert not waiting.done(), "who has no turn ends none"
    street.queues.leave(KEY, first)
    assert await waiting == []
    assert street.queues.enter(KEY, second)


async def test_turns_come_in_the_order_of_the_requests() -> None:
    """Each of them when the one before has left and its task has ended; none is woken before."""
    street = Street()
    courses = [Course() for _ in range(20)]
    assert street.queues.enter(KEY, courses[0])
    waiting = [street.stand(10 * i, 10 * i + 10, one) for i, one in enumerate(courses[1:], 1)]
    for i, course in enumerate(courses):
        await settled()
        assert [one.done() for one in waiting] == [at < i for at in range(len(waiting))]
        assert street.queues.enter(KEY, course)
        lease = street.fetch(10 * i, 10 * i + 10)
        street.queues.leave(KEY, course)
        await settled()
        assert [one.done() for one in waiting] == [at < i for at in range(len(waiting))]
        await street.end(lease)
    assert street.queues.enter(KEY, Course())


async def test_what_was_answered_is_not_waited_for() -> None:
    """Whoever lacks nothing any more is woken, wherever it stands; a part of it is not enough."""
    street, first = Street(), Course()
    assert street.queues.enter(KEY, first)
    apart, wide, small = (
        street.stand(50, 60, Course()),
        street.stand(0, 40, Course()),
        street.stand(5, 10, Course()),
    )
    await settled()
    one = street.fetch(0, 20)
    await street.end(one)
    assert await small == [one]
    assert not wide.done()
    two = street.fetch(20, 40)
    await street.end(two)
    assert await wide == [one, two]
    assert not apart.done()
    street.queues.leave(KEY, first)
    assert await apart == []


async def test_a_failure_is_shared_by_those_it_concerns() -> None:
    """Whoever lacks a part of what failed is woken; the others wait for their turns."""
    street, first = Street(), Course()
    assert street.queues.enter(KEY, first)
    concerned, other = street.stand(0, 40, Course()), street.stand(50, 60, Course())
    await settled()
    lease = street.fetch(0, 20)
    street.ends[lease].set_exception(UpstreamUnavailable("down"))
    assert await concerned == [lease]
    await settled()
    assert not other.done()
    street.queues.leave(KEY, first)
    assert await other == []


async def test_what_made_all_due_is_told_to_all() -> None:
    """Who waits for something else hears of it at its turn, for what it had may be due."""
    street, first = Street(), Course()
    assert street.queues.enter(KEY, first)
    waiting = street.stand(50, 60, Course())
    await settled()
    lease = street.fetch(0, 20)
    await street.end(lease, Filled(restated=True))
    assert not waiting.done()
    street.queues.leave(KEY, first)
    assert await waiting == [lease]


async def test_who_goes_away_holds_nobody_up() -> None:
    """One that is cancelled, before its turn or just as it came, or has no more patience."""
    street, first, third, last = Street(), Course(), Course(), Course()
    assert street.queues.enter(KEY, first)
    impatient = street.stand(0, 10, Course(), patience=0.0)
    gone, waiting, after = (
        street.stand(10, 20, Course()),
        street.stand(20, 30, third),
        street.stand(30, 40, last),
    )
    assert await impatient is None
    gone.cancel()
    await settled()
    street.queues.leave(KEY, first)
    waiting.cancel()
    await asyncio.wait([waiting])
    # What every search does at its end, however that comes.
    street.queues.leave(KEY, third)
    assert await after == []
    assert street.queues.enter(KEY, last)


async def test_callers_who_wait_are_counted_with_the_task() -> None:
    """A task that brings what they lack has its turn upstream by theirs, too."""
    street, first = Street(), Course()
    second, third = Course(Caller("second")), Course(Caller("third"))
    assert street.queues.enter(KEY, first)
    early = street.stand(0, 10, second)
    await settled()
    lease = street.fetch(0, 10)
    late, other = street.stand(5, 10, third), street.stand(50, 60, Course(Caller("other")))
    await settled()
    assert [one.name for one in lease.tally.callers[1:]] == ["second", "third"]
    await street.end(lease)
    assert await early == await late == [lease]
    other.cancel()
