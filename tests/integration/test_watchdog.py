"""Nothing long is done on the loop: a real hub under watch, asked for all that is large.

And the watchdog itself: it fails on what hangs, and on nothing else.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gapless.client.control import Control
from gapless.domain.blocks import Run
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.instants import format_instant
from gapless.servers.control import socket_path
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.server import YahooSimulator
from gapless.store.base import Change, Replacement
from gapless.store.sqlite import open_store
from support.plugins import SOURCES
from support.providers import START_MS
from support.series import entity
from support.watchdog import Hang, Watchdog, WatchedLoop, burn
from support.watched import BURNING, INSIDE, MINUTE_MS, REVISING, Watched, watched
from support.wire import Wire, line_of, search

HELD, COLD, ISLANDS, GONE = "HELD", "COLD", "ISLANDS", "GONE"
# Old enough for a prune, and young enough not to be one of what is fetched by the test.
FETCHED_MS = START_MS
SETTINGS = """
[sample]
enabled = false
[yahoo]
base_url = "{base}"
fallback_url = "{base}"
rate = 1000
burst = 1000
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is asked for: records of a long range, islands of one that is full of holes."""

    records: int
    fetched: int
    islands: int
    entities: int
    years: int


SMALL = Scale(records=60_000, fetched=20_000, islands=2_000, entities=2_000, years=20)
LARGE = Scale(records=200_000, fetched=100_000, islands=10_000, entities=10_000, years=40)
SCALES = [
    pytest.param(SMALL, id="small"),
    pytest.param(LARGE, id="large", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("scale", SCALES)
async def test_nothing_long_is_done_on_the_loop(tmp_path: Path, scale: Scale) -> None:
    """Whatever one asks for that is large, others wait 10 ms of CPU for it, and never 30 ms."""
    database = tmp_path / "hub.db"
    await _filled(database, scale)
    prices = Market([equity("AAPL", first_trade=date(1980, 12, 12))], prices=RandomWalk(5))
    async with YahooSimulator(prices) as upstream:
        settings = SETTINGS.format(base=upstream.base_url)
        async with watched(database, settings) as hub, await hub.wire() as wire:
            await _columns(hub)
            await _ranges(hub, wire, scale)
            await _islands(hub, wire, scale)
            await _fetches(hub, wire, scale, tmp_path)
            await _yahoo(hub, wire, scale)
            await _listings(hub, wire)
            await _forgetting(hub, database)


async def _filled(database: Path, scale: Scale) -> None:
    """Store what is held before the hub starts."""
    store = await asyncio.to_thread(open_store, database)
    try:
        for ticker in (HELD, COLD, GONE):
            await store.apply(_change(INSIDE, ticker, [(0, scale.records)]))
        for provider in (INSIDE, REVISING):
            for at in range(0, scale.islands, 100):
                islands = [(10 * i, 1) for i in range(at, at + 100)]
                await store.apply(_change(provider, ISLANDS, islands))
        tags = json.dumps(["even", "note"]), json.dumps(["odd", "note"])
        await store.save_entities(
            entity(f"note-{i:05}", tags=tags[i % 2], data='[{"text": "a note"}]')
            for i in range(scale.entities)
        )
    finally:
        await store.close()


def _change(provider: str, ticker: str, minutes: list[tuple[int, int]]) -> Change:
    """Return the change that stores a record a minute; `minutes` are the first and how many."""
    return Change(
        SeriesKey(provider, ticker),
        tuple(_replacement(first, count) for first, count in minutes),
        at=FETCHED_MS,
    )


def _replacement(first: int, count: int) -> Replacement:
    times = range(START_MS + first * MINUTE_MS, START_MS + (first + count) * MINUTE_MS, MINUTE_MS)
    texts = [b'{"timestamp":%d,"value":%d.5,"note":"held"}' % (at // 1000, at) for at in times]
    interval = Interval(times.start, times.stop)
    row = Coverage(*interval, Outcome.HELD, FETCHED_MS)
    return Replacement(interval, Run.of_texts(times, texts), (row,))


def _bounds(count: int, first: int = 0) -> tuple[str, str]:
    """Return the bounds of so many minutes."""
    start = START_MS + first * MINUTE_MS
    return format_instant(start), format_instant(start + count * MINUTE_MS)


async def _columns(hub: Watched) -> None:
    """Ask for columns, of which the first request pays for whatever makes them."""
    start, end = _bounds(1_000)
    for form in ("arrow", "parquet", "csv", "ndjson", "json"):
        with hub.step(f"the first {form}"):
            await _get(hub, f"/v1/data/{INSIDE}/{HELD}?start={start}&end={end}&format={form}")


async def _ranges(hub: Watched, wire: Wire, scale: Scale) -> None:
    """Ask for held ranges of every length by both doors, cold at first and warm then."""
    count = 1
    while True:
        start, end = _bounds(count)
        for ticker in (COLD, HELD, HELD):
            for as_array in (False, True):
                with hub.step(f"{count} of {ticker} over TCP, as_array={as_array}"):
                    answer = await _ask(wire, search(INSIDE, ticker, start, end), as_array)
                    assert answer.count(b"timestamp") == count
            for form in ("json", "arrow", "parquet", "csv"):
                with hub.step(f"{count} of {ticker} as {form}"):
                    path = f"/v1/data/{INSIDE}/{ticker}?start={start}&end={end}&format={form}"
                    await _get(hub, path)
        if count == scale.records:
            return
        count = min(count * 10, scale.records)


async def _islands(hub: Watched, wire: Wire, scale: Scale) -> None:
    """Ask about a series of very many islands, and at last for all of it."""
    start, end = _bounds(10 * scale.islands)
    for provider in (INSIDE, REVISING):
        with hub.step(f"the coverage of islands, {provider}"):
            await _get(hub, f"/v1/coverage/{provider}/{ISLANDS}")
        body = {"provider": provider, "ticker": ISLANDS, "start": start, "end": end}
        for _ in range(2):
            with hub.step(f"a plan of islands, {provider}"):
                response = await hub.web.post("/v1/plan", json=body)
                assert response.status_code == 200, response.text
        for as_array in (False, True):
            with hub.step(f"islands over TCP, {provider}, as_array={as_array}"):
                await _ask(wire, search(provider, ISLANDS, start, end), as_array)
        with hub.step(f"islands by HTTP, {provider}"):
            await _get(hub, f"/v1/data/{provider}/{ISLANDS}?start={start}&end={end}")


async def _fetches(hub: Watched, wire: Wire, scale: Scale, folder: Path) -> None:
    """Have long ranges fetched: of a plugin in every form, and of a provider in the process."""
    module = folder / "long.py"
    shutil.copyfile(SOURCES / "long.py", module)
    with hub.step("loading a plugin"):
        response = await hub.web.post("/plugins/load", json={"file": str(module)})
        assert response.status_code == 200, response.text
    bounds = _bounds(scale.fetched)
    asked = [("long", form) for form in ("LIST", "FRAME", "RECORDS", "PIECES")]
    for provider, ticker in [*asked, (INSIDE, "NEW")]:
        with hub.step(f"a fetch of {provider} {ticker}"):
            answer = await _ask(wire, search(provider, ticker, *bounds), as_array=True)
            assert answer.count(b"timestamp") == scale.fetched


async def _yahoo(hub: Watched, wire: Wire, scale: Scale) -> None:
    """Have what is long fetched of Yahoo, and have it without adjustments."""
    years = f"{date.today().year - scale.years}-01-01"  # noqa: DTZ011
    for name, start, params in (
        ("a year of days", "-1y", {}),
        ("all days", years, {}),
        ("days without adjustment", years, {"adjust": "none"}),
        ("days adjusted for all", years, {"adjust": "all"}),
        ("a week of minutes", "-7d", {"interval": "1m"}),
    ):
        with hub.step(f"{name}, over TCP"):
            query = search("yahoo_finance", "AAPL", start, "now", **params)
            assert b'"ok":true' in (await _ask(wire, query))[:20]
        for form in ("json", "arrow"):
            with hub.step(f"{name}, as {form}"):
                more = "".join(f"&{key}={value}" for key, value in params.items())
                await _get(hub, f"/v1/data/yahoo_finance/AAPL?start={start}&format={form}{more}")
    with hub.step("the coverage of Yahoo's days"):
        await _get(hub, "/v1/coverage/yahoo_finance/AAPL")


async def _listings(hub: Watched, wire: Wire) -> None:
    """List what is stored, search it, and have the figures."""
    for path in (
        "/v1/series?limit=1000",
        "/v1/entities?limit=1000",
        "/v1/entities?limit=1000&tags=odd,note",
        "/v1/providers",
        "/providers",
        "/v1/plugins",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
    ):
        for _ in range(2):
            with hub.step(path):
                await _get(hub, path)
    tagged = [{"ByTags": ["odd"]}]
    for query in (
        {"GetAllEntities": {"limit": 10_000}},
        {"SearchEntities": {"query": tagged, "limit": None}},
        {"SearchEntities": {"query": tagged, "limit": 10_000}},
    ):
        for as_array in (False, True):
            with hub.step(f"{query} over TCP"):
                asked = {"provider": INSIDE, "request": query}
                await _ask(wire, {"type": "ProviderRequest", "payload": asked}, as_array)


async def _forgetting(hub: Watched, database: Path) -> None:
    """Forget a long series, and by age all that was not fetched just now."""
    with hub.step("forgetting a long series"):
        response = await hub.web.delete(f"/v1/series/{INSIDE}/{GONE}")
        assert response.status_code == 200, response.text
    with hub.step("a prune"):
        control = Control(socket_path(database))
        await asyncio.to_thread(control.prune, FETCHED_MS + 1)


async def _get(hub: Watched, path: str) -> bytes:
    response = await hub.web.get(path)
    assert response.status_code == 200, (path, response.text[:1_000])
    return response.content


async def _ask(wire: Wire, query: dict[str, Any], as_array: bool = False) -> bytes:
    await wire.send(line_of(query, request_id=1, data_as="array" if as_array else "string"))
    line = await wire.line()
    assert line.startswith(b'{"ok":true'), line[:1_000]
    return line


# The watchdog itself


async def test_a_hub_that_hangs_is_found_out(tmp_path: Path) -> None:
    """The test above fails where anything takes 20 ms on the loop, and tells what was asked."""

    async def ask() -> None:
        async with watched(tmp_path / "hub.db") as hub, await hub.wire() as wire:
            for ticker in ("WELL", BURNING):
                with hub.step(f"a fetch of {ticker}"):
                    await _ask(wire, search(INSIDE, ticker, *_bounds(100)))

    with pytest.raises(AssertionError, match=r"a fetch of BURNING: 2\d\.\d ms of CPU") as failed:
        await ask()
    assert "support/watchdog.py" in str(failed.value)
    assert " burn" in str(failed.value)
    assert "a fetch of WELL" not in str(failed.value)


class _Burning(asyncio.Protocol):
    """Burns when it is told of bytes, which the loop's transport does by itself."""

    def data_received(self, data: bytes) -> None:
        burn(20)


