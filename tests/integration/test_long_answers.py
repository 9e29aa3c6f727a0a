"""Long answers over TCP: right to the byte, in bounded memory, and hardly noticed by others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from gapless.auth.authority import Authority
from gapless.clock import SystemClock
from gapless.domain.blocks import etag, text_hash
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.instants import format_instant
from gapless.store.sql import SqlStore
from gapless.store.sqlite import open_store
from support.bystanders import (
    Asking,
    asking_for,
    best,
    disturbed,
    drain,
    least_felt,
    minute,
    stock,
    tell,
)
from support.hubs import STEADY, Server, running
from support.people import person
from support.plugins import until
from support.providers import SteadyProvider
from support.steady_hub import MINUTE_MS, minutes
from support.stores import store_of
from support.wire import PATIENCE_S, PATIENT, Door, Wire, but, connect, door, read

# Beside others an answer takes at the most so many times as long as alone: by the median, and where
# the work of others is Python in threads or is looked for in all that is stored.
MOST, MOST_AT_ALL = 5, 20
# More than are taken into memory as a whole.
LONG = 60_000
PART = 20_000
SLOW = {"max_unsent_bytes": 64 << 10}


def parts(number: int) -> list[Interval]:
    """Return the intervals of so many records, a stretch after the other."""
    return [minute(at, min(PART, number - at)) for at in range(0, number, PART)]


@asynccontextmanager
async def held(
    folder: Path, number: int = LONG, padding: int = 0, **options: Any
) -> AsyncIterator[tuple[Door, SteadyProvider]]:
    """Run a hub that holds so many records of A and of B."""
    steady = SteadyProvider(step=MINUTE_MS, padding=padding)
    settings = but(PATIENT, limits={**SLOW, **options})
    async with door(folder, steady, settings=settings) as opened:
        for ticker in "AB":
            await stock(store_of(opened.hub), steady, ticker, parts(number))
        yield opened, steady


async def stitched(opened: Door, ticker: str, asked: Interval, step: int = 2_000) -> str:
    """Return the records of an interval as many small answers have them, put together."""
    found = []
    async with opened.client() as wire:
        ask = Asking(wire, ticker)
        for at in range(asked.start, asked.end, step * MINUTE_MS):
            answer = await ask(Interval(at, min(at + step * MINUTE_MS, asked.end)))
            found.append(answer["result"][0]["data"][1:-1])
    return f"[{','.join(found)}]"


def texts_of(data: str) -> list[str]:
    """Return the text of each record; none has a brace within."""
    return ["{" + one for one in data[2:-1].split(",{")]


@pytest.mark.parametrize(
    "envelope",
    [{}, {"data_as": "array"}, {"ordered": False}, {"data_as": "array", "ordered": False}],
    ids=["text", "array", "unordered", "unordered array"],
)
async def test_a_long_answer_is_to_the_byte_what_small_ones_are(
    tmp_path: Path, envelope: dict[str, Any]
) -> None:
    """The records of many small answers put together, and the etag over them; edges cut blocks."""
    async with held(tmp_path) as (opened, _), opened.client() as wire:
        asked = minute(7, LONG - 11)
        expected = await stitched(opened, "A", asked)
        await wire.send(asking_for("A", asked, request_id=1, **envelope))
        line = await wire.line()
        answer = read(line)
        (entity,) = answer["result"]
        if "data_as" in envelope:
            assert f'"data":{expected},"etag"'.encode() in line
        else:
            assert f'"data":{json.dumps(expected)},"etag"'.encode() in line
            assert entity["data"] == expected
        total = sum(text_hash(text.encode()) for text in texts_of(expected))
        assert entity["etag"] == etag(total)
        small = await Asking(wire, "A", envelope)(minute(7, 10))
        assert list(answer) == list(small)
        assert list(entity) == list(small["result"][0])
        bounds = [[format_instant(one) for one in asked]]
        assert answer["stitch"]["cached"] == bounds
        assert entity["id"] == f"steady:A:{'..'.join(*bounds)}"


async def test_answers_keep_their_order_behind_long_ones(tmp_path: Path) -> None:
    """Small answers wait for the long ones before them, but for those that need not."""
    async with held(tmp_path) as (opened, _), opened.client() as wire:
        long, small = minute(0, LONG), minute(0)
        ping = b'{"request_id":"ping","query":{"type":"Ping"}}\n'
        wire.write(
            asking_for("A", long, request_id="one")
            + asking_for("A", small, request_id="two")
            + asking_for("B", long, request_id="three")
            + ping
            + asking_for("C", small, request_id="loose", ordered=False)
            + asking_for("B", long, request_id="four", data_as="array")
            + asking_for("B", small, request_id="five")
        )
        came = [await wire.answer() for _ in range(7)]
        order = [one["request_id"] for one in came]
        assert [one for one in order if one != "loose"] == [
            "one",
            "two",
            "three",
            "ping",
            "four",
            "five",
        ]
        counts = {one["request_id"]: len(rows_of(one)) for one in came if one["kind"] != "Ping"}
        assert counts == {
            **dict.fromkeys(("one", "three", "four"), LONG),
            **dict.fromkeys(("two", "five", "loose"), 10),
        }


def rows_of(answer: dict[str, Any]) -> list[Any]:
    """Return the records of an answer, in either form."""
    data = answer["result"][0]["data"]
    rows: list[Any] = json.loads(data) if isinstance(data, str) else data
    return rows


async def test_a_client_that_hangs_up_is_not_sent_the_rest(tmp_path: Path) -> None:
    """Nothing is read for it any more, and others have their answers as before."""
    async with held(tmp_path, padding=200) as (opened, _):
        store = store_of(opened.hub)
        assert isinstance(store, SqlStore)
        for _ in range(3):
            async with slowly(opened.port) as wire:
                wire.write(asking_for("A", minute(0, LONG)) * 3)
                assert await wire.reader.readexactly(1_000)
                wire.reset()
            await until(lambda: not opened.server.connections)
            await until(lambda: not opened.server._working)
        (size,) = await drain(opened.port, [asking_for("A", minute(0, LONG))])
        assert size > 200 * LONG
        assert store._read_turns.left == store._read_turns.places
        assert opened.logged("warning") == []


@asynccontextmanager
async def slowly(port: int) -> AsyncIterator[Wire]:
    """Connect a client that takes no more than it reads."""
    async with asyncio.timeout(PATIENCE_S):
        streams = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    async with Wire(*streams) as wire:
        yield wire


async def changed(
    opened: Door, key: SeriesKey, change: Callable[[Interval], Awaitable[object]], number: int
) -> bytes:
    """Ask for a long answer, change its end when it has begun, return what comes of it."""
    async with slowly(opened.port) as wire:
        wire.write(asking_for("A", minute(0, number), data_as="array"))
        begun = await wire.reader.readexactly(1_000)
        await opened.hub.holdings.delete(key, last := minute(number - 5_000, 5_000))
        await change(last)
        return begun + await until_end(wire)


async def until_end(wire: Wire) -> bytes:
    """Return what is left of a line, or of a connection."""
    came = bytearray()
    async with asyncio.timeout(PATIENCE_S):
        while not came.endswith(b"\n"):
            try:
                piece = await wire.reader.read(1 << 20)
            except ConnectionResetError:
                break
            if not piece:
                break
            came += piece
    return bytes(came)


async def test_a_long_answer_goes_on_where_the_same_was_fetched_again(tmp_path: Path) -> None:
    """What is stored anew meanwhile, and is the very same, belongs to the answer."""
    async with held(tmp_path, padding=300) as (opened, steady), opened.client() as other:
        key = steady.key("A", {})
        line = await changed(opened, key, Asking(other, "A"), LONG)
        answer = read(line)
        rows = [record.row for record in steady.records("A", minute(0, LONG))]
        assert rows_of(answer) == rows
        assert len(steady.asked("A")) == 1
        assert opened.logged("warning") == []


@pytest.mark.parametrize("again", [True, False], ids=["others came", "nothing came"])
async def test_a_long_answer_is_broken_off_where_it_would_be_wrong(
    tmp_path: Path, again: bool
) -> None:
    """An answer that has begun cannot go on with other records: its line has no end."""
    async with held(tmp_path, padding=300) as (opened, steady), opened.client() as other:
        key = steady.key("A", {})

        async def change(last: Interval) -> None:
            steady.padding = "y" * 300
            if again:
                await Asking(other, "A")(last)

        line = await changed(opened, key, change, LONG)
        assert not line.endswith(b"\n")
        # Up to there it is what was asked for.
        begun = line[line.index(b'"data":[') + len(b'"data":[') :]
        assert b"y" * 300 not in begun
        assert opened.logged("warning") == ["an answer was broken off"]
        # Whoever asks now has the series as it is by now.
        answer = await Asking(other, "A", {"data_as": "array"})(minute(0, LONG))
        assert rows_of(answer)[-1]["note"].endswith("y" * 300)


@pytest.mark.parametrize("sent", [0, 2])
async def test_whatever_fails_an_answer_never_runs_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """Memory runs out before the first piece, or after two: the connection ends with the line."""
    async with held(tmp_path) as (opened, _), opened.client() as wire:
        runs, read = opened.hub.holdings.runs, count()

        async def failing(numbers: Sequence[int]) -> Any:
            if next(read) >= sent:
                raise MemoryError("there is no more")
            return await runs(numbers)

        monkeypatch.setattr(opened.hub.holdings, "runs", failing)
        wire.write(asking_for("A", minute(0, LONG)) + asking_for("A", minute(0, 10)))
        whole = await asyncio.wait_for(wire.reader.read(), PATIENCE_S)
        assert b"\n" not in whole
        assert whole.count(b'"ok"') == min(sent, 1)
        assert opened.logged("error") == ["an answer failed in a way it should not"]


async def test_all_are_answered_where_memory_keeps_nothing(tmp_path: Path) -> None:
    """Many at once, each of more than is read with its directory: none pushes another out."""
    steady = SteadyProvider(step=MINUTE_MS)
    settings = but(PATIENT, cache={"hot_bytes": 0})
    names = [f"T{number}" for number in range(20)]
    async with door(tmp_path, steady, settings=settings) as opened:
        for name in names:
            await stock(store_of(opened.hub), steady, name, parts(21_000))

        async def one(name: str) -> int:
            async with opened.client() as wire:
                answer = await Asking(wire, name, {"data_as": "array"})(minute(0, 21_000))
                return len(rows_of(answer))

        assert await asyncio.gather(*map(one, names)) == [21_000] * len(names)


# What it costs, and others


async def test_too_much_is_refused_before_any_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ranges that end with blocks nothing is read; of others the blocks that they cut."""
    async with held(tmp_path, max_records=LONG - 20) as (opened, _), opened.client() as wire:
        store = store_of(opened.hub)
        read_runs: list[int] = []
        runs, load = store.runs, store.read

        async def counted(numbers: Sequence[int]) -> Any:
            read_runs.extend(numbers)
            return await runs(numbers)

        async def loaded(*arguments: Any) -> Any:
            snapshot = await load(*arguments)
            read_runs.extend(snapshot.runs)
            return snapshot

        monkeypatch.setattr(store, "runs", counted)
        monkeypatch.setattr(store, "read", loaded)
        for envelope in ({}, {"data_as": "array"}):
            for asked, most in ((minute(0, LONG), 0), (minute(5, LONG - 10), 2)):
                read_runs.clear()
                wire.write(asking_for("A", asked, **envelope) + asking_for("B", asked, **envelope))
                for _ in "AB":
                    error = (await wire.answer())["error"]
                    assert error["code"] == "too_large"
                assert len(read_runs) <= 2 * most
        assert len(rows_of(await Asking(wire, "A")(minute(5, LONG - 20)))) == LONG - 20


