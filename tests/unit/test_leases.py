"""Leases: one task a gap, however many wait, come and go; none writes beyond its own."""

from __future__ import annotations

import asyncio

import pytest

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, UpstreamUnavailable
from gapless.hub.leases import Filled, Lease, LeaseTaken, LocalLeases
from gapless.store.base import Superseded
from support.series import KEY

OTHER = SeriesKey("sample", "MSFT")


class Gate:
    """A piece of work that ends when it is told to, and with what."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Filled] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def __call__(self, lease: Lease) -> Filled:
        lease.tally.requests += 1
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def launch(
    leases: LocalLeases, start: int, end: int, key: SeriesKey = KEY, present: bool = False
) -> tuple[Lease, Gate]:
    """Start a task that holds `[start, end)`."""
    gate = Gate()
    return leases.launch(key, Interval(start, end), gate, present), gate


async def test_a_task_holds_its_gap_until_it_ends() -> None:
    """While a task runs its gap is taken, in its own series alone; then it is free again."""
    leases = LocalLeases()
    lease, gate = launch(leases, 10, 20)
    gaps = [Interval(0, 15), Interval(18, 30)]
    assert leases.of(KEY) == (lease,)
    assert leases.overlapping(KEY, gaps) == [lease]
    assert leases.overlapping(KEY, [Interval(0, 10), Interval(20, 30)]) == []
    assert leases.overlapping(OTHER, gaps) == []
    assert leases.unleased(KEY, gaps) == [Interval(0, 10), Interval(20, 30)]
    assert leases.unleased(OTHER, gaps) == gaps
    gate.outcome.set_result(Filled(restated=True))
    assert await leases.wait([lease]) == [Filled(restated=True)]
    assert leases.of(KEY) == ()
    assert leases.unleased(KEY, gaps) == gaps
    assert lease.tally.requests == 1


async def test_what_follows_a_tail_is_not_fetched_beside_it() -> None:
    """A gap that begins where a task reaches the present waits for the tail it brings."""
    leases = LocalLeases()
    _, one = launch(leases, 10, 20, present=True)
    _, two = launch(leases, 40, 50)
    gaps = [Interval(0, 25), Interval(45, 60)]
    assert leases.unleased(KEY, gaps) == [Interval(0, 10), Interval(50, 60)]
    for gate in (one, two):
        gate.outcome.set_result(Filled())
    await leases.drain(1.0)


async def test_all_who_wait_share_the_outcome() -> None:
    """Many wait for one task, and all get its error; nothing is started again."""
    leases = LocalLeases()
    lease, gate = launch(leases, 0, 10)
    waiting = [asyncio.ensure_future(leases.wait([lease])) for _ in range(20)]
    await asyncio.sleep(0)
    error = UpstreamUnavailable("down")
    gate.outcome.set_exception(error)
    assert await asyncio.gather(*waiting) == [[error]] * 20
    assert leases.of(KEY) == ()


async def test_outcomes_come_in_the_order_asked_for() -> None:
    """Each task's outcome is its own, whichever ends first."""
    leases = LocalLeases()
    one, first = launch(leases, 0, 10)
    two, second = launch(leases, 10, 20)
    waiting = asyncio.ensure_future(leases.wait([one, two]))
    await asyncio.sleep(0)
    second.outcome.set_result(Filled(restated=True))
    await asyncio.sleep(0)
    assert not waiting.done()
    error = UpstreamUnavailable("down")
    first.outcome.set_exception(error)
    assert await waiting == [error, Filled(restated=True)]


async def test_waiting_ends_with_patience_and_the_task_goes_on() -> None:
    """Who has waited long enough is told what has ended, and nothing of what has not."""
    leases = LocalLeases()
    one, first = launch(leases, 0, 10)
    two, second = launch(leases, 10, 20)
    first.outcome.set_result(Filled())
    await leases.wait([one])
    assert await leases.wait([one, two], timeout=0.0) == [Filled(), None]
    assert not second.cancelled
    assert leases.of(KEY) == (two,)
    second.outcome.set_result(Filled(restated=True))
    # An hour is more than it takes to end what has its outcome.
    assert await leases.wait([one, two], timeout=3_600.0) == [Filled(), Filled(restated=True)]


