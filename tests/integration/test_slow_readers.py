"""Clients that read slowly: they are served to the end, and cost others nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import pytest

from gapless.servers.reading import Portions
from gapless.servers.tls import Certificate
from support.certificates import certificate
from support.people import person
from support.providers import SteadyProvider
from support.readers import SteadyReader, unread
from support.web import Web, web
from support.wire import (
    PATIENCE_S,
    PATIENT,
    SOON_S,
    but,
    connect,
    line_of,
    read,
    records,
    search,
)

MINUTE_MS = 60_000
MIB = 1 << 20
RATE = 190_000
MOST_TIMES = 5.0
# Three times as long as who reads 50 KB a second stands still at the most.
STILL_S = 8.0
LARGE = "/v1/data/minutes/A?start=2020-01-01&end=2020-04-10&format=ndjson"
VICTIMS = "/v1/data/minutes/A?start=2020-01-01&end=2020-02-12&format=ndjson"


def get(path: str, token: str | None = None) -> bytes:
    """Return a request as it is written, after whose answer the connection ends."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def unchunked(body: bytes) -> bytes:
    """Return a body that came in chunks (RFC 9112, 7.1); fail where its end is missing."""
    found: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body == b"\r\n"
            return b"".join(found)
        found.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


@asynccontextmanager
async def reading(
    opened: Web, count: int, request: bytes, begun: int | None = None
) -> AsyncIterator[None]:
    """Have so many clients read slowly while the block runs, all of them, or the first `begun`."""
    readers = [SteadyReader(opened.port, request, RATE, keeps=False) for _ in range(count)]
    tasks = [asyncio.create_task(reader.read()) for reader in readers]
    try:
        async with asyncio.timeout(PATIENCE_S):
            for reader in readers[:begun]:
                await reader.begun.wait()
        yield
        assert not any(task.done() for task in tasks), "a reader came to an end too early"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def took(opened: Web, **headers: str) -> float:
    """Return the median of how long the other one's answer takes, in seconds."""
    found = []
    for _ in range(5):
        began = perf_counter()
        response = await opened.get(VICTIMS, 200, **headers)
        assert response.content.count(b"\n") == 42 * 1_440
        found.append(perf_counter() - began)
    return median(found)


async def slowed(
    opened: Web, count: int, request: bytes, begun: int | None = None, **headers: str
) -> float:
    """Return how many times as long the other one's answer takes beside so many slow readers.

    Where other programs load the machine as well, for a while or for all of it, the least of
    several times is what the readers are to blame for.
    """
    found: list[float] = []
    while len(found) < 4 and min(found, default=99.0) > MOST_TIMES:
        alone = await took(opened, **headers)
        async with reading(opened, count, request, begun):
            found.append(await took(opened, **headers) / alone)
    return min(found)


def resident() -> int:
    """Return how many bytes of this process, which has the hub in it, are in memory."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )
    return int(line.split()[1]) << 10


@pytest.mark.slow
async def test_slow_readers_cost_others_nothing(tmp_path: Path, record_property: Any) -> None:
    """However many read large answers slowly, another one's takes about as long as before."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=80)
    async with web(tmp_path, steady) as opened:
        await opened.get(LARGE)
        times = await slowed(opened, 90, get(LARGE))
        record_property("times", round(times, 2))
        assert times <= MOST_TIMES


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_what_waits_for_slow_readers_is_bounded(tmp_path: Path, record_property: Any) -> None:
    """In bytes, by the setting, however many they are; and others are served all the same."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=80)
    settings = but(PATIENT, api={"max_unsent_bytes": 64 * MIB})
    async with web(tmp_path, steady, settings=settings) as opened:
        await opened.get(LARGE)
        before = resident()
        async with reading(opened, 90, get(LARGE)):
            await took(opened)
            more = resident() - before
        record_property("MiB", more // MIB)
        # The readers themselves are in this process, and what they have received.
        assert more < 200 * MIB


@pytest.mark.slow
async def test_a_user_with_many_slow_readers_leaves_room_to_others(tmp_path: Path) -> None:
    """Theirs wait for one another, and another user's answer for none of them."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=80)
    settings = but(PATIENT, api={"max_unsent_bytes": 4 * MIB})
    async with web(tmp_path, steady, settings=settings, auth=True) as opened:
        greedy = await person(opened.authority, "admin")
        other = await person(opened.authority, "read")
        await opened.get(LARGE, 200, **greedy.bearer)
        # What one user may have is less than a piece for each of these.
        theirs = get(LARGE, greedy.pair.access)
        assert await slowed(opened, 60, theirs, begun=3, **other.bearer) <= MOST_TIMES


