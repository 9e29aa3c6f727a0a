"""`kill -9` at any moment: what was acknowledged is there, and coverage is true."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gapless.domain.intervals import Interval, subtract
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.store.sql import SqlStore
from gapless.store.sqlite import check, open_read_only, open_store
from support import killer
from support.extent import share
from support.hubs import Server, end, launch, running
from support.oracle import EVERYTHING, SampleOracle
from support.wire import PATIENCE_S, Wire, connect, records, search

TESTS = Path(__file__).parents[1]
START, END = (parse_instant(text, now_ms=0) for text in ("2000-03-01", "2013-03-02"))
DAY_MS = 86_400_000
CLIENTS = 4
# So many kills a database; then another begins, for a full one is written to no more.
KILLS_OF_ONE = 20
SETTINGS = """
[sample]
rate = 100000
burst = 100000
[cache]
block_records = 50
"""


@dataclass(slots=True)
class Life:
    """A database through its kills: what was acknowledged, and by which etag."""

    path: Path
    told: dict[tuple[str, Interval], str] = field(default_factory=dict)


def some_range(rng: random.Random, oracle: SampleOracle) -> tuple[str, Interval]:
    """Return a ticker and a range of a few days to a few years."""
    days = rng.choice([3, 20, 60, 400])
    at = START + rng.randrange((END - START) // DAY_MS) * DAY_MS + rng.choice([0, 3_600_000])
    return rng.choice(oracle.tickers), Interval(at, min(END, at + days * DAY_MS))


async def ask_on(
    wire: Wire,
    rng: random.Random,
    oracle: SampleOracle,
    life: Life,
    enough: int,
    reached: asyncio.Event,
) -> None:
    """Ask for one range after the other; note each that is acknowledged."""
    while True:
        ticker, span = some_range(rng, oracle)
        answer = await wire.ask(search("sample", ticker, *map(format_instant, span)))
        assert records(answer) == oracle.rows(ticker, span)
        life.told[ticker, span] = answer["result"][0]["etag"]
        if len(life.told) >= enough:
            reached.set()


async def ask_until_killed(
    server: Server, rng: random.Random, oracle: SampleOracle, life: Life
) -> None:
    """Let clients ask; kill the hub after some answers and a little more."""
    enough = len(life.told) + rng.randrange(1, 12)
    reached = asyncio.Event()
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(await connect(server.port)) for _ in range(CLIENTS)
        ]
        asking = [
            asyncio.create_task(ask_on(wire, rng, oracle, life, enough, reached)) for wire in wires
        ]
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
        # Not a wait for anything: the moment is what is random.
        await asyncio.sleep(rng.random() * 0.02)
        server.process.kill()
        ended = await asyncio.gather(*asking, return_exceptions=True)
    for one in ended:
        if isinstance(one, AssertionError) and "the connection ended" not in str(one):
            raise one
        assert isinstance(one, AssertionError | ConnectionError), repr(one)


async def hold_to_the_truth(life: Life, oracle: SampleOracle) -> None:
    """Look at a database whose hub was killed, before another opens it."""
    assert not await asyncio.to_thread(check, life.path)
    store = await asyncio.to_thread(open_read_only, life.path)
    try:
        wrong, covered = await oracle.faults(store)
    finally:
        await store.close()
    assert not wrong
    lost = [
        (ticker, span) for ticker, span in life.told if subtract([span], covered.get(ticker, ()))
    ]
    assert not lost, "acknowledged, and not there any more"


async def ask_again(server: Server, rng: random.Random, oracle: SampleOracle, life: Life) -> None:
    """What was acknowledged before the kill is answered without upstream, the very same."""
    async with await connect(server.port) as wire:
        for (ticker, span), etag in rng.sample(sorted(life.told.items()), min(10, len(life.told))):
            answer = await wire.ask(search("sample", ticker, *map(format_instant, span)))
            assert answer["stitch"]["upstream_requests"] == 0
            assert answer["result"][0]["etag"] == etag
            assert records(answer) == oracle.rows(ticker, span)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "kills",
    [share(2, of=20), pytest.param(600, marks=[pytest.mark.soak, pytest.mark.faults])],
    ids=["quick", "long"],
)
async def test_a_hub_killed_at_random_has_what_it_acknowledged(
    tmp_path: Path, request: pytest.FixtureRequest, kills: int
) -> None:
    """Kill, look, start again, ask again: nothing acknowledged is lost, nothing false is told."""
    rng = random.Random(f"kill {request.config.getoption('hypothesis_seed')}")
    oracle = SampleOracle()
    for number in range(0, kills, KILLS_OF_ONE):
        folder = tmp_path / str(number)
        folder.mkdir()
        life = Life(folder / "hub.db")
        for _ in range(min(KILLS_OF_ONE, kills - number)):
            async with running(life.path, SETTINGS) as server:
                await ask_again(server, rng, oracle, life)
                await ask_until_killed(server, rng, oracle, life)
            await hold_to_the_truth(life, oracle)
        async with running(life.path, SETTINGS) as server:
            await ask_again(server, rng, oracle, life)
        assert life.told


@pytest.mark.parametrize(
    "moments", [share(1, of=4), pytest.param(100, marks=pytest.mark.soak)], ids=["quick", "long"]
)
async def test_a_hub_killed_while_it_makes_its_database_can_start_again(
    tmp_path: Path, request: pytest.FixtureRequest, moments: int
) -> None:
    """A kill during the first start leaves nothing that stands in the way of the next."""
    rng = random.Random(f"first {request.config.getoption('hypothesis_seed')}")
    for number in range(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "hub.db"
        process = await launch(path, SETTINGS)
        # Not a wait for anything: the moment is what is random.
        await asyncio.sleep(rng.uniform(0.2, 1.0))
        await end(process)
        async with running(path, SETTINGS) as server, await connect(server.port) as wire:
            await wire.ping()
        assert not await asyncio.to_thread(check, path)


# At each write boundary


async def shown(store: SqlStore) -> Any:
    """Return everything a database says of the series, but for the numbers of its rows."""
    snapshot = await store.read(killer.KEY, EVERYTHING)
    state = snapshot.state
    blocks = [
        (block.interval, block.final, snapshot.runs[block.number or 0].text)
        for block in state.blocks
    ]
    return (
        state.version,
        state.due_before,
        state.changed,
        state.meta,
        state.coverage,
        state.doubts,
        blocks,
    )


async def look(path: Path) -> Any:
    """Return what a database shows to a hub that opens it."""
    assert not await asyncio.to_thread(check, path)
    store = await asyncio.to_thread(open_store, path, killer.BLOCK_RECORDS)
    try:
        return await shown(store)
    finally:
        await store.close()


async def go_on(path: Path, done: int) -> Any:
    """Make the changes that are left; return what the database shows then."""
    store = await asyncio.to_thread(open_store, path, killer.BLOCK_RECORDS)
    try:
        for change in killer.CHANGES[done:]:
            await store.apply(change)
        return await shown(store)
    finally:
        await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("pages", [1, 1_000])
async def test_a_kill_at_each_write_boundary_leaves_whole_changes(
    tmp_path: Path, pages: int
) -> None:
    """Wherever a write is cut off, each change is there wholly or not at all, and is if told."""
    command = (sys.executable, str(TESTS / "support" / "killer.py"), str(tmp_path), str(pages))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )
    async with asyncio.timeout(4 * PATIENCE_S):
        said, _ = await process.communicate()
    assert process.returncode == 0
    last = int(said)
    assert last > 10 * len(killer.CHANGES)
    reference = tmp_path / "reference.db"
    stages = [await look(tmp_path / "template.db")]
    for done in range(len(killer.CHANGES)):
        store = await asyncio.to_thread(open_store, reference, killer.BLOCK_RECORDS)
        await store.apply(killer.CHANGES[done])
        stages.append(await shown(store))
        await store.close()
    assert len({repr(stage) for stage in stages}) == len(stages)
    for n in range(1, last + 1):
        told = (tmp_path / f"{n}.told").stat().st_size
        found = await look(tmp_path / f"{n}.db")
        assert found in stages[told : told + 2], f"boundary {n}: {told} changes were acknowledged"
        after = await go_on(tmp_path / f"{n}.db", stages.index(found))
        assert after == stages[-1], f"boundary {n}: going on leads elsewhere"
    assert (tmp_path / f"{last}.told").stat().st_size == len(killer.CHANGES)
