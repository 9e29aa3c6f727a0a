"""A budget of bytes: what fits goes at once, the rest in its turn."""

from __future__ import annotations

import asyncio

import pytest

from gapless.servers.http.budget import ByteBudget
from support.wire import PATIENCE_S


async def test_what_does_not_fit_waits_for_its_turn() -> None:
    """In the order in which it was asked for, however much smaller what comes later is."""
    budget = ByteBudget(100)
    order: list[str] = []
    leave = {name: asyncio.Event() for name in "abcd"}
    inside = {name: asyncio.Event() for name in "abcd"}

    async def hold(name: str, size: int) -> None:
        async with budget.hold(size):
            order.append(name)
            inside[name].set()
            await leave[name].wait()

    tasks = [asyncio.create_task(hold(*one)) for one in (("a", 60), ("b", 50), ("c", 10))]
    await inside["a"].wait()
    await asyncio.sleep(0)
    assert order == ["a"]
    leave["a"].set()
    await inside["c"].wait()
    assert order == ["a", "b", "c"]
    leave["b"].set()
    leave["c"].set()
    tasks.append(asyncio.create_task(hold("d", 5_000)))
    await inside["d"].wait()
    leave["d"].set()
    await asyncio.gather(*tasks)


async def test_who_gives_up_leaves_nothing_behind() -> None:
    """Cancelled before or after its turn came, what it wanted is there for others."""
    budget = ByteBudget(10)
    for early in (True, False):
        first = budget.hold(10)
        await first.__aenter__()
        waiting = asyncio.create_task(budget.hold(8).__aenter__())
        await asyncio.sleep(0)
        if early:
            waiting.cancel()
        await first.__aexit__(None, None, None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(PATIENCE_S), budget.hold(10):
            pass