MOST_RECORDS = 100_000
SETTINGS = f"""
auth = true
[limits]
max_records = {MOST_RECORDS}
[cache]
hot_bytes = "16MiB"
[access]
rate = 0
"""


@asynccontextmanager
async def two_users(folder: Path, number: int) -> AsyncIterator[tuple[Server, str, Asking]]:
    """Run a hub that holds so many records of A and B; yield a reader's token, and another user."""
    path, steady, clock = folder / "hub.db", minutes(), SystemClock()
    store = await asyncio.to_thread(open_store, path)
    for ticker in "ABC":
        await stock(store, steady, ticker, parts(number if ticker != "C" else 1_000))
    authority = Authority(store.accounts, clock, True)
    await authority.load()
    tokens = [
        (await person(authority, role, f"{role}@example.com")).pair.access
        for role in ("admin", "read", "fetch")
    ]
    await authority.close()
    await store.close()
    async with (
        running(path, SETTINGS, program=STEADY) as server,
        await connect(server.port) as wire,
    ):
        yield server, tokens[1], Asking(wire, "C", {"token": tokens[2]})


def growth(server: Server, before: int) -> str:
    """Return how much memory a hub has taken at the most, as it is told."""
    return f"{(server.peak - before) / (1 << 20):.0f} MiB"


