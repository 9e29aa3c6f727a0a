"""A hub before an upstream of editions, taken step by step: what is stored, what waits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.administration import Administration
from gapless.hub.holdings import SeriesChanged
from gapless.hub.hub import Hub
from gapless.hub.ranges import RangeSearch
from gapless.instants import DAY_MS
from gapless.providers.registry import Registry
from gapless.store.base import Store
from gapless.store.sql import SqlStore
from gapless.store.sqlite import open_store
from support.clock import ManualClock
from support.editions import Editions, day, days
from support.wire import PATIENT

# So many turns of the loop in which nothing is asked of the store: whatever could go on has.
_QUIET_TURNS = 50


class WatchedStore:
    """The real store; `under_way` counts what it has been asked and has not answered."""

    def __init__(self, store: SqlStore) -> None:
        self.under_way = 0
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def watched(*args: Any, **named: Any) -> Any:
            self.under_way += 1
            try:
                return await found(*args, **named)
            finally:
                self.under_way -= 1

        return watched


class Steps:
    """One hub whose upstream answers when it is told to."""

    def __init__(
        self, hub: Hub, store: WatchedStore, upstream: Editions, clock: ManualClock
    ) -> None:
        self.hub = hub
        self.store = store
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
        search, now = self.search(ticker, days(first, end)), self.hub.clock.now_ms()
        return await self.hub.searcher.search(
            await self.hub.searcher.look(self.upstream, search, now)
        )

    async def refresh(self, ticker: str, first: int, end: int) -> Any:
        """Have days `[first, end)` fetched anew."""
        return await self.administration.refresh(self.search(ticker, days(first, end)))

    async def settled(self) -> None:
        """Return when all that goes on waits for upstream, or for nothing."""
        quiet = 0
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            quiet = 0 if self.store.under_way else quiet + 1

    async def stored(self, ticker: str) -> dict[int, dict[str, Any]]:
        """Return the records in the store by day, past the memory tier."""
        snapshot = await self.store.read(self.key(ticker), Interval(0, 1 << 60))
        found: dict[int, dict[str, Any]] = {}
        for run in snapshot.runs.values():
            for time, text in run.records():
                found[day(time)] = msgspec.json.decode(text)
        return found

    async def known(self, ticker: str) -> set[int]:
        """Return the days that are covered."""
        snapshot = await self.store.read(self.key(ticker))
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
    watched = WatchedStore(store)
    hub = Hub(cast("Store", watched), Registry([upstream]), clock, PATIENT, seed=0)
    try:
        yield Steps(hub, watched, upstream, clock)
    finally:
        await upstream.aclose()
        await hub.close(1.0)
        await store.close()
