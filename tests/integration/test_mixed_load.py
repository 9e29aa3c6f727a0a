"""A hub under every kind of load at once, for long: right to the end, and no larger than before."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from gapless.servers.control import socket_path
from support.hubs import Server, running
from support.load import Site
from support.plugins import SOURCES
from support.wire import PATIENCE_S

TESTS = Path(__file__).parents[1]
SCRIPTS = ("load_lines", "load_pages", "load_programs")
PLUGINS = {"arithmetic": "Provider", "reloaded": "Provider", "revising": "Revising"}
# The clients stand back behind the hub, and may be kept from reading for long.
SETTINGS = f"""
[limits]
slow_reader_s = {PATIENCE_S}
[cache]
hot_bytes = "48MiB"
check = "30s"
check_wait_s = {PATIENCE_S}
[api]
max_unsent_bytes = "64MiB"
[fetch]
deadline_s = {PATIENCE_S}
[plugins]
load_s = {PATIENCE_S}
deadline_s = {PATIENCE_S}
[sample]
rate = 100000
burst = 100000
"""
MIB = 1 << 20
# What a level may differ by though nothing grows: so many bytes and such a share of it. In a short
# time not everything that is kept is full by its second quarter.
ALLOWED_BYTES, ALLOWED_SHARE, ALLOWED_AT_FIRST = 8 * MIB, 0.05, 0.25
LONG_S, TWO_HOURS_S = 600, 7_200
SECONDS = "MIXED_LOAD_S"


class Gauge(NamedTuple):
    """What a hub has of the machine at a moment, in seconds since the load began.

    `resident` is the memory of its own process, `beside` that of all its plugins, in bytes, and
    `stored` the database with its journal.
    """

    at: float
    resident: int
    beside: int
    threads: int
    files: int
    processes: int
    stored: int


def status(pid: int) -> dict[str, str]:
    """Return what the kernel tells of a process; nothing of one that has just ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def resident(told: dict[str, str]) -> int:
    """Return the bytes of a process that are in memory."""
    return int(told.get("VmRSS", "0 kB").split()[0]) << 10


def plugins_of(server: Server) -> list[int]:
    """Return the processes of a hub's plugins."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    found: list[int] = []
    for task in tasks.iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def gauge(server: Server, database: Path, began: float) -> Gauge:
    """Read what a hub has at this moment."""
    told = status(server.process.pid)
    beside = plugins_of(server)
    journal = database.with_name(f"{database.name}-wal")
    return Gauge(
        time.monotonic() - began,
        resident(told),
        sum(resident(status(pid)) for pid in beside),
        int(told["Threads"]),
        len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())),
        len(beside),
        sum(one.stat().st_size for one in (database, journal) if one.exists()),
    )


class Course:
    """The gauges of a load, held against one another by the quarters of its time."""

    def __init__(self, gauges: Sequence[Gauge], seconds: float) -> None:
        self._gauges = gauges
        self._seconds = seconds

    def quarter(self, number: int, read: Callable[[Gauge], float]) -> list[float]:
        """Return what was read in a quarter of the time, of which the first is 1."""
        bounds = (self._seconds * (number - 1) / 4, self._seconds * number / 4)
        return [read(one) for one in self._gauges if bounds[0] <= one.at < bounds[1]]

    def levels(self, read: Callable[[Gauge], float]) -> list[float]:
        """Return the median of each quarter."""
        return [median(self.quarter(number, read)) for number in range(1, 5)]

    def told(self) -> str:
        """Return a table of them: sixteen moments, evenly chosen."""
        lines = ["     s  hub MiB  plugins MiB  threads  files  processes  stored MiB"]
        for i in range(16):
            one = self._gauges[i * (len(self._gauges) - 1) // 15]
            lines.append(
                f"{one.at:6.0f}  {one.resident / MIB:7.1f}  {one.beside / MIB:11.1f}"
                f"  {one.threads:7}  {one.files:5}  {one.processes:9}  {one.stored / MIB:10.1f}"
            )
        return "\n".join(lines)


def flat(levels: Sequence[float], bytes: float, share: float) -> bool:
    """Whether the last quarter is no higher than the second, but for what is allowed."""
    return levels[3] <= levels[1] * (1 + share) + bytes


async def figures(server: Server) -> str:
    """Return the hub's figures."""
    async with httpx.AsyncClient(base_url=server.http, timeout=PATIENCE_S) as client:
        return (await client.get("/metrics")).raise_for_status().text


