"""Much that one asks for, and little that others ask for beside it: they hardly notice.

What a request costs goes by what it asks for, not by what lies around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from gapless.domain.intervals import Interval
from gapless.instants import format_instant
from gapless.store.sqlite import check, open_store
from gapless.turns import PARTY
from support.bystanders import (
    LENGTH,
    Asking,
    Commits,
    asking_for,
    best,
    disturbed,
    drain,
    least_felt,
    minute,
    stock,
    tell,
)
from support.hubs import STEADY, running
from support.plugins import until
from support.steady_hub import minutes
from support.stores import store_of
from support.wire import PATIENCE_S, PATIENT, but, connect, door, line_of, records, request

# Beside others an answer takes at the most so many times as long as alone: by the median, and where
# the work of others is Python in threads or is looked for in all that is stored.
MOST, MOST_AT_ALL = 5, 20
# An island is ten minutes long, and the next one begins so many later.
APART = 20
# Of a piece of work that is cut into steps, so many may come before somebody else's turn. Each
# request has a few turns: to look, to read, to store.
FEW = 8


def islands(number: int) -> list[Interval]:
    """Return so many intervals with gaps between them, no two of the same length."""
    return [Interval(start, end - i) for i in range(number) for start, end in [minute(APART * i)]]


def all_of(number: int) -> Interval:
    """Return the interval over all of so many islands."""
    return minute(0, APART * number)


# Many islands


@pytest.mark.parametrize("most_gaps", [64, 1_000], ids=["joined", "each by itself"])
async def test_many_gaps_of_one_request_leave_others_their_turns(
    tmp_path: Path, most_gaps: int, record_property: Any
) -> None:
    """While the 900 gaps between islands are fetched, a gap of another's is between few of them."""
    number, steady = 900, minutes()
    settings = but(PATIENT, cache={"max_gaps": most_gaps})
    async with door(tmp_path, steady, settings=settings) as opened:
        await stock(store_of(opened.hub), steady, "ISLANDS", islands(number))
        commits = Commits(opened.hub.holdings)
        async with opened.client() as one, opened.client() as other:
            much = asyncio.create_task(Asking(one, "ISLANDS")(all_of(number)))
            await until(lambda: commits.seen)
            ask = Asking(other, "OTHER")
            between = []
            for at in count():
                if much.done():
                    break
                gap = minute(at * APART)
                between.append(await commits.others_during(partial(ask, gap), "OTHER"))
            answer = await much
        assert len(records(answer)) == number * APART
        fetches = len(steady.asked("ISLANDS"))
        tell(record_property, fetches=fetches, between=between)
        assert fetches == min(most_gaps, number)
        assert len(between) > 1
        assert median(between) <= FEW


async def test_an_island_costs_as_much_as_those_before_it(
    tmp_path: Path, record_property: Any
) -> None:
    """The last hundred of 900 islands take no more of the CPU than the first hundred."""
    number, some = 900, 100
    path = tmp_path / "hub.db"
    async with running(path, program=STEADY) as server, await connect(server.port) as wire:
        ask, warm = Asking(wire, "ISLANDS"), Asking(wire, "WARM")
        for one in islands(some):
            await warm(one)
        used = [server.cpu_s]
        for i, one in enumerate(islands(number), 1):
            await ask(one)
            if i % some == 0:
                used.append(server.cpu_s)
    each = [after - before for before, after in pairwise(used)]
    tell(record_property, each=each)
    assert each[-1] <= 1.5 * each[0] + 0.03


async def test_a_gap_takes_little_longer_beside_many(tmp_path: Path, record_property: Any) -> None:
    """One gap of somebody's beside all the gaps between 900 islands of another's."""
    number, turns, path = 900, 4, tmp_path / "hub.db"
    await stocked(path, {f"ISLANDS{i}": islands(number) for i in range(turns)})
    async with running(path, program=STEADY) as server, await connect(server.port) as wire:
        ask, numbers = Asking(wire, "OTHER"), count()

        async def one_gap() -> None:
            await ask(minute(next(numbers) * APART))

        lines = [asking_for(f"ISLANDS{i}", all_of(number)) for i in range(turns)]
        rounds = await disturbed(one_gap, [partial(drain, server.port, [line]) for line in lines])
    tell(record_property, rounds="; ".join(map(str, rounds)))
    assert best(rounds) <= MOST


async def stocked(
    path: Path, series: dict[str, Sequence[Interval]], block_records: int = 2_000
) -> None:
    """Make a database in which these parts of series of the steady provider are held."""
    store, steady = await asyncio.to_thread(open_store, path, block_records), minutes()
    for ticker, parts in series.items():
        await stock(store, steady, ticker, parts)
    await store.close()


