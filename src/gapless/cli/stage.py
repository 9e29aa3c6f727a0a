"""What the demo plays on: a clock that can be moved, a hub on a free port, a client of it.

Apart from the tour, which tells the story: here is nothing to see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gapless.cli.serve import RunningHub
from gapless.client.failures import error_of
from gapless.clock import Clock
from gapless.config import FetchSettings, PluginSettings, Settings, YahooSettings
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError
from gapless.protocol.times import parse_instant

_MOST_BYTES = 64 << 20


class DemoClock:
    """Real time, moved: it begins at a given instant, goes on as time does, and can leap ahead."""

    def __init__(self, now_ms: int) -> None:
        self._ahead_ms = now_ms - time.time_ns() // 1_000_000
        self._leapt_s = 0.0

    def now_ms(self) -> int:
        """Return the demo's wall time in milliseconds UTC."""
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def now_s(self) -> float:
        """Return the demo's wall time in seconds, as the simulated upstream asks for it."""
        return self.now_ms() / 1000

    def monotonic(self) -> float:
        """Return seconds that never go back, leaps included."""
        return time.monotonic() + self._leapt_s

    async def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        await asyncio.sleep(seconds)

    def leap_to(self, now_ms: int) -> None:
        """Let it be that instant, which lies ahead."""
        ahead = now_ms - self.now_ms()
        self._ahead_ms += ahead
        self._leapt_s += ahead / 1000


class OpenHub(Protocol):
    """How a hub is opened; `gapless.app.running_hub` is one."""

    def __call__(
        self, settings: Settings, *, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[RunningHub]:
        """Run a hub by its settings until the block ends."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What a hub answered to a range search, taken apart. `took_s` as the client measured it."""

    records: Sequence[Mapping[str, Any]]
    etag: str
    state: str
    cached: tuple[Interval, ...]
    fetched: tuple[Interval, ...]
    missing: tuple[Interval, ...]
    requests: int
    took_s: float

    @property
    def asked(self) -> Interval:
        """The whole of the asked range, up to the present."""
        spans = [*self.cached, *self.fetched, *self.missing]
        return Interval(min(span.start for span in spans), max(span.end for span in spans))


class Session:
    """A client's connection to a hub: query lines in, replies out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, line: str) -> Reply:
        """Send a query line and return the reply; raise the error that the hub answers."""
        message = {
            "request_id": 1,
            "query": {"type": "Line", "payload": {"line": line}},
            "data_as": "array",
        }
        began = time.perf_counter()
        self._writer.write(msgspec.json.encode(message) + b"\n")
        received = await self._reader.readline()
        took = time.perf_counter() - began
        if not received:
            raise GaplessError("the hub closed the connection without an answer")
        answer = msgspec.json.decode(received)
        if not answer["ok"]:
            raise error_of(answer["error"])
        (entity,) = answer["result"]
        stitch = answer["stitch"]
        return Reply(
            records=entity["data"],
            etag=entity["etag"],
            state=entity["state"],
            cached=_intervals(stitch["cached"]),
            fetched=_intervals(stitch["fetched"]),
            missing=_intervals(stitch["missing"]),
            requests=stitch["upstream_requests"],
            took_s=took,
        )


class Stage:
    """Hubs on databases in one folder, all on one clock, with one upstream."""

    def __init__(
        self, folder: Path, clock: DemoClock, open_hub: OpenHub, yahoo_url: Callable[[], str]
    ) -> None:
        self.clock = clock
        self.folder = folder
        self._open_hub = open_hub
        self._yahoo_url = yahoo_url

    @asynccontextmanager
    async def hub(
        self, database: str, fetch: FetchSettings | None = None, http: str = "off"
    ) -> AsyncIterator[RunningHub]:
        """Run a hub on a database of that name until the block ends.

        `fetch` is how patient it is with upstream. Plugins are looked for in the folder of the
        databases.
        """
        settings = Settings(
            db=str(self.folder / database),
            tcp="127.0.0.1:0",
            http=http,
            base=self.folder,
            # On a busy machine a plugin starts slowly, for it stands back behind everybody else.
            plugins=PluginSettings(entry_points=False, load_s=60.0),
            fetch=fetch or FetchSettings(),
            yahoo=YahooSettings(base_url=self._yahoo_url()),
        )
        async with self._open_hub(settings, clock=self.clock) as hub:
            yield hub


@asynccontextmanager
async def session(address: str) -> AsyncIterator[Session]:
    """Connect to the hub at `HOST:PORT` until the block ends."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_MOST_BYTES)
    try:
        yield Session(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def instant(text: str) -> int:
    """Return an absolute instant in milliseconds."""
    return parse_instant(text, now_ms=0)


def _intervals(spans: Sequence[Sequence[str]]) -> tuple[Interval, ...]:
    return tuple(Interval(instant(start), instant(end)) for start, end in spans)
