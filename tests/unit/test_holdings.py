"""Series read while they are changed: whoever reads them has them whole, however fast that is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gapless.domain.blocks import Run
from gapless.domain.intervals import ALWAYS, Interval
from gapless.hub.holdings import Holdings
from gapless.hub.leases import LocalLeases
from gapless.hub.memory import Memory
from gapless.store.base import Removal, Snapshot
from gapless.store.sqlite import open_store
from support.series import KEY, change, fill
from support.stores import BLOCK_RECORDS

TIMES = range(0, BLOCK_RECORDS * 200, 10)


class Overtaken:
    """A store of which each read is overtaken: one more record, of the first block, is forgotten.

    What it shows is what it has, and by the time it is known it is not so any more.
    """

    def __init__(self, path: Path) -> None:
        self.store = open_store(path, BLOCK_RECORDS)
        self.holdings = Holdings(self._itself(), Memory(1 << 20), LocalLeases())
        self.gone = 0

    def _itself(self) -> Any:
        return self

    async def read(
        self, key: Any, load: Interval | None = None, about: Interval | None = None
    ) -> Snapshot:
        found = await self.store.read(key, load, about)
        await self._forget()
        return found

    async def directory(self, key: Any, interval: Interval) -> Snapshot:
        found = await self.store.directory(key, interval)
        await self._forget()
        return found

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        return await self.store.runs(numbers)

    async def delete(self, key: Any, interval: Interval | None = None) -> Removal:
        return await self.store.delete(key, interval)

    async def _forget(self) -> None:
        at = TIMES[self.gone]
        self.gone += 1
        await self.holdings.delete(KEY, Interval(at, at + 1))


@pytest.mark.parametrize("about", [None, ALWAYS])
async def test_a_series_that_changes_all_the_time_is_read(
    tmp_path: Path, about: Interval | None
) -> None:
    """It is told as it was when it was read, with all its records, and as not current any more."""
    overtaken = await asyncio.to_thread(Overtaken, tmp_path / "hub.db")
    try:
        await overtaken.store.apply(change(fill(0, TIMES.stop, TIMES)))
        for _ in range(3):
            asked = Interval(0, TIMES.stop // 2)
            series = await overtaken.holdings.load(KEY, asked, about=about)
            assert not series.current
            # The change that the last read was overtaken by is not in it yet.
            wanted = [time for time in TIMES[overtaken.gone - 1 :] if time < asked.end]
            assert list(series.held(asked).times) == wanted
            assert all(map(series.state.knows, (asked, about or asked)))
            series = await overtaken.holdings.directory(KEY, asked)
            assert sum(block.count for block in series.state.blocks.over(asked)) >= len(wanted) - 1
    finally:
        await overtaken.store.close()
