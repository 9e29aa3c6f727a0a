"""A store of which each read is overtaken by a change before whoever asked knows what it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.hub import Hub
from gapless.store.base import Snapshot, Store
from support.stores import store_of


class Overtaken:
    """A store, and what happens each time that something was read of a series.

    What a read shows is what there was, and by the time it is known it is not so any more.
    `change` is set by whoever has the door to it.
    """

    def __init__(self, store: Store) -> None:
        self.change: Callable[[], Awaitable[object]] | None = None
        self.reads = 0
        self._store = store

    @classmethod
    def of(cls, hub: Hub) -> Overtaken:
        """Come between a hub and its store."""
        between = cls(store_of(hub))
        hub.holdings._store = cast("Store", between)
        return between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, key: SeriesKey, load: Interval | None = None) -> Snapshot:
        """Read a series, which changes then."""
        return await self._changed(self._store.read(key, load))

    async def with_runs(
        self, key: SeriesKey, interval: Interval, load: Sequence[Interval]
    ) -> Snapshot:
        """Read a series with runs; it changes then."""
        return await self._changed(self._store.with_runs(key, interval, load))

    async def directory(self, key: SeriesKey, interval: Interval) -> Snapshot:
        """Read a series without runs; it changes then."""
        return await self._changed(self._store.directory(key, interval))

    async def _changed(self, read: Awaitable[Snapshot]) -> Snapshot:
        found = await read
        self.reads += 1
        if self.change is not None:
            await self.change()
        return found