@pytest.mark.parametrize(
    ("length", "repeated"),
    [(4 * MOST_RECORDS, 15), (MOST_RECORDS - 1, 1)],
    ids=["too many", "as many as there may be"],
)
async def test_long_answers_are_hardly_noticed_by_others(
    tmp_path: Path, length: int, repeated: int, record_property: Any
) -> None:
    """A dozen lines over 400,000 records, in memory as small as the settings say."""
    async with two_users(tmp_path, 4 * MOST_RECORDS) as (server, token, other):
        numbers = count()

        async def ask() -> None:
            # In words that were not asked before.
            start, end = minute(next(numbers) % 800, 100)
            await other(Interval(start + 1 + next(numbers), end))

        async def work() -> None:
            lines = [
                asking_for(ticker, minute(at, length), token=token)
                for at in range(6)
                for ticker in "AB"
            ]
            sizes = await drain(server.port, lines * repeated)
            if repeated == 1:
                assert min(sizes) > length * 70
            else:
                assert max(sizes) < 1_000

        # What the first answers make the process keep is not theirs.
        await work()
        before = server.watch_peak()
        rounds = await disturbed(ask, [work] * 3)
        tell(record_property, rounds="; ".join(map(str, rounds)), grown=growth(server, before))
        # Memory for blocks and ready answers, what waits for the client, pieces on their way.
        assert server.peak - before < (16 + 4 + 8 + 36) << 20
        assert best(rounds) <= MOST


