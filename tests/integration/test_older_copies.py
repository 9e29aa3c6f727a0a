"""A task writes no more than it may, and never an older copy over a newer one (rule 7)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gapless.domain.blocks import EMPTY
from gapless.hub.holdings import SeriesChanged
from gapless.hub.leases import Filled, Lease
from gapless.store.base import Change, Replacement
from support.editions import Editions, day, days
from support.providers import SteadyProvider
from support.steps import Steps, steps
from support.web import web


async def restated(world: Steps) -> asyncio.Task[Any]:
    """Hold 100 days of which 40 are restated, and ask for the days after.

    What waits is a request for these with the last held days beside them.
    """
    world.upstream.open = True
    await world.ask("AAA", 0, 100)
    world.upstream.open = False
    world.upstream.revise("AAA", 60, 100)
    asking = asyncio.ensure_future(world.ask("AAA", 100, 110))
    await world.settled()
    (call,) = world.upstream.waiting
    assert day(call.interval.start) == 90
    return asking


async def let_go(world: Steps, *waiting: asyncio.Task[Any]) -> None:
    """Let upstream answer whatever comes until these have ended."""
    while not all(one.done() for one in waiting):
        await world.settled()
        while world.upstream.waiting:
            world.upstream.release(world.upstream.waiting[0])


async def test_a_slow_request_does_not_undo_a_refresh(tmp_path: Path) -> None:
    """Upstream restates again while an answer is slow; what was refreshed meanwhile stays."""
    async with steps(tmp_path, Editions()) as world:
        asking = await restated(world)
        (slow,) = world.upstream.waiting
        world.upstream.revise("AAA", 85, 100)
        refreshing = asyncio.ensure_future(world.refresh("AAA", 85, 100))
        await world.settled()
        # Whether it waits for the slow piece or has gone before: that comes last.
        while others := [one for one in world.upstream.waiting if one is not slow]:
            world.upstream.release(others[0])
            await world.settled()
        world.upstream.release(slow)
        await let_go(world, asking, refreshing)
        assert (await refreshing).state == "ready"
        stored = await world.stored("AAA")
        assert sorted(stored) == list(range(110))
        # What nobody has asked for since is due: the days after it showed that all may be older.
        newest = {one: world.upstream.edition("AAA", one) + 100 for one in range(85, 110)}
        assert {one: stored[one]["close"] for one in newest} == newest
        assert min(stored[one]["asked"] for one in range(85, 100)) > slow.number


async def test_what_was_forgotten_is_not_brought_back_by_a_task_from_before(
    tmp_path: Path,
) -> None:
    """A deletion takes the right to write from whoever fetches; the request fetches again."""
    async with steps(tmp_path, Editions()) as world:
        asking = await restated(world)
        (slow,) = world.upstream.waiting
        assert await world.administration.delete(world.key("AAA"), days(90, 95)) == 5
        world.upstream.release(slow)
        await let_go(world, asking)
        assert (await asking).state == "ready"
        stored = await world.stored("AAA")
        assert not set(range(90, 95)) & set(stored)
        assert min(stored[one]["asked"] for one in range(100, 110)) > slow.number


async def test_what_is_forgotten_before_it_came_is_fetched_anew(tmp_path: Path) -> None:
    """Nothing of a first fetch is kept that was under way when its series was forgotten."""
    async with steps(tmp_path, Editions(revises=False)) as world:
        asking = asyncio.ensure_future(world.ask("AAA", 0, 10))
        await world.settled()
        (before,) = world.upstream.waiting
        assert await world.administration.delete(world.key("AAA")) == 0
        world.upstream.revise("AAA", 0, 10)
        world.upstream.release(before)
        await let_go(world, asking)
        assert {row["close"] for row in (await world.stored("AAA")).values()} == {101}


async def test_tasks_that_would_meet_give_way(tmp_path: Path) -> None:
    """Where another task has what one would have to write, its request plans again after it."""
    async with steps(tmp_path, Editions()) as world:
        world.upstream.open = True
        await world.ask("AAA", 0, 100)
        world.upstream.open = False
        world.upstream.revise("AAA", 60, 100)
        refreshing = asyncio.ensure_future(world.refresh("AAA", 95, 100))
        await world.settled()
        (refresh,) = world.upstream.waiting
        asking = asyncio.ensure_future(world.ask("AAA", 100, 110))
        await world.settled()
        # What is held beside the gap is the refresh's, so that it is not asked for yet.
        assert world.upstream.waiting == [refresh]
        await let_go(world, asking, refreshing)
        stored = await world.stored("AAA")
        newest = {one: world.upstream.edition("AAA", one) + 100 for one in range(95, 110)}
        assert {one: stored[one]["close"] for one in newest} == newest
        assert world.hub.leases.of(world.key("AAA")) == ()


async def test_a_refresh_waits_for_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    """And not for whatever has begun since, or others could put it off for ever."""
    async with steps(tmp_path, Editions(revises=False)) as world:
        first = asyncio.ensure_future(world.ask("AAA", 0, 10))
        await world.settled()
        refreshing = asyncio.ensure_future(world.refresh("AAA", 0, 40))
        await world.settled()
        later = asyncio.ensure_future(world.ask("AAA", 20, 30))
        await world.settled()
        before, since = world.upstream.waiting
        world.upstream.release(before)
        await world.settled()
        asked = sorted(call.interval for call in world.upstream.waiting)
        assert asked == [days(0, 20), days(20, 30), days(30, 40)]
        await let_go(world, first, refreshing, later)
        assert (await refreshing).state == "ready"
        stored = await world.stored("AAA")
        assert min(row["asked"] for row in stored.values()) == since.number > before.number


async def test_what_is_first_fetched_is_forgotten_over_http_too(tmp_path: Path) -> None:
    """A deletion counts for a series of which nothing is held yet, while it is fetched."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened:
        await opened.client.delete("/v1/series/steady/A")
        gate = steady.hold("A")
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-01-11"
        asking = asyncio.ensure_future(opened.get(path))
        await gate.arrived.wait()
        gone = await opened.client.delete("/v1/series/steady/A")
        assert (gone.status_code, gone.json()["records"]) == (200, 0)
        gate.open.set()
        assert (await asking).json() == steady.rows("A", "2020-01-01", "2020-01-11")
        # It was fetched again by who still asked for it.
        assert len(steady.asked("A")) == 2
        assert (await opened.client.delete("/v1/series/steady/B")).status_code == 404


