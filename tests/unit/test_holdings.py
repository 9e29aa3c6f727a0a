"""Series read while they are changed: whoever reads them has them whole, however fast that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from gapless.domain.intervals import ALWAYS, Interval
from gapless.hub.holdings import Holdings
from gapless.hub.leases import LocalLeases
from gapless.hub.memory import Memory
from gapless.store.base import Store
from gapless.store.sqlite import open_store
from support.overtaken import Overtaken
from support.series import KEY, change, fill
from support.stores import BLOCK_RECORDS

TIMES = range(0, BLOCK_RECORDS * 200, 10)
# Within a block, so that its records there are counted.
ASKED = Interval(0, TIMES.stop // 2 + 15)


class Shrinking:
    """Holdings of a series of which one more record, the first one, is forgotten at each read."""

    def __init__(self, store: Store) -> None:
        overtaken = Overtaken(store)
        self.holdings = Holdings(cast("Store", overtaken), Memory(1 << 20), LocalLeases())
        self.gone = 0
        overtaken.change = self._forget

    @property
    def shown(self) -> list[int]:
        """The times that the last read showed: its change is not in it yet."""
        return [time for time in TIMES[self.gone - 1 :] if time < ASKED.end]

    async def _forget(self) -> None:
        at = TIMES[self.gone]
        self.gone += 1
        await self.holdings.delete(KEY, Interval(at, at + 1))


@asynccontextmanager
async def shrinking(folder: Path) -> AsyncIterator[Shrinking]:
    """Open a store with a record at all times."""
    store = await asyncio.to_thread(open_store, folder / "hub.db", BLOCK_RECORDS)
    try:
        await store.apply(change(fill(0, TIMES.stop, TIMES)))
        yield Shrinking(store)
    finally:
        await store.close()


@pytest.mark.parametrize("about", [None, ALWAYS])
async def test_a_series_that_changes_all_the_time_is_read(
    tmp_path: Path, about: Interval | None
) -> None:
    """It is told as it was when it was read, with all its records, and as not current any more."""
    async with shrinking(tmp_path) as one:
        for _ in range(3):
            series = await one.holdings.load(KEY, ASKED, about=about)
            assert not series.current
            assert list(series.held(ASKED).times) == one.shown
            assert all(map(series.state.knows, (ASKED, about or ASKED)))
            series = await one.holdings.directory(KEY, ASKED)
            assert sum(block.count for block in series.state.blocks.over(ASKED)) >= len(one.shown)


@pytest.mark.parametrize("most", [0, TIMES.stop], ids=["counted", "whole"])
async def test_an_answer_is_made_of_a_series_that_changes_all_the_time(
    tmp_path: Path, most: int
) -> None:
    """Of what it was at one moment: with as many records as there were, which are all there."""
    async with shrinking(tmp_path) as one:
        for _ in range(3):
            series = await one.holdings.directory(KEY, ALWAYS)
            series = await one.holdings.answering(series, ASKED, most, ALWAYS)
            assert not series.current
            assert series.count(ASKED) == len(one.shown)
            assert series.state.knows(ALWAYS)
            assert series.holds(ASKED) == (most > 0)
