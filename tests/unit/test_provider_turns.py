"""Whose turn it is to ask a provider: nobody's queue keeps others waiting behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gapless.errors import QuotaExceeded, RateLimited
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.pacing import Bucket
from gapless.hub.provider_turns import ProviderTurns
from support.clock import ManualClock

ANN, BOB, CYD = (Caller(f"{name}@example.com") for name in ("ann", "bob", "cyd"))


class Order:
    """Turns of one a second, who had them in which order, and when."""

    def __init__(self, rate: float = 1.0, burst: int = 1) -> None:
        self.clock = ManualClock()
        self.start = self.clock.monotonic()
        self.turns = ProviderTurns("steady", Bucket(rate, burst, self.start), self.clock)
        self.had: list[str] = []
        self.at: list[float] = []

    async def take(
        self,
        *callers: Caller,
        patience: float = 1_000.0,
        joinable: Callable[[Callable[[Caller], None] | None], None] = lambda join: None,
    ) -> None:
        await self.turns.take(callers, patience, joinable)
        self.had.append(callers[0].name[:3])
        self.at.append(self.clock.monotonic() - self.start)


async def test_alone_one_has_the_whole_pace() -> None:
    """In the order in which they were asked for, as fast as the bucket fills."""
    order = Order(rate=2.0, burst=3)
    await asyncio.gather(*(order.take(ANN) for _ in range(7)))
    assert order.at == [0, 0, 0, 0.5, 1.0, 1.5, 2.0]


async def test_a_backfill_does_not_starve_others() -> None:
    """Whoever comes after a thousand requests of another's has every other turn."""
    order = Order()
    backfill = [asyncio.ensure_future(order.take(ANN, patience=10_000)) for _ in range(1_000)]
    await asyncio.sleep(0)
    await asyncio.gather(*(order.take(BOB) for _ in range(5)))
    assert order.had.count("bob") == 5
    assert order.had.count("ann") <= 9
    await asyncio.gather(*(order.take(one) for one in (BOB, CYD, BOB, CYD)))
    turns = order.had[-8:]
    assert turns.count("bob") == turns.count("cyd") == 2
    for task in backfill:
        task.cancel()
    await asyncio.gather(*backfill, return_exceptions=True)
    assert not order.turns._queues


async def test_who_asks_too_much_is_told_so_and_when_to_come_again() -> None:
    """It is the asker's own queue that is too long; where nobody is told apart, the pace."""
    order = Order()
    await order.take(ANN)
    waiting = [asyncio.ensure_future(order.take(ANN, patience=6.5)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(QuotaExceeded, match="5 requests of yours wait for steady already") as told:
        await order.take(ANN, patience=5.5)
    assert told.value.retry_after_s == 6.0
    # Others are not: their turn comes second.
    await order.take(BOB, patience=5.5)
    await asyncio.gather(*waiting)
    plain = Order()
    await plain.take(ANYBODY)
    rest = [asyncio.ensure_future(plain.take(ANYBODY, patience=2.5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="asked at most 1 times a second"):
        await plain.take(ANYBODY, patience=2.5)
    await asyncio.gather(*rest)


async def test_who_leaves_lets_the_next_one_go_on() -> None:
    """Wherever in the queue they stood, at its head and asleep included."""
    order = Order(rate=0.001)
    await order.take(ANN)
    them = (ANN, BOB, CYD, ANN)
    tasks = [asyncio.ensure_future(order.take(one, patience=10**6)) for one in them]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order.had == ["ann", "ann", "bob"]
    assert not order.turns._queues


async def test_work_for_two_is_done_at_the_turn_of_the_first_of_them() -> None:
    """Whoever joins what waits in a long queue does not wait behind that."""
    order = Order()
    await order.take(ANN)
    queue = [asyncio.ensure_future(order.take(ANN)) for _ in range(50)]
    joins: list[Callable[[Caller], None] | None] = []
    shared = asyncio.ensure_future(order.take(ANN, joinable=joins.append))
    await asyncio.sleep(0)
    join = joins[0]
    assert join is not None
    join(BOB)
    join(BOB)
    await shared
    assert order.had.count("ann") <= 4
    assert joins[-1] is None
    for task in queue:
        task.cancel()
    await asyncio.gather(*queue, return_exceptions=True)
    assert not order.turns._queues


async def test_nobody_waits_for_ever() -> None:
    """Those who come between may push somebody past their time: they are told, in real time."""
    order = Order(rate=0.01)

    class Asleep(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    order.turns = ProviderTurns("steady", Bucket(0.5, 1, 0.0), Asleep(monotonic=0.0))
    await order.take(ANN)
    with pytest.raises(RateLimited):
        await order.take(ANN, patience=2.05)
    assert not order.turns._queues
