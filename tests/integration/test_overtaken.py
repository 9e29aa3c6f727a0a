"""Ranges of a series that others change all the time are answered, and fetched once.

Each time that anything is read of the series, something else of it is forgotten before whoever
has read knows what it shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import cast

import msgspec
import pytest

from gapless.clock import SystemClock
from gapless.domain.intervals import Interval, subtract, union
from gapless.hub.answers import Answer
from gapless.hub.entities import Listing
from gapless.hub.hub import Hub
from gapless.instants import format_instant
from gapless.protocol.fresh import Fresh
from gapless.protocol.messages import (
    DateRange,
    GetEntity,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.providers.registry import Registry
from gapless.store.base import Store
from gapless.store.sqlite import open_store
from support.bystanders import minute, stock
from support.overtaken import Overtaken
from support.providers import SteadyProvider
from support.steady_hub import MINUTE_MS, minutes
from support.wire import PATIENT

# So many islands, each of ten minutes in twenty, are planned in a thread.
ISLANDS = [minute(20 * number) for number in range(400)]
# Of this it is forgotten, minute by minute.
FAR = minute(100_000, 10_000)


class Restless:
    """A hub of whose one series a minute is forgotten after each read."""

    def __init__(self, store: Store, steady: SteadyProvider) -> None:
        self.steady = steady
        self.overtaken = Overtaken(store)
        door = cast("Store", self.overtaken)
        self.hub = Hub(door, Registry([steady]), SystemClock(), PATIENT, seed=0)
        self._key = steady.key("AAA", {})
        self._numbers = count(100_000)

    async def forget(self) -> None:
        """Forget one minute more."""
        await self.hub.holdings.delete(self._key, minute(next(self._numbers), 1))

    async def ask(
        self, asked: Interval, most_loaded: int | None = None, fresh: Fresh | None = None
    ) -> Answer:
        """Ask for a range."""
        wanted = SearchEntities((Ticker("AAA"), DateRange(*map(format_instant, asked))))
        return await self._asked(ProviderRequest("steady", wanted, fresh=fresh), most_loaded)

    async def view(self, asked: Interval, most_loaded: int | None = None) -> Answer:
        """Ask for what is held of a range by its id."""
        start, end = map(format_instant, asked)
        return await self._asked(
            ProviderRequest("steady", GetEntity(f"steady:AAA:{start}..{end}")), most_loaded
        )

    async def _asked(self, request: ProviderRequest, most_loaded: int | None) -> Answer:
        found = await self.hub.answer(self.hub.question(request, most_loaded=most_loaded))
        answer = found.entities[0] if isinstance(found, Listing) else found
        assert isinstance(answer, Answer)
        return answer


@asynccontextmanager
async def restless(folder: Path) -> AsyncIterator[Restless]:
    """Open a hub that holds islands, and of which the rest is forgotten bit by bit."""
    store, steady = await asyncio.to_thread(open_store, folder / "hub.db", 100), minutes()
    # As old as what is fetched by the test, so that it becomes one row with it.
    await stock(store, steady, "AAA", [*ISLANDS, FAR], at=SystemClock().now_ms())
    one = Restless(store, steady)
    one.overtaken.change = one.forget
    try:
        yield one
    finally:
        await one.hub.close(1.0)
        await store.close()


def check(one: Restless, answer: Answer, asked: Interval) -> None:
    """Hold an answer against the truth."""
    wanted = [record.row for record in one.steady.records("AAA", asked)]
    assert answer.state == "ready"
    assert msgspec.json.decode(answer.text()) == wanted


@pytest.mark.parametrize("by_id", [False, True], ids=["searched", "by id"])
async def test_what_is_held_is_answered(tmp_path: Path, by_id: bool) -> None:
    """Also where it is counted first, and where it comes without its records."""
    async with restless(tmp_path) as one:
        ask = one.view if by_id else one.ask
        for number, most in ((0, None), (1, 10), (2, 4)):
            island = ISLANDS[number]
            asked = Interval(island.start + 1, island.end - 60_000)
            before = one.overtaken.reads
            answer = await ask(asked, most)
            assert answer.count == 8
            assert answer.loaded == (most != 4)
            if answer.loaded:
                check(one, answer, asked)
            assert one.overtaken.reads - before <= 5
        assert not one.steady.calls


async def test_what_is_not_held_is_fetched_once(tmp_path: Path) -> None:
    """Between many islands: planned again for what others have changed, but not for ever."""
    async with restless(tmp_path) as one:
        asked = Interval(ISLANDS[0].start, ISLANDS[-1].end)
        check(one, await one.ask(asked), asked)
        fetched = one.steady.asked("AAA")
        assert len(fetched) <= one.hub.settings.cache.max_gaps
        assert not subtract(subtract([asked], ISLANDS), fetched)
        assert sum(part.length for part in fetched) == sum(part.length for part in union(fetched))
        check(one, await one.ask(asked), asked)
        assert one.steady.asked("AAA") == fetched


async def test_what_is_fetched_again_is_not_fetched_twice_for_what_lies_beside_it(
    tmp_path: Path,
) -> None:
    """What others refresh and add elsewhere in a series meanwhile is nothing to a refresh."""
    async with restless(tmp_path) as one:
        one.overtaken.change = None
        start = FAR.start
        mine = Interval(start + 60 * MINUTE_MS, start + 70 * MINUTE_MS)
        gate = one.steady.hold("AAA")
        refresh = asyncio.create_task(one.ask(mine, fresh="now"))
        await gate.arrived.wait()
        one.steady.let_others_by("AAA")
        for number in range(5):
            at = start + (100 + 20 * number) * MINUTE_MS
            await one.ask(Interval(at, at + 10 * MINUTE_MS), fresh="now")
            end = FAR.end + number * MINUTE_MS
            await one.ask(Interval(end, end + MINUTE_MS))
        gate.open.set()
        check(one, await refresh, mine)
        assert one.steady.asked("AAA").count(mine) == 1
        assert len(one.steady.calls) == 11
        # All of it is one row again when whoever kept it apart is through.
        await one.ask(Interval(start, start + MINUTE_MS), fresh="now")
        series = await one.hub.holdings.directory(one.steady.key("AAA", {}), FAR)
        assert len(series.state.coverage.over(FAR)) <= 3