# A series of many pieces

MANY, HANDFUL = 5_000, 5


async def test_what_is_held_costs_the_same_in_a_series_of_many_islands(
    tmp_path: Path, record_property: Any
) -> None:
    """Ten held records of 5,000 islands take as much of the CPU as ten of 5 islands."""
    some, rounds, path = 400, 5, tmp_path / "hub.db"
    places = islands(MANY)
    await stocked(path, {"MANY": islands(MANY), "FEW": islands(HANDFUL)})
    used = {"MANY": 0.0, "FEW": 0.0}
    async with running(path, program=STEADY) as server:
        for turn in range(-1, rounds):
            for ticker, number in (("MANY", MANY), ("FEW", HANDFUL)):
                # No two ask in the same words, and none of them was asked before.
                lines = [
                    asking_for(
                        ticker,
                        within(places[i * 997 % number], turn * some + i + some),
                        fresh="held",
                    )
                    for i in range(some)
                ]
                before = server.cpu_s
                sizes = await drain(server.port, lines)
                # The first round brings them into memory.
                used[ticker] += server.cpu_s - before if turn >= 0 else 0
                assert min(sizes) > 800
    tell(record_property, **used)
    assert used["MANY"] <= 1.5 * used["FEW"] + 0.03


def within(island: Interval, milliseconds: int) -> Interval:
    """Return an interval with the last nine records of an island, and a start of its own."""
    return Interval(island.start + 1 + milliseconds, island.end)


async def test_a_gap_costs_the_same_in_a_series_of_many_islands(
    tmp_path: Path, record_property: Any
) -> None:
    """To plan, fetch and store one gap among 5,000 islands costs as much as among 5."""
    some, rounds, path = 80, 4, tmp_path / "hub.db"
    few = {f"FEW{i}": islands(HANDFUL) for i in range(some * rounds)}
    await stocked(path, {"MANY": islands(MANY), **few})
    used = {"MANY": 0.0, "FEW": 0.0}
    async with running(path, program=STEADY) as server, await connect(server.port) as wire:
        for turn in range(rounds):
            numbers = range(turn * some, (turn + 1) * some)
            # So far apart that each is looked up in the database, as it is of the others.
            gaps = {
                "MANY": [(Asking(wire, "MANY"), gap_after(12 * i)) for i in numbers],
                "FEW": [(Asking(wire, f"FEW{i}"), gap_after(i % 4)) for i in numbers],
            }
            for ticker, asked in gaps.items():
                before = server.cpu_s
                for ask, gap in asked:
                    await ask(gap)
                used[ticker] += server.cpu_s - before
    tell(record_property, **used)
    assert used["MANY"] <= 1.5 * used["FEW"] + 0.03


def gap_after(island: int) -> Interval:
    """Return a minute of the gap after an island, apart from both."""
    return minute(APART * island + LENGTH + 4, 1)


async def test_a_long_plan_is_hardly_noticed_by_others(
    tmp_path: Path, record_property: Any
) -> None:
    """What is held, beside plans over the 10,000 gaps of a series and answers that tell them."""
    number, path = 10_000, tmp_path / "hub.db"
    await stocked(path, {"MANY": islands(number), "OTHER": [minute(0, 1_000)]})
    wanted = dict(zip(("start", "end"), map(format_instant, all_of(number)), strict=True))
    body = {"provider": "steady", "ticker": "MANY", **wanted}
    async with (
        running(path, program=STEADY, http="127.0.0.1:0") as server,
        await connect(server.port) as wire,
        httpx.AsyncClient(base_url=server.http, timeout=PATIENCE_S) as client,
    ):
        ask, places = Asking(wire, "OTHER", {"fresh": "held"}), count()

        async def held() -> None:
            start, end = minute(next(places) % 800, 100)
            await ask(Interval(start + 1 + next(places), end))

        async def plan() -> None:
            for _ in range(3):
                async with client.stream("POST", "/v1/plan", json=body) as response:
                    assert response.status_code == 200
                    size = sum([len(piece) async for piece in response.aiter_raw()])
                assert size > 5_000

        rounds = await disturbed(held, [plan] * 3)
    tell(record_property, rounds="; ".join(map(str, rounds)))
    assert least_felt(rounds) <= MOST_AT_ALL


# Forgetting