async def test_the_first_columns_are_hardly_noticed_by_others(
    tmp_path: Path, record_property: Any
) -> None:
    """What is held, beside the very first data frames over HTTP, and large ones after them."""
    path, steady = tmp_path / "hub.db", minutes()
    store = await asyncio.to_thread(open_store, path)
    for ticker in "AC":
        await stock(store, steady, ticker, parts(LONG))
    await store.close()
    start, end = map(format_instant, minute(0, LONG))
    async with (
        running(path, program=STEADY, http="127.0.0.1:0") as server,
        await connect(server.port) as wire,
        httpx.AsyncClient(base_url=server.http, timeout=PATIENCE_S) as client,
    ):
        other, numbers = Asking(wire, "C"), count()

        async def ask() -> None:
            first, last = minute(next(numbers) % 800, 100)
            await other(Interval(first + 1 + next(numbers), last))

        async def columns(name: str) -> None:
            address = f"/v1/data/steady/A?start={start}&end={end}&format={name}"
            async with client.stream("GET", address) as response:
                assert response.status_code == 200
                assert sum([len(piece) async for piece in response.aiter_raw()]) > 2 * LONG

        names = ("parquet", "arrow", "csv", "json")
        rounds = await disturbed(ask, [partial(columns, name) for name in names])
    tell(record_property, rounds="; ".join(map(str, rounds)))
    assert rounds[0].felt <= MOST_AT_ALL
    assert best(rounds) <= MOST


async def test_what_is_escaped_is_hardly_noticed_by_others(
    tmp_path: Path, record_property: Any
) -> None:
    """What is held, beside answers as long as are taken into memory as a whole, asked anew."""
    path, steady, length = tmp_path / "hub.db", minutes(), 49_000
    others = "ABDEFGHI"
    store = await asyncio.to_thread(open_store, path)
    for ticker in f"C{others}":
        await stock(store, steady, ticker, parts(length))
    await store.close()
    # What is asked for again and again stays in memory, and of the others each has gone by then.
    settings = '[cache]\nhot_bytes = "48MiB"\n'
    async with (
        running(path, settings, program=STEADY) as server,
        await connect(server.port) as wire,
    ):
        other, numbers = Asking(wire, "C"), count()

        async def ask() -> None:
            first, last = minute(next(numbers) % 800, 100)
            await other(Interval(first + 1 + next(numbers), last))

        async def work() -> None:
            lines = [asking_for(ticker, minute(0, length)) for ticker in others]
            assert min(await drain(server.port, lines)) > 70 * length

        await work()
        before = server.watch_peak()
        rounds = await disturbed(ask, [work] * 3)
        tell(record_property, rounds="; ".join(map(str, rounds)), grown=growth(server, before))
        assert best(rounds) <= MOST
        assert least_felt(rounds) <= MOST_AT_ALL
        # What is in memory by then stays as much; beside it some as they are read, and escaped.
        assert server.peak - before < 48 << 20
