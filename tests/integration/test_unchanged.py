"""What is fetched again and comes as it is held: its blocks are not written (stitching rule 6)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gapless.hub.answers import Answer
from gapless.simulator.happenings import Correction
from support.scenes import Scene, scene, seconds, told

# A block has 2,000 records at the most: there is one of days, and there are two of hours.
DAYS = ("1d", "2023-06-01", "2025-06-01")
HOURS = ("1h", "2023-07-01", "2025-06-01")


async def due(world: Scene, interval: str, start: str, end: str) -> Answer:
    """Ask once the next session has opened."""
    world.at("2025-06-12T14:00")
    return await world.ask(start, end, interval)


async def refreshed(world: Scene, interval: str, start: str, end: str) -> Answer:
    """Ask for all of it to be fetched anew, a minute later."""
    world.wait(60)
    request = world.request(start, end, interval)
    answer = await world.hub.answer(
        world.hub.question(msgspec.structs.replace(request, fresh="now"))
    )
    assert isinstance(answer, Answer)
    return answer


def rows(path: Path) -> list[Any]:
    """Return the blocks as they lie in the database, every column of them."""
    database = sqlite3.connect(path)
    try:
        found = database.execute("SELECT * FROM entities ORDER BY number").fetchall()
    finally:
        database.close()
    return found


@pytest.mark.share(1)
@pytest.mark.parametrize("again", [due, refreshed])
@pytest.mark.parametrize(("asked", "blocks"), [(DAYS, 1), (HOURS, 2)], ids=["days", "hours"])
async def test_what_comes_as_it_is_held_is_not_written(
    tmp_path: Path,
    again: Callable[..., Awaitable[Answer]],
    asked: tuple[str, str, str],
    blocks: int,
) -> None:
    """Rows of blocks stay as they are, and so do the runs in memory with their escaped text."""
    interval, start, end = asked
    async with scene(tmp_path, "2025-06-11T21:00") as world:
        first = await world.ask(start, end, interval)
        before = await asyncio.to_thread(rows, world.path)
        assert len(before) == blocks
        second = await again(world, *asked)
        assert (second.state, second.requests) == ("ready", 1)
        assert second.fetched_at > first.fetched_at, "it was fetched again"
        assert await asyncio.to_thread(rows, world.path) == before
        assert second.etag == first.etag
        assert [one.run for one in second.slices] == [one.run for one in first.slices]
        await world.restart()
        assert told(await world.ask(start, end, interval)) == told(first)
        assert world.upstream == [], "that it was is known after a restart"


async def test_only_the_block_of_what_differs_is_written(tmp_path: Path) -> None:
    """A price that was corrected lies in one of two blocks; the other one stays as it is."""
    async with scene(tmp_path, "2025-06-11T21:00") as world:
        first = await world.ask(HOURS[1], HOURS[2], HOURS[0])
        _, later = await asyncio.to_thread(rows, world.path)
        stamp_s = told(first)[100]["timestamp"]
        seen_s = seconds("2025-06-11T22:00")
        world.market.add(Correction("AAA", "1h", stamp_s, seen_s=seen_s, close=1.01))
        second = await due(world, *HOURS)
        assert (second.state, second.etag == first.etag) == ("ready", False)
        kept, anew = await asyncio.to_thread(rows, world.path)
        assert kept == later
        assert anew[0] > later[0], "the first one was written under a new number"
