"""Many clients at once: each missing instant is fetched once, and so is each failure met."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gapless.domain.intervals import Interval, subtract, union
from gapless.errors import UpstreamRejected, UpstreamUnavailable
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.servers.desk import Desk
from gapless.servers.tcp import TcpServer
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.store.sqlite import open_store
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.stores import store_of
from support.wire import (
    PATIENCE_S,
    PATIENT,
    Door,
    announcement,
    but,
    connections,
    door,
    line_of,
    records,
    search,
    unlocked,
)
from support.world import World

REQUESTS, CONNECTIONS = 500, 50
JANUARY = ("2021-01-01", "2021-02-01")
MARCH = ("2021-02-01", "2021-04-01")
FIRST = "2021-01-01T00:00:00Z"


def spans(pairs: Sequence[Sequence[str]]) -> list[Interval]:
    """Return the intervals that a stitch tells."""
    return [Interval(*(parse_instant(text, now_ms=0) for text in pair)) for pair in pairs]


def some_ranges(rng: random.Random, count: int, start: int, end: int) -> list[Interval]:
    """Return overlapping ranges on whole seconds."""
    result = []
    for _ in range(count):
        length = rng.choice([3_600, 86_400, 30 * 86_400, 200 * 86_400]) * rng.randint(1, 4)
        at = rng.randrange(start // 1000, end // 1000 - 1)
        result.append(Interval(at * 1000, min(end, (at + length) * 1000)))
    return result


async def ask_all(port: int, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask everything at once over many connections; return the answers in order."""
    async with connections(port, CONNECTIONS) as wires:
        for i, query in enumerate(queries):
            wires[i % CONNECTIONS].write(line_of(query, request_id=i))
        answers = [await wires[i % CONNECTIONS].answer() for i in range(len(queries))]
    assert [answer["request_id"] for answer in answers] == list(range(len(queries)))
    return answers


async def test_each_missing_instant_is_fetched_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """500 overlapping requests at once fetch exactly what was missing, each part of it once."""
    rng = random.Random(f"once {request.config.getoption('hypothesis_seed')}")
    steady = SteadyProvider(step=6 * 3_600_000)
    start, end = (parse_instant(text, now_ms=0) for text in ("2020-06-01", "2022-06-01"))
    tickers = ("AA", "BB", "CC")
    async with door(tmp_path, steady) as at:
        held: dict[str, list[Interval]] = {ticker: [] for ticker in tickers}
        async with at.client() as wire:
            for ticker in tickers:
                for span in some_ranges(rng, 5, start, end):
                    await wire.ask(search("steady", ticker, *map(format_instant, span)))
                    held[ticker].append(span)
        steady.calls.clear()
        gates = [steady.hold(ticker) for ticker in tickers]
        asked = [(rng.choice(tickers), span) for span in some_ranges(rng, REQUESTS, start, end)]
        queries = [search("steady", t, *map(format_instant, span)) for t, span in asked]
        asking = asyncio.create_task(ask_all(at.port, queries))
        for gate in gates:
            async with asyncio.timeout(PATIENCE_S):
                await gate.arrived.wait()
            gate.open.set()
        answers = await asking
    for (ticker, span), answer in zip(asked, answers, strict=True):
        truth = [record.row for record in steady.records(ticker, span)]
        assert records(answer) == truth, (ticker, span)
        stitch = answer["stitch"]
        assert (stitch["state"], stitch["missing"]) == ("ready", [])
        parts = sorted([*spans(stitch["cached"]), *spans(stitch["fetched"])])
        assert (parts[0].start, parts[-1].end) == span
        assert all(a.end == b.start for a, b in pairwise(parts))
    for ticker in tickers:
        fetched = sorted(steady.asked(ticker))
        assert all(a.end <= b.start for a, b in pairwise(fetched)), "an instant was asked for twice"
        wanted = union(span for name, span in asked if name == ticker)
        assert union(fetched) == subtract(wanted, held[ticker])
    assert sum(answer["stitch"]["upstream_requests"] for answer in answers) == len(steady.calls)


