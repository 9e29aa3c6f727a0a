"""A hub as `gapless serve` runs it, in a process of its own, under the watchdog.

Its loop is watched from when its doors are open until it is told to end. All that is in the process
is the hub's: clients and upstream are in that of the test, and what they take is not held against
it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvloop

from gapless.app import RunningHub, running_hub, tune_malloc, tune_threads
from gapless.cli.serve import serve_until_signal
from gapless.config import Settings, load_settings
from gapless.domain.blocks import Run, encode_all
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.observability import configure_logging
from gapless.providers.base import Fetched
from support.providers import SteadyProvider
from support.watchdog import Hang, WatchedLoop, burn
from support.wire import PATIENCE_S, Wire, connect

MINUTE_MS = 60_000
INSIDE, REVISING = "inside", "revising"
BURNING = "BURNING"


class Inside(SteadyProvider):
    """A provider in the hub's own process, with a record a minute, as careful as those built in.

    It makes them off the loop, and so few at once that nobody waits for the collector of garbage,
    which would look through 100,000 dicts for 30 ms, in whichever thread. One that `revises` may
    change what it has said, so that it is asked again by and by. Asked for `BURNING` it does what
    no provider may.
    """

    def __init__(self, name: str, *, revises: bool = False) -> None:
        super().__init__(name, step=MINUTE_MS)
        self._info = replace(self._info, revises=revises)

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        if key.ticker == BURNING:
            burn(20)
        return Fetched(ready=await asyncio.to_thread(self._run, key.ticker, interval))

    def _run(self, ticker: str, interval: Interval) -> Run:
        times: list[int] = []
        texts: list[bytes] = []
        for start in range(interval.start, interval.end, 1_000 * self.step):
            part = Interval(start, min(start + 1_000 * self.step, interval.end))
            records = self.records(ticker, part)
            times += [record.time for record in records]
            texts += encode_all([record.row for record in records])
        return Run.of_texts(times, texts)


@dataclass(slots=True)
class Watched:
    """A hub under watch: where it takes requests, and what hung in it so far."""

    port: int
    web: httpx.AsyncClient
    hangs: list[Hang] = field(default_factory=list)
    _steps: list[tuple[str, int, int]] = field(default_factory=list)

    async def wire(self) -> Wire:
        """Connect to the TCP door."""
        return await connect(self.port)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Name what is asked in the block, so that what hangs meanwhile is told by it."""
        began = time.monotonic_ns()
        try:
            yield
        finally:
            self._steps.append((name, began, time.monotonic_ns()))

    def told(self) -> str:
        """Return what hung, and what was asked then, as text; empty where nothing did."""
        return "\n".join(f"\n{self._asked(hang)}: {hang}" for hang in self.hangs)

    def _asked(self, hang: Hang) -> str:
        ended = hang.began_ns + hang.wall_ms * 1e6
        names = [name for name, a, b in self._steps if a <= ended and hang.began_ns <= b]
        return " and ".join(names) or "while nothing was asked"


@asynccontextmanager
async def watched(database: Path, settings: str = "") -> AsyncIterator[Watched]:
    """Run a hub on a database until the block ends, and fail on whatever hung in it."""
    config = database.with_name("settings.toml")
    config.write_text(settings)
    log = database.with_suffix(".log")
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.watched", str(database), str(config)),
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")},
        )
    assert process.stdout is not None
    hangs: list[Hang] = []
    opened = await process.stdout.readline()
    listening = asyncio.create_task(_listen(process.stdout, hangs))
    try:
        assert opened, log.read_text()
        addresses = json.loads(opened)
        async with httpx.AsyncClient(
            base_url=addresses["http"], timeout=PATIENCE_S, trust_env=False
        ) as web:
            hub = Watched(addresses["port"], web, hangs)
            yield hub
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening
    assert not hangs, hub.told()


async def _listen(lines: asyncio.StreamReader, hangs: list[Hang]) -> None:
    async for line in lines:
        told = json.loads(line)
        hangs.append(Hang(**{**told, "stacks": tuple(told["stacks"])}))


# In the hub's process


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[RunningHub]:
    """Run a hub, and watch it once whoever opened it has nothing more to do."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WatchedLoop)
    async with running_hub(settings) as hub:
        hub.hub.registry.put(Inside(INSIDE))
        hub.hub.registry.put(Inside(REVISING, revises=True))
        _say({"port": hub.port, "http": hub.http})
        loop.watchdog.tell = lambda hang: _say(asdict(hang))
        with ExitStack() as stack:
            loop.call_soon(stack.enter_context, loop.watchdog.watching())
            yield hub


def _say(told: Mapping[str, Any]) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201  # is read by the test


def _main(database: str, config: str) -> None:
    flags = {"db": database, "tcp": "127.0.0.1:0", "http": "127.0.0.1:0"}
    settings, _ = load_settings(flags, {}, config)
    configure_logging(settings.log.level, settings.log.format)
    tune_malloc()
    tune_threads()
    uvloop.run(serve_until_signal(settings, _opened), loop_factory=WatchedLoop)


if __name__ == "__main__":
    _main(*sys.argv[1:])