async def _on_bytes() -> None:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(_Burning, sock=ours)
    theirs.send(b"x")
    theirs.close()
    await _round()
    transport.close()


async def _soon() -> None:
    asyncio.get_running_loop().call_soon(burn, 20)


async def _later() -> None:
    asyncio.get_running_loop().call_later(0.001, burn, 20)


async def _from_a_thread() -> None:
    await asyncio.to_thread(asyncio.get_running_loop().call_soon_threadsafe, burn, 20)


async def _in_a_task() -> None:
    await asyncio.sleep(0)
    burn(20)
    await asyncio.sleep(0)


@pytest.mark.parametrize("begin", [_soon, _later, _from_a_thread, _in_a_task, _on_bytes])
def test_a_callback_that_burns_is_found(begin: Callable[[], Awaitable[None]]) -> None:
    """20 ms of CPU are found once, however the loop comes to call it, and where they were used."""
    (hang,) = _found(begin)
    assert hang.cpu_ms >= 20


async def _seen() -> None:
    watchdog = _watchdog()
    while watchdog._looking is None or watchdog._looking[0] != watchdog._last:
        burn(1)
    burn(20)


def test_it_is_told_where_a_callback_hangs() -> None:
    """The stack of the loop's thread is told, from the callback on."""
    (hang,) = _found(_seen)
    _, thread, *frames = hang.stacks[0].splitlines()
    assert thread.strip() == "the loop:"
    assert "_seen" in [frame.split()[-1] for frame in frames], str(hang)
    assert hang.stacks[0] in str(hang)