async def test_a_provider_that_revises_is_asked_once_too(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Where held bars are compared, none but the ten on each side of a gap are asked for twice."""
    rng = random.Random(f"revises {request.config.getoption('hypothesis_seed')}")
    template = tmp_path / "template.db"
    await (await asyncio.to_thread(open_store, template)).close()
    market = Market([equity("AAA", first_trade=date(2015, 1, 2))], prices=RandomWalk(7))
    now = datetime(2025, 3, 5, 15, 0, tzinfo=UTC).timestamp()
    world = World(market, now, tmp_path, template)
    await world.open()
    unlocked_hub = unlocked(store_of(world.hub), world.clock)
    desk = Desk(world.hub, world.clock, unlocked_hub, announcement(world.hub))
    server = TcpServer(desk, PATIENT.limits, PATIENT.access)
    try:
        _, port = await server.open("127.0.0.1", 0)
        start, end = (parse_instant(text, now_ms=0) for text in ("2017-01-01", "2024-06-01"))
        asked = some_ranges(rng, REQUESTS, start, end)
        answers = await ask_all(
            port, [search("yahoo_finance", "AAA", *map(format_instant, span)) for span in asked]
        )
        for span, answer in zip(asked, answers, strict=True):
            bars = market.bars("AAA", "1d", span.start / 1000, span.end / 1000, now)
            assert [row["timestamp"] for row in records(answer)] == [int(bar.t) for bar in bars]
            assert answer["stitch"]["state"] == "ready"
        gaps = [one.interval for one in world.asked if one.purpose == "gap"]
        assert {one.purpose for one in world.asked} == {"gap"}
        times = [
            int(bar.t) * 1000 for bar in market.bars("AAA", "1d", start / 1000, end / 1000, now)
        ]
        count = Counter(t for t in times for gap in gaps if gap.start <= t < gap.end)
        wanted = union(asked)
        for time in times:
            needed = any(span.start <= time < span.end for span in wanted)
            assert count[time] > 0 or not needed, format_instant(time)
        assert sum(n - 1 for n in count.values() if n) <= 20 * len(gaps)
        assert union(gaps + wanted) == union(gaps), "all that was asked for was fetched"
        told = sum(answer["stitch"]["upstream_requests"] for answer in answers)
        assert told == len(world.asked)
    finally:
        await server.close(1.0)
        await world.close()


async def waiting(at: Door, ticker: str, count: int) -> None:
    """Return when so many requests wait for the one fetch of a ticker."""
    key = at.hub.registry.get("steady").key(ticker, {})
    async with at.client() as other, asyncio.timeout(PATIENCE_S):
        while True:
            leases = at.hub.leases.of(key)
            # One callback is the lease's own; each who waits has one more.
            if leases and len(leases[0].task._callbacks or ()) == count + 1:
                return
            await other.ping()


async def test_who_goes_away_cancels_nothing(tmp_path: Path) -> None:
    """Clients that hang up leave the fetch to those who still wait, and to the store."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, connections(at.port, 21) as (stays, *goes):
        gate = steady.hold("ABC")
        for wire in (*goes, stays):
            await wire.send(line_of(search("steady", "ABC", *JANUARY), request_id=1))
        await waiting(at, "ABC", 21)
        for wire in goes[:10]:
            wire.reset()
        for wire in goes[10:]:
            wire.writer.transport.abort()
        async with at.client() as other, asyncio.timeout(PATIENCE_S):
            # Those that only ended may wait for their answers yet, as far as the hub can know.
            while len(at.server.connections) > 2 + 10:
                await other.ping()
        gate.open.set()
        assert records(await stays.answer()) == steady.rows("ABC", *JANUARY)
    assert len(steady.calls) == 1


async def test_a_fetch_nobody_waits_for_is_stored_all_the_same(tmp_path: Path) -> None:
    """When the only client hangs up, what it asked for is there for the next."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at:
        gate = steady.hold("ABC")
        async with at.client() as goes:
            await goes.send(line_of(search("steady", "ABC", *JANUARY)))
            await waiting(at, "ABC", 1)
            at.server.went.clear()
        async with asyncio.timeout(PATIENCE_S):
            await at.server.went.wait()
        key = at.hub.registry.get("steady").key("ABC", {})
        (lease,) = at.hub.leases.of(key)
        gate.open.set()
        await asyncio.wait([lease.task], timeout=PATIENCE_S)
        async with at.client() as wire:
            answer = await wire.ask(search("steady", "ABC", *JANUARY))
    assert answer["stitch"]["upstream_requests"] == 0
    assert records(answer) == steady.rows("ABC", *JANUARY)
    assert len(steady.calls) == 1


@pytest.mark.parametrize("again", [False, True])
async def test_a_failure_is_shared(tmp_path: Path, again: bool) -> None:
    """All who wait get the one failure of the one series of attempts, and none tries by itself."""
    steady = SteadyProvider()
    failure = UpstreamUnavailable("down") if again else UpstreamRejected("never")
    settings = but(PATIENT, fetch={"deadline_s": 20})
    clock = ManualClock(1_790_000_000_000)
    async with (
        door(tmp_path, steady, settings=settings, clock=clock) as at,
        connections(at.port, 10) as wires,
    ):
        gate = steady.hold("ABC")
        steady.failures["ABC"] = failure
        for wire in wires:
            line = line_of(search("steady", "ABC", *JANUARY))
            await wire.send(line * 10)
        await waiting(at, "ABC", 100)
        gate.open.set()
        answers = [await wire.answer() for wire in wires for _ in range(10)]
        attempts = len(steady.calls)
        # The next request is a series of its own: nobody has waited for it.
        clock.advance(60)
        async with at.client() as wire:
            await wire.ask(search("steady", "ABC", *JANUARY))
        assert len(steady.calls) > attempts
    assert all(answer["error"] == answers[0]["error"] for answer in answers)
    assert answers[0]["error"]["message"] == failure.message
    # Twenty seconds of back-off from half a second up to eight hold no more than a dozen tries.
    assert 2 <= attempts <= 12 if again else attempts == 1


async def test_a_failed_part_is_missing_from_a_wider_answer(tmp_path: Path) -> None:
    """Who waits for another's part that fails gets the own part, and is told of the other."""
    steady = SteadyProvider()
    steady.failures[FIRST] = UpstreamRejected("not this part")
    async with door(tmp_path, steady) as at, at.client() as one, at.client() as two:
        gate = steady.hold("ABC")
        async with asyncio.timeout(PATIENCE_S):
            await one.send(line_of(search("steady", "ABC", *JANUARY)))
            await steady.arrivals.get()
            await two.send(line_of(search("steady", "ABC", JANUARY[0], MARCH[1])))
            await steady.arrivals.get()
        gate.open.set()
        failed, wider = await one.answer(), await two.answer()
    assert failed["error"]["message"] == "not this part"
    assert records(wider) == steady.rows("ABC", *MARCH)
    assert wider["stitch"]["state"] == "partial"
    assert spans(wider["stitch"]["missing"]) == spans([JANUARY])
    assert [one["message"] for one in wider["stitch"]["why"]] == ["not this part"]
    assert steady.asked("ABC") == spans([JANUARY, MARCH])


async def test_a_wider_request_waits_for_the_part_under_way(tmp_path: Path) -> None:
    """Who needs more than is under way asks for the rest alone, and counts only that."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, at.client() as one, at.client() as two:
        gate = steady.hold("ABC")
        async with asyncio.timeout(PATIENCE_S):
            await one.send(line_of(search("steady", "ABC", *JANUARY)))
            await steady.arrivals.get()
            await two.send(line_of(search("steady", "ABC", JANUARY[0], MARCH[1])))
            await steady.arrivals.get()
        gate.open.set()
        narrow, wide = await one.answer(), await two.answer()
    assert steady.asked("ABC") == spans([JANUARY, MARCH])
    assert records(narrow) == steady.rows("ABC", *JANUARY)
    assert records(wide) == steady.rows("ABC", JANUARY[0], MARCH[1])
    assert union(spans(wide["stitch"]["fetched"])) == spans([(JANUARY[0], MARCH[1])])
    assert wide["stitch"]["upstream_requests"] == 1