async def test_each_change_is_announced_once(tmp_path: Path) -> None:
    """Fetching, refreshing, forgetting and pruning each tell at which commit the series is."""
    with capture_logs() as logs:
        await changes_of_all_kinds(tmp_path)
    failed = [one["commit"] for one in logs if one["event"] == "a listener failed"]
    assert failed == [1, 2, 3, 4, 5, 6, 7]


async def changes_of_all_kinds(folder: Path) -> None:
    """Change two series in each way that there is, before a listener that fails and one more."""
    async with steps(folder, Editions(revises=False)) as world:
        world.upstream.open = True
        told: list[SeriesChanged] = []

        def fails(change: SeriesChanged) -> None:
            told.append(change)
            raise ZeroDivisionError("a listener's own fault")

        world.hub.holdings.listeners.append(fails)
        key = world.key("AAA")
        await world.ask("AAA", 0, 10)
        await world.ask("AAA", 0, 10)
        await world.refresh("AAA", 5, 20)
        await world.administration.delete(key, days(2, 4))
        await world.administration.delete(key, days(300, 400))
        await world.ask("BBB", 0, 10)
        assert await world.hub.prune(world.clock.now_ms() - 1) == (0, 0)
        assert await world.hub.prune(world.clock.now_ms() + 1) == (2, 28)
        await world.administration.delete(key)
        await world.ask("AAA", 0, 10)
        other = world.key("BBB")
        assert (
            world.changes
            == told
            == [
                SeriesChanged(key, 1),
                SeriesChanged(key, 2),
                SeriesChanged(key, 3),
                SeriesChanged(other, 4),
                SeriesChanged(key, 5, gone=True),
                SeriesChanged(other, 6, gone=True),
                SeriesChanged(key, 7),
            ]
        )
        assert (await world.hub.holdings.directory(key)).state.version == 7


async def test_a_change_is_announced_though_its_caller_has_gone(tmp_path: Path) -> None:
    """What the database was told to do is done, seen in memory and told, whoever waits for it."""
    async with steps(tmp_path, Editions(revises=False)) as world:
        world.upstream.open = True
        await world.ask("AAA", 0, 10)
        deleting = asyncio.ensure_future(world.administration.delete(world.key("AAA"), days(0, 5)))
        await asyncio.sleep(0)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        await world.settled()
        assert [change.commit for change in world.changes] == [1, 2]
        entry = await world.hub.holdings.load(world.key("AAA"), days(0, 10))
        assert sum(block.count for block in entry.state.blocks) == 5


async def test_nothing_is_written_without_a_lease(tmp_path: Path) -> None:
    """A write beyond its lease, or without one, is a fault, and nothing of it is stored."""
    async with steps(tmp_path, Editions(revises=False)) as world:
        world.upstream.open = True

        await world.ask("AAA", 0, 10)
        before = await world.stored("AAA")
        key, leases = world.key("AAA"), world.hub.leases
        change = Change(key, (Replacement(days(0, 10), EMPTY, ()),))

        async def meddle(lease: Lease) -> Filled:
            await world.hub.holdings.apply(change, lease)
            return Filled()

        with pytest.raises(AssertionError, match="no lease"):
            await world.hub.holdings.apply(change)
        with pytest.raises(AssertionError, match="no lease"):
            await leases.launch(key, days(0, 9), meddle).task
        assert await world.stored("AAA") == before
        await leases.launch(key, days(0, 10), meddle).task
        assert await world.stored("AAA") == {}
