"""Clients that read slowly: they are served to the end, and cost others nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest

from support.providers import SteadyProvider
from support.readers import SteadyReader
from support.web import PATIENT_HTTP, Web, web
from support.wire import PATIENCE_S

MINUTE_MS = 60_000
MIB = 1 << 20
RATE = 190_000
MOST_TIMES = 5.0
LARGE = "/v1/data/minutes/A?start=2020-01-01&end=2020-04-10&format=ndjson"
VICTIMS = "/v1/data/minutes/A?start=2020-01-01&end=2020-02-12&format=ndjson"


def get(path: str, *headers: str) -> bytes:
    """Return a request as it is written."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@asynccontextmanager
async def reading(opened: Web, count: int, path: str, rate: int = RATE) -> AsyncIterator[None]:
    """Have so many clients read at a rate while the block runs, all of them from its beginning."""
    readers = [SteadyReader(opened.port, get(path), rate, keeps=False) for _ in range(count)]
    tasks = [asyncio.create_task(reader.read()) for reader in readers]
    try:
        async with asyncio.timeout(PATIENCE_S):
            for reader in readers:
                await reader.begun.wait()
        yield
        assert not any(task.done() for task in tasks), "a reader came to an end too early"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def took(opened: Web) -> float:
    """Return the median of how long the other one's answer takes, in seconds."""
    found = []
    for _ in range(5):
        began = perf_counter()
        response = await opened.get(VICTIMS)
        assert response.content.count(b"\n") == 42 * 1_440
        found.append(perf_counter() - began)
    return median(found)


async def slowed(opened: Web, readers: int) -> float:
    """Return how many times as long the other one's answer takes beside so many slow readers.

    Where other programs load the machine as well, for a while or for all of it, the least of
    several times is what the readers are to blame for.
    """
    await opened.get(LARGE)
    found: list[float] = []
    while len(found) < 4 and min(found, default=99.0) > MOST_TIMES:
        alone = await took(opened)
        async with reading(opened, readers, LARGE):
            found.append(await took(opened) / alone)
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
        times = await slowed(opened, 90)
        record_property("times", round(times, 2))
        assert times <= MOST_TIMES


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_what_waits_for_slow_readers_is_bounded(tmp_path: Path, record_property: Any) -> None:
    """In bytes, by the setting, however many they are; and others are served all the same."""
    steady = SteadyProvider("minutes", step=MINUTE_MS, padding=80)
    limits = replace(PATIENT_HTTP, max_unsent_bytes=64 * MIB)
    async with web(tmp_path, steady, limits=limits) as opened:
        await opened.get(LARGE)
        before = resident()
        async with reading(opened, 90, LARGE):
            await took(opened)
            more = resident() - before
        record_property("MiB", more // MIB)
        # The readers themselves are in this process, and what they have received.
        assert more < 200 * MIB