async def test_who_goes_away_ends_nobodys_fetch() -> None:
    """A request that is cancelled leaves the task to those who still wait, or to the store."""
    leases = LocalLeases()
    lease, gate = launch(leases, 0, 10)
    gone = asyncio.ensure_future(leases.wait([lease]))
    stays = asyncio.ensure_future(leases.wait([lease]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not gate.cancelled
    gate.outcome.set_result(Filled())
    assert await stays == [Filled()]


async def test_a_fault_of_ours_is_raised_as_it_is() -> None:
    """What is no named error is not dressed up as one."""
    leases = LocalLeases()
    lease, gate = launch(leases, 0, 10)
    gate.outcome.set_exception(ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        await leases.wait([lease])
    assert leases.of(KEY) == ()


async def test_a_failure_that_nobody_waits_for_is_no_noise() -> None:
    """A task without waiters that fails frees its gap and leaves nothing unretrieved."""
    leases = LocalLeases()
    lease, gate = launch(leases, 0, 10)
    gate.outcome.set_exception(UpstreamUnavailable("down"))
    await asyncio.wait([lease.task])
    assert leases.of(KEY) == ()


async def test_draining_waits_then_cancels() -> None:
    """What ends in time ends well, what does not is cancelled, and those who wait are told."""
    leases = LocalLeases()
    await leases.drain(0.0)
    quick, done = launch(leases, 0, 10)
    slow, stuck = launch(leases, 10, 20, OTHER)
    waiting = asyncio.ensure_future(leases.wait([quick, slow]))
    await asyncio.sleep(0)
    done.outcome.set_result(Filled())
    await leases.drain(0.01)
    assert stuck.cancelled
    outcomes = await waiting
    assert outcomes[0] == Filled()
    assert isinstance(outcomes[1], GaplessError)
    assert leases.of(KEY) == leases.of(OTHER) == ()


async def test_a_lease_is_widened_as_far_as_nobody_else_is() -> None:
    """What is free is added to a lease; what another holds is refused, and says who that is."""
    leases = LocalLeases()
    one, first = launch(leases, 0, 10)
    two, second = launch(leases, 30, 40)
    await leases.widen(one, Interval(10, 20))
    await leases.widen(one, Interval(5, 20))
    await leases.widen(one, Interval(25, 30))
    assert one.intervals == [Interval(0, 20), Interval(25, 30)]
    with pytest.raises(LeaseTaken) as taken:
        await leases.widen(one, Interval(29, 31))
    assert taken.value.by == (two,)
    assert leases.overlapping(KEY, [Interval(26, 27)]) == [one]
    assert leases.unleased(KEY, [Interval(0, 50)]) == [Interval(20, 25), Interval(40, 50)]
    one.check([Interval(0, 20), Interval(26, 28)])
    with pytest.raises(AssertionError, match="no lease"):
        one.check([Interval(15, 30)])
    for gate in (first, second):
        gate.outcome.set_result(Filled())
    await leases.drain(1.0)
    await leases.widen(one, Interval(30, 40))


async def test_a_revoked_lease_writes_no_more() -> None:
    """What is forgotten takes the right to write from whoever fetches it, and from nobody else."""
    leases = LocalLeases()
    one, first = launch(leases, 0, 10)
    two, second = launch(leases, 30, 40)
    other, third = launch(leases, 0, 10, OTHER)
    leases.revoke(KEY, Interval(10, 35))
    assert [lease.revoked for lease in (one, two, other)] == [False, True, False]
    with pytest.raises(Superseded, match="forgotten"):
        two.check([Interval(30, 31)])
    leases.revoke(KEY)
    assert [lease.revoked for lease in (one, two, other)] == [True, True, False]
    for gate in (first, second, third):
        gate.outcome.set_result(Filled())
    await leases.drain(1.0)