async def load_plugins(server: Server) -> None:
    """Let the hub load what answers by arithmetic."""
    async with httpx.AsyncClient(base_url=server.http, timeout=PATIENCE_S) as client:
        for name, kind in PLUGINS.items():
            spec = {"file": str(SOURCES / "arithmetic.py"), "class": kind, "name": name}
            (await client.post("/plugins/load", json=spec)).raise_for_status()


async def play(script: str, site: Site) -> Counter[str]:
    """Run a script of visits to its end; return what it has counted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"support.{script}", msgspec.json.encode(site).decode()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{script}:\n{err.decode()}"
    return Counter(json.loads(out))


async def under_load(
    server: Server, database: Path, site: Site, seconds: float
) -> tuple[Counter[str], list[Gauge]]:
    """Let all scripts play at once; return what they counted, and what the hub had meanwhile."""
    began = time.monotonic()
    gauges: list[Gauge] = []
    playing: list[asyncio.Task[Counter[str]]] = []
    async with asyncio.TaskGroup() as group:
        playing += [group.create_task(play(script, site)) for script in SCRIPTS]
        pending: set[asyncio.Task[Counter[str]]] = set(playing)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=seconds / 400)
            gauges.append(gauge(server, database, began))
    return sum((one.result() for one in playing), Counter()), gauges


async def at_rest(server: Server) -> str:
    """Wait until the connections of all clients are gone; return the figures of that moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told = await figures(server)
            doors = dict(
                re.findall(r'^gapless_connections\{door="(\w+)"\} (\S+)$', told, re.MULTILINE)
            )
            # The one that asks is there itself.
            if float(doors["tcp"]) == 0 and float(doors["http"]) == 1:
                return told


@pytest.mark.timeout(0)
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
@pytest.mark.soak
async def test_mixed_load_leaves_a_hub_as_it_was(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Any
) -> None:
    """Clients of all kinds, good and bad, at once: answers are right, nothing grows, no error.

    It takes two hours, or as many seconds as `MIXED_LOAD_S` says.
    """
    seconds = float(os.environ.get(SECONDS, TWO_HOURS_S))
    seed = f"load {request.config.getoption('hypothesis_seed')}"
    database = tmp_path / "hub.db"
    async with running(database, SETTINGS, http="127.0.0.1:0") as server:
        await load_plugins(server)
        socket = str(socket_path(database))
        site = Site(server.port, server.http, socket, seed, time.time() + seconds)
        before = gauge(server, database, time.monotonic())
        try:
            counts, gauges = await under_load(server, database, site, seconds)
        except BaseException:
            sys.stdout.write("\n".join([f"seed {seed!r}", *server.said[-50:], ""]))
            raise
        told = await at_rest(server)
        after = gauge(server, database, time.monotonic())
        said = list(server.said)
    course = Course(gauges, seconds)
    tables = [course.told(), *(f"{count:9,}  {what}" for what, count in sorted(counts.items()))]
    sys.stdout.write("\n".join([f"{seconds:,.0f} s, seed {seed!r}", *tables, ""]))
    record_property("requests by kind", dict(counts))

    outcomes = dict(re.findall(r"(?m)^gapless_requests_total\{(.*)\} (\S+)$", told))
    assert outcomes
    assert not [one for one in outcomes if 'outcome="internal"' in one], outcomes
    wrong = [one for one in said if re.search(r"\[(error|critical)|should not|Traceback", one)]
    # The server's word for an answer that the hub has broken off, and tells of itself.
    ends = [one for one in wrong if "returned without completing response" in one]
    assert len(ends) <= sum("an answer was broken off" in one for one in said)
    assert wrong == ends, "\n".join(wrong[:20])

    share = ALLOWED_SHARE if seconds >= LONG_S else ALLOWED_AT_FIRST
    for of in ("resident", "beside"):
        memory = course.levels(attrgetter(of))
        assert flat(memory, ALLOWED_BYTES, share), (of, [round(one / MIB, 1) for one in memory])
    for of in ("threads", "files", "processes"):
        levels = course.levels(attrgetter(of))
        assert flat(levels, 16, ALLOWED_SHARE), (of, levels)
    # Pages that were freed are used again, and the journal goes back to its beginning.
    stored = [max(course.quarter(number, attrgetter("stored"))) for number in range(1, 5)]
    assert flat(stored, 32 * MIB, 0.25), [round(one / MIB, 1) for one in stored]
    # With the clients all that was theirs has gone.
    assert after.processes == before.processes == len(PLUGINS)
    assert after.files <= before.files + 8