async def _sleep() -> None:
    time.sleep(0.3)  # noqa: ASYNC251  # that is what is to be found


async def _held_up() -> None:
    # Called so, C holds the interpreter.
    hold = ctypes.PyDLL(None).usleep
    before = sys.getswitchinterval()
    # Whoever wants it lies still meanwhile, and does not wait for a core time and again.
    sys.setswitchinterval(1.0)
    try:
        await asyncio.to_thread(hold, 300_000)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("begin", [_sleep, _held_up])
def test_a_pause_is_found(begin: Callable[[], Awaitable[None]]) -> None:
    """A loop that stands still for long, at no cost, is found: by a sleep, or another thread."""
    (hang,) = _found(begin)
    assert hang.cpu_ms < 10
    assert hang.wall_ms - hang.waited_ms > 30


async def _idle() -> None:
    await asyncio.sleep(0.1)


async def _little_by_little() -> None:
    for _ in range(20):
        burn(2)
        await asyncio.sleep(0)


async def _beside_a_thread() -> None:
    await asyncio.gather(asyncio.to_thread(burn, 100), _little_by_little())


@pytest.mark.parametrize("begin", [_idle, _little_by_little, _beside_a_thread])
def test_what_is_well_is_not_found(begin: Callable[[], Awaitable[None]]) -> None:
    """Neither idling nor many short callbacks are a hang, nor is another thread that is at work."""
    assert _found(begin) == []