# Steady readers, and those who do not read


def one_line(received: bytearray) -> bool:
    """Whether a whole line has come."""
    return received.endswith(b"\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "encrypted"),
    [
        (100_000, False),
        (100_000, True),
        pytest.param(50_000, False, marks=pytest.mark.soak),
    ],
    ids=["100 KB/s", "100 KB/s over TLS", "50 KB/s"],
)
async def test_who_reads_steadily_gets_everything(
    tmp_path: Path, rate: int, encrypted: bool
) -> None:
    """However slowly: over TCP and HTTP every byte comes, though the kernel takes megabytes."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=100)
    tls = None
    if encrypted:
        files = await asyncio.to_thread(certificate, tmp_path)
        tls = (await asyncio.to_thread(Certificate, *files)).context
    settings = but(PATIENT, limits={"slow_reader_s": STILL_S, "max_unsent_bytes": MIB})
    portions = Portions(most_loaded=1_000)
    async with web(tmp_path, steady, settings=settings, portions=portions, tls=tls) as opened:
        days = ("2020-01-01", "2020-01-25")
        line = line_of(search("minutes", "A", *days))
        path = f"/v1/data/minutes/A?start={days[0]}&end={days[1]}&format=ndjson"
        trust = None if tls is None else not_verified()
        async with asyncio.timeout(3 * PATIENCE_S):
            answer, page = await asyncio.gather(
                SteadyReader(opened.tcp_port, line, rate).read(one_line, tls=trust),
                SteadyReader(opened.port, get(path), rate).read(tls=trust),
            )
        rows = steady.rows("A", *days)
        assert records(read(bytes(answer))) == rows
        head, _, body = bytes(page).partition(b"\r\n\r\n")
        assert b" 200 " in head
        assert unchunked(body) == b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        assert not opened.logged("info")


@pytest.mark.slow
@pytest.mark.parametrize("door", ["tcp", "http"])
async def test_who_stands_still_gives_way_to_newcomers(tmp_path: Path, door: str) -> None:
    """With all connections taken; one that reads, or that says nothing, keeps its own."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=80)
    settings = but(
        PATIENT,
        limits={"max_connections": 3, "slow_reader_yields_s": SOON_S},
        api={"max_connections": 3},
    )
    async with web(tmp_path, steady, settings=settings) as opened:
        await opened.get(LARGE)
        await opened.client.aclose()
        port = opened.tcp_port if door == "tcp" else opened.port
        many = search("minutes", "A", "2020-01-01", "2020-04-10")
        asks = line_of(many) if door == "tcp" else get(LARGE)
        greets = line_of({"type": "Ping"}) if door == "tcp" else get("/healthz")
        loop = asyncio.get_running_loop()
        reader = SteadyReader(port, asks, 1_000_000, keeps=False)
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(PATIENCE_S), unread(port) as stalled, await connect(port):
            await reader.begun.wait()
            await loop.sock_sendall(stalled, asks)
            # While nobody has stood still for long enough newcomers are turned away.
            answer = await greeted(port, greets)
            while b"overloaded" in answer:
                answer = await greeted(port, greets)
            assert b'"ok":true' in answer.replace(b" ", b"")
            assert not reading.done()
        events = opened.logged("info")
        assert events == ["closed a client that does not read, in favour of another one"]
        reading.cancel()
        await asyncio.wait([reading])


async def greeted(port: int, greeting: bytes) -> bytes:
    """Return what a newcomer is told."""
    async with await connect(port) as wire:
        try:
            wire.write(greeting)
            wire.writer.write_eof()
            return await wire.rest()
        except ConnectionError:
            # It was turned away before it had asked.
            return b"overloaded"


def not_verified() -> ssl.SSLContext:
    """Return what a client needs that trusts anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
