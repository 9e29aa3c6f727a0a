"""Leases: one task a gap, however many wait, come and go."""

from __future__ import annotations

import asyncio

import pytest

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, UpstreamUnavailable
from gapless.hub.flights import Filled, Flight, Flights
from gapless.hub.upstream import Tally
from support.series import KEY

OTHER = SeriesKey("sample", "MSFT")


class Gate:
    """A piece of work that ends when it is told to, and with what."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Filled] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def __call__(self, interval: Interval, tally: Tally) -> Filled:
        tally.requests += 1
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def launch(
    flights: Flights, start: int, end: int, key: SeriesKey = KEY, present: bool = False
) -> tuple[Flight, Gate]:
    """Start a task that holds `[start, end)`."""
    gate = Gate()
    return flights.launch(key, Interval(start, end), gate, present), gate


async def test_a_task_holds_its_gap_until_it_ends() -> None:
    """While a task runs its gap is taken, in its own series alone; then it is free again."""
    flights = Flights()
    flight, gate = launch(flights, 10, 20)
    gaps = [Interval(0, 15), Interval(18, 30)]
    assert flights.of(KEY) == (flight,)
    assert flights.overlapping(KEY, gaps) == [flight]
    assert flights.overlapping(KEY, [Interval(0, 10), Interval(20, 30)]) == []
    assert flights.overlapping(OTHER, gaps) == []
    assert flights.unleased(KEY, gaps) == [Interval(0, 10), Interval(20, 30)]
    assert flights.unleased(OTHER, gaps) == gaps
    gate.outcome.set_result(Filled((Interval(10, 20),)))
    assert await flights.wait([flight]) == [Filled((Interval(10, 20),))]
    assert flights.of(KEY) == ()
    assert flights.unleased(KEY, gaps) == gaps
    assert flight.tally.requests == 1


async def test_what_follows_a_tail_is_not_fetched_beside_it() -> None:
    """A gap that begins where a task reaches the present waits for the tail it brings."""
    flights = Flights()
    _, one = launch(flights, 10, 20, present=True)
    _, two = launch(flights, 40, 50)
    gaps = [Interval(0, 25), Interval(45, 60)]
    assert flights.unleased(KEY, gaps) == [Interval(0, 10), Interval(50, 60)]
    for gate in (one, two):
        gate.outcome.set_result(Filled())
    await flights.drain(1.0)


async def test_all_who_wait_share_the_outcome() -> None:
    """Many wait for one task, and all get its error; nothing is started again."""
    flights = Flights()
    flight, gate = launch(flights, 0, 10)
    waiting = [asyncio.ensure_future(flights.wait([flight])) for _ in range(20)]
    await asyncio.sleep(0)
    error = UpstreamUnavailable("down")
    gate.outcome.set_exception(error)
    assert await asyncio.gather(*waiting) == [[error]] * 20
    assert flights.of(KEY) == ()


async def test_outcomes_come_in_the_order_asked_for() -> None:
    """Each task's outcome is its own, whichever ends first."""
    flights = Flights()
    one, first = launch(flights, 0, 10)
    two, second = launch(flights, 10, 20)
    waiting = asyncio.ensure_future(flights.wait([one, two]))
    await asyncio.sleep(0)
    second.outcome.set_result(Filled(basis_changed=True))
    await asyncio.sleep(0)
    assert not waiting.done()
    error = UpstreamUnavailable("down")
    first.outcome.set_exception(error)
    assert await waiting == [error, Filled(basis_changed=True)]


async def test_who_goes_away_ends_nobodys_fetch() -> None:
    """A request that is cancelled leaves the task to those who still wait, or to the store."""
    flights = Flights()
    flight, gate = launch(flights, 0, 10)
    gone = asyncio.ensure_future(flights.wait([flight]))
    stays = asyncio.ensure_future(flights.wait([flight]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not gate.cancelled
    gate.outcome.set_result(Filled())
    assert await stays == [Filled()]


async def test_a_fault_of_ours_is_raised_as_it_is() -> None:
    """What is no named error is not dressed up as one."""
    flights = Flights()
    flight, gate = launch(flights, 0, 10)
    gate.outcome.set_exception(ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        await flights.wait([flight])
    assert flights.of(KEY) == ()


async def test_a_failure_that_nobody_waits_for_is_no_noise() -> None:
    """A task without waiters that fails frees its gap and leaves nothing unretrieved."""
    flights = Flights()
    flight, gate = launch(flights, 0, 10)
    gate.outcome.set_exception(UpstreamUnavailable("down"))
    await asyncio.wait([flight.task])
    assert flights.of(KEY) == ()


async def test_draining_waits_then_cancels() -> None:
    """What ends in time ends well, what does not is cancelled, and those who wait are told."""
    flights = Flights()
    await flights.drain(0.0)
    quick, done = launch(flights, 0, 10)
    slow, stuck = launch(flights, 10, 20, OTHER)
    waiting = asyncio.ensure_future(flights.wait([quick, slow]))
    await asyncio.sleep(0)
    done.outcome.set_result(Filled())
    await flights.drain(0.01)
    assert stuck.cancelled
    outcomes = await waiting
    assert outcomes[0] == Filled()
    assert isinstance(outcomes[1], GaplessError)
    assert flights.of(KEY) == flights.of(OTHER) == ()