STARVED = """
import asyncio, os, subprocess, sys, time
import uvloop
from support.watchdog import WatchedLoop, burn

async def main():
    pauses = 0
    with asyncio.get_running_loop().watchdog.watching() as watchdog:
        while pauses < 5:
            before = time.monotonic()
            burn(1)
            await asyncio.sleep(0.002)
            pauses += time.monotonic() - before > 0.040
    print(*watchdog.hangs, sep="\\n")

core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
os.nice(10)
try:
    uvloop.run(main(), loop_factory=WatchedLoop)
finally:
    for one in others:
        one.kill()
        one.wait()
"""


async def test_waiting_for_a_core_is_not_found() -> None:
    """Other processes that burn the same core let the loop stand still, which is not its doing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARVED),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    assert told.strip() == b"", told.decode()


def _found(begin: Callable[[], Awaitable[None]]) -> list[Hang]:
    """Return what the watchdog finds on a loop that does this."""

    async def run() -> list[Hang]:
        # What the tests before this one have left is not collected now.
        gc.collect()
        gc.freeze()
        with _watchdog().watching() as watchdog:
            await _round()
            await begin()
            await _round()
        return watchdog.hangs

    try:
        return uvloop.run(run(), loop_factory=WatchedLoop)
    finally:
        gc.unfreeze()


def _watchdog() -> Watchdog:
    """Return that of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WatchedLoop)
    return loop.watchdog


async def _round() -> None:
    """Let the loop go round a few times."""
    for _ in range(5):
        await asyncio.sleep(0.002)