async def test_pruning_leaves_others_their_turns(tmp_path: Path, record_property: Any) -> None:
    """While 300 series are forgotten one by one, a fetch is between few of them."""
    number, steady = 300, minutes()
    async with door(tmp_path, steady) as opened:
        for i in range(number):
            await stock(store_of(opened.hub), steady, f"OLD{i}", islands(3))
        commits = Commits(opened.hub.holdings)

        async def prune() -> tuple[int, int]:
            PARTY.set("the operator")
            return await opened.hub.prune(2)

        async with opened.client() as wire:
            ask, between = Asking(wire, "OTHER"), []
            pruning = asyncio.create_task(prune())
            await until(lambda: commits.seen)
            for at in count():
                if pruning.done():
                    break
                gap = minute(at * APART)
                between.append(await commits.others_during(partial(ask, gap), "OTHER"))
            assert await pruning == (number, number * 3 * LENGTH)
        tell(record_property, between=between)
        assert len(between) > 1
        assert median(between) <= FEW


@pytest.mark.parametrize("interval", [None, all_of(2_500)], ids=["all", "a range"])
async def test_a_series_of_many_blocks_is_forgotten_in_steps(
    tmp_path: Path, interval: Interval | None, record_property: Any
) -> None:
    """Of 3,000 blocks, with the changes of others between the steps; at the end all is gone."""
    number, steady = 3_000, minutes()
    async with door(tmp_path, steady) as opened:
        store, holdings = store_of(opened.hub), opened.hub.holdings
        key = await stock(store, steady, "OLD", islands(number))
        commits = Commits(holdings)
        async with opened.client() as wire:
            ask, between = Asking(wire, "OTHER"), []
            forgetting = asyncio.create_task(holdings.delete(key, interval))
            for at in count():
                if forgetting.done():
                    break
                gap = minute(at * APART)
                between.append(await commits.others_during(partial(ask, gap), "OTHER"))
            removal = await forgetting
        steps = sum(one.key == key for one in commits.seen)
        tell(record_property, steps=steps, between=between)
        assert steps >= 25
        assert max(between) <= FEW
        gone = number if interval is None else 2_500
        assert removal.records == gone * LENGTH
        left = (await store.read(key)).state
        assert (left.number is None) == (interval is None)
        assert [one.interval for one in left.coverage] == islands(number)[gone:]
        assert sum(block.count for block in left.blocks) == (number - gone) * LENGTH


async def test_forgetting_that_is_cut_short_leaves_a_sound_database(tmp_path: Path) -> None:
    """What was forgotten by then is gone, the rest is held, and all fits together."""
    number, path, steady = 1_000, tmp_path / "hub.db", minutes()
    store = await asyncio.to_thread(open_store, path)
    key = await stock(store, steady, "OLD", islands(number))
    for steps in range(1, 4):
        assert (await store.delete(key)).more
        await store.close()
        assert await asyncio.to_thread(lambda: list(check(path))) == []
        store = await asyncio.to_thread(open_store, path)
        left = (await store.read(key)).state
        assert [one.interval for one in left.coverage] == islands(number)[100 * steps :]
        assert [one.count for one in left.blocks] == [LENGTH] * (number - 100 * steps)
    while (await store.delete(key)).more:
        pass
    assert (await store.figures()).blocks == 0
    await store.close()
    assert await asyncio.to_thread(lambda: list(check(path))) == []


# Searches that find nothing


@pytest.mark.slow
async def test_searches_by_tag_leave_others_their_turns(
    tmp_path: Path, record_property: Any
) -> None:
    """What is held, but not in memory, beside searches through all blocks on 20 connections."""
    path, number, each = tmp_path / "hub.db", 100, 300
    await stocked(path, {f"T{i}": islands(each) for i in range(number)})
    settings = '[cache]\nhot_bytes = "16KiB"\n'
    async with (
        running(path, settings, program=STEADY) as server,
        await connect(server.port) as wire,
    ):
        places = count()

        async def cold() -> None:
            place = next(places)
            ask = Asking(wire, f"T{place * 7 % number}", {"fresh": "held"})
            answer = await ask(islands(each)[place * 11 % each])
            assert len(records(answer)) == LENGTH

        nothing = line_of(
            request("steady", "SearchEntities", query=[{"ByTags": ["nothing"]}], limit=None)
        )

        async def searches() -> None:
            sizes = await asyncio.gather(*(drain(server.port, [nothing] * 3) for _ in range(20)))
            assert all(len(one) == 3 for one in sizes)

        rounds = await disturbed(cold, [searches] * 2)
    tell(record_property, rounds="; ".join(map(str, rounds)))
    assert best(rounds) <= MOST_AT_ALL
