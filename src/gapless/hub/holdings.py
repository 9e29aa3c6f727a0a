"""What the hub holds: the store seen through the memory tier, never one without the other."""

from __future__ import annotations

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import InternalError
from gapless.hub.hot import HotSeries, HotTier
from gapless.store.base import Change, Store

# A read is only overtaken by a change of the same series, and those take as long as a read.
_MOST_READS = 50
_NOTHING = Interval(0, 0)


class Holdings:
    """Reads that remember and changes that are seen at once."""

    def __init__(self, store: Store, hot: HotTier) -> None:
        self.store = store
        self.hot = hot

    async def load(self, key: SeriesKey, interval: Interval = _NOTHING) -> HotSeries:
        """Return a series with the runs of the blocks over `interval` in memory."""
        for _ in range(_MOST_READS):
            entry = self.hot.get(key)
            if entry is None:
                self.hot.misses += 1
                entry = await self._read(key, interval)
                if entry is None:
                    continue
            lacking = entry.lacking(interval)
            if not lacking:
                return entry
            runs = await self.store.runs(lacking)
            if len(runs) < len(lacking) or not entry.current:
                # The series was changed meanwhile; a run that is gone is no longer its.
                if entry.current:
                    self.hot.drop(key)
                continue
            self.hot.add_runs(entry, runs)
            return entry
        raise InternalError(f"{key.text} changes faster than it can be read")

    async def apply(self, change: Change) -> HotSeries:
        """Make a change in the store, then in memory; see `Store.apply`."""
        try:
            snapshot = await self.store.apply(change)
        except BaseException:
            # Whether it was made is not known for certain; the store tells at the next read.
            self.hot.drop(change.key)
            raise
        return self.hot.changed(snapshot)

    async def _read(self, key: SeriesKey, interval: Interval) -> HotSeries | None:
        ticket = self.hot.begin_read(key)
        snapshot = None
        try:
            snapshot = await self.store.read(key, interval)
        finally:
            entry = self.hot.end_read(ticket, snapshot)
        return entry
