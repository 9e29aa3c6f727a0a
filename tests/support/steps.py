"""A hub before an upstream of editions, taken step by step: what is stored, what waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.administration import Administration
from gapless.hub.holdings import SeriesChanged
from gapless.hub.hub import Hub, Options
from gapless.hub.ranges import RangeSearch
from gapless.instants import DAY_MS
from gapless.providers.registry import Registry
from gapless.store.sqlite import open_store
from support.clock import ManualClock
from support.editions import Editions, day, days
from support.wire import PATIENT


class Steps:
    """One hub whose upstream answers when it is told to."""

    def __init__(self, hub: Hub, upstream: Editions, clock: ManualClock) -> None:
        self.hub = hub
        self.upstream = upstream
        self.clock = clock
        self.administration = Administration(hub)
        self.changes: list[SeriesChanged] = []
        hub.holdings.listeners.append(self.changes.append)

    def key(self, ticker: str) -> SeriesKey:
        """Return the key of a ticker's series."""
        return self.upstream.key(ticker, {})

    def search(self, ticker: str, asked: Interval) -> RangeSearch:
        """Return the search for a range."""
        return RangeSearch(self.key(ticker), asked, absolute=True)

    async def ask(self, ticker: str, first: int, end: int) -> Any:
        """Ask for days `[first, end)`."""
        return await self.hub.searcher.search(self.search(ticker, days(first, end)))

    async def refresh(self, ticker: str, first: int, end: int) -> Any:
        """Have days `[first, end)` fetched anew."""
        return await self.administration.refresh(self.search(ticker, days(first, end)))

    async def settled(self) -> None:
        """Return when all that goes on waits for upstream, or for nothing."""
        still = 0
        before: object = None
        while still < 3:
            # Both the reader threads and the writer have done what was asked of them by then.
            await self.hub.holdings.figures()
            await self.hub.holdings.settle()
            await asyncio.sleep(0)
            now = (self.upstream.count, len(self.upstream.waiting), len(self.changes))
            still = still + 1 if now == before else 0
            before = now

    async def stored(self, ticker: str) -> dict[int, dict[str, Any]]:
        """Return the records in the store by day, past the memory tier."""
        snapshot = await self.hub.holdings._store.read(self.key(ticker), Interval(0, 1 << 60))
        found: dict[int, dict[str, Any]] = {}
        for run in snapshot.runs.values():
            for time, text in run.records():
                found[day(time)] = msgspec.json.decode(text)
        return found

    async def known(self, ticker: str) -> set[int]:
        """Return the days that are covered."""
        snapshot = await self.hub.holdings._store.read(self.key(ticker))
        return {
            one
            for row in snapshot.state.coverage
            for one in range(day(row.start + DAY_MS - 1), day(row.end + DAY_MS - 1))
        }


@asynccontextmanager
async def steps(folder: Path, upstream: Editions, today: int = 400) -> AsyncIterator[Steps]:
    """Open a hub on a new database; it is noon of that day, counted as the records are."""
    clock = ManualClock(days(today, today).start + DAY_MS // 2)
    store = await asyncio.to_thread(open_store, folder / "steps.db")
    hub = Hub(store, Registry([upstream]), clock, Options(upstream=PATIENT), seed=0)
    try:
        yield Steps(hub, upstream, clock)
    finally:
        await upstream.aclose()
        await hub.close(1.0)
        await store.close()
